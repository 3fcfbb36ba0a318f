"""Cameras that go away, hang, lie or refuse, seen from the broker, with the real daemon between.

In each test another source goes on, whose scene moves twice a second: its events show what the daemon and
its other processes do meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import Broker, free_port
from tests.process.edged import Json, Listener, Running, left_behind, running, seconds
from tests.servers.http_stub import Answer, Stub, http_stub, live_mjpeg, live_ts, redirect
from tests.servers.media import excerpt, flash_and_beep
from tests.servers.rtsp import camera

PULSE_S = 0.5
GAP_S = 0.5
"""The other source's events may be so late."""
START_S = 20.0
"""For the daemon and all of its processes, on a busy machine."""
STALLED_AFTER_S = 2.0
READ_TIMEOUT_S = 5.0
FIRST_RETRY_S = 0.5
HEALTHY_S = 10.0
"""A source that ran for so long begins with the shortest pause again."""
ROOM = """
device: yard
mqtt: {{url: "{url}"}}
state_dir: {folder}/state
sources:
{sources}
  pulse: {{kind: synthetic, width: 320, height: 180, rate_hz: 10, period_s: 0.5, figure_s: [0, 0.2],
          voice_s: [0, 0], alarm_s: [0, 0]}}
events:
{events}
  pulse: {{video: {{source: pulse, label: motion, min_score: 0.01}}, hold_s: 0.15}}
"""


class Watch(Listener):
    """Takes in all that comes, in a thread of its own, with the moment of each arrival."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.arrivals: list[float] = []
        self.slept_s = 0.0
        """The longest time that this machine gave the thread no chance to run."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def listen(self, quiet_s: float) -> None:
        """The thread does it."""
        time.sleep(quiet_s)  # the thread listens meanwhile

    def close(self) -> None:
        """Stops listening."""
        self._closing.set()
        self._thread.join()
        self.subscriber.close()

    def seen(self, topic_end: str) -> Iterator[tuple[float, Json]]:
        """When what came on a topic."""
        for at, message in zip(self.arrivals, list(self.messages), strict=False):
            if message[0].endswith(topic_end):
                yield at, json_of(message[1])

    def states(self, source: str, since: float = 0.0) -> list[tuple[float, str, str]]:
        """When which state, with its reason, was told of a source; each change once."""
        found: list[tuple[float, str, str]] = []
        for at, told in self.seen(f"/source/{source}"):
            state = (told["state"], told["reason"] or "")
            if at >= since and (not found or found[-1][1:] != state):
                found.append((at, *state))
        return found

    def wait_for(self, source: str, state: str, timeout_s: float, since: float = 0.0) -> tuple[float, str]:
        """The first time that a source has a state after `since`: when, and the reason."""

        def found() -> list[tuple[float, str]]:
            return [(at, why) for at, what, why in self.states(source, since) if what == state]

        assert self.wait(lambda: bool(found()), timeout_s), (source, state, self.states(source))
        return found()[0]

    def _run(self) -> None:
        quiet_s, last = 0.05, time.monotonic()
        while not self._closing.is_set():
            for message in self.subscriber.messages(quiet_s):
                self.messages.append(message)
                now = time.monotonic()
                self.arrivals.append(now)
                self.slept_s, last = max(self.slept_s, now - last - quiet_s), now
            now = time.monotonic()
            self.slept_s, last = max(self.slept_s, now - last - quiet_s), now


def json_of(payload: bytes) -> Json:
    """A payload's object; nothing for one that deletes a retained topic."""
    return dict(json.loads(payload)) if payload else {}


@dataclass
class Room:
    """A daemon that runs, and what it says."""

    daemon: Running
    watch: Watch

    def pid(self, source: str) -> int:
        """The process that captures a source; 0 while there is none."""
        return self.daemon.workers().get(source, 0)

    def late_s(self, since: float) -> float:
        """The longest time without a start of the other source's events, over their period, as far as it
        is not this machine's doing.
        """
        starts = [at for at, event in self.watch.seen("/event/pulse") if event["phase"] == "start"]
        starts = [since, *(at for at in starts if at > since), time.monotonic()]
        gaps = [after - before for before, after in pairwise(starts)]
        return max(gaps) - PULSE_S - self.watch.slept_s

    def everything(self) -> str:
        """All that was logged and published."""
        payloads = (payload.decode() for _, payload in self.watch.messages)
        return self.daemon.log.read_text() + "\n".join(payloads)


