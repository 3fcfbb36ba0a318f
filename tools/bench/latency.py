"""How long after a picture was taken a subscriber has the event that it begins.

`edged run` watches a rendered scene at 10 Hz in which, once a second, a person (cut out of a photograph)
appears for 0.4 s; FastestDet sees the person, and each appearance is an event. A subscriber to the same
real mosquitto, in the benchmark's process, takes the time when it has an event's `start`. `total_ms`
counts from the stamp of the picture that began it (`at` of its evidence) to that moment; `overhead_ms`
is that less the engine's own time (`latency_ms.infer`). `at` is wall time that the daemon derives from
the monotonic clock, which is the same for all processes of a machine; if the wall clock was set
meanwhile, the measurement fails. The stages are the event's own `latency_ms`; `rest_ms` is what they do
not cover: the wait for the picture's moment in the rendered device, and all after fusion, the broker
included.

There is nothing to compare with, so `--pairs` counts rounds of eight events each; the first event warms
up and is not counted.
"""

from __future__ import annotations

import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from edged.config.schema import Mqtt
from edged.publish.subscriber import Subscriber
from edged.wire.event import Event
from tools.bench.footage import person
from tools.bench.measure import Unmeasurable, median, need, percentile
from tools.bench.processes import daemon, mosquitto, write_config
from tools.bench.report import Goal

GOALS = (
    Goal("overhead_ms_p50", at_most=4.0),
    Goal("overhead_ms_p95", at_most=12.0),
    Goal("total_ms_p95", at_most=80.0),
)

EVENTS = 8
"""A round, one a second."""
DEVICE = "latency"
STAGES = ("capture", "queue", "prepare", "infer", "decode", "fuse")
SILENCE_S = 15.0
CLOCK_NS = 200_000
"""The wall clock may not be set by more than this while measuring."""


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` rounds, of one daemon."""
    need(data / "models/FastestDet.onnx")
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as scratch, mosquitto(Path(scratch)) as url:
        folder = Path(scratch)
        config = write_config(folder, DEVICE, _config(person(data, folder), data, url))
        with Subscriber(Mqtt(url=url), [f"edged/{DEVICE}/event/#"]) as subscriber, daemon(config):
            epoch_ns = _epoch_ns()
            starts = _starts(subscriber, 1 + pairs * EVENTS)[1:]
            if abs(_epoch_ns() - epoch_ns) > CLOCK_NS:
                raise Unmeasurable("the wall clock was set meanwhile")
    total_ms = [_since_ms(event, came_ns) for event, came_ns in starts]
    stages = [event.latency_ms or {} for event, _ in starts]
    overhead_ms = [total - stage["infer"] for total, stage in zip(total_ms, stages, strict=True)]
    rest_ms = [total - stage["total"] for total, stage in zip(total_ms, stages, strict=True)]
    return {
        "overhead_ms_p50": median(overhead_ms),
        "overhead_ms_p95": percentile(overhead_ms, 0.95),
        "total_ms_p50": median(total_ms),
        "total_ms_p95": percentile(total_ms, 0.95),
        **{f"{name}_ms_p50": median(stage[name] for stage in stages) for name in STAGES},
        "rest_ms_p50": median(rest_ms),
        "events": len(starts),
    }


def _config(figure: Path, data: Path, url: str) -> dict[str, Any]:
    scene = {"period_s": 1.0, "figure_s": [0.3, 0.7], "voice_s": [0, 0], "alarm_s": [0, 0]}
    return {
        "device": DEVICE,
        "mqtt": {"url": url},
        "models_dirs": [str(data / "models")],
        "sources": {"cam": {"kind": "synthetic", "rate_hz": 10, "figure_image": str(figure), **scene}},
        "models": {"people": {"card": "fastestdet", "sources": ["cam"]}},
        "events": {"person": {"video": {"source": "cam", "label": "person"}, "hold_s": 0.2}},
    }


def _starts(subscriber: Subscriber, count: int) -> list[tuple[Event, int]]:
    """So many events' starts, with the wall time (nanoseconds) of their receipt."""
    starts: list[tuple[Event, int]] = []
    for _, payload in subscriber.messages(SILENCE_S):
        came_ns = time.time_ns()
        try:
            event = Event.from_json(payload)
        except msgspec.MsgspecError as error:
            raise Unmeasurable(f"what came is no event: {error}") from error
        if event.phase == "start":
            starts.append((event, came_ns))
        if len(starts) == count:
            return starts
    raise Unmeasurable(f"only {len(starts)} of {count} events came")


def _since_ms(event: Event, came_ns: int) -> float:
    at = datetime.fromisoformat(event.evidence[0].at.replace("Z", "+00:00"))
    since = datetime.fromtimestamp(came_ns // 1000 / 1e6, tz=timezone.utc) - at
    return since.total_seconds() * 1000


def _epoch_ns() -> int:
    return time.time_ns() - time.monotonic_ns()
