"""What the kernel says of cameras (Video4Linux), without opening a stream.

The numbers and layouts are those of linux/videodev2.h. They hold no pointers, so that they are the same
on x86-64 and aarch64. The library linuxpy knows them, too, but its licence is the GPL.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DEV = Path("/dev")

CAPABILITY = struct.Struct("=16s32s32s6I")
FMTDESC = struct.Struct("=3I32s5I")
FRMSIZEENUM = struct.Struct("=11I")
FRMIVALENUM = struct.Struct("=13I")
REQUESTBUFFERS = struct.Struct("=4IB3x")


def _request(number: int, layout: struct.Struct, *, writes: bool = True) -> int:
    """An ioctl's code, as _IOR and _IOWR of asm-generic/ioctl.h make it."""
    return (3 if writes else 2) << 30 | layout.size << 16 | ord("V") << 8 | number


QUERYCAP = _request(0, CAPABILITY, writes=False)
ENUM_FMT = _request(2, FMTDESC)
REQBUFS = _request(8, REQUESTBUFFERS)
ENUM_FRAMESIZES = _request(74, FRMSIZEENUM)
ENUM_FRAMEINTERVALS = _request(75, FRMIVALENUM)

CAP_VIDEO_CAPTURE, CAP_VIDEO_CAPTURE_MPLANE, CAP_DEVICE_CAPS = 0x1, 0x1000, 0x80000000
BUF_VIDEO_CAPTURE, BUF_VIDEO_CAPTURE_MPLANE = 1, 9
MEMORY_MMAP = 1
DISCRETE = 1

LIMIT = 256
"""No driver has more entries of one sort; one that never ends its list is not followed."""


@dataclass(frozen=True, slots=True)
class Size:
    """A picture size, or a span of sizes, with its frame rates."""

    width: int
    height: int
    max_width: int
    """The same as `width`, unless the camera scales."""
    max_height: int
    rates_hz: tuple[float, ...]
    """Each of them; of a camera with any rate in a span the lowest and the highest."""


@dataclass(frozen=True, slots=True)
class Format:
    """A pixel format."""

    fourcc: str
    description: str
    """The driver's."""
    sizes: tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Camera:
    """A node that pictures can be read from."""

    device: str
    """/dev/videoN."""
    name: str
    driver: str
    bus: str
    links: tuple[str, ...]
    """Names that stay the same wherever the camera is plugged in: /dev/v4l/by-id/…"""
    formats: tuple[Format, ...]
    problem: str = ""
    """Why it can't be asked; then the rest is empty."""

    @property
    def raw(self) -> bool:
        """Only what the sensor sees, before any processing: it needs a pipeline (nvarguscamerasrc)."""
        return bool(self.formats) and all("Bayer" in one.description for one in self.formats)


class NoCameraError(Exception):
    """The node is none that pictures can be read from."""


def cameras(dev: Path = DEV) -> list[Camera]:
    """The cameras, in the order of their numbers; those that can't be asked with the reason."""
    found = []
    for node in nodes(dev):
        try:
            found.append(camera(node, dev))
        except NoCameraError:  # metadata, an output, a codec
            continue
        except OSError as error:
            problem = str(error.strerror)
            found.append(Camera(str(node), "", "", "", _links(node, dev), (), problem))
    return found


def nodes(dev: Path = DEV) -> list[Path]:
    """Every /dev/videoN, cameras or not."""
    return sorted(
        (one for one in dev.glob("video*") if one.name.removeprefix("video").isdecimal()),
        key=lambda one: int(one.name.removeprefix("video")),
    )


def camera(node: Path, dev: Path = DEV) -> Camera:
    """What the driver says of one.

    Raises:
        OSError: it can't be opened.
        NoCameraError: it gives no pictures.
    """
    with _opened(node) as fd:
        kind, driver, name, bus = _capability(fd)
        return Camera(str(node), name, driver, bus, _links(node, dev), tuple(_formats(fd, kind)))


