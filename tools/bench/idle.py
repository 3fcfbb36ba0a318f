"""What a camera costs while nothing happens: key frames alone against every picture.

A film as a camera sends it (see `footage.camera`: 768×432, 2 Mbit/s, 25 pictures a second, a key frame
each second) runs through a real capture process, as fast as it is read. `cpu_ratio` is its CPU time at an
idle rate of 1 Hz against that of a plain loop over PyAV that decodes every picture, and does nothing with
it. `cpu_ratio_full` is against the same process at 25 Hz. Starts are not counted.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import av

from edged.wire.pool import Lease
from edged.wire.views import PictureView
from tools.bench.capturing import Capturing
from tools.bench.footage import camera
from tools.bench.measure import Unmeasurable, interleaved, median, need
from tools.bench.report import Goal

GOALS = (Goal("cpu_ratio", at_most=0.25),)

FILM = "video/one-by-one-person.mp4"
FPS, FRAMES = 25, 1300
VIEW = PictureView(416, 416)
TIMEOUT_S = 60.0
SETTLED = 4
"""The first pictures, while it is found out how far the key frames lie apart, are not counted."""


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` rounds of the three ways to read the film."""
    need(data / FILM)
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as scratch:
        film = camera(data / FILM, Path(scratch) / "film.mp4", (768, 432), FRAMES)
        ways = partial(_through, film, 1), partial(_through, film, FPS), partial(_decoded, film)
        rounds = list(interleaved(pairs, *ways))
    return {
        "cpu_ratio": median(idle / plain for idle, _, plain in rounds),
        "cpu_ratio_full": median(idle / full for idle, full, _ in rounds),
        "idle_cpu_ms_per_s": median(idle for idle, _, _ in rounds),
        "full_cpu_ms_per_s": median(full for _, full, _ in rounds),
        "decode_cpu_ms_per_s": median(plain for _, _, plain in rounds),
    }


def _through(film: Path, rate_hz: int) -> float:
    """Milliseconds of CPU for each second of the film."""
    frames = begin_ns = end_ns = begin_stamp_ns = end_stamp_ns = 0
    source = {"kind": "stream", "url": str(film), "rate_hz": rate_hz}
    with Capturing({"cam": source}, view=VIEW, replay=True, paced=False) as capturing:
        for item, _ in capturing.coming(TIMEOUT_S):
            if isinstance(item, Lease):
                frames += 1
                end_ns, end_stamp_ns = capturing.cpu_ns(), item.descriptor.stamp_ns
                if frames == SETTLED:
                    begin_ns, begin_stamp_ns = end_ns, end_stamp_ns
    if frames != FRAMES // FPS * rate_hz:
        raise Unmeasurable(f"{frames} frames came at {rate_hz} Hz")
    return (end_ns - begin_ns) / (end_stamp_ns - begin_stamp_ns) * 1e3


def _decoded(film: Path) -> float:
    with av.open(str(film)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames, begin_ns = 0, 0
        for _ in container.decode(video=0):
            begin_ns = begin_ns or time.process_time_ns()
            frames += 1
        return (time.process_time_ns() - begin_ns) / (frames - 1) * FPS / 1e6
