"""The folder of clips: files that appear whole, with a manifest beside each, and go when they are old."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIP_SCHEMA, SNAPSHOT_SCHEMA = "edged.clip/1", "edged.snapshot/1"
PART = ".part"
MEDIA = (".mp4", ".mkv", ".jpg")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}(/[A-Za-z0-9][A-Za-z0-9_.:+-]{0,127}){1,4}")
MANIFEST_BYTES = 1 << 16
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file of ours."""

    age: float
    """Seconds since the epoch at which it was written; the smallest is the oldest."""
    media: Path
    manifest: Path
    bytes: int


class Clips:
    """The folder. Several processes share it; each writes into a folder of its own."""

    def __init__(self, folder: Path, own: str, max_bytes: int, max_age_s: float) -> None:
        self._folder = Path(os.path.realpath(folder))
        self._own = own
        self._max_bytes, self._max_age_s = max_bytes, max_age_s
        self._known: dict[Path, tuple[int, str | None]] = {}
        """What each manifest says its file is, by the manifest's time."""
        self._room = 0
        """Bytes that may still be written, as of the last look at all that there is."""
        self.counts: Counter[str] = Counter()

    def fault(self, name: str) -> str | None:
        """Why a clip can't have this name; None when it can."""
        if not NAME.fullmatch(name):
            return f"{name[:80]!r} is no name for a clip"
        if name.split("/")[0] != self._own:
            return f"{name!r} does not lie in '{self._own}'"
        return None

    def create(self, name: str, suffix: str, schema: str) -> PartFile:
        """A file that appears as `name` (or `name`-2, …) once it is committed.

        Raises:
            OSError: it can't be made.
        """
        wanted = self._folder / name
        self._mkdir(wanted.parent)
        count = 1
        while True:
            path = wanted if count == 1 else wanted.with_name(f"{wanted.name}-{count}")
            manifest = path.with_name(path.name + ("" if schema == CLIP_SCHEMA else suffix) + ".json")
            taken = [path.with_name(path.name + end) for end in (suffix, suffix + PART)]
            if not any(os.path.lexists(one) for one in (*taken, manifest)):
                return PartFile(self, taken[0], manifest, schema)
            count += 1

    def relative(self, path: Path) -> str:
        """Its path below the folder."""
        return str(path.relative_to(self._folder))

    def clean(self) -> None:
        """Removes what a process of our name left behind when it was killed."""
        for entry in _walk(self._folder / self._own):
            path = Path(entry.path)
            if entry.name.endswith(tuple(end + PART for end in (*MEDIA, ".json"))):
                _unlink(path)
            elif entry.name.endswith(".json"):
                media = self._media(path, entry)
                if media and not os.path.lexists(media):
                    _unlink(path)

    def retain(self) -> None:
        """Deletes what is too old, and the oldest while all is too large."""
        kept, total = self._kept()
        now = time.time()
        for one in kept:
            if now - one.age <= self._max_age_s and total <= self._max_bytes:
                break
            total -= one.bytes
            self.counts["clips_expired"] += self._delete(one)
        self._room = self._max_bytes - total

    def wrote(self, size: int) -> None:
        """So much has been added; all is looked at only when that may be too much."""
        self._room -= size
        if self._room < 0:
            self.retain()

    def evict(self) -> bool:
        """Deletes the oldest file; False when there is none."""
        for one in self._kept()[0]:
            if self._delete(one):
                self.counts["clips_evicted"] += 1
                return True
        return False

    def _mkdir(self, folder: Path) -> None:
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        for above in (*reversed(folder.relative_to(self._folder).parents), folder.relative_to(self._folder)):
            one = self._folder / above
            with contextlib.suppress(FileExistsError):
                one.mkdir(0o700)
            if not stat.S_ISDIR(one.lstat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "is no folder, or a link", str(one))

    def _kept(self) -> tuple[list[_Kept], int]:
        """Our files, the oldest first, and all their bytes with those that are being written."""
        kept, total, seen = [], 0, {}
        for entry in _walk(self._folder):
            try:
                facts = entry.stat(follow_symlinks=False)
                if entry.name.endswith(PART):
                    total += facts.st_size
                    continue
                if not entry.name.endswith(".json"):
                    continue
                path = Path(entry.path)
                media = self._media(path, entry)
                seen[path] = self._known[path]
                if media is None:
                    continue
                about = media.lstat()
            except OSError:
                continue  # another process was quicker
            if stat.S_ISREG(about.st_mode):
                size = about.st_size + facts.st_size
                total += size
                kept.append(_Kept(about.st_mtime, media, path, size))
        self._known = seen
        return sorted(kept, key=lambda one: one.age), total

    def _media(self, manifest: Path, entry: os.DirEntry[str]) -> Path | None:
        """The file of a manifest of ours; None where it is not ours."""
        with contextlib.suppress(OSError):
            changed = entry.stat(follow_symlinks=False).st_mtime_ns
            if self._known.get(manifest, (None,))[0] != changed:
                self._known[manifest] = changed, _file_of(manifest)
            name = self._known[manifest][1]
            return manifest.with_name(name) if name else None
        self._known.setdefault(manifest, (0, None))
        return None

    def _delete(self, one: _Kept) -> bool:
        gone = _unlink(one.media)
        _unlink(one.manifest)
        return gone


