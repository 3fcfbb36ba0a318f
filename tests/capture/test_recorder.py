"""Clips, snapshots and tapes: whole or absent, as long as asked for, and never more than the disk has."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest

from edged.capture import mux, writing
from edged.capture.device import Encoded, Frame, Sound
from edged.capture.recorder import Recorder
from edged.capture.ring import Piece
from edged.wire.clock import SECOND_NS
from edged.wire.records import RecordClip, Recorded, TakeSnapshot
from edged.wire.setup import RecordSetup
from tests.capture.films import FLASHES_S, LIVE_NS, edges, flash_and_beep, packets, pictures, probe, streams

SOURCES = ("cam", "mic")


def setup(folder: Path, **other: float) -> RecordSetup:
    """Ten seconds of ring, and room."""
    usual = RecordSetup(str(folder), False, True, LIVE_NS, 10.0, 64 << 20, 1 << 30, 1e6)
    return msgspec.structs.replace(usual, **other)


class Recording:
    """A recorder, and what it told."""

    def __init__(self, folder: Path, **other: float) -> None:
        self.folder = folder
        self.told: list[Recorded] = []
        self.it = Recorder("cam", setup(folder, **other), self.told.append, start_ns=LIVE_NS)

    def feed(
        self,
        items: Iterable[Encoded],
        at: dict[float, Callable[[], object]] | None = None,
        until_s: float = 1e9,
    ) -> None:
        """Adds the packets; what is in `at` happens when the stamps pass that second."""
        waiting = dict(at or {})
        for encoded in items:
            now_s = (encoded.stamp_ns - LIVE_NS) / SECOND_NS
            for due_s in [due_s for due_s in waiting if due_s <= now_s]:
                waiting.pop(due_s)()
            if now_s >= until_s:
                return
            self.it.add(encoded)
            self.it.tick(encoded.stamp_ns)

    def wish(
        self,
        from_s: float,
        until_s: float,
        clip: str = "cam/a",
        sources: tuple[str, ...] = SOURCES,
        event: str = "1",
    ) -> str | None:
        """Asks for a clip."""
        ns = [LIVE_NS + round(at * SECOND_NS) for at in (from_s, until_s)]
        return self.it.record(RecordClip(clip, sources, ns[0], ns[1], event))

    def wait(self, count: int = 1) -> list[Recorded]:
        """What was told, when it is so much."""
        deadline = time.monotonic() + 20
        while len(self.told) < count and time.monotonic() < deadline:
            self.it.tick(0)
            time.sleep(0.01)  # another thread writes, and `tick` is how one hears of it
        assert len(self.told) >= count, self.told
        return self.told

    def names(self) -> list[str]:
        """All files of the folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def manifest(self, name: str = "cam/a") -> dict[str, Any]:
        """What a manifest says."""
        said: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return said


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds with B-frames, two flashes, two beeps."""
    return flash_and_beep(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture
def rec(tmp_path: Path) -> Iterable[Recording]:
    """A recorder of an empty folder."""
    one = Recording(tmp_path / "clips")
    yield one
    one.it.close()


def test_ten_seconds_before_and_five_after(rec: Recording, film: Path) -> None:
    rec.feed(packets(film), {12.3: lambda: rec.wish(2.3, 17.3)})
    assert rec.wait() == [Recorded("cam/a.mp4", SOURCES, written=True)]
    path = rec.folder / "cam/a.mp4"
    assert streams(path) == ["h264", "aac"]
    said = rec.manifest()
    assert said["schema"] == "edged.clip/1"
    assert said["complete"] is True
    assert said["from"] <= said["wanted_from"] < said["wanted_until"] <= said["until"]
    assert said["events"] == ["1"]
    assert said["bytes"] == path.stat().st_size
    assert 15.3 <= float(probe(path)["format"]["duration"]) <= 16.5
    flashes, beeps = edges(path)
    # It begins with the key frame at 2 s.
    assert np.allclose(flashes, [at - 2 for at in FLASHES_S], atol=0.001)
    assert np.abs(np.subtract(flashes, beeps)).max() <= 0.04
    shown = [at for at, _ in pictures(path)]
    assert np.allclose(np.diff(shown[:-1]), 0.04, atol=0.001), "no picture is missing"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_pictures_with_b_frames_are_the_same(rec: Recording, data: Path) -> None:
    scene = data / "av/scene_quiet.mp4"
    rec.feed(packets(scene), {12.0: lambda: rec.wish(4.5, 14.0)}, until_s=20)
    rec.wait()
    shown = pictures(rec.folder / "cam/a.mp4")
    assert streams(rec.folder / "cam/a.mp4") == ["h264", "aac"]
    with av.open(str(scene)) as container:
        original = [
            float(frame.to_ndarray(format="gray").mean())
            for frame in itertools.islice(container.decode(video=0), 160)
        ]
    first = round((LIVE_NS + 4 * SECOND_NS - LIVE_NS) / SECOND_NS * 10)
    assert [luma for _, luma in shown][:95] == original[first : first + 95]
    assert np.allclose(np.diff([at for at, _ in shown])[:94], 0.1, atol=0.001)


@pytest.mark.parametrize("kind", ["picture", "sound"])
def test_one_of_both(kind: str, rec: Recording, tmp_path: Path) -> None:
    path = flash_and_beep(tmp_path / "one.mp4", picture=kind == "picture", sound=kind == "sound")
    source = ("cam",) if kind == "picture" else ("mic",)
    rec.feed(packets(path), {12.0: lambda: rec.wish(3.0, 15.0, sources=source)})
    assert rec.wait()[0].written
    clip = rec.folder / "cam/a.mp4"
    assert streams(clip) == [{"picture": "h264", "sound": "aac"}[kind]]
    assert 12 <= float(probe(clip)["format"]["duration"]) <= 13.2


def test_what_mp4_does_not_hold_goes_into_matroska(rec: Recording, data: Path) -> None:
    rec.feed(packets(data / "audio/rain.wav"), {3.0: lambda: rec.wish(1.0, 4.0, sources=("mic",))}, until_s=6)
    assert rec.wait() == [Recorded("cam/a.mkv", ("mic",), written=True)]
    assert streams(rec.folder / "cam/a.mkv") == ["pcm_s16le"]
    assert 3 <= float(probe(rec.folder / "cam/a.mkv")["format"]["duration"]) <= 3.3


def test_raw_pictures_and_sound_are_encoded(rec: Recording) -> None:
    sines = np.sin(2 * np.pi * 1000 * np.arange(16_000 * 20) / 16_000).astype(np.float32) * 0.5
    rec.wish(1.0, 8.0)
    for tick in range(1000):
        at_s, now_ns = tick / 100, LIVE_NS + tick * 10_000_000
        on = any(start <= at_s < start + 1 for start in FLASHES_S)
        if tick % 10 == 0:
            shade = np.full((120, 160, 3), 255 * on, np.uint8)
            rec.it.picture("cam", Frame("cam", now_ns, av.VideoFrame.from_ndarray(shade, "rgb24")), 5.0)
        heard = sines[tick * 160 : (tick + 1) * 160] * on
        rec.it.sound("mic", Sound("mic", now_ns, heard, 16_000), 16_000 if at_s < 4 else 48_000)
        rec.it.tick(now_ns)
    assert rec.wait()[0].written
    path = rec.folder / "cam/a.mp4"
    assert streams(path) == ["h264", "opus"]
    flashes, beeps = edges(path)
    assert np.allclose(np.diff([at for at, _ in pictures(path)]), 0.2, atol=0.001)
    assert np.abs(np.subtract(flashes, beeps)).max() <= 0.04


def test_wishes_that_overlap_are_one_clip(rec: Recording, film: Path) -> None:
    names = list[str | None]()
    rec.feed(
        packets(film),
        {
            6.0: lambda: names.append(rec.wish(4.0, 8.0)),
            7.0: lambda: names.append(rec.wish(5.0, 10.0, "cam/b", event="2")),
            9.0: lambda: names.append(rec.wish(4.0, 12.0, event="1")),
            16.0: lambda: names.append(rec.wish(15.0, 17.0, "cam/c", event="3")),
        },
    )
    rec.wait(2)
    assert names == ["cam/a", "cam/a", "cam/a", "cam/c"]
    assert rec.names() == ["cam/a.json", "cam/a.mp4", "cam/c.json", "cam/c.mp4"]
    assert rec.manifest()["events"] == ["1", "2"]
    assert 8 <= float(probe(rec.folder / "cam/a.mp4")["format"]["duration"]) <= 8.5


def test_a_wish_may_reach_further_back(rec: Recording, film: Path) -> None:
    rec.feed(packets(film), {9.0: lambda: rec.wish(8.0, 12.0), 10.0: lambda: rec.wish(3.0, 12.0, "cam/b")})
    assert [one.path for one in rec.wait()] == ["cam/a.mp4"]
    assert rec.manifest()["complete"] is True
    assert 9 <= float(probe(rec.folder / "cam/a.mp4")["format"]["duration"]) <= 9.5
    assert rec.names() == ["cam/a.json", "cam/a.mp4"]


def test_another_source_is_taken_in(rec: Recording, film: Path) -> None:
    rec.feed(
        packets(film),
        {9.0: lambda: rec.wish(7.0, 11.0, sources=("mic",)), 10.0: lambda: rec.wish(7.0, 12.0, "cam/b")},
    )
    assert [one.path for one in rec.wait()] == ["cam/a.mp4"]
    assert sorted(streams(rec.folder / "cam/a.mp4")) == ["aac", "h264"]


def test_the_same_name_again_is_another_file(rec: Recording, film: Path) -> None:
    rec.feed(packets(film), {5.0: lambda: rec.wish(4.0, 6.0), 9.0: lambda: rec.wish(8.0, 10.0)})
    assert [one.path for one in rec.wait(2)] == ["cam/a.mp4", "cam/a-2.mp4"]


def test_what_is_older_than_the_ring_is_said_to_be_missing(tmp_path: Path, film: Path) -> None:
    rec = Recording(tmp_path, before_s=2.0)
    rec.feed(packets(film), {10.0: lambda: rec.wish(1.0, 12.0)})
    assert rec.wait()[0].reason == "it begins later than asked: nothing older was kept"
    rec.it.close()
    assert rec.manifest()["complete"] is False


def test_a_device_that_falls_silent_does_not_hold_the_clip_open(rec: Recording, film: Path) -> None:
    rec.feed(packets(film), {10.0: lambda: rec.wish(5.0, 15.0)}, until_s=12)
    rec.it.tick(LIVE_NS + 15 * SECOND_NS)
    assert not rec.told
    rec.it.tick(LIVE_NS + 16 * SECOND_NS)
    assert rec.wait() == [Recorded("cam/a.mp4", SOURCES, written=True, reason="nothing more came")]
    assert 7 <= float(probe(rec.folder / "cam/a.mp4")["format"]["duration"]) <= 8
    assert rec.manifest()["complete"] is False


def test_a_reconnect_goes_on_in_the_same_file(rec: Recording, film: Path) -> None:
    rec.wish(1.0, 26.0)
    rec.feed(packets(film), until_s=10)
    rec.feed(packets(film, LIVE_NS + 14 * SECOND_NS))
    rec.it.tick(LIVE_NS + 60 * SECOND_NS)
    assert [one.path for one in rec.wait()] == ["cam/a.mp4"]
    path = rec.folder / "cam/a.mp4"
    probe(path)
    flashes, beeps = edges(path)
    assert np.allclose(flashes, [6, 20], atol=0.05)
    assert np.abs(np.subtract(flashes, beeps)).max() <= 0.04


def test_another_header_begins_a_second_file(rec: Recording, film: Path, data: Path) -> None:
    rec.wish(1.0, 20.0)
    rec.feed(packets(film), until_s=10)
    rec.feed(packets(data / "av/scene_quiet.mp4", LIVE_NS + 12 * SECOND_NS), until_s=25)
    assert [one.path for one in rec.wait(2)] == ["cam/a.mp4", "cam/a-2.mp4"]
    sizes = [probe(rec.folder / one.path)["streams"] for one in rec.told]
    assert [found[0]["width"] for found in sizes] == [160, 768]
    assert [len(found) for found in sizes] == [2, 2]
    assert "another file" in rec.told[0].reason


def test_nothing_came(rec: Recording) -> None:
    rec.wish(0, 1)
    rec.it.tick(LIVE_NS + 3 * SECOND_NS)
    assert rec.wait() == [Recorded("cam/a", SOURCES, written=False, reason="the sources brought nothing")]
    assert rec.it.counts()["clips_failed"] == 1


def test_closing_finishes_what_is_open(rec: Recording, film: Path) -> None:
    rec.feed(packets(film), {5.0: lambda: rec.wish(3.0, 300.0)}, until_s=9)
    rec.it.close()
    assert rec.told == [Recorded("cam/a.mp4", SOURCES, written=True, reason="recording was stopped")]
    assert 6 <= float(probe(rec.folder / "cam/a.mp4")["format"]["duration"]) <= 6.5


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "/cam/a",
        "cam",
        "cam/",
        "cam/../b",
        "cam/..",
        "../cam/a",
        "cam/.a",
        "mic/a",
        "cam/a\0",
        "cam//a",
        "cam/ä",
    ],
)
def test_odd_names_are_refused(name: str, rec: Recording, tmp_path: Path) -> None:
    assert rec.wish(0, 1, name) is None
    picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
    rec.it.snapshot(TakeSnapshot(name, "cam", "1"), Frame("cam", LIVE_NS, picture))
    assert [one.written for one in rec.wait(2)] == [False, False]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_snapshots(rec: Recording) -> None:
    picture = av.VideoFrame.from_ndarray(np.full((121, 161, 3), 90, np.uint8), "rgb24")
    rec.it.snapshot(TakeSnapshot("cam/x", "cam", "7"), Frame("cam", LIVE_NS, picture))
    assert rec.wait() == [Recorded("cam/x.jpg", ("cam",), written=True)]
    assert rec.names() == ["cam/x.jpg", "cam/x.jpg.json"]
    assert rec.manifest("cam/x.jpg")["width"] == 161
    with av.open(str(rec.folder / "cam/x.jpg")) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (161, 121)
    assert abs(frame.to_ndarray(format="rgb24").mean() - 90) < 4


KILLED = """
import sys, time
from pathlib import Path
from tests.capture.films import packets
from tests.capture.test_recorder import Recording
rec = Recording(Path(sys.argv[1]))
rec.wish(0, 2, "cam/whole")
rec.wish(5, 18, "cam/cut")
rec.feed(packets(Path(sys.argv[2])), until_s=12)
while not (rec.told and list(Path(sys.argv[1]).rglob("*.part"))):
    rec.it.tick(0)