def busy(node: Path) -> bool:
    """Whether somebody else reads from it: only one can have its buffers.

    Raises:
        OSError: it can't be opened.
        NoCameraError: it gives no pictures.
    """
    with _opened(node) as fd:
        kind = _capability(fd)[0]
        try:
            for count in (1, 0):  # and back at once
                fcntl.ioctl(fd, REQBUFS, bytearray(REQUESTBUFFERS.pack(count, kind, MEMORY_MMAP, 0, 0)))
        except OSError as error:
            return error.errno == errno.EBUSY
    return False


@contextmanager
def _opened(node: Path) -> Iterator[int]:
    fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _capability(fd: int) -> tuple[int, str, str, str]:
    """The type of its buffers, its driver, its name, its bus."""
    answer = bytearray(CAPABILITY.size)
    try:
        fcntl.ioctl(fd, QUERYCAP, answer)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            raise NoCameraError("it is no video device") from error
        raise
    driver, name, bus, _, whole, own, *_ = CAPABILITY.unpack(answer)
    able = own if whole & CAP_DEVICE_CAPS else whole
    if able & CAP_VIDEO_CAPTURE:
        kind = BUF_VIDEO_CAPTURE
    elif able & CAP_VIDEO_CAPTURE_MPLANE:
        kind = BUF_VIDEO_CAPTURE_MPLANE
    else:
        raise NoCameraError("it gives no pictures (a camera has a node for metadata, too)")
    return kind, _text(driver), _text(name), _text(bus)


def _formats(fd: int, kind: int) -> Iterator[Format]:
    for index in range(LIMIT):
        answer = _enumerate(fd, ENUM_FMT, FMTDESC.pack(index, kind, 0, b"", *[0] * 5))
        if answer is None:
            return
        _, _, _, description, code, *_ = FMTDESC.unpack(answer)
        # The highest bit says "big-endian"; the rest are four letters.
        fourcc = struct.pack("<I", code & 0x7FFFFFFF).decode("latin-1").rstrip()
        yield Format(fourcc, _text(description), tuple(_sizes(fd, code)))


def _sizes(fd: int, code: int) -> Iterator[Size]:
    for index in range(LIMIT):
        answer = _enumerate(fd, ENUM_FRAMESIZES, FRMSIZEENUM.pack(index, code, *[0] * 9))
        if answer is None:
            return
        _, _, kind, width, second, _, height, max_height, *_ = FRMSIZEENUM.unpack(answer)
        if kind == DISCRETE:
            yield Size(width, second, width, second, _rates(fd, code, width, second))
        else:  # the lowest width, the highest, its step; then the same of the height
            rates = _rates(fd, code, second, max_height)
            yield Size(width, height, second, max_height, rates)
            return


def _rates(fd: int, code: int, width: int, height: int) -> tuple[float, ...]:
    rates: set[float] = set()
    for index in range(LIMIT):
        request = FRMIVALENUM.pack(index, code, width, height, *[0] * 9)
        answer = _enumerate(fd, ENUM_FRAMEINTERVALS, request)
        if answer is None:
            break
        _, _, _, _, kind, *intervals = FRMIVALENUM.unpack(answer)
        # Seconds as fractions: one, or the shortest, the longest and the step.
        for place in (0,) if kind == DISCRETE else (0, 2):
            numerator, denominator = intervals[place : place + 2]
            if numerator:
                rates.add(round(denominator / numerator, 3))
        if kind != DISCRETE:
            break
    return tuple(sorted(rates))


def _enumerate(fd: int, request: int, entry: bytes) -> bytes | None:
    """The entry as the driver fills it in; None behind the last."""
    answer = bytearray(entry)
    try:
        fcntl.ioctl(fd, request, answer)
    except OSError:
        return None
    return bytes(answer)


def _links(node: Path, dev: Path) -> tuple[str, ...]:
    links = sorted((dev / "v4l/by-id").glob("*")) + sorted((dev / "v4l/by-path").glob("*"))
    return tuple(str(link) for link in links if link.resolve() == node.resolve())


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
