"""Clips and snapshots by the whole daemon: of real streams, asked for by a rule, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from edged.wire.clock import SECOND_NS, WallClock
from tests.capture.films import edges, flash_and_beep, probe
from tests.conftest import Broker
from tests.process.edged import Listener, Running, listening, running
from tests.servers.http_stub import Answer, http_stub, live_ts
from tests.servers.rtsp import camera

BEEP_S = 14
"""Silence and darkness before and after it."""
CONFIG = """
device: yard
mqtt: {{url: "{url}"}}
state_dir: {folder}/state
sources:
  cam: {{kind: stream, url: "{stream}", rate_hz: 5}}
  mic: {{kind: stream, url: "{stream}", modality: audio}}
events:
  beep: {{audio: {{source: mic, label: sound, min_score: 0.5}}, hold_s: 0.5}}
adapt:
  - {{when: beep, raise: [cam], record: {{before_s: {before}, after_s: {after}}}, snapshot: true}}
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As cameras send it: without B-frames."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return flash_and_beep(path, 40, flashes_s=(BEEP_S,), b_frames=0)


@contextmanager
def served(film: Path, scheme: str) -> Iterator[str]:
    """The film's URL, live."""
    if scheme == "rtsp":
        with camera(film) as one:
            yield one.url
    else:
        with http_stub() as stub:
            stub.answers["/live.ts"] = Answer(live_ts(film))
            yield stub.url("/live.ts")


@contextmanager
def recording(
    folder: Path, broker: Broker, stream: str, before: float, after: float
) -> Iterator[tuple[Running, Listener]]:
    """A daemon that takes clips into `folder/state/clips`."""
    file = folder / "yard.yaml"
    text = CONFIG.format(url=broker.url, folder=folder, stream=stream, before=before, after=after)
    file.write_text(text)
    with listening(broker.url) as listener, running("run", file, log=folder / "log") as daemon:
        yield daemon, listener


def written(folder: Path, suffix: str) -> list[Path]:
    """The files of this kind among the clips."""
    return sorted((folder / "state/clips").rglob(f"*{suffix}"))


@pytest.mark.parametrize("scheme", ["http", pytest.param("rtsp", marks=pytest.mark.long)])
def test_a_clip_of_ten_seconds_before_and_five_after(
    scheme: str, film: Path, broker: Broker, tmp_path: Path
) -> None:
    with (
        served(film, scheme) as url,
        recording(tmp_path, broker, url, before=10, after=5) as (daemon, listener),
    ):
        assert listener.wait(lambda: bool(written(tmp_path, ".mp4")), 60), daemon.log.read_text()
        assert listener.wait(lambda: bool(listener.events("beep", "end")), 5)
    assert daemon.process.returncode is None or daemon.process.returncode <= 0
    (clip,), (picture,) = written(tmp_path, ".mp4"), written(tmp_path, ".jpg")
    start, end = listener.events("beep", "start")[0], listener.events("beep", "end")[0]
    assert clip.parent.parent.parent == tmp_path / "state/clips"
    assert start["clip"] == end["clip"] == str(clip.relative_to(tmp_path / "state/clips").with_suffix(""))
    assert not written(tmp_path, ".part")

    manifest = json.loads(clip.with_suffix(".json").read_text())
    assert manifest["schema"] == "edged.clip/1"
    assert manifest["events"] == [start["id"]]
    assert manifest["complete"], manifest
    clock = WallClock(0)
    began_ns, ended_ns = clock.stamp_ns(start["started_at"]), clock.stamp_ns(end["ended_at"])
    assert clock.stamp_ns(manifest["from"]) <= began_ns - 10 * SECOND_NS
    assert clock.stamp_ns(manifest["until"]) >= ended_ns + 5 * SECOND_NS

    said = probe(clip)
    assert {stream["codec_name"] for stream in said["streams"]} == {"h264", "aac"}
    assert float(said["format"]["duration"]) >= 10 + 1 + 5
    (flash,), (beep,) = edges(clip)
    assert abs(flash - beep) < 0.04, "picture and sound are as far apart as in the room"
    assert flash > 9.9, "the event began a little later than the flash"
    with av.open(str(clip)) as container:
        first = next(packet for packet in container.demux(video=0))
        assert first.is_keyframe
    with av.open(str(picture)) as container:
        shown = next(container.decode(video=0))
        assert (shown.width, shown.height) == (160, 120)
        assert shown.to_ndarray(format="gray").mean() > 128, "it is of what happened"


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.long)])
def test_a_clip_is_whole_or_absent(number: int, film: Path, broker: Broker, tmp_path: Path) -> None:
    """The capture process dies, or hangs, while it writes; the next one goes on with what is left."""
    with (
        served(film, "http") as url,
        recording(tmp_path, broker, url, before=2, after=12) as (daemon, listener),
    ):
        assert listener.wait(lambda: bool(written(tmp_path, ".part")), 40), daemon.log.read_text()
        first = daemon.workers()["cam"]
        os.kill(first, number)
        begin = time.monotonic()
        assert listener.wait(lambda: daemon.workers().get("cam", first) != first, 10)
        # Two seconds to find out that it hangs, and one to replace it.
        assert time.monotonic() - begin < (3.5 if number == signal.SIGSTOP else 1.5)
        assert listener.wait(lambda: listener.last("/source/cam").get("state") == "running", 20)
        assert daemon.stop() < 3
    assert not written(tmp_path, ".part")
    for clip in written(tmp_path, ".mp4"):
        probe(clip)
        assert clip.with_suffix(".json").is_file()
    clips = {clip.stem for clip in (*written(tmp_path, ".mp4"), *written(tmp_path, ".jpg"))}
    assert {path.name.partition(".")[0] for path in written(tmp_path, ".json")} <= clips


def test_nothing_is_recorded_unless_a_rule_says_so(broker: Broker, tmp_path: Path) -> None:
    film = flash_and_beep(tmp_path / "film.mp4", 8, flashes_s=(2,), b_frames=0)
    file = tmp_path / "yard.yaml"
    with http_stub() as stub, listening(broker.url) as listener:
        stub.answers["/live.ts"] = Answer(live_ts(film))
        text = CONFIG.format(url=broker.url, folder=tmp_path, stream=stub.url("/live.ts"), before=1, after=1)
        file.write_text(text.partition("adapt:")[0])
        with running("run", file, log=tmp_path / "log") as daemon:
            assert listener.wait(lambda: bool(listener.events("beep", "end")), 40), daemon.log.read_text()
    assert not (tmp_path / "state/clips").exists()


def test_clips_are_kept_without_a_broker_too(tmp_path: Path) -> None:
    """Nothing waits for a broker then, but what was recorded is no scratch."""
    film = flash_and_beep(tmp_path / "film.mp4", 8, flashes_s=(2,), b_frames=0)
    file = tmp_path / "yard.yaml"
    with http_stub() as stub:
        stub.answers["/live.ts"] = Answer(live_ts(film))
        text = CONFIG.format(url="unused", folder=tmp_path, stream=stub.url("/live.ts"), before=1, after=1)
        file.write_text(text.replace('mqtt: {url: "unused"}\n', ""))
        with running("run", file, log=tmp_path / "log") as daemon:
            deadline = time.monotonic() + 40
            while not written(tmp_path, ".mp4") and time.monotonic() < deadline:
                time.sleep(0.1)  # a file appears, and nothing tells of it
            assert daemon.stop() < 3
    (clip,) = written(tmp_path, ".mp4")
    probe(clip)
