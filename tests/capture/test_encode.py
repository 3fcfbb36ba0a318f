"""Raw pictures and sound become packets that can be decoded, at their stamps."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from edged.capture import encode
from edged.capture.device import Encoded
from edged.capture.encode import OPUS_HZ, PACKET_NS, PictureEncoder, SoundEncoder
from edged.capture.mux import SUFFIXES, Muxer, container_of
from edged.capture.ring import Slot, piece, track
from edged.wire.clock import SECOND_NS
from tests.capture.films import LIVE_NS, pictures, probe, sound, streams


def grey(luma: int, width: int = 160, height: int = 120, format_name: str = "rgb24") -> av.VideoFrame:
    """A picture of one shade."""
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), luma, np.uint8), "rgb24")
    return frame if format_name == "rgb24" else frame.reformat(format=format_name)


def written(path: Path, packets: list[Encoded]) -> Path:
    """The packets of one track as a file that begins at `LIVE_NS`."""
    one = track(Slot(packets[0].sources, packets[0].origin.type), packets[0].origin)
    path = path.with_suffix(SUFFIXES[container_of([one])])
    with path.open("wb") as file:
        target: Any = file
        muxer = Muxer(target, [one], LIVE_NS)
        for encoded in packets:
            muxer.write(piece(one, encoded))
        muxer.close()
    return path


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mjpeg"])
def test_pictures_keep_their_stamps(codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An FFmpeg that was built without the codecs before it.
    monkeypatch.setattr(encode, "PICTURE_CODECS", {"none": (1, {}), codec: encode.PICTURE_CODECS[codec]})
    encoder, packets = PictureEncoder(("cam",)), list[Encoded]()
    random = np.random.default_rng(1)
    stamps = LIVE_NS + np.cumsum(random.integers(20_000_000, 250_000_000, 60))
    for number, stamp_ns in enumerate(stamps):
        frame = grey(number * 4, format_name="nv12" if number % 2 else "rgb24")
        frame.pts = 77
        packets += encoder.encode(frame, int(stamp_ns))
        assert frame.pts == 77, "the frame stays as it is"
    assert [one.stamp_ns for one in packets] == stamps.tolist()
    assert len({id(one.origin) for one in packets}) == 1
    keys = [one.stamp_ns for one in packets if one.packet.is_keyframe]
    assert keys[0] == stamps[0]
    assert max(np.diff([*keys, stamps[-1]])) <= 1.25 * SECOND_NS
    path = written(tmp_path / "a", packets)
    assert streams(path) == [encode_name(codec)]
    shown = pictures(path)
    first = (stamps - LIVE_NS)[0] / SECOND_NS
    assert np.allclose(
        [at - shown[0][0] + first for at, _ in shown], (stamps - LIVE_NS) / SECOND_NS, atol=2e-4
    )
    assert np.allclose([luma for _, luma in shown], np.arange(60) * 4, atol=12)


def encode_name(codec: str) -> str:
    """The format that an encoder makes."""
    return "h264" if codec == "libx264" else codec


def test_another_size_begins_another_track() -> None:
    encoder, packets = PictureEncoder(("cam",)), list[Encoded]()
    for number, size in enumerate([(160, 120), (160, 120), (321, 241), (321, 241), (160, 120)]):
        packets += encoder.encode(grey(80, *size), LIVE_NS + number * 100_000_000)
    origins = [one.origin for one in packets]
    assert origins[0] is origins[1]
    assert origins[2] is origins[3]
    assert len(set(map(id, origins))) == 3
    assert [one.packet.is_keyframe for one in packets] == [True, False, True, False, True]
    assert [(origin.width, origin.height) for origin in origins if origin.type == "video"][2] == (320, 240)


def tone(rate_hz: int, start_s: float, seconds: float, hz: float = 440.0) -> npt.NDArray[np.float32]:
    """A part of a sine that runs from 0 on."""
    at = start_s + np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * at)).astype(np.float32)


@pytest.mark.parametrize("block_s", [0.01, 0.096])
def test_the_rate_of_sound_may_change_without_a_click(block_s: float, tmp_path: Path) -> None:
    encoder, packets = SoundEncoder(("mic",)), list[Encoded]()
    rates = [8_000, 48_000, 12_000, 24_000, 16_000, 8_000, 16_000, 48_000]
    at_s = 0.0
    for rate_hz in rates:
        for _ in range(round(0.96 / block_s)):
            samples = tone(rate_hz, at_s, block_s)
            packets += encoder.add(LIVE_NS + round(at_s * SECOND_NS), samples, rate_hz)
            at_s += block_s
    assert set(np.diff([one.stamp_ns for one in packets])) == {PACKET_NS}
    assert len({id(one.origin) for one in packets}) == 1
    path = written(tmp_path / "a", packets)
    assert streams(path) == ["opus"]
    begin, heard = sound(path)
    at = begin + np.arange(len(heard)) / OPUS_HZ
    middle = slice(OPUS_HZ // 5, -OPUS_HZ // 5)
    basis = np.exp(2j * np.pi * 440 * at)
    turns = np.convolve(heard / basis, np.ones(960) / 960, "same")[middle]
    # The same sine all the way, where the stamps say it is, to a tenth of a millisecond.
    late_s = np.abs(np.angle(turns * 1j)) / (2 * np.pi * 440)
    assert late_s.max() < 1e-4
    assert np.abs(2 * np.abs(turns) - 0.5).max() < 0.2, "a packet that leads to another band may be faint"
    # No click: a sine of this height steps by 0.029 at most, one of half its height that is cut off by 0.25.
    assert np.abs(np.diff(heard[middle])).max() < 0.1


def test_a_gap_in_the_stamps_is_a_gap_in_the_track(tmp_path: Path) -> None:
    encoder, packets = SoundEncoder(("mic",)), list[Encoded]()
    for start_s in (0.0, 3.0):
        for number in range(100):
            at_s = start_s + number / 100
            packets += encoder.add(LIVE_NS + round(at_s * SECOND_NS), tone(16_000, at_s, 0.01), 16_000)
    steps = np.diff([one.stamp_ns for one in packets])
    assert (steps == PACKET_NS).sum() == len(steps) - 1
    assert 2 * SECOND_NS - PACKET_NS <= max(steps) <= 2 * SECOND_NS + PACKET_NS
    path = written(tmp_path / "a", packets)
    probe(path)
    _, heard = sound(path)
    level = [np.abs(heard[round(at * OPUS_HZ) :][:4800]).max() for at in (0.5, 1.5, 2.5, 3.5)]
    assert [bool(one > 0.3) for one in level] == [True, False, False, True]


def test_sound_that_comes_twice_is_taken_once() -> None:
    encoder, packets = SoundEncoder(("mic",)), list[Encoded]()
    for start_ns in (0, SECOND_NS // 2):
        packets += encoder.add(LIVE_NS + start_ns, tone(16_000, 0, 1), 16_000)
    assert len(packets) == 75
    assert all(b.stamp_ns - a.stamp_ns == PACKET_NS for a, b in itertools.pairwise(packets))