@contextmanager
def room(folder: Path, broker: Broker, sources: str, events: str = "") -> Iterator[Room]:
    """A daemon with these sources beside the other one, which has to run on to the end."""
    file = folder / "room.yaml"
    file.write_text(ROOM.format(url=broker.url, folder=folder, sources=sources, events=events))
    watch = Watch(broker.url)
    try:
        with running("run", file, log=folder / "log") as daemon:
            one = Room(daemon, watch)
            assert watch.wait(lambda: len(watch.events("pulse", "start")) > 1, START_S), one.everything()
            yield one
            assert daemon.process.poll() is None
            assert watch.last("/source/pulse")["state"] == "running"
            assert watch.last("/source/pulse")["drops"] == {}
            assert daemon.stop() < 2.5
            assert daemon.process.returncode == 0
        assert "Traceback" not in one.everything()
        assert left_behind() == []
    finally:
        watch.close()


def stream(name: str, url: str, more: str = "") -> str:
    """A source of the configuration: sound when its name begins with `mic`."""
    modality = "audio" if name.startswith("mic") else "video"
    return (
        f'  {name}: {{kind: stream, url: "{url}", modality: {modality}, rate_hz: 5{more and f", {more}"}}}\n'
    )


def event(name: str, source: str) -> str:
    """An event for each flash, or each beep, of a source."""
    heard = source.startswith("mic")
    modality, label, score = ("audio", "sound", 0.5) if heard else ("video", "motion", 0.03)
    evidence = f"{{source: {source}, label: {label}, min_score: {score}}}"
    return f"  {name}: {{{modality}: {evidence}, hold_s: 0.5}}\n"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes; every four seconds something is there for one, and beeps."""
    return flash_and_beep(tmp_path_factory.mktemp("film") / "film.mp4", 120, thing=True)


@pytest.fixture(scope="module")
def film_ts(film: Path) -> Answer:
    """The same over HTTP, live."""
    return Answer(live_ts(film))


@pytest.fixture
def stub() -> Iterator[Stub]:
    """An HTTP server."""
    with http_stub() as one:
        yield one


# What works.


def test_rtsp_gives_picture_and_sound_over_tcp_and_udp(film: Path, tmp_path: Path, broker: Broker) -> None:
    with camera(film) as first, camera(film) as second:
        sources = stream("cam_tcp", first.url) + stream("mic_tcp", first.url)
        sources += stream("cam_udp", second.url, "transport: udp")
        sources += stream("mic_udp", second.url, "transport: udp")
        names = ("cam_tcp", "mic_tcp", "cam_udp", "mic_udp")
        events = "".join(event(f"of_{name}", name) for name in names)
        with room(tmp_path, broker, sources, events) as yard:
            watch = yard.watch
            for name in names:
                watch.wait_for(name, "running", START_S)
            assert watch.wait(lambda: all(watch.events(f"of_{name}", "end") for name in names), 15)
            assert len(yard.daemon.workers()) == 3, "one process a device"
            for transport in ("tcp", "udp"):
                flash, beep = (watch.events(f"of_{what}_{transport}")[0] for what in ("cam", "mic"))
                # At 5 Hz a flash is seen up to 0.2 s late.
                assert abs(seconds(flash["started_at"]) - seconds(beep["started_at"])) < 0.4


def test_http_gives_picture_and_sound_at_its_own_speed(
    film: Path, film_ts: Answer, stub: Stub, tmp_path: Path, broker: Broker
) -> None:
    whole = film.read_bytes()
    stub.answers |= {"/ts": film_ts, "/mjpeg": live_mjpeg(film), "/mp4": Answer(whole, length=len(whole))}
    sources = "".join(stream(f"cam_{path[1:]}", stub.url(path)) for path in stub.answers)
    sources += stream("mic_ts", stub.url("/ts")) + stream("mic_mp4", stub.url("/mp4"))
    names = ("cam_ts", "mic_ts", "cam_mjpeg", "cam_mp4", "mic_mp4")
    events = "".join(event(f"of_{name}", name) for name in names)
    with room(tmp_path, broker, sources, events) as yard:
        watch = yard.watch
        for name in names:
            watch.wait_for(name, "running", START_S)
        since = time.monotonic()
        assert watch.wait(lambda: all(len(list(_starts(watch, name, since))) >= 2 for name in names), 20), {
            name: list(_starts(watch, name, since)) for name in names
        }
        for name in names:
            late_s = [lag for _, lag in _starts(watch, name, since)]
            # Of a film that is sent as fast as it goes, nobody knows when it was taken.
            assert name.endswith("mp4") or max(late_s) < 1.0, f"the stamps of {name} are {late_s} s old"
            first, second = (at for at, _ in list(_starts(watch, name, since))[:2])
            assert 3.5 < second - first < 4.5, f"{name} does not run at its own speed"


def _starts(watch: Watch, name: str, since: float) -> Iterator[tuple[float, float]]:
    """When each event of a source began, and how much later it was told, in seconds."""
    behind_s = time.time() - time.monotonic()
    for at, one in watch.seen(f"/event/of_{name}"):
        if one["phase"] == "start" and at > since:
            started_s = seconds(one["started_at"]) - behind_s
            yield started_s, at - started_s


# What refuses.


def test_passwords_are_used_and_never_told(
    film: Path,
    film_ts: Answer,
    stub: Stub,
    tmp_path: Path,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret, wrong, in_url = "p@ss/w:rd#1%", "not-the-password", "neither-this"
    (tmp_path / "secret").write_text(f"{secret}\n")
    (tmp_path / "wrong").write_text(wrong)
    monkeypatch.setenv("CAM_USER", "viewer")
    monkeypatch.setenv("CAM_PASSWORD", secret)
    with (
        camera(film, login=f"viewer:{secret}") as basic,
        camera(film, login=f"viewer:{secret}", digest=True) as digest,
    ):
        stub.answers["/ts"] = replace(film_ts, login=f"viewer:{secret}")
        by_file = "username: viewer, password_file: secret"
        by_wrong_file = "username: viewer, password_file: wrong"
        right = {
            "basic_env": stream("basic_env", basic.url.replace("//", "//${CAM_USER}:${CAM_PASSWORD}@")),
            "digest_file": stream("digest_file", digest.url, by_file),
            "http_file": stream("http_file", stub.url("/ts"), by_file),
        }
        refused = {
            "basic_none": stream("basic_none", f"{basic.url}?1"),
            "digest_wrong": stream("digest_wrong", f"{digest.url}?2", by_wrong_file),
            "basic_wrong": stream("basic_wrong", basic.url.replace("//", f"//viewer:{in_url}@")),
            "http_wrong": stream("http_wrong", stub.url("/ts?3"), by_wrong_file),
        }
        stub.answers["/ts?3"] = stub.answers["/ts"]
        with room(tmp_path, broker, "".join((*right.values(), *refused.values()))) as yard:
            for name in right:
                yard.watch.wait_for(name, "running", START_S)
            for name in refused:
                _, reason = yard.watch.wait_for(name, "reconnecting", START_S)
                assert re.search("401|(?i:unauthori[sz]ed)", reason), (name, reason)
                assert re.search("password|user|401", reason), (
                    f"{name}: what to look at is not named: {reason}"
                )
            told = yard.everything()
            for word in (secret, quote(secret, safe=""), wrong, in_url):
                assert word not in told
        assert not any(word in (tmp_path / "log").read_text() for word in (secret, wrong, in_url))


def test_hosts_that_are_not_there_are_named(tmp_path: Path, broker: Broker) -> None:
    """No name server is asked: the first is no name at all."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # connections come about, and nobody ever answers
        nobody = f"127.0.0.1:{silent.getsockname()[1]}"
        urls = {
            "unknown": f"rtsp://{'x' * 64}.invalid/main",
            "refused": f"rtsp://127.0.0.1:{free_port()}/main",
            "silent": f"rtsp://{nobody}/main",
            "silent_http": f"http://{nobody}/main",
        }
        hasty = "stalled_after_s: 0.5"
        with room(tmp_path, broker, "".join(stream(name, url, hasty) for name, url in urls.items())) as yard:
            since = time.monotonic()
            processes = yard.daemon.workers()
            for name, url in urls.items():
                _, reason = yard.watch.wait_for(name, "reconnecting", START_S)
                assert url in reason
                assert "can't be opened: " in reason
                assert "mmediate exit" not in reason, "that is no reason"
            assert yard.daemon.workers() == processes, "the device is not there, its process is"
            assert yard.late_s(since) < GAP_S