print("open", flush=True)
time.sleep(60)  # until it is killed
"""


def test_a_killed_process_leaves_whole_clips_only(tmp_path: Path, film: Path) -> None:
    folder = tmp_path / "clips"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(film)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout
    assert child.stdout.readline() == b"open\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (folder / "cam/orphan.json").write_text('{"schema": "edged.clip/1", "file": "orphan.mp4"}')
    (folder / "cam/mine.json").write_text('{"file": "orphan.mp4"}')
    (folder / "mic").mkdir()
    (folder / "mic/other.mp4.part").touch()
    rec = Recording(folder)
    assert "cam/cut.mp4.part" in rec.names() or not list((folder / "cam").glob("*.part"))
    rec.it.close()
    assert rec.names() == ["cam/mine.json", "cam/whole.json", "cam/whole.mp4", "mic/other.mp4.part"]
    probe(folder / "cam/whole.mp4")


def shelve(folder: Path, count: int, size: int = 100_000) -> list[Path]:
    """Clips of ours, the first the oldest, an hour apart."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        clip = folder / f"old{number}.mp4"
        clip.write_bytes(bytes(size))
        clip.with_suffix(".json").write_text(json.dumps({"schema": "edged.clip/1", "file": clip.name}))
        then = time.time() - (count - number) * 3600
        os.utime(clip, (then, then))
        made.append(clip)
    return made


