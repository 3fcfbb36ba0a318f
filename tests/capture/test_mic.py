"""A real microphone as far as PortAudio can tell: PulseAudio's, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edged.capture.microphones import Microphone
from edged.capture.sources import mic
from edged.wire.clock import SECOND_NS
from tests.servers.pulse import Pulse, pulse

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]


class Hearing:
    """A process that listens; see hear.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.heard: list[Json] = []

    def until(self, done: Callable[[Json], bool]) -> Json:
        """Reads on until `done`, or to the end."""
        assert self._process.stdout
        for line in self._process.stdout:
            self.heard.append(json.loads(line))
            if done(self.heard[-1]):
                break
        return self.heard[-1]

    def to_the_end(self) -> list[Json]:
        """The blocks of sound."""
        self.until(lambda _: False)
        return [one for one in self.heard if "samples" in one]


@contextmanager
def hearing(seconds: float, env: dict[str, str] | None = None, **settings: object) -> Iterator[Hearing]:
    """Listens for so long."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.capture.hear", json.dumps(settings), str(seconds)],
        cwd=ROOT,
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Hearing(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def sound() -> Iterator[Pulse]:
    """A microphone that is there and hears silence."""
    with pulse() as one:
        yield one


@pytest.fixture
def own_sound() -> Iterator[Pulse]:
    """A microphone that may be broken."""
    with pulse() as one:
        yield one


def beep(path: Path, channels: int = 1, at_s: float = 0.5) -> Path:
    """A tone for half a second with silence before and after; with two channels only in the second."""
    at = np.arange(round((at_s + 1) * 16_000)) / 16_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * at) * ((at >= at_s) & (at < at_s + 0.5)) * 32767).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(tone.tobytes() if channels == 1 else np.stack([tone * 0, tone], 1).tobytes())
    return path


def end_ns(block: Json) -> float:
    return float(block["stamp_ns"] + block["samples"] * SECOND_NS / block["rate_hz"])


def test_no_sample_is_lost_and_the_stamps_are_steady(sound: Pulse) -> None:
    with hearing(6, sound.env) as hearer:
        blocks = hearer.to_the_end()
    lost = hearer.heard[-1]["lost"]
    gaps = lost.pop("gap", 0)
    assert lost == {}
    assert gaps <= 1, "a null sink on a busy machine may stand still for some milliseconds"
    lasted_s = (end_ns(blocks[-1]) - end_ns(blocks[0])) / SECOND_NS
    assert lasted_s > 5
    count = sum(block["samples"] for block in blocks[1:])
    assert abs(count / blocks[0]["rate_hz"] - lasted_s) < 0.02 + 0.15 * gaps
    by_clock_s = (blocks[-1]["arrived_ns"] - blocks[0]["arrived_ns"]) / SECOND_NS
    assert abs(by_clock_s - lasted_s) < 0.2
    steps_ms = [abs(after["stamp_ns"] - end_ns(block)) / 1e6 for block, after in pairwise(blocks)]
    assert len([step for step in steps_ms if step > 5]) <= gaps
    assert all(end_ns(block) <= block["arrived_ns"] for block in blocks)
    assert np.median([block["arrived_ns"] - end_ns(block) for block in blocks]) < 0.1 * SECOND_NS


def test_what_is_played_is_heard_at_its_time(sound: Pulse, tmp_path: Path) -> None:
    """Well after the beginning: when a player begins, a null sink stands still for some milliseconds."""
    with hearing(8, sound.env) as hearer:
        hearer.until(lambda one: "samples" in one)
        played_ns = time.monotonic_ns()
        sound.play(beep(tmp_path / "beep.wav", at_s=4))
        blocks = hearer.to_the_end()
    loud = [block for block in blocks if block["peak"] > 0.1]
    assert loud, "nothing was heard"
    onset_ns = loud[0]["stamp_ns"] + loud[0]["onset"] * SECOND_NS / loud[0]["rate_hz"]
    # PulseAudio takes the first tenth of a second from the player at once, or needs one to begin.
    assert 3.85 < (onset_ns - played_ns) / SECOND_NS < 4.3
    assert 0.4 < (end_ns(loud[-1]) - onset_ns) / SECOND_NS < 0.7
    assert max(block["peak"] for block in loud) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("settings", "peak"),
    [({"channels": 2}, 0.25), ({"channels": 2, "channel": 1}, 0.0), ({"channels": 2, "channel": 2}, 0.5)],
)
def test_channels_are_chosen_or_mixed(settings: Json, peak: float, tmp_path: Path) -> None:
    with pulse(channels=2) as stereo, hearing(3.5, stereo.env, device="pulse", **settings) as hearer:
        hearer.until(lambda one: "samples" in one)
        stereo.play(beep(tmp_path / "beep.wav", channels=2))
        blocks = hearer.to_the_end()
    assert max(block["peak"] for block in blocks) == pytest.approx(peak, abs=0.06)


def test_unplugged_is_an_error_or_silence(own_sound: Pulse) -> None:
    with hearing(12, own_sound.env) as hearer:
        hearer.until(lambda one: "samples" in one)
        own_sound.kill()
        last = hearer.until(lambda one: "error" in one)
        if "error" in last:
            assert "unplugged" in last["error"]
            assert not last["permanent"]
        else:
            assert "quiet" in hearer.heard[-2]
        hearer.to_the_end()
    assert hearer.heard[-1]["closed_s"] < 1


def test_a_silent_stall_is_noticed_and_closing_does_not_hang(own_sound: Pulse) -> None:
    """PortAudio goes on to call the stream active, and nothing comes."""
    with hearing(4, own_sound.env) as hearer:
        hearer.until(lambda one: "samples" in one)
        own_sound.freeze()
        hearer.to_the_end()
        own_sound.thaw()
    assert [one for one in hearer.heard if "quiet" in one][20:], "each TICK_S"
    assert hearer.heard[-1]["closed_s"] < 1


def test_too_few_samples_are_an_error(own_sound: Pulse) -> None:
    """A stall of a second and a half within five: what was lost is not made up for."""
    with hearing(15, own_sound.env) as hearer:
        begun = hearer.until(lambda one: "samples" in one)["arrived_ns"]
        hearer.until(lambda one: one.get("arrived_ns", 0) - begun > 4 * SECOND_NS)
        own_sound.freeze()
        time.sleep(1.5)  # so long it stands still
        own_sound.thaw()
        last = hearer.until(lambda one: "error" in one)
    assert "% of its samples came" in last["error"]
    assert not last["permanent"]


def test_no_such_device_lists_those_that_there_are(sound: Pulse) -> None:
    with hearing(5, sound.env, device="USB") as hearer:
        hearer.to_the_end()
    (said,) = hearer.heard
    assert "microphone 'USB': there is no such microphone; there is 0: 'pulse'" in said["error"]
    assert not said["permanent"], "it may be plugged in yet"


def test_more_channels_than_there_are(sound: Pulse) -> None:
    with hearing(5, sound.env, channels=64) as hearer:
        hearer.to_the_end()
    (said,) = hearer.heard
    assert "channels, not 64" in said["error"]
    assert said["permanent"]


def test_without_any_device(sound: Pulse, tmp_path: Path) -> None:
    with hearing(5, sound.env | {"HOME": str(tmp_path), "PULSE_SERVER": "unix:/nowhere"}) as hearer:
        hearer.to_the_end()
    (said,) = hearer.heard
    assert "microphone 'default': " in said["error"]
    assert "there is no" in said["error"]


def test_without_portaudio(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with hearing(5, {"PYTHONPATH": paths}) as hearer:
        hearer.to_the_end()
    assert hearer.heard == [{"error": "PortAudio is missing: apt install libportaudio2", "permanent": True}]


THERE = [
    Microphone(0, "HDA Intel PCH: ALC257 Analog (hw:0,0)", "ALSA", 2, 44_100, default=False),
    Microphone(3, "USB PnP Sound Device: Audio (hw:1,0)", "ALSA", 1, 48_000, default=False),
    Microphone(4, "USB Conference: Audio (hw:2,0)", "ALSA", 2, 48_000, default=False),
    Microphone(6, "default", "ALSA", 32, 44_100, default=True),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [("default", 6), (3, 3), ("usb pnp", 3), ("(hw:2,0)", 4), ("USB Conference: Audio (hw:2,0)", 4)],
)
def test_a_microphone_is_found(wanted: int | str, index: int) -> None:
    assert mic.find(THERE, wanted).index == index


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("usb", "several have this name, .*: 3: 'USB PnP .*, 4: 'USB Conf"),
        (1, "no such microphone; there is 0: 'HDA"),
        ("Jabra", "no such microphone; there is 0: 'HDA"),
    ],
)
def test_a_microphone_is_not_found(wanted: int | str, said: str) -> None:
    with pytest.raises(LookupError, match=said):
        mic.find(THERE, wanted)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modality": "video"}, "a microphone has no picture"),
        ({"channels": 1, "channel": 2}, "'channel' counts from 1"),
        ({"device": -1}, "greater than or equal to 0"),
        ({"device": ""}, "at least 1 character"),
        ({"microphone": 1}, "Extra inputs"),
    ],
)
def test_a_bad_configuration(settings: Json, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        mic.Config.model_validate({"kind": "mic", **settings})


def test_a_configuration_survives_its_way_to_the_process() -> None:
    config = mic.Config.model_validate({"kind": "mic", "device": 2, "channels": 2, "channel": 1})
    assert mic.Config.model_validate_json(config.model_dump_json()) == config
    assert (config.modality, config.device, config.finite) == ("audio", "2", False)


class TestClock:
    """The frames are counted against the clock: made up blocks of 80 ms, at 44,100 samples a second."""

    RATE_HZ, FRAMES = 44_100, 3528

    def run(
        self, seconds: float, *, speed: float = 1.0, lost_at_s: float = 1e9, lost: int = 0, age_s: float = 1e9
    ) -> tuple[list[float], Counter[str]]:
        """By how much each stamp is wrong (ms), and what was noticed. Each fourth block is 30 ms late."""
        counts: Counter[str] = Counter()
        clock, wrong, count = mic._Clock(self.RATE_HZ, counts), [], 0
        for block in range(round(seconds / 0.08)):
            taken_s = 1000 + block * 0.08 / speed
            count += self.FRAMES
            if taken_s >= 1000 + lost_at_s + lost / self.RATE_HZ:
                taken_s += lost / self.RATE_HZ
            arrived_s = taken_s + 0.08 / speed + 0.001 + 0.03 * (block % 4 == 3)
            if age_s < 1:
                arrived_s += age_s - 0.08
            arrived_ns = round(arrived_s * SECOND_NS)
            samples = np.zeros((self.FRAMES, 1), np.float32)
            stamp_ns = clock.stamp_ns(mic._Block(samples, count, arrived_ns, age_s))
            wrong.append((stamp_ns / SECOND_NS - taken_s) * 1000)
        return wrong, counts

    def test_late_blocks_and_a_slow_clock(self) -> None:
        wrong, counts = self.run(300, speed=1 - 100e-6)
        assert max(map(abs, wrong)) < 6
        assert counts == {}

    def test_what_is_lost_without_a_word_is_noticed(self) -> None:
        wrong, counts = self.run(60, lost_at_s=20, lost=4410)
        assert max(map(abs, wrong[:250])) < 2
        assert max(map(abs, wrong[280:])) < 2, "two seconds later"
        assert counts == {"gap": 1}

    def test_a_clock_slower_than_any_crystal_is_followed(self) -> None:
        wrong, counts = self.run(120, speed=1 - 2e-3)
        assert max(map(abs, wrong)) < 40
        assert counts == {}

    def test_the_latency_of_the_driver_is_taken_off(self) -> None:
        wrong, _ = self.run(20, age_s=0.12)
        assert max(map(abs, wrong[70:])) < 2

    def test_a_third_that_is_missing_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="only 67% of its samples came"):
            self.run(10, speed=2 / 3)
