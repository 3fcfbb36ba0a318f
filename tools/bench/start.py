"""How long after `edged run` everything is at work, and how long until the first event.

Each round executes `edged run` on a rendered scene with picture and sound, yolox-nano, silero-vad and an
event on motion, the figure walking from the first picture on. A subscriber to the real mosquitto, there
before, takes the time from just before the process is spawned to the receipt of `"ready": true` on the
health topic (`ready_s`) and of the first event (`first_event_s`). The files are in the page cache, as
after a restart of the service; there is nothing to compare with, so `--pairs` counts rounds.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from edged.config.schema import Mqtt
from edged.publish.subscriber import Subscriber
from tools.bench.measure import Unmeasurable, median, need
from tools.bench.processes import daemon, mosquitto, write_config
from tools.bench.report import Goal

GOALS = (Goal("ready_s", at_most=3.0), Goal("first_event_s", at_most=5.0))

SILENCE_S = 20.0


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` starts."""
    need(data / "models/yolox_nano.onnx", data / "models/silero_vad_16k_op15.onnx")
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as scratch, mosquitto(Path(scratch)) as url:
        rounds = [_start(Path(scratch), f"start-{number}", data, url) for number in range(pairs)]
    ready_s, first_event_s = zip(*rounds, strict=True)
    return {
        "ready_s": median(ready_s),
        "ready_s_max": max(ready_s),
        "first_event_s": median(first_event_s),
        "first_event_s_max": max(first_event_s),
    }


def _config(device: str, data: Path, url: str) -> dict[str, Any]:
    scene = {"kind": "synthetic", "figure_s": [0, 10], "rate_hz": 5}
    return {
        "device": device,
        "mqtt": {"url": url},
        "models_dirs": [str(data / "models")],
        "sources": {"cam": scene, "mic": scene | {"modality": "audio"}},
        "models": {
            "people": {"card": "yolox-nano", "sources": ["cam"]},
            "voice": {"card": "silero-vad", "sources": ["mic"]},
        },
        "events": {
            "movement": {"video": {"source": "cam", "label": "motion", "min_score": 0.003}},
            "person": {"video": {"source": "cam", "label": "person"}},
            "speech": {"audio": {"source": "mic", "label": "speech"}},
        },
    }


def _start(folder: Path, device: str, data: Path, url: str) -> tuple[float, float]:
    """One start, of a device of its own: nothing retained speaks of an earlier one."""
    config = write_config(folder, device, _config(device, data, url))
    topics = [f"edged/{device}/health", f"edged/{device}/event/#"]
    with Subscriber(Mqtt(url=url), topics) as subscriber:
        began = time.monotonic()
        ready_s = first_event_s = None
        with daemon(config):
            for topic, payload in subscriber.messages(SILENCE_S):
                after_s = time.monotonic() - began
                if topic == topics[0]:
                    ready_s = ready_s or (after_s if json.loads(payload)["ready"] else None)
                else:
                    first_event_s = first_event_s or after_s
                if ready_s and first_event_s:
                    return ready_s, first_event_s
            raise Unmeasurable("the daemon did not become ready" if ready_s is None else "no event came")