@pytest.mark.parametrize("bound", [{"max_age_s": 2.5 * 3600}, {"max_bytes": 250_000}])
def test_the_oldest_go(bound: dict[str, float], tmp_path: Path) -> None:
    folder, outside = tmp_path / "clips", tmp_path / "outside"
    clips = shelve(folder / "else", 5)
    (strange,) = shelve(outside, 1)
    os.utime(strange, (0, 0))
    (folder / "link").symlink_to(outside)
    (folder / "else/link.mp4").symlink_to(strange)
    (folder / "else/link.json").write_text('{"schema": "edged.clip/1", "file": "link.mp4"}')
    (folder / "else/up.json").write_text('{"schema": "edged.clip/1", "file": "../../outside/old0.mp4"}')
    (folder / "else/holiday.mp4").write_bytes(bytes(10))
    os.utime(folder / "else/holiday.mp4", (0, 0))
    rec = Recording(folder, **bound)
    rec.it.close()
    assert [clip.exists() for clip in clips] == [False, False, False, True, True]
    assert [clip.with_suffix(".json").exists() for clip in clips] == [False, False, False, True, True]
    assert strange.exists()
    assert (folder / "else/holiday.mp4").exists()
    assert rec.it.counts()["clips_expired"] == 3


def test_a_folder_that_leads_elsewhere_is_not_written_to(tmp_path: Path, film: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/cam").symlink_to(tmp_path / "outside")
    rec = Recording(tmp_path / "clips")
    rec.feed(packets(film), {3.0: lambda: rec.wish(1.0, 4.0)}, until_s=8)
    assert not rec.wait()[0].written
    rec.it.close()
    assert not list((tmp_path / "outside").iterdir())


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, film: Path) -> None:
    (tmp_path / "file").touch()
    rec = Recording(tmp_path / "file/clips")
    rec.feed(packets(film), {3.0: lambda: rec.wish(1.0, 4.0)}, until_s=8)
    assert rec.wait() == [Recorded("cam/a.mp4", SOURCES, written=False, reason="Not a directory")]
    rec.it.close()


