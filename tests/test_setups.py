"""What follows from a configuration for each worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edged.config.schema import Config
from edged.setups import LATE_S, clip_setup, tape_setup

SOURCES = {
    "door": {"kind": "synthetic"},
    "yard": {"kind": "synthetic", "scene": "yard"},
    "attic": {"kind": "synthetic", "scene": "attic"},
}
EVENTS = {"moving": {"video": {"source": "door", "label": "motion"}}}


def config(*rules: dict[str, Any]) -> Config:
    return Config.model_validate({"sources": SOURCES, "events": EVENTS, "adapt": rules})


def test_only_devices_that_a_rule_reaches_record() -> None:
    one = config({"when": "moving", "raise": ["yard"], "record": {"before_s": 10}})
    for name in ("door", "yard"):
        setup = clip_setup(one, {name}, Path("clips"), 0)
        assert setup
        assert setup.clips
        assert setup.before_s == 10 + LATE_S, "an event is noticed a little after it began"
    assert clip_setup(one, {"attic"}, Path("clips"), 0) is None


def test_snapshots_need_no_ring() -> None:
    setup = clip_setup(config({"when": "moving", "snapshot": True}), {"door"}, Path("clips"), 0)
    assert setup
    assert (setup.clips, setup.before_s) == (False, 0)


def test_a_rule_that_only_raises_records_nothing() -> None:
    assert (
        clip_setup(config({"when": "moving", "raise": ["yard"]}), {"door", "yard"}, Path("clips"), 0) is None
    )


def test_a_tape_is_of_everything() -> None:
    setup = tape_setup(config(), Path("out"), 7)
    assert setup.tape
    assert (setup.folder, setup.start_ns) == ("out", 7)
