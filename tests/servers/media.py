"""Films for tests, made with PyAV: good ones, odd ones, and real ones damaged in many ways."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

PERIOD_S = 4
HUGE, VAST = 16_384, 16_000
"""Sides of pictures that nobody's camera takes. FFmpeg by itself refuses the first, and takes the second: 768
MB as RGB."""
TS_PACKET = 188


def flash_and_beep(path: Path, seconds: int = PERIOD_S, fps: int = 25, *, thing: bool = False) -> Path:
    """A film that is white, and beeps, in the third of each four seconds only.

    With `thing` it shows a white rectangle of a tenth of the picture then: motion, not another light.
    """
    white = (slice(40, 80), slice(60, 110)) if thing else (slice(None), slice(None))
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", fps, options={"tune": "zerolatency", "g": str(fps)})
        picture.width, picture.height, picture.pix_fmt = 160, 120, "yuv420p"
        sound = container.add_stream("aac", 48_000, layout="mono")
        for count in range(seconds * fps):
            pixels = np.zeros((120, 160, 3), np.uint8)
            if count // fps % PERIOD_S == 2:
                pixels[white] = 255
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = count, Fraction(1, fps)
            container.mux(picture.encode(frame))
        at = np.arange(seconds * 48_000) / 48_000
        wave = (0.5 * np.sin(2 * np.pi * 1000 * at) * (at // 1 % PERIOD_S == 2)).astype(np.float32)
        for start in range(0, len(wave), 1024):
            part = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
            part.sample_rate, part.pts, part.time_base = 48_000, start, Fraction(1, 48_000)
            container.mux(sound.encode(part))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))
    return path


def picture_only(
    path: Path,
    codec: str = "libx264",
    size: tuple[int, int] = (160, 120),
    seconds: int = 2,
    group: int | None = None,
) -> Path:
    """A film of grey noise without sound; with a key frame each `group` pictures."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        if group:
            stream.options = {"sc_threshold": "0", "bf": "0"}
            stream.gop_size = group
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for count in range(seconds * 25):
            noise = random.integers(0, 255, (size[1], size[0], 1), np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(noise, 3, 2), "rgb24")
            frame.pts, frame.time_base = count, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def sound_only(path: Path, rate_hz: int = 48_000, layout: str = "mono") -> Path:
    """Two seconds of a tone without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate_hz, layout=layout)
        for start in range(0, 2 * rate_hz, 1024):
            tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(start, start + 1024) / rate_hz)
            channels = np.repeat(tone.astype(np.float32)[None], 2 if layout == "stereo" else 1, 0)
            part = av.AudioFrame.from_ndarray(channels, "fltp", layout)
            part.sample_rate, part.pts, part.time_base = rate_hz, start, Fraction(1, rate_hz)
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def excerpt(film: Path, path: Path, seconds: float) -> Path:
    """The first seconds of a film, copied without decoding into the format that `path` names."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        found = (source.streams.best("video"), source.streams.best("audio"))
        streams = [stream for stream in found if stream is not None]
        outputs = {stream.index: target.add_stream_from_template(stream) for stream in streams}
        for packet in source.demux(streams):
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = outputs[packet.stream.index]
                target.mux(packet)
    return path


# Odd films.


def odd_films(folder: Path) -> dict[str, Path]:
    """Films that change in their middle, lack something, or say that they are enormous."""
    small = picture_only(folder / "small.ts").read_bytes()
    large = picture_only(folder / "large.ts", size=(320, 176)).read_bytes()
    mpeg2 = picture_only(folder / "mpeg2.ts", "mpeg2video").read_bytes()
    mpeg4 = picture_only(folder / "mpeg4.ts", "mpeg4").read_bytes()
    long = picture_only(folder / "long.ts", seconds=10).read_bytes()
    mono = sound_only(folder / "mono.ts").read_bytes()
    stereo = sound_only(folder / "stereo.ts", 44_100, "stereo").read_bytes()
    both = flash_and_beep(folder / "both.ts").read_bytes()
    contents = {
        "other-size.ts": small + large + small,
        "other-codec.ts": small + mpeg2,
        "another-codec.ts": mpeg4 + small,
        "other-sound.ts": mono + stereo,
        "later-sound.ts": long + both,
        "begins-anew.ts": small + small,
        "backwards.ts": backwards(small),
    }
    for size, side in (("huge", HUGE), ("vast", VAST)):
        contents |= {
            f"{size}.png": large_png(side),
            f"{size}.jpg": large_jpeg(side),
            f"{size}.h264": large_h264(side, folder),
        }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    films = {name: folder / name for name in contents}
    films["picture-only.mp4"] = picture_only(folder / "picture-only.mp4")
    films["sound-only.mp4"] = sound_only(folder / "sound-only.mp4")
    return films