FULL = """
import json, sys
from pathlib import Path
from tests.capture.films import packets
from tests.capture.test_recorder import Recording, shelve
folder = Path(sys.argv[1])
shelve(folder / "cam", int(sys.argv[3]), 300_000)
if not int(sys.argv[3]):
    (folder / "foreign").write_bytes(bytes(1_400_000))
rec = Recording(folder)
rec.feed(packets(Path(sys.argv[2])), {15.0: lambda: rec.wish(6.0, 17.0)}, until_s=20)
told = rec.wait()[0]
rec.it.close()
Path(sys.argv[4]).write_text(json.dumps([told.written, told.reason, rec.it.counts(), rec.names()]))
if told.written:
    Path(sys.argv[4] + ".mp4").write_bytes((folder / "cam/a.mp4").read_bytes())
"""


@pytest.mark.parametrize("old", [4, 0])
def test_a_full_disk_costs_the_oldest(old: int, tmp_path: Path, data: Path) -> None:
    film, disk, said = data / "av/scene_a.mp4", tmp_path / "disk", tmp_path / "said"
    disk.mkdir()
    line = f'mount -t tmpfs -o size=1500k none "$1" && exec "$2" -c "$3" "$1" "$4" {old} "$5"'
    arguments = ["sh", str(disk), sys.executable, FULL, str(film), str(said)]
    unshare = [] if os.geteuid() == 0 else ["-r"]
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", *unshare, "-m", "true"], check=False).returncode
    ):
        pytest.skip("a small file system needs unshare -m, which does not work here")
    subprocess.run(
        ["unshare", *unshare, "-m", "sh", "-c", line, *arguments], check=True, cwd=Path(__file__).parents[2]
    )
    written, reason, counts, names = json.loads(said.read_text())
    if old:
        assert written
        assert counts["clips_evicted"] >= 1
        left = sorted(name for name in names if "old" in name and name.endswith(".mp4"))
        assert left == [f"cam/old{n}.mp4" for n in range(counts["clips_evicted"], 4)]
        assert streams(Path(f"{said}.mp4")) == ["h264", "aac"]
    else:
        assert not written
        assert reason == "No space left on device"
        assert names == ["foreign"]


