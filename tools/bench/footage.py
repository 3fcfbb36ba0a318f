"""Pieces of the real data, cut as the benchmarks need them; as little as possible is encoded anew."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tools.bench.measure import Unmeasurable, need

SCENE = "av/scene_a.mp4"
VISIT_S = (10.0, 18.0)
"""In this part of the scene a person is in every frame."""
PERSON = "000000000785"
"""A COCO image whose first label is a person whom FastestDet scores with 0.94."""


def visit(data: Path, count: int) -> list[av.VideoFrame]:
    """`count` frames with a person, evenly from the whole visit."""
    need(data / SCENE)
    with av.open(str(data / SCENE)) as container:
        container.seek(round(VISIT_S[0] * av.time_base))
        frames = []
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= VISIT_S[0]:
                if frame.time >= VISIT_S[1]:
                    break
                frames.append(frame)
    if len(frames) < count:
        raise Unmeasurable(f"{data / SCENE} has {len(frames)} frames between {VISIT_S} s, not {count}")
    return [frames[index * len(frames) // count] for index in range(count)]


def shortened(data: Path, folder: Path, seconds: float) -> tuple[Path, int]:
    """The picture of the scene's first `seconds` as a file of its own, and how many frames it has."""
    need(data / SCENE)
    path, frames = folder / "scene.mp4", 0
    with av.open(str(data / SCENE)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.pts * packet.time_base < seconds:
                packet.stream = stream
                target.mux(packet)
                frames += 1
    return path, frames


def camera(film: Path, path: Path, size: tuple[int, int], frames: int) -> Path:
    """The film's first frames as a camera would send them: with a sensor's noise (σ = 2), H.264 of this
    width and height at a constant 2 Mbit/s for each 768×432, 25 pictures and one key frame a second.
    """
    width, height = size
    rates = {"b": str(2_000_000 * width * height // (768 * 432)), "preset": "veryfast", "bf": "0"}
    random = np.random.default_rng(1)
    noise = [random.normal(0, 2, (height, width)) for _ in range(7)]
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", 25, options=rates)
        (stream.width, stream.height), stream.pix_fmt, stream.gop_size = size, "yuv420p", 25
        for count, frame in enumerate(source.decode(video=0)):
            if count == frames:
                break
            pixels = frame.reformat(width, height, "yuv420p").to_ndarray()
            pixels[:height] = np.clip(pixels[:height] + noise[count % 7], 0, 255)
            noisy = av.VideoFrame.from_ndarray(pixels, "yuv420p")
            noisy.pts, noisy.time_base = count, Fraction(1, 25)
            target.mux(stream.encode(noisy))
        target.mux(stream.encode(None))
    return path


def person(data: Path, folder: Path) -> Path:
    """A person cut out of a COCO image by its label, with a tenth of margin."""
    image = data / f"images/coco-val/images/{PERSON}.jpg"
    label = data / f"images/coco-val/labels/{PERSON}.txt"
    need(image, label)
    with av.open(str(image)) as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    height, width, _ = pixels.shape
    _, x, y, wide, tall = map(float, label.read_text("ascii").split()[:5])
    left, right = (round(width * (x + side * 0.6 * wide)) for side in (-1, 1))
    top, bottom = (round(height * (y + side * 0.6 * tall)) for side in (-1, 1))
    cut = pixels[max(0, top) : bottom, max(0, left) : right]
    path = folder / "person.png"
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width = cut.shape[:2]
        stream.pix_fmt = "rgb24"
        for frame in (av.VideoFrame.from_ndarray(cut.copy(), format="rgb24"), None):
            container.mux(stream.encode(frame))
    return path