def test_servers_that_misbehave_end_in_a_state_with_a_reason(
    film: Path, stub: Stub, tmp_path: Path, broker: Broker
) -> None:
    short = excerpt(film, tmp_path / "short.ts", 4).read_bytes()
    answers = {
        "reset": Answer(short, length=len(short), reset_after=len(short) // 2),
        "trickle": Answer(short, bytes_per_s=100),
        "too-long": Answer(short, length=2 * len(short)),
        "too-short": Answer(short, length=len(short) // 2),
        "endless": Answer(endless_headers=True),
        "to-a-file": redirect("file:///etc/passwd"),
        "to-rtsp": redirect("rtsp://127.0.0.1:9/main"),
        "to-itself": redirect("/to-itself"),
        "unknown": Answer(status="404 Not Found", length=0),
        "closed": Answer(raw=b""),
        "garbage": Answer(raw=bytes(range(256)) * 400),
        "empty": Answer(length=0),
        "text": Answer(b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n" * 1000, length=32_000),
    }
    stub.answers |= {f"/{name}": answer for name, answer in answers.items()}
    with room(tmp_path, broker, "".join(stream(name, stub.url(f"/{name}")) for name in answers)) as yard:
        since = time.monotonic()
        for name in answers:
            _, reason = yard.watch.wait_for(name, "reconnecting", 2 * START_S)
            assert stub.url(f"/{name}") in reason
            assert "mmediate exit" not in reason, "that is no reason"
            assert "root:" not in reason
        again = {name: stub.requests[f"/{name}"] for name in ("reset", "closed")}
        assert yard.watch.wait(lambda: all(stub.requests[f"/{name}"] > n for name, n in again.items()), 20)
        assert yard.late_s(since) < GAP_S


# What goes away, and comes back.


def test_a_stream_that_hangs_is_stalled_then_opened_anew(
    film: Path, film_ts: Answer, stub: Stub, tmp_path: Path, broker: Broker
) -> None:
    stub.answers["/ts"] = film_ts
    with camera(film) as rtsp:
        sources = {
            "rtsp": stream("rtsp", rtsp.url),
            "mic_rtsp": stream("mic_rtsp", rtsp.url),
            "http": stream("http", stub.url("/ts")),
            "patient": stream("patient", stub.url("/ts?4"), "stalled_after_s: 4"),
            "hasty": stream("hasty", stub.url("/ts?0.5"), "stalled_after_s: 0.5"),
        }
        stub.answers |= {"/ts?4": film_ts, "/ts?0.5": film_ts}
        with room(tmp_path, broker, "".join(sources.values())) as yard:
            watch = yard.watch
            for name in sources:
                watch.wait_for(name, "running", START_S)
            processes = yard.daemon.workers()
            time.sleep(2)  # what is steady has no event to wait for
            assert yard.daemon.workers() == processes, "none is taken for hung"
            frozen = time.monotonic()
            rtsp.freeze()
            stub.freeze()
            for name in sources:
                after_s = {"patient": 4.0, "hasty": 0.5}.get(name, STALLED_AFTER_S)
                at, reason = watch.wait_for(name, "stalled", 10, since=frozen)
                assert after_s - 0.3 < at - frozen < after_s + 1 + watch.slept_s, name
                assert reason
                stalled = at
                at, reason = watch.wait_for(name, "reconnecting", 10, since=stalled)
                between = [state for when, state, _ in watch.states(name, stalled) if when < at]
                assert "running" not in between, f"{name}: nothing has come"
                assert at - frozen < READ_TIMEOUT_S + 2 + watch.slept_s, name
                assert reason
            assert yard.daemon.workers() == processes, "the device hangs, the process does not"
            rtsp.thaw()
            stub.thaw()
            thawed = time.monotonic()
            for name in sources:
                watch.wait_for(name, "running", 15, since=thawed)
            assert yard.late_s(frozen) < GAP_S


@pytest.mark.parametrize(
    "times", [2, pytest.param(10, marks=[pytest.mark.long, pytest.mark.timeout(600)], id="10-times")]
)
def test_a_camera_that_is_switched_off_comes_back(
    times: int, film: Path, tmp_path: Path, broker: Broker
) -> None:
    off_s = 1.0
    with camera(film) as rtsp:
        sources = stream("cam", rtsp.url) + stream("mic", rtsp.url)
        with room(tmp_path, broker, sources, event("flash", "cam")) as yard:
            watch = yard.watch
            since = time.monotonic()
            for name in ("cam", "mic"):
                watch.wait_for(name, "running", START_S)
            processes = {"daemon": yard.daemon.process.pid, "cam": yard.pid("cam")}
            before: dict[str, Use] = {}
            for turn in range(times):
                off = time.monotonic()
                rtsp.kill()
                _, reason = watch.wait_for("cam", "reconnecting", READ_TIMEOUT_S + 2, since=off)
                assert rtsp.url in reason
                while time.monotonic() < off + off_s:
                    time.sleep(0.01)  # it is to be away for so long
                rtsp.start()
                on = time.monotonic()
                # Of the pauses, each twice the one before and at least half of that, the sum so far was
                # shorter than the time it was away.
                pause_s = 2 * (on - off) + FIRST_RETRY_S
                for name in ("cam", "mic"):
                    at, _ = watch.wait_for(name, "running", pause_s + 10, since=on)
                    assert at - on < pause_s + 1 + watch.slept_s, (turn, name)
                assert yard.pid("cam") == processes["cam"], "the same process"
                time.sleep(HEALTHY_S + 1)  # what is steady has no event to wait for
                used = {name: Use.of(pid) for name, pid in processes.items()}
                before = before or used
                for name in processes:
                    assert used[name].files <= before[name].files, (turn, name)
                    assert used[name].bytes < before[name].bytes + (16 << 20), (turn, name)
            assert yard.late_s(since) < GAP_S


@dataclass(frozen=True)
class Use:
    """What a process uses."""

    files: int
    bytes: int

    @classmethod
    def of(cls, pid: int) -> Use:
        """Now."""
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return cls(files, int(status.split("VmRSS:")[1].split()[0]) * 1024)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_capture_process_that_hangs_or_dies_is_replaced(
    how: signal.Signals, film: Path, tmp_path: Path, broker: Broker
) -> None:
    with camera(film) as rtsp:
        sources = stream("cam", rtsp.url) + stream("mic", rtsp.url)
        with room(tmp_path, broker, sources) as yard:
            watch = yard.watch
            since = time.monotonic()
            for name in ("cam", "mic"):
                watch.wait_for(name, "running", START_S)
            old = yard.pid("cam")
            assert old
            assert set(yard.daemon.workers()) == {"cam", "pulse"}, "one process for both sources of a device"
            begin = time.monotonic()
            os.kill(old, how)
            noticed_s = 2.0 if how == signal.SIGSTOP else 0.0
            assert watch.wait(lambda: yard.pid("cam") not in (0, old), 15)
            assert time.monotonic() - begin < noticed_s + 1.0 + 0.5 + watch.slept_s
            for name in ("cam", "mic"):
                _, reason = watch.wait_for(name, "reconnecting", 5, since=begin)
                assert reason
                at, _ = watch.wait_for(name, "running", 15, since=begin)
                # The start of a process, and the opening.
                assert at - begin < noticed_s + 1.0 + 4.0 + watch.slept_s
            assert not Path(f"/proc/{old}").exists()
            assert yard.late_s(since) < GAP_S


def test_a_file_that_is_deleted_while_it_plays(film: Path, tmp_path: Path, broker: Broker) -> None:
    once = excerpt(film, tmp_path / "once.mp4", 4)
    looped = excerpt(film, tmp_path / "looped.mp4", 4)
    sources = stream("once", "once.mp4") + stream("looped", "looped.mp4", "loop: true")
    with room(tmp_path, broker, sources) as yard:
        for name in ("once", "looped"):
            yard.watch.wait_for(name, "running", START_S)
        once.unlink()
        looped.unlink()
        yard.watch.wait_for("once", "ended", 15)
        _, reason = yard.watch.wait_for("looped", "failed", 15)
        assert f"{looped}: there is no such file" in reason