class SlowMuxer(mux.Muxer):
    """A card that has come to a stand."""

    def write(self, one: Piece) -> None:
        """Takes long over each packet."""
        time.sleep(0.2)  # the slowness itself
        super().write(one)


@pytest.mark.long
def test_a_disk_that_is_too_slow_costs_the_clip(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "Muxer", SlowMuxer)
    monkeypatch.setattr(writing, "QUEUE_BYTES", 100_000)
    rec = Recording(tmp_path)
    begun = time.monotonic()
    rec.wish(0, 19)
    rec.feed(packets(film))
    assert time.monotonic() - begun < 20, "capture does not wait"
    assert rec.wait() == [Recorded("cam/a.mp4", SOURCES, written=False, reason="the disk is too slow")]
    rec.it.close()
    assert rec.names() == []


def test_a_tape_keeps_every_stamp(tmp_path: Path, film: Path, data: Path) -> None:
    for path, exact in ((film, True), (data / "av/scene_quiet.mp4", True), (data / "audio/rain.wav", False)):
        rec = Recording(tmp_path / path.stem, tape=True)
        fed = list[Encoded]()
        for encoded in packets(path, LIVE_NS + 1_234_567_890):
            # As the clock of a live stream is corrected, and after a second without anything.
            late_ns = 3_210_987 if len(fed) % 50 > 25 else 0
            late_ns += SECOND_NS if len(fed) > 300 else 0
            one = Encoded(encoded.sources, encoded.packet, encoded.stamp_ns + late_ns, encoded.origin)
            rec.it.add(one)
            fed.append(one)
            if len(fed) == 600:
                break
        rec.it.descriptor({"source": "cam", "sequence": 1, "stamp_ns": 5})
        rec.it.close()
        assert all(one.written for one in rec.told)
        for name in {one.sources[0] for one in fed}:
            tape = next(file for file in (tmp_path / path.stem).glob(f"{name}.m*"))
            want = [(one.stamp_ns - LIVE_NS) / SECOND_NS for one in fed if one.sources == (name,)]
            with av.open(str(tape)) as container:
                got = [float(p.pts * p.time_base) for p in container.demux() if p.size and p.pts is not None]
            assert len(got) == len(want)
            assert np.abs(np.subtract(got, want)).max() <= (
                0.001 if not exact else 1e-6 if name == "cam" else 11e-6
            )
            probe(tape)
        assert (
            tmp_path / path.stem / "cam.jsonl"
        ).read_text() == '{"source":"cam","sequence":1,"stamp_ns":5}\n'


TAPED = """
import os, signal, sys, time
from pathlib import Path
from tests.capture.films import packets
from tests.capture.test_recorder import Recording
rec = Recording(Path(sys.argv[1]), tape=True)
rec.feed(packets(Path(sys.argv[2])), until_s=12)
while rec.it._writer._waiting:
    time.sleep(0.01)  # another thread writes
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_tape_outlives_its_process(tmp_path: Path, film: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TAPED, str(tmp_path), str(film)], check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == -signal.SIGKILL
    probe(tmp_path / "cam.mp4")
    assert pictures(tmp_path / "cam.mp4")[-1][0] > 11.7
    assert 11.7 <= float(probe(tmp_path / "mic.mp4")["format"]["duration"]) <= 12.1
