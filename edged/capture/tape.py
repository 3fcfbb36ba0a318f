"""Recordings for replays: each track in a file of its own, with the stamps that it had."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path

from edged.capture.mux import SUFFIXES, Muxer, container_of
from edged.capture.ring import Piece, Track
from edged.capture.writing import reason_of
from edged.wire.records import Recorded

log = logging.getLogger(__name__)


class Tape:
    """All of one track, from the start. A file that is whole up to its last packet whenever it ends."""

    def __init__(self, folder: Path, of: Track, start_ns: int, report: Callable[[Recorded], None]) -> None:
        self.track = of
        self.waits = False
        """For a key frame, after what the disk was too slow for."""
        self._folder, self._start_ns, self._report = folder, start_ns, report
        self._file: io.FileIO | None = None
        self._muxer: Muxer | None = None
        self._over = False

    def write(self, one: Piece) -> None:
        """Writes the next packet; the first one begins the file."""
        import av

        if self._over:
            return
        try:
            if self._muxer is None:
                self._open()
            assert self._muxer  # noqa: S101 - for the type checker
            self._muxer.write(one)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._end(reason_of(error))

    def finish(self) -> None:
        """Ends it."""
        if not self._over and self._muxer:
            self._end("")

    def _open(self) -> None:
        sources = self.track.slot.sources
        suffix = SUFFIXES[container_of([self.track])]
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        count, path = 1, self._folder / (sources[0] + suffix)
        while path.exists():
            count += 1
            path = self._folder / f"{sources[0]}-{count}{suffix}"
        if count > 1:
            log.warning("%s changed, or began again; what follows is in %s", sources[0], path.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = io.FileIO(os.open(path, flags, 0o600), "w")
        self._muxer = Muxer(self._file, [self.track], self._start_ns, tape=True)
        for other in sources[1:]:
            with contextlib.suppress(FileExistsError):
                (self._folder / path.name.replace(sources[0], other, 1)).symlink_to(path.name)

    def _end(self, reason: str) -> None:
        self._over = True
        path = Path(str(self._file.name)).name if self._file else self.track.slot.sources[0]
        with contextlib.suppress(Exception):  # the file is as good as it is
            if self._muxer:
                self._muxer.close()
        if self._file:
            self._file.close()
        self._report(Recorded(path, self.track.slot.sources, written=not reason, reason=reason))


class Lines:
    """A file of lines, made with the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.FileIO | None = None
        self._failed = False

    def write(self, line: bytes) -> None:
        """Adds a line."""
        try:
            if self._file is None and not self._failed:
                self._path.parent.mkdir(0o700, parents=True, exist_ok=True)
                self._file = io.FileIO(self._path, "a")
            if self._file:
                self._file.write(line)
        except OSError as error:
            log.warning("%s: %s", self._path, reason_of(error))
            self._failed = True
            self.close()

    def close(self) -> None:
        """Closes it."""
        if self._file:
            self._file.close()
            self._file = None
