"""What is told of a source, over several lives of its processes."""

from __future__ import annotations

import json

from edged.capture.sources.synthetic import Config
from edged.health import SourceHealth
from edged.wire.records import Counts


def test_what_earlier_processes_counted_stays_counted() -> None:
    health = SourceHealth.of("cam", Config(kind="synthetic"))
    health.count(1, Counts("cam", 10, {"no_slot": 2}, {"clips_written": 1}), capture=True)
    health.count(1, Counts("cam", 20, {"no_slot": 3}, {"clips_written": 1}), capture=True)
    health.count(2, Counts("cam", 5, {"behind": 1}), capture=True)
    health.count(1, Counts("cam", 7, {"superseded": 1}), capture=False)
    health.count(4, Counts("cam", 2, {"superseded": 1}), capture=False)
    told = json.loads(health.to_json())
    assert told["delivered"] == 25
    assert told["analysed"] == 9
    assert told["drops"] == {"no_slot": 3, "behind": 1, "superseded": 2}
    assert told["recorded"] == {"clips_written": 1}
