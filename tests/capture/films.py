"""Films and sounds for the tests of recording, fed as a live device would feed them."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from edged.capture.device import Encoded
from edged.wire.clock import SECOND_NS

LIVE_NS = 987_654_321_012_345
"""Where the monotonic clock stands when a test's device is opened."""
FLASHES_S = (6, 14)
"""A second of white, and a beep, begin here."""


def flash_and_beep(
    path: Path,
    seconds: int = 20,
    fps: int = 25,
    *,
    picture: bool = True,
    sound: bool = True,
    sound_s: int | None = None,
    flashes_s: tuple[int, ...] = FLASHES_S,
    b_frames: int = 2,
) -> Path:
    """A film that is white, and beeps, for a second now and then; its key frames are a second apart."""
    with av.open(str(path), "w") as container:
        video: Any = (
            container.add_stream("libx264", fps, options={"bf": str(b_frames), "g": str(fps)})
            if picture
            else None
        )
        audio: Any = container.add_stream("aac", 48_000, layout="mono") if sound else None
        if video:
            video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        for second in range(seconds):
            on = second in flashes_s
            for count in range(second * fps, (second + 1) * fps) if video else ():
                frame = av.VideoFrame.from_ndarray(np.full((120, 160, 3), 255 * on, np.uint8), "rgb24")
                frame.pts, frame.time_base = count, Fraction(1, fps)
                container.mux(video.encode(frame))
            at = np.arange(48_000) / 48_000
            wave = (0.5 * on * np.sin(2 * np.pi * 1000 * at)).astype(np.float32)
            heard = audio and (sound_s is None or second < sound_s)
            for start in range(0, 48_000, 1000) if heard else ():
                part = av.AudioFrame.from_ndarray(wave[None, start : start + 1000], "fltp", "mono")
                part.sample_rate, part.pts = 48_000, second * 48_000 + start
                part.time_base = Fraction(1, 48_000)
                container.mux(audio.encode(part))
        for stream in (video, audio):
            if stream:
                container.mux(stream.encode(None))
    return path


def packets(path: Path, opened_ns: int = LIVE_NS) -> Iterator[Encoded]:
    """A film's packets, with the stamps they have when it is opened then: `cam` and `mic`."""
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.pts is not None and packet.stream.type in ("video", "audio"):
                stream: Any = packet.stream
                stamp_ns = opened_ns + round(packet.pts * packet.time_base * SECOND_NS)
                name = "cam" if stream.type == "video" else "mic"
                yield Encoded((name,), packet, stamp_ns, stream)


def probe(path: Path) -> dict[str, Any]:
    """What ffprobe says; it decodes all, and has to have no complaint."""
    asked = ["-count_frames", "-show_format", "-show_streams", "-of", "json", str(path)]
    done = subprocess.run(["ffprobe", "-v", "error", *asked], capture_output=True, text=True, check=True)
    assert not done.stderr, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def streams(path: Path) -> list[str]:
    """The codecs of a file that ffprobe can decode without a complaint."""
    return [stream["codec_name"] for stream in probe(path)["streams"]]


def pictures(path: Path) -> list[tuple[float, float]]:
    """Of each picture when it is shown, in seconds, and its mean luma."""
    with av.open(str(path)) as container:
        return [
            (float(frame.pts * frame.time_base), float(frame.to_ndarray(format="gray").mean()))
            for frame in container.decode(video=0)
            if frame.pts is not None and frame.time_base
        ]


def sound(path: Path, rate_hz: int = 48_000) -> tuple[float, npt.NDArray[np.float32]]:
    """The sound on its own clock, gaps as silence: when it begins, in seconds, and the samples."""
    parts: list[tuple[float, npt.NDArray[np.float32]]] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            assert frame.pts is not None
            assert frame.time_base
            resampled = frame.to_ndarray()
            mono = (
                resampled[0]
                if frame.format.is_planar
                else resampled.reshape(-1, frame.layout.nb_channels)[:, 0]
            )
            if mono.dtype == np.int16:
                mono = mono / np.float32(32768)
            parts.append((float(frame.pts * frame.time_base), mono.astype(np.float32)))
    begin = parts[0][0]
    last, samples = parts[-1]
    whole = np.zeros(round((last - begin) * rate_hz) + len(samples), np.float32)
    for at, samples in parts:
        start = max(0, round((at - begin) * rate_hz))
        whole[start : start + len(samples)] = samples[: len(whole) - start]
    return begin, whole


def edges(path: Path) -> tuple[list[float], list[float]]:
    """When flashes begin, and when beeps do, in seconds."""
    shown = pictures(path)
    flashes = [at for (_, before), (at, luma) in itertools.pairwise(shown) if luma > 128 >= before]
    begin, samples = sound(path)
    loud = np.flatnonzero(np.abs(samples) > 0.1) / 48_000 + begin
    beeps = [float(at) for before, at in zip([-9.0, *loud], loud, strict=False) if at - before > 0.5]
    return flashes, beeps
