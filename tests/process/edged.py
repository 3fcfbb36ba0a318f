"""The command line as a user runs it: as its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edged.config.schema import Mqtt
from edged.publish.subscriber import Subscriber

ROOT = Path(__file__).parents[2]
SCENE = ROOT / "configs/scene.yaml"
Json = dict[str, Any]


def edged(*arguments: str | Path, timeout_s: float = 110) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "edged", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@dataclass
class Running:
    """A command that runs on."""

    process: subprocess.Popen[str]
    log: Path

    def workers(self) -> dict[str, int]:
        """The process number of each live worker, by its name."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError):
                continue
            if parent == self.process.pid and len(command) > 4:
                found[command[3].decode()] = int(entry.name)
        return found

    def stop(self, timeout_s: float = 10) -> float:
        """SIGTERM; how long the end took, in seconds."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout_s)
        return time.monotonic() - begin


@contextmanager
def running(*arguments: str | Path, log: Path) -> Iterator[Running]:
    """A command in the background; killed at the end when it still runs."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "edged", *map(str, arguments)],
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield Running(process, log)
        finally:
            process.kill()
            process.wait()


class Listener:
    """Everything that a broker brings of one device."""

    def __init__(self, url: str) -> None:
        self.subscriber = Subscriber(Mqtt(url=url), ["edged/#"])
        self.messages: list[tuple[str, bytes]] = []

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Listens until `done`; False when the time ran out."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                return False
            self.listen(0.1)
        return True

    def listen(self, quiet_s: float) -> None:
        """Takes in what comes, until nothing came for so long."""
        self.messages.extend(self.subscriber.messages(quiet_s))

    def events(self, kind: str | None = None, phase: str | None = None) -> list[Json]:
        """The events so far."""
        events = [json.loads(payload) for topic, payload in self.messages if "/event/" in topic]
        return [one for one in events if kind in (None, one["type"]) and phase in (None, one["phase"])]

    def last(self, topic_end: str) -> Json:
        """The newest payload of a topic."""
        found: list[Json] = [json.loads(p) for topic, p in self.messages if topic.endswith(topic_end)]
        return found[-1] if found else {}


@contextmanager
def listening(url: str) -> Iterator[Listener]:
    """A listener that is closed at the end."""
    listener = Listener(url)
    try:
        yield listener
    finally:
        listener.subscriber.close()


def seconds(time_text: str) -> float:
    """A replay's time as a position in the recording."""
    return datetime.fromisoformat(time_text.replace("Z", "+00:00")).timestamp()


def spans(events: list[Json], kind: str) -> list[tuple[float, float]]:
    """From when to when each event of a type lasted, in seconds of the recording."""
    ends = [one for one in events if one["type"] == kind and one["phase"] == "end"]
    return sorted((seconds(one["started_at"]), seconds(one["ended_at"])) for one in ends)


def same(events: list[Json]) -> list[Json]:
    """Events without what may differ between two replays."""
    free = ("id", "traceparent", "latency_ms")
    return [{key: value for key, value in one.items() if key not in free} for one in events]


def left_behind() -> list[str]:
    """Worker processes without a parent of ours."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            ours = "edged.capture.worker" in command or "edged.perceive.worker" in command
            if ours and parent in (1, os.getpid()):
                found.append(command)
    return found
