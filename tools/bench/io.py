"""Whether inference feels the disk: while clips, snapshots and a filling outbox are written, and while not.

yolox-nano runs ten times a second in the benchmark's own process, beside a real daemon with two cameras
(films of 768×432, 2 Mbit/s, at their own speed) and two events a second. On the one side the broker is
there and nothing is recorded. On the other side no broker answers, so that all events stay in the outbox,
and each event asks for a snapshot and a clip of both cameras, which are cut every four seconds.
`p95_ratio` is the 95th percentile of the inference's time with the writing, over that without it.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tools.bench.engine import PlainSession
from tools.bench.footage import camera
from tools.bench.measure import Unmeasurable, interleaved, median, need, percentile
from tools.bench.processes import daemon, mosquitto, write_config
from tools.bench.report import Goal

GOALS = (Goal("p95_ratio", at_most=1.10),)

FILM = "video/one-by-one-person.mp4"
START_S, ROUND_S, PERIOD_S = 3.0, 12.0, 0.1
CAMERAS = 2


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` rounds with and without writing."""
    need(data / FILM, data / "models/yolox_nano.onnx")
    session = PlainSession(data / "models/yolox_nano.onnx")
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as scratch, mosquitto(Path(scratch)) as url:
        folder = Path(scratch)
        films = [folder / f"{number}.mp4" for number in range(CAMERAS)]
        camera(data / FILM, films[0], (768, 432), 750)
        for film in films[1:]:
            film.write_bytes(films[0].read_bytes())
        quiet, busy = _config(films, url, record=False), _config(films, "mqtt://127.0.0.1:9", record=True)
        ways = (
            partial(_timed, session, folder, "quiet", quiet),
            partial(_timed, session, folder, "busy", busy),
        )
        rounds = list(interleaved(pairs, *ways))
        clips = [path for path in (folder / "busy/clips").rglob("*") if path.suffix in (".mp4", ".jpg")]
        written = sum(path.stat().st_size for path in clips) / (1 << 20)
    if len(clips) < pairs * 10:
        raise Unmeasurable(f"only {len(clips)} clips and snapshots were written")
    return {
        "p95_ratio": median(percentile(busy, 0.95) / percentile(quiet, 0.95) for quiet, busy in rounds),
        "p50_ratio": median(median(busy) / median(quiet) for quiet, busy in rounds),
        "quiet_ms_p95": median(percentile(quiet, 0.95) for quiet, _ in rounds),
        "busy_ms_p95": median(percentile(busy, 0.95) for _, busy in rounds),
        "files": len(clips),
        "mib": written,
    }


def _config(films: list[Path], url: str, *, record: bool) -> dict[str, Any]:
    cameras = {
        f"cam{n}": {"kind": "stream", "url": str(film), "loop": True, "rate_hz": 5}
        for n, film in enumerate(films)
    }
    scene = {"period_s": 0.5, "figure_s": [0, 0.2], "voice_s": [0, 0], "alarm_s": [0, 0]}
    pulse = {"kind": "synthetic", "width": 320, "height": 180, "rate_hz": 10, **scene}
    rule = {"video": {"source": "pulse", "label": "motion", "min_score": 0.01}, "hold_s": 0.15}
    clip = {"before_s": 2, "after_s": 1, "max_s": 4}
    adapt = {"when": "pulse", "raise": list(cameras), "record": clip, "snapshot": True}
    return {
        "device": "io",
        "mqtt": {"url": url},
        "sources": {**cameras, "pulse": pulse},
        "events": {"pulse": rule},
        "adapt": [adapt] if record else [],
    }


def _timed(session: PlainSession, folder: Path, name: str, config: dict[str, Any]) -> list[float]:
    """The milliseconds of each inference of a round."""
    picture = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    times = []
    with daemon(write_config(folder, name, config)):
        time.sleep(START_S)  # starts are not counted
        begin = time.monotonic()
        for number in range(round(ROUND_S / PERIOD_S)):
            time.sleep(max(0.0, begin + number * PERIOD_S - time.monotonic()))  # ten a second
            times.append(session.run_ns(picture) / 1e6)
    return times
