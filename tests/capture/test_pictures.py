"""The decoder that rests between key frames, compared picture by picture with one that never does."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from edged.capture.pictures import Pictures

FPS, GROUP = 25, 25
Film = io.BytesIO


def film(b_frames: int, seconds: int = 8, group: int = GROUP) -> Film:
    """H.264 of something that moves all over the picture."""
    buffer = io.BytesIO()
    random = np.random.default_rng(3)
    texture = random.integers(0, 255, (120, 160), np.uint8)
    with av.open(buffer, "w", "mp4") as container:
        options = {"bf": str(b_frames), "sc_threshold": "0", "preset": "veryfast"}
        stream = container.add_stream("libx264", FPS, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 160, 120, "yuv420p", group
        for count in range(seconds * FPS):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, count, 1), "gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = count, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    buffer.seek(0)
    return buffer


def whole(source: Film | Path) -> dict[int, np.ndarray]:
    """Each picture's luma, by its presentation time, as a plain decoder gives it."""
    return {pts: luma for pts, luma, _ in decoded(source, lambda _, __: None, plain=True)}


def decoded(
    source: Film | Path, act: Callable[[int, Pictures], None], *, plain: bool = False
) -> Iterator[tuple[int, np.ndarray, int]]:
    """(presentation time, luma, number of the packet with which it came); `act` before each packet."""
    if isinstance(source, io.BytesIO):
        source.seek(0)
    with av.open(source if isinstance(source, io.BytesIO) else str(source)) as container:
        stream = container.streams.video[0]
        pictures = Pictures(stream)
        for number, packet in enumerate(container.demux(stream)):
            act(number, pictures)
            for picture in packet.decode() if plain else pictures.decode(packet):
                if picture is None:
                    continue
                assert picture.pts is not None
                yield picture.pts, picture.to_ndarray(format="gray"), number


@pytest.mark.parametrize("b_frames", [0, 2])
def test_resting_gives_the_key_frames_at_once(b_frames: int) -> None:
    source = film(b_frames)
    truth = whole(source)
    found = list(decoded(source, lambda _, pictures: pictures.want(1.0)))
    resting = [one for one in found if one[2] >= 2 * GROUP]
    assert len(resting) == 6
    assert [number for _, _, number in resting] == [n * GROUP for n in range(2, 8)], "with its own packet"
    for pts, luma, _ in found:
        assert (luma == truth[pts]).all()


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("raised_at", [55, 74, 75, 76, 99])
def test_a_raise_in_the_middle_of_a_group_gives_right_pictures(b_frames: int, raised_at: int) -> None:
    source = film(b_frames)
    truth = whole(source)

    def act(number: int, pictures: Pictures) -> None:
        pictures.want(25.0 if raised_at <= number < 140 else 1.0)

    found = list(decoded(source, act))
    for pts, luma, _ in found:
        assert (luma == truth[pts]).all(), f"picture {pts}"
    raised = [number for _, _, number in found if raised_at <= number < 140]
    assert raised[0] <= raised_at + b_frames, "as soon as a decoder that never rested would give one"
    assert len(raised) >= 140 - raised_at - b_frames
    stamps = [pts for pts, _, _ in found]
    assert stamps == sorted(set(stamps))
    assert sum(number > 150 for _, _, number in found) == 1, "and it rests again"


def test_without_the_group_pictures_would_be_wrong(data: Path) -> None:
    """Why it matters: the decoder gives no sign of it."""
    path = data / "video/one-by-one-person.mp4"
    truth = whole(path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        packets = [packet for packet in container.demux(stream) if packet.size][:300]
        wrong = []
        for number, packet in enumerate(packets):
            if packet.is_keyframe or number > 155:
                wrong += stream.codec_context.decode(packet)
    wrong = [one for one in wrong if (one.to_ndarray(format="gray") != truth[one.pts or 0]).any()]
    assert wrong
    assert not any(one.is_corrupt for one in wrong)


def test_key_frames_that_come_too_seldom_are_not_enough() -> None:
    found = list(decoded(film(0, group=50), lambda _, pictures: pictures.want(1.0)))
    assert len(found) == 8 * FPS


def test_parameter_sets_in_packets_of_their_own() -> None:
    """As RTSP brings them: the key frame comes in two packets of one presentation time."""
    truth = whole(film(0))
    with av.open(film(0)) as container:
        stream = container.streams.video[0]
        extra = stream.codec_context.extradata
        assert extra
        packets: list[av.Packet[Any]] = []
        for packet in container.demux(stream):
            if packet.is_keyframe and packet.size:
                packets.append(parameter_sets(extra, packet))
            packets.append(packet)
        pictures = Pictures(stream)
        found = []
        for number, packet in enumerate(packets):
            pictures.want(25.0 if 120 <= number < 160 else 1.0)
            with contextlib.suppress(av.InvalidDataError):  # says the decoder of parameter sets alone
                given = [one for one in pictures.decode(packet) if one]
                found += [(one.pts or 0, one.to_ndarray(format="gray"), number) for one in given]
    for pts, luma, _ in found:
        assert (luma == truth[pts]).all()
    stamps = [pts for pts, _, _ in found]
    assert stamps == sorted(set(stamps))
    assert sum(GROUP * 2 + 4 <= number < 120 for _, _, number in found) == 2, "it rests"
    assert sum(120 <= number < 160 for _, _, number in found) >= 38


def parameter_sets(extra: bytes, like: av.Packet[Any]) -> av.Packet[Any]:
    """Those of an `avcC` box (ISO/IEC 14496-15, 5.3.3.1), as a packet of their own."""
    at, units = 6, b""
    for count in (extra[5] & 31, 1):
        for _ in range(count):
            length = int.from_bytes(extra[at : at + 2], "big")
            units += length.to_bytes(4, "big") + extra[at + 2 : at + 2 + length]
            at += 2 + length
        at += 1
    made: av.Packet[Any] = av.Packet(units)
    made.pts, made.dts, made.time_base, made.is_keyframe = like.pts, like.dts, like.time_base, True
    return made


def test_when_key_frames_stop_coming_the_others_are_decoded() -> None:
    """The first groups last a second, the next one never ends."""
    source = io.BytesIO()
    with av.open(source, "w", "mp4") as target:
        stream = None
        shift = 0
        for group, seconds in ((25, 3), (500, 6)):
            with av.open(film(0, seconds, group)) as container:
                template = container.streams.video[0]
                stream = stream or target.add_stream_from_template(template)
                for packet in container.demux(template):
                    if packet.pts is not None and packet.dts is not None and packet.duration:
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        last = packet.pts + packet.duration
                        target.mux(packet)
            shift = last
    numbers = [number for _, _, number in decoded(source, lambda _, pictures: pictures.want(1.0))]
    assert 50 in numbers
    assert 75 in numbers
    assert max(np.diff([n for n in numbers if n >= 75])) <= 1.5 * FPS + 1
    assert len([n for n in numbers if n >= 75 + 1.5 * FPS]) >= 100


@pytest.mark.parametrize("name", ["video/one-by-one-person.mp4", "av/scene_quiet.mp4"])
def test_real_films(name: str, data: Path) -> None:
    """10 Hz, a key frame each second; one of them with B-frames."""
    truth = whole(data / name)

    def act(number: int, pictures: Pictures) -> None:
        pictures.want(10.0 if number % 100 > 63 else 1.0)

    for pts, luma, number in decoded(data / name, act):
        if number > 500:
            break
        assert (luma == truth[pts]).all()
