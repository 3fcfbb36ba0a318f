"""What a frame costs on its way from a film into a pool, and how long it takes to its reader.

`cpu_ratio` is the worse of two films, 768×432 and 1280×720: the CPU time of a real capture process for
each frame, all of them analysed, against that of a plain loop over PyAV, which decodes on one thread and
converts each picture to the same size as BGR. Capture does more: it measures motion, keeps the packets'
stamps, waits for the slots, and sends descriptors and observations. Its start is not counted.

`handoff_ms` is the time from the lending of a slot to its receipt in another process, of a film at its
own speed, while an engine runs without a pause in a thread of the receiving process.
"""

from __future__ import annotations

import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import av
import numpy as np

from edged.wire.pool import Lease
from edged.wire.views import PictureView
from tools.bench.capturing import Capturing
from tools.bench.engine import PlainSession
from tools.bench.footage import SCENE, camera
from tools.bench.measure import Unmeasurable, interleaved, median, need, percentile
from tools.bench.report import Goal

GOALS = (Goal("cpu_ratio", at_most=1.15), Goal("handoff_ms_p50", at_most=0.15))

FILM = "video/one-by-one-person.mp4"
FRAMES = 400
"""Of each film."""
VIEW = PictureView(416, 416)
HANDOFF_S = 20.0
TIMEOUT_S = 60.0


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` rounds of each film on both sides."""
    need(data / FILM, data / SCENE, data / "models/yolox_nano.onnx")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as scratch:
        for width, height in ((768, 432), (1280, 720)):
            film = camera(data / FILM, Path(scratch) / f"{height}.mp4", (width, height), FRAMES)
            both = list(interleaved(pairs, partial(_through, film), partial(_plain, film)))
            figures[f"cpu_ratio_{height}"] = median(ours / plain for ours, plain in both)
            figures[f"cpu_ms_{height}"] = median(ours for ours, _ in both)
            figures[f"plain_cpu_ms_{height}"] = median(plain for _, plain in both)
    figures["cpu_ratio"] = max(figures["cpu_ratio_432"], figures["cpu_ratio_720"])
    handoffs = _handoffs(data)
    figures["handoff_ms_p50"] = median(handoffs)
    figures["handoff_ms_p99"] = percentile(handoffs, 0.99)
    return figures


def _through(film: Path) -> float:
    """Milliseconds of CPU a frame of the capture process."""
    source = {"kind": "stream", "url": str(film), "rate_hz": 240}
    frames = begin_ns = end_ns = 0
    with Capturing({"cam": source}, view=VIEW, replay=True, paced=False) as capturing:
        for item, _ in capturing.coming(TIMEOUT_S):
            if isinstance(item, Lease):
                begin_ns = begin_ns or capturing.cpu_ns()
                end_ns = capturing.cpu_ns()
                frames += 1
    if frames != FRAMES:
        raise Unmeasurable(f"{frames} of {FRAMES} frames came")
    return (end_ns - begin_ns) / (frames - 1) / 1e6


def _plain(film: Path) -> float:
    """The same of the plain loop."""
    width, height = VIEW.fitted(1280, 720)
    with av.open(str(film)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames, begin_ns = 0, 0
        for frame in container.decode(video=0):
            frame.to_ndarray(format="bgr24", width=width, height=height, interpolation="BILINEAR")
            begin_ns = begin_ns or time.process_time_ns()
            frames += 1
        return (time.process_time_ns() - begin_ns) / (frames - 1) / 1e6


def _handoffs(data: Path) -> list[float]:
    source = {"kind": "stream", "url": str(data / SCENE), "rate_hz": 25}
    stop = threading.Event()
    busy = threading.Thread(target=_busy, args=(data / "models/yolox_nano.onnx", stop), name="busy")
    busy.start()
    try:
        with Capturing({"cam": source}, view=VIEW) as capturing:
            times = [
                (came_ns - item.descriptor.queued_ns) / 1e6
                for item, came_ns in capturing.coming(HANDOFF_S)
                if isinstance(item, Lease)
            ]
    finally:
        stop.set()
        busy.join()
    if len(times) < HANDOFF_S * 5:
        raise Unmeasurable(f"only {len(times)} frames came")
    return times[5:]


def _busy(model: Path, stop: threading.Event) -> None:
    session = PlainSession(model)
    picture = np.zeros((1, 3, 416, 416), np.float32)
    while not stop.is_set():
        session.run_ns(picture)
