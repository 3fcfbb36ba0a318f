"""A real capture process: states, rates and hand-over, without a daemon around it."""

from __future__ import annotations

import os
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edged.wire.channel import Channel
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.pool import Lease
from edged.wire.records import Attach, Beat, Counts, Observations, Raise, RateState, SourceState
from edged.wire.views import PictureView
from tests.capture import films
from tests.servers import media
from tests.servers.http_stub import Answer, http_stub, live_ts
from tests.servers.media import flash_and_beep
from tools.bench.capturing import Capturing

VIEW = PictureView(64, 64)
SCENE: dict[str, Any] = {"kind": "synthetic", "figure_s": [0, 0], "voice_s": [0, 0], "alarm_s": [0, 0]}


def states(capturing: Capturing, seconds: float) -> list[SourceState]:
    """What it says of its sources' states within so long."""
    return [item for item, _ in capturing.coming(seconds) if isinstance(item, SourceState)]


def test_two_rates_of_one_picture(tmp_path: Path) -> None:
    film = {"kind": "stream", "url": str(flash_and_beep(tmp_path / "a.mp4"))}
    sources = {"slow": film | {"rate_hz": 1}, "fast": film | {"rate_hz": 10}}
    with Capturing(sources, view=VIEW, replay=True, paced=False) as capturing:
        frames = [item.descriptor for item, _ in capturing.coming(20) if isinstance(item, Lease)]
    slow = [one.stamp_ns for one in frames if one.source == "slow"]
    assert slow == [n * SECOND_NS for n in range(4)]
    fast = [one.stamp_ns for one in frames if one.source == "fast"]
    # At 25 pictures a second the grid of 10 Hz takes the first one that is due.
    assert len(fast) == 40
    assert max(abs(stamp - n * SECOND_NS // 10) for n, stamp in enumerate(fast)) <= SECOND_NS // 25


def test_chunks_follow_each_other_without_a_gap(data: Path) -> None:
    film = {"kind": "stream", "url": str(data / "av/scene_a.mp4"), "modality": "audio"}
    with Capturing({"mic": film}, heard=True, replay=True, paced=False) as capturing:
        chunks = [item.descriptor for item, _ in capturing.coming(60) if isinstance(item, Lease)]
    steps = {after.stamp_ns - before.stamp_ns for before, after in pairwise(chunks)}
    assert steps == {96_000_000}
    assert 139 <= chunks[-1].stamp_ns / SECOND_NS + 0.096 <= 139.6
    assert sum(one.due for one in chunks) == pytest.approx(139 * 5, abs=3)


def test_a_raise_takes_effect_with_the_next_picture_and_lapses() -> None:
    source = SCENE | {"rate_hz": {"idle": 1, "active": 20}}
    with Capturing({"cam": source}, view=VIEW) as capturing:
        came, rates, asked_ns = [], [], 0
        for item, at_ns in capturing.coming(6):
            if isinstance(item, Lease):
                came.append((at_ns, item.descriptor.duration_ns))
                if len(came) == 3:
                    asked_ns = now_ns()
                    capturing.control.send(Raise("cam", asked_ns + 2 * SECOND_NS))
            elif isinstance(item, RateState):
                rates.append((item.rate_hz, item.cause))
    assert rates == [(20, "asked"), (1, "idle")]
    raised = [at_ns for at_ns, duration_ns in came if duration_ns == SECOND_NS // 20]
    assert 30 <= len(raised) <= 45
    assert raised[0] - asked_ns < 0.3 * SECOND_NS, "long before the next picture of the idle rate"
    assert raised[-1] - asked_ns < 2.5 * SECOND_NS


def test_a_source_raises_itself_on_its_own_motion_and_sound() -> None:
    scene = {"kind": "synthetic", "period_s": 6, "figure_s": [2, 4], "voice_s": [2, 4], "alarm_s": [0, 0]}
    rates = {"rate_hz": {"idle": 2, "active": 10}, "active_for_s": 1}
    sources = {
        "cam": scene | rates,
        "mic": scene | rates | {"modality": "audio", "sample_rate_hz": {"idle": 16000, "active": 48000}},
    }
    said: dict[str, list[RateState]] = {"cam": [], "mic": []}
    with Capturing(sources, replay=True, paced=False) as capturing:
        for item, _ in capturing.coming(4):
            if isinstance(item, RateState):
                said[item.source].append(item)
            elif isinstance(item, Observations) and item.stamp_ns > 6 * SECOND_NS:
                break
    assert [(one.rate_hz, one.cause) for one in said["cam"][:2]] == [(10, "motion"), (2, "idle")]
    assert [(one.sample_rate_hz, one.cause) for one in said["mic"][:2]] == [(48000, "sound"), (16000, "idle")]


def test_a_stream_that_stalls_says_so_goes_on_or_is_opened_again(tmp_path: Path) -> None:
    film = media.picture_only(tmp_path / "a.ts", seconds=30)
    with http_stub() as stub:
        stub.answers["/a.ts"] = Answer(live_ts(film))
        source = {"kind": "stream", "url": stub.url("/a.ts"), "stalled_after_s": 1.0}
        with Capturing({"cam": source}, view=VIEW) as capturing:
            said: list[str] = []
            frames = frozen_ns = 0
            for item, at_ns in capturing.coming(40):
                if isinstance(item, Lease):
                    frames += 1
                    if frames in (10, 30):
                        stub.freeze()
                        frozen_ns = at_ns
                elif isinstance(item, SourceState):
                    said.append(item.state)
                    if item.state == "stalled":
                        assert "nothing has come for" in item.reason
                        assert at_ns - frozen_ns < 2 * SECOND_NS
                        if said.count("stalled") == 1:
                            stub.thaw()
                    elif item.state == "reconnecting":
                        assert item.reason.endswith("nothing has come for 5 s")
                        break
    # With the end of the connection the demuxer hands out the last picture, which it had held back.
    assert said[:5] == ["starting", "running", "stalled", "running", "stalled"]
    assert said[5:] in (["reconnecting"], ["running", "reconnecting"])


def test_at_rest_between_key_frames_the_loop_goes_round_and_a_raise_is_heard(tmp_path: Path) -> None:
    """Key frames are three seconds apart, and nothing else is decoded."""
    film = media.picture_only(tmp_path / "a.ts", seconds=30, group=75)
    with http_stub() as stub:
        stub.answers["/a.ts"] = Answer(live_ts(film))
        rates = {"idle": 1 / 3, "active": 25}
        source = {"kind": "stream", "url": stub.url("/a.ts"), "rate_hz": rates, "motion": {"min_share": 1.0}}
        with Capturing({"cam": source}, view=VIEW) as capturing:
            beats, came, asked_ns = [], [], 0
            for item, at_ns in capturing.coming(20):
                if isinstance(item, Beat):
                    beats.append(at_ns)
                elif isinstance(item, Lease):
                    came.append(at_ns)
                    if asked_ns and len(came) > 20:
                        break
                elif len(came) >= 3 and not asked_ns and at_ns - came[-1] > SECOND_NS:
                    asked_ns = at_ns  # a second or so after a key frame
                    del came[:]
                    capturing.control.send(Raise("cam", at_ns + 10 * SECOND_NS))
    assert max(after - before for before, after in pairwise(beats)) < SECOND_NS
    assert asked_ns
    assert came[0] - asked_ns < SECOND_NS // 2


def test_a_reader_that_has_gone_already_costs_nothing() -> None:
    with Capturing({"cam": SCENE}, view=VIEW) as capturing:
        capturing.ready()
        writing, reading = Channel.pair()
        reading.close()
        capturing.control.send(Attach("cam"), (writing.fileno(),))
        writing.close()
        frames = sum(isinstance(item, Lease) for item, _ in capturing.coming(2))
        assert frames >= 8


def test_a_film_whose_sound_ends_early_is_not_stalled(tmp_path: Path) -> None:
    film = films.flash_and_beep(tmp_path / "a.mp4", 4, sound_s=1)
    source = {"kind": "stream", "url": str(film), "stalled_after_s": 0.5}
    with Capturing({"cam": source, "mic": source | {"modality": "audio"}}) as capturing:
        said = [(one.source, one.state) for one in states(capturing, 8)]
    assert sorted(said) == sorted((n, s) for n in ("cam", "mic") for s in ("starting", "running", "ended"))


def test_the_loop_goes_round_while_a_host_does_not_answer() -> None:
    """The opening blocks for ten seconds: messages are served all the same."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"rtsp://127.0.0.1:{mute.getsockname()[1]}/main"
        with Capturing({"cam": {"kind": "stream", "url": url}}) as capturing:
            beats = [at_ns for item, at_ns in capturing.coming(5) if isinstance(item, Beat)]
            begin_ns = now_ns()
        assert now_ns() - begin_ns < SECOND_NS, "and a stop is obeyed"
    assert len(beats) >= 8


@pytest.mark.long
def test_a_slow_main_loop_skips_to_a_key_frame_and_counts_it(tmp_path: Path) -> None:
    """SIGSTOP for two seconds stands for a machine that has no time."""
    film = media.picture_only(tmp_path / "a.ts", seconds=30)
    with http_stub() as stub:
        stub.answers["/a.ts"] = Answer(live_ts(film))
        source = {"kind": "stream", "url": stub.url("/a.ts"), "rate_hz": 25}
        with Capturing({"cam": source}, view=VIEW) as capturing:
            lags: list[float] = []
            counts: dict[str, int] = {}
            stopped = False
            for item, at_ns in capturing.coming(9):
                if isinstance(item, Counts):
                    counts = item.drops
                if isinstance(item, Lease):
                    lags.append((at_ns - item.descriptor.stamp_ns) / SECOND_NS)
                    if len(lags) == 40 and not stopped:
                        stopped = True
                        os.kill(capturing.process.pid, signal.SIGSTOP)
                        time.sleep(2)  # that is what is tested
                        os.kill(capturing.process.pid, signal.SIGCONT)
    assert stopped
    assert max(lags[-20:]) < 1.5, "it has caught up"
    assert set(counts) <= {"behind", "backwards"}
