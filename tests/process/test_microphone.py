"""The daemon with a microphone: what is played to it in real time is found when it was played."""

from __future__ import annotations

import json
import time
import wave
from pathlib import Path

import pytest

from edged.wire.clock import SECOND_NS
from edged.wire.views import CHUNK_NS
from tests.conftest import Broker
from tests.process.edged import Json, Listener, edged, listening, running, spans
from tests.servers.pulse import pulse

LEAD_S = 8
"""Silence before, in which the daemon starts: PulseAudio drops sound when a player begins."""
TOLERANCE_S = 0.3
ROOM = """
device: room
sources:
  mic: {{{source}, modality: audio, rate_hz: 5}}
models:
  voice: {{card: silero-vad, sources: [mic]}}
events:
  speech: {{audio: {{source: mic, label: speech}}}}
"""


def cut(recording: Path, seconds: float, folder: Path) -> tuple[Path, Path]:
    """The beginning of the recording, and the same after `LEAD_S` of silence."""
    with wave.open(str(recording), "rb") as file:
        form = file.getparams()
        samples = file.readframes(round(seconds * form.framerate))
    paths = folder / "alone.wav", folder / "played.wav"
    second = bytes(form.framerate * form.sampwidth)
    for path, lead_s in zip(paths, (0, LEAD_S), strict=True):
        with wave.open(str(path), "wb") as file:
            file.setparams(form)
            file.writeframes(second * lead_s + samples + second * 3)
    return paths


def replayed(recording: Path, data: Path, folder: Path) -> list[tuple[float, float]]:
    """When there is speech in the recording, by the same model and rule, read from the file."""
    file = folder / "replay.yaml"
    file.write_text(ROOM.format(source=f"kind: stream, url: {recording}"))
    done = edged("replay", file, "--models", data / "models", "--mqtt", "none", "--json")
    assert done.returncode == 0, done.stderr
    return spans([json.loads(line) for line in done.stdout.splitlines()], "speech")


def counted(listener: Listener, until: float) -> list[tuple[float, int]]:
    """When each count of chunks was told."""
    counts: list[tuple[float, int]] = []
    while time.time() < until:
        listener.listen(0.05)
        told: Json = listener.last("/source/mic")
        assert told["state"] == "running"
        if not counts or told["delivered"] != counts[-1][1]:
            counts.append((time.time(), told["delivered"]))
    return counts


@pytest.mark.parametrize(
    "seconds", [pytest.param(8.5, id="short"), pytest.param(60.0, id="whole", marks=pytest.mark.long)]
)
def test_speech_is_found_when_it_was_played(
    seconds: float, data: Path, tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, played = cut(data / "audio/silero_test.wav", seconds, tmp_path)
    truth = replayed(alone, data, tmp_path)
    assert truth
    file = tmp_path / "live.yaml"
    room = ROOM.format(source="kind: mic, sample_rate_hz: {idle: 16000, active: 48000}")
    file.write_text(f"{room}mqtt: {{url: '{broker.url}'}}\nstate_dir: {tmp_path / 'state'}\n")
    with pulse() as sound, listening(broker.url) as listener:
        for name, value in sound.env.items():
            monkeypatch.setenv(name, value)
        # The one common offset of truth and events: the moment when the player was started.
        begin = time.time() + LEAD_S
        sound.play(played)
        with running("run", file, "--models", data / "models", log=tmp_path / "log") as daemon:
            assert listener.wait(lambda: listener.last("/source/mic").get("state") == "running", 20)
            assert time.time() < begin, "too slow to begin"
            counts = counted(listener, begin + seconds + 3)
            assert daemon.stop() < 2
        listener.listen(0.5)
    found = [(start - begin, end - begin) for start, end in spans(listener.events(), "speech")]
    assert len(found) == len(truth), (found, truth)
    for edges, true_edges in zip(found, truth, strict=True):
        for edge, true_edge in zip(edges, true_edges, strict=True):
            assert abs(edge - true_edge) <= TOLERANCE_S, (found, truth)
    last = listener.last("/source/mic")
    # A null sink that is not in time begins anew: then PulseAudio has played nothing for some milliseconds.
    gaps = last["drops"].pop("gap", 0)
    assert last["drops"] == {}
    assert gaps <= 1 + seconds / 10
    if len(counts) > 3:
        (first_s, first), (last_s, newest) = counts[1], counts[-1]
        lacking_s = last_s - first_s - (newest - first) * CHUNK_NS / SECOND_NS
        assert abs(lacking_s) < 1.0 + 0.1 * gaps, "counts are told each half second"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_microphone_that_stands_still_or_is_unplugged_comes_back(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "live.yaml"
    file.write_text(
        f"{{sources: {{mic: {{kind: mic}}}}, mqtt: {{url: '{broker.url}'}}, state_dir: {tmp_path}}}"
    )
    with pulse() as sound, listening(broker.url) as listener:
        for name, value in sound.env.items():
            monkeypatch.setenv(name, value)

        def told(state: str) -> bool:
            return listener.wait(lambda: listener.last("/source/mic").get("state") == state, 40)

        with running("run", file, log=tmp_path / "log") as daemon:
            assert told("running")
            sound.freeze()
            assert told("stalled")
            sound.thaw()
            assert told("running")
            sound.kill()
            assert told("reconnecting")
            assert "microphone 'default': " in listener.last("/source/mic")["reason"]
            sound.start()
            assert told("running")
            delivered = listener.last("/source/mic")["delivered"]
            assert listener.wait(lambda: listener.last("/source/mic")["delivered"] > delivered + 10, 30)
            sound.freeze()
            assert told("stalled")
            assert daemon.stop() < 2, "PortAudio may hang: nobody waits for it"
        assert "Traceback" not in (tmp_path / "log").read_text()
