"""Writes clips in a thread of its own, so that a slow disk holds up nothing else."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from edged.capture.clips import CLIP_SCHEMA, Clips, PartFile
from edged.capture.mux import SUFFIXES, Muxer, container_of
from edged.capture.ring import Piece, Slot, Track
from edged.wire.records import Recorded

log = logging.getLogger(__name__)

QUEUE_BYTES = 16 << 20
"""What waits to be written may be so much; a card that is slower than that for long loses the clip."""
RETAIN_S = 60.0
NICE = 15
"""Nobody waits for it: the engines and the captures come first."""


class Writer:
    """The thread that all writing happens in, so that a slow disk holds up nothing else."""

    def __init__(self, name: str, clips: Clips) -> None:
        self._clips = clips
        self._queue: queue.SimpleQueue[tuple[int, Callable[[], None]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, cost: int, work: Callable[[], None]) -> bool:
        """Hands `work` over, which keeps `cost` bytes alive; False when too much waits already."""
        with self._lock:
            if cost and self._waiting + cost > QUEUE_BYTES:
                return False
            self._waiting += cost
        self._queue.put((cost, work))
        return True

    def close(self, timeout_s: float) -> bool:
        """Ends when all is done; False when that takes too long."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        retain_s = 0.0
        while True:
            if time.monotonic() >= retain_s:
                self._clips.retain()
                retain_s = time.monotonic() + RETAIN_S
            try:
                given = self._queue.get(timeout=max(0.0, retain_s - time.monotonic()))
            except queue.Empty:
                continue
            if given is None:
                return
            cost, work = given
            work()
            del work, given
            with self._lock:
                self._waiting -= cost


class ClipFile:
    """A file of a clip. Made in the main loop; its methods run in the writer's thread."""

    def __init__(
        self,
        clips: Clips,
        name: str,
        tracks: dict[Slot, Track],
        zero_ns: int,
        report: Callable[[Recorded], None],
    ) -> None:
        self.tracks = tracks
        self.sources: tuple[str, ...] = ()
        self._clips, self._report, self._zero_ns = clips, report, zero_ns
        self._name, self._format = name, container_of(tracks.values())
        self._path = name + SUFFIXES[self._format]
        self._file: PartFile | None = None
        self._muxer: Muxer | None = None
        self._over = False

    def open(self, pieces: list[Piece]) -> None:
        """Begins the file with these."""
        self._try(partial(self._open, pieces))

    def write(self, one: Piece) -> None:
        """Writes the next packet."""
        if self._muxer:
            self._try(partial(self._muxer.write, one))

    def finish(self, facts: dict[str, Any]) -> None:
        """Lets it appear."""
        self._try(partial(self._finish, facts))

    def discard(self) -> None:
        """Leaves nothing of it, and says nothing."""
        self._over = True
        if self._file:
            self._file.discard()
        if self._muxer:
            with contextlib.suppress(Exception):  # it writes its end into nothing
                self._muxer.close()
        self._file = self._muxer = None

    def fail(self, reason: str) -> None:
        """Leaves nothing of it, and says why."""
        if not self._over:
            self.discard()
            self._report(Recorded(self._path, self.sources, written=False, reason=reason))

    def _open(self, pieces: list[Piece]) -> None:
        self._file = self._clips.create(self._name, SUFFIXES[self._format], CLIP_SCHEMA)
        self._path = self._clips.relative(self._file.path)
        self._muxer = Muxer(self._file, self.tracks.values(), self._zero_ns)
        for one in pieces:
            self._muxer.write(one)

    def _finish(self, facts: dict[str, Any]) -> None:
        assert self._file  # noqa: S101 - for the type checker
        assert self._muxer  # noqa: S101 - for the type checker
        self._muxer.close()
        self._file.commit(facts)
        self._file = self._muxer = None
        self._over = True
        self._report(Recorded(self._path, self.sources, written=True, reason=facts["reason"]))

    def _try(self, act: Callable[[], None]) -> None:
        import av

        if self._over:
            return
        try:
            act()
        except (av.FFmpegError, OSError, ValueError) as error:
            self.fail(reason_of(error))


def reason_of(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
