"""How many frames a second go through the whole daemon, against a naive loop and the engine alone.

Both sides read the same file (the first 30 s of scene_a.mp4, remuxed without its sound), analyse every
frame with yolox-nano on one engine thread, make start and end events of the person, and publish them to
the same real mosquitto. One side is edged's replay (`watched.py`: daemon, capture and perceive as real
processes), the other `baseline.py`; each round starts fresh processes. A rate is (frames - 1) / time
from the first analysed frame to the last, in the process that has the results, so that neither the
start nor the end of a process counts. The engine's rate is that of `session.run` in a loop on one fixed
picture, in the benchmark's own process.

`ratio` is the median over the rounds of edged's rate / the baseline's in the same round, `of_engine_rate`
that of edged's rate / the engine's; `ratio_min` and `ratio_max` show how noisy the machine was.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edged.wire.clock import SECOND_NS
from tools.bench.engine import PlainSession
from tools.bench.footage import shortened
from tools.bench.measure import Unmeasurable, interleaved, median
from tools.bench.processes import mosquitto, said_by, write_config
from tools.bench.report import Goal

GOALS = (Goal("ratio", at_least=1.15), Goal("of_engine_rate", at_least=0.90))

SECONDS = 30.0
RUNS = 150
"""Of the engine alone in a round, two seconds."""
TIMEOUT_S = 120.0


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` rounds of edged, the baseline and the engine alone."""
    weights = data / "models/yolox_nano.onnx"
    session = PlainSession(weights)
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as scratch, mosquitto(Path(scratch)) as url:
        folder = Path(scratch)
        video, frames = shortened(data, folder, SECONDS)
        config = write_config(folder, "throughput", _config(video, data, url))
        broker = urlsplit(url)
        place = [str(broker.hostname), str(broker.port)]
        sides = (
            partial(_rate_hz, frames, "tools.bench.watched", str(config)),
            partial(_rate_hz, frames, "tools.bench.baseline", str(video), str(weights), *place),
            partial(_engine_hz, session),
        )
        _engine_hz(session)  # warms it up
        rounds = list(interleaved(pairs, *sides))
    ratios = [edged_hz / baseline_hz for edged_hz, baseline_hz, _ in rounds]
    return {
        "ratio": median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "of_engine_rate": median(edged_hz / engine_hz for edged_hz, _, engine_hz in rounds),
        "edged_hz": median(edged_hz for edged_hz, _, _ in rounds),
        "baseline_hz": median(baseline_hz for _, baseline_hz, _ in rounds),
        "engine_hz": median(engine_hz for _, _, engine_hz in rounds),
    }


def _config(video: Path, data: Path, url: str) -> dict[str, Any]:
    return {
        "device": "throughput",
        "mqtt": {"url": url},
        "models_dirs": [str(data / "models")],
        # The file has 10 frames a second: every one is analysed.
        "sources": {"cam": {"kind": "stream", "url": str(video), "rate_hz": 10}},
        "models": {"people": {"card": "yolox-nano", "sources": ["cam"], "threads": 1}},
        "events": {"person": {"video": {"source": "cam", "label": "person"}, "hold_s": 2}},
    }


def _rate_hz(frames: int, module: str, *arguments: str) -> float:
    """Of a process that does the work and says so; it has to be the same work on both sides."""
    found = said_by(module, *arguments, timeout_s=TIMEOUT_S)
    if found["frames"] != frames or not found["starts"]:
        raise Unmeasurable(f"{module} did other work than was asked for, {frames} frames: {found}")
    return float((frames - 1) / found["seconds"])


def _engine_hz(session: PlainSession) -> float:
    picture = np.full((1, 3, 416, 416), 114, np.float32)
    return RUNS * SECOND_NS / sum(session.run_ns(picture) for _ in range(RUNS))