class PartFile:
    """A file that is being written. A full disk costs the oldest clips, not this one."""

    def __init__(self, clips: Clips, path: Path, manifest: Path, schema: str) -> None:
        self.path = path
        self._clips, self._manifest, self._schema = clips, manifest, schema
        self._part = path.with_name(path.name + PART)
        self._descriptor = _create(clips, self._part)

    def write(self, data: bytes) -> int:
        """Writes all of it.

        Raises:
            OSError: the disk is full of other things, or fails.
        """
        if self._descriptor >= 0:  # a muxer still has its last words when its file was discarded
            _write(self._clips, self._descriptor, data)
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        """As of a file."""
        return os.lseek(self._descriptor, offset, whence) if self._descriptor >= 0 else 0

    def tell(self) -> int:
        """As of a file."""
        return self.seek(0, os.SEEK_CUR)

    def commit(self, facts: dict[str, Any]) -> None:
        """Lets it appear, after its manifest.

        Raises:
            OSError: it can't be written; `discard` it.
        """
        _patiently(self._clips, lambda: os.fsync(self._descriptor))
        size = os.fstat(self._descriptor).st_size
        manifest = {"schema": self._schema, "file": self.path.name, "bytes": size, **facts}
        part = self._manifest.with_name(self._manifest.name + PART)
        descriptor = _create(self._clips, part)
        try:
            _write(self._clips, descriptor, json.dumps(manifest, indent=1).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _patiently(self._clips, lambda: part.replace(self._manifest))
        _patiently(self._clips, lambda: self._part.replace(self.path))
        os.close(self._descriptor)
        self._descriptor = -1
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._clips.wrote(size)

    def discard(self) -> None:
        """Removes what was written so far."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        for path in (self._part, self._manifest.with_name(self._manifest.name + PART)):
            _unlink(path)
        if not os.path.lexists(self.path):
            _unlink(self._manifest)


def _create(clips: Clips, path: Path) -> int:
    """A new file that only we may read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = -1

    def make() -> None:
        nonlocal descriptor
        descriptor = os.open(path, flags, 0o600)

    _patiently(clips, make)
    return descriptor


def _write(clips: Clips, descriptor: int, data: bytes) -> None:
    view = memoryview(data)

    def more() -> None:
        nonlocal view
        while view:
            view = view[os.write(descriptor, view) :]

    _patiently(clips, more)


def _patiently(clips: Clips, act: Callable[[], object]) -> None:
    """Does it; while the disk is full the oldest clip goes, and it is tried again."""
    while True:
        try:
            act()
            return
        except OSError as error:
            if error.errno not in FULL or not clips.evict():
                raise


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The files below; links are passed by."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield entry


def _file_of(manifest: Path) -> str | None:
    try:
        descriptor = os.open(manifest, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            said = json.loads(file.read(MANIFEST_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(said, dict) or said.get("schema") not in (CLIP_SCHEMA, SNAPSHOT_SCHEMA):
        return None
    name = said.get("file")
    if not isinstance(name, str) or "/" in name or not name.endswith(MEDIA) or name.startswith("."):
        return None
    return name


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