def backwards(transport_stream: bytes) -> bytes:
    """The same pictures, each with an earlier stamp than the one before."""
    data = bytearray(transport_stream)
    stamp = 90_000 * 60
    for at in range(0, len(data), TS_PACKET):
        pes = at + (5 + data[at + 4] if data[at + 3] & 0x20 else 4)
        if data[at + 1] & 0x40 and data[pes : pes + 4] == b"\0\0\1\xe0":
            for place in range(pes + 9, pes + 9 + (10 if data[pes + 7] & 0x40 else 5), 5):
                data[place] = data[place] & 0xF1 | stamp >> 29 & 0x0E
                data[place + 1 : place + 5] = struct.pack(
                    ">HH", stamp >> 14 & 0xFFFE | 1, stamp << 1 & 0xFFFE | 1
                )
            stamp -= 3600
    return bytes(data)


def large_png(side: int) -> bytes:
    """A black RGB picture of `side` × `side` in less than a megabyte, true to the last byte."""
    raw, block = side * (1 + 3 * side), 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer.compress(b"")
    rest = packer.compress(bytes(raw % block)) + packer.flush()
    # Adler-32 of so many zeros: the sum is 1, the sum of the sums their number.
    packed = b"\x78\xda" + first + again * (raw // block - 1) + rest + struct.pack(">HH", raw % 65_521, 1)
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b""))
    )


def large_jpeg(side: int) -> bytes:
    """A small JPEG whose header says `side` × `side`."""
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 64, 64, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame(64, 64, "yuvj420p")
    data = bytearray(bytes(encoder.encode(frame)[0]))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def large_h264(side: int, folder: Path) -> bytes:
    """H.264 whose parameter set says `side` × `side`, and whose slices are those of a small film."""
    path = folder / "baseline.h264"
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream(
            "libx264", 25, options={"profile": "baseline", "x264-params": "bframes=0"}
        )
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for count in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((128, 160, 3), count, np.uint8), "rgb24")
            frame.pts = count
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    units = path.read_bytes().split(b"\0\0\1")
    return b"\0\0\1".join(_grown(unit, side) if unit[:1] == b"\x67" else unit for unit in units)


def _grown(parameters: bytes, side: int) -> bytes:
    """A sequence parameter set of the baseline profile with another width and height (7.3.2.1.1)."""
    escaped = parameters.replace(b"\0\0\3", b"\0\0")
    bits = "".join(f"{byte:08b}" for byte in escaped.rstrip(b"\0"))
    at = 32

    def number() -> int:
        nonlocal at
        zeros = bits.index("1", at) - at
        at += 2 * zeros + 1
        return int(bits[at - zeros - 1 : at], 2) - 1

    number()  # its id
    number()  # the length of frame numbers
    if number() == 0:  # the kind of picture order
        number()
    number()  # reference frames
    at += 1
    before = bits[:at]
    number()
    number()
    blocks = f"{side // 16:b}"
    grown = before + 2 * ("0" * (len(blocks) - 1) + blocks) + bits[at:]
    grown += "0" * (-len(grown) % 8)
    data = bytes(int(grown[i : i + 8], 2) for i in range(0, len(grown), 8))
    return data.replace(b"\0\0\0", b"\0\0\3\0").replace(b"\0\0\1", b"\0\0\3\1")


# Damage.

Damage = Callable[[bytes, np.random.Generator], bytes]


def mutated(film: Path, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged copies with names that say how; the same for the same seed."""
    whole = film.read_bytes()
    for number, damage in zip(range(count), itertools.cycle(DAMAGES), strict=False):
        random = np.random.default_rng((seed, number))
        yield f"{film.stem}-{number:03}-{damage.__name__[1:]}{film.suffix}", damage(whole, random)


def _truncated(data: bytes, random: np.random.Generator) -> bytes:
    return data[: int(random.integers(0, len(data)))]


def _bits_flipped(data: bytes, random: np.random.Generator) -> bytes:
    copy = np.frombuffer(data, np.uint8).copy()
    places = random.integers(0, len(copy), 2 ** int(random.integers(0, 11)))
    copy[places] ^= (1 << random.integers(0, 8, len(places))).astype(np.uint8)
    return bytes(copy)


def _boxes_swapped(data: bytes, random: np.random.Generator) -> bytes:
    """Two boxes of one parent in each other's place; where there are none, two pieces."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for at, size, parent in boxes(data):
        groups.setdefault(parent, []).append((at, size))
    pairs = [pair for group in groups.values() for pair in itertools.combinations(group, 2)]
    if pairs:
        (a, a_size), (b, b_size) = pairs[int(random.integers(0, len(pairs)))]
    else:
        a, b = sorted(int(place) for place in random.integers(0, len(data), 2))
        a_size = b_size = min(1000, b - a)
    return data[:a] + data[b : b + b_size] + data[a + a_size : b] + data[a : a + a_size] + data[b + b_size :]


def _range_zeroed(data: bytes, random: np.random.Generator) -> bytes:
    start = int(random.integers(0, len(data)))
    length = min(len(data) - start, 2 ** int(random.integers(0, 18)))
    return data[:start] + bytes(length) + data[start + length :]


def _box_resized(data: bytes, random: np.random.Generator) -> bytes:
    """A box that says another size; where there is none, any four bytes."""
    found = list(boxes(data)) or [(int(random.integers(0, len(data) - 4)), 0, 0)]
    at, size, _ = found[int(random.integers(0, len(found)))]
    sizes = (
        0,
        1,
        7,
        8,
        size - 1,
        size + 1,
        2 * size,
        2**31 - 1,
        2**31,
        2**32 - 1,
        int(random.integers(0, 2**32)),
    )
    return data[:at] + struct.pack(">I", sizes[int(random.integers(0, len(sizes)))] % 2**32) + data[at + 4 :]


def _index_damaged(data: bytes, random: np.random.Generator) -> bytes:
    """Wrong bytes where the format says what the film is: `moov`, or the first two kilobytes."""
    index = [(at, size) for at, size, _ in boxes(data) if data[at + 4 : at + 8] == b"moov"]
    at, size = index[0] if index else (0, min(2048, len(data)))
    copy = bytearray(data)
    for place in random.integers(at, at + size, 2 ** int(random.integers(0, 8))):
        copy[place] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF, int(random.integers(0, 256))]))
    return bytes(copy)


def _piece_removed(data: bytes, random: np.random.Generator) -> bytes:
    start = int(random.integers(0, len(data)))
    return data[:start] + data[start + 2 ** int(random.integers(0, 15)) :]


def _piece_repeated(data: bytes, random: np.random.Generator) -> bytes:
    start = int(random.integers(0, len(data)))
    return data[:start] + data[start : start + 2 ** int(random.integers(0, 15))] * 3 + data[start:]


def _zeros_inserted(data: bytes, random: np.random.Generator) -> bytes:
    start = int(random.integers(0, len(data)))
    return data[:start] + bytes(2 ** int(random.integers(0, 15))) + data[start:]


DAMAGES: tuple[Damage, ...] = (
    _truncated,
    _bits_flipped,
    _boxes_swapped,
    _range_zeroed,
    _box_resized,
    _index_damaged,
    _piece_removed,
    _piece_repeated,
    _zeros_inserted,
)
PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta"}


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Where each box of an MP4 file lies, its size, and where its parent's content begins."""
    at, end = start, len(data) if end is None else end
    if not start and data[4:8] != b"ftyp":
        return
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        if not 8 <= size <= end - at:
            return
        yield at, size, start
        if kind in PARENTS:
            yield from boxes(data, at + 8, at + size)
        at += size
