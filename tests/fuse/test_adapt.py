"""What follows from events, motion and sound."""

from __future__ import annotations

from typing import Any

import pytest

from edged.config.schema import Config
from edged.fuse.adapt import Adapt
from edged.wire.clock import SECOND_NS, WallClock
from edged.wire.records import Raise, RecordClip, TakeSnapshot

S = SECOND_NS
SOURCES: dict[str, Any] = {
    "cam": {"kind": "synthetic", "rate_hz": {"idle": 1, "active": 10}},
    "mic": {"kind": "synthetic", "modality": "audio"},
    "yard": {"kind": "synthetic", "scene": "yard"},
}
DEVICES = {"cam": "cam", "mic": "cam", "yard": "yard"}
EVENTS: dict[str, Any] = {
    "alarm": {"audio": {"source": "mic", "label": "sound"}},
    "moving": {"video": {"source": "cam", "label": "motion"}},
}


def adapt(*rules: dict[str, Any]) -> Adapt:
    config = Config.model_validate({"sources": SOURCES, "events": EVENTS, "adapt": rules})
    return Adapt(config, DEVICES, WallClock(0))


def test_an_event_raises_sources_while_it_lasts_and_for_a_time_after() -> None:
    one = adapt({"when": "alarm", "raise": ["cam", "yard"], "for_s": 30})
    begun = one.begins("alarm", ("mic",), "A", 100 * S, 101 * S)
    assert {wish.source for wish in begun if isinstance(wish, Raise)} == {"cam", "yard"}
    assert all(isinstance(wish, Raise) and wish.until_ns >= 131 * S for wish in begun)
    (going, _) = one.goes_on(150 * S)
    assert isinstance(going, Raise)
    assert going.until_ns > 180 * S
    assert one.ends("A", 160 * S) == [Raise("cam", 190 * S), Raise("yard", 190 * S)]
    assert one.goes_on(161 * S) == []


def test_motion_on_one_source_concerns_no_rule_of_another() -> None:
    one = adapt({"when": "motion", "source": "yard", "raise": ["cam"], "for_s": 5})
    assert one.begins("motion", ("cam",), "A", 0, 0) == []
    assert one.begins("moving", ("cam",), "B", 0, 0) == []
    assert one.begins("motion", ("yard",), "C", 0, 0) != []


def test_a_clip_reaches_from_before_its_begin_to_after_its_end() -> None:
    one = adapt({"when": "alarm", "record": {"before_s": 10, "after_s": 5}})
    (clip,) = one.begins("alarm", ("mic",), "A", 100 * S, 101 * S)
    assert isinstance(clip, RecordClip)
    assert clip.clip == "cam/1970-01-01/000140-A"
    assert clip.sources == ("cam", "mic"), "picture and sound of one device belong together"
    assert clip.from_ns == 90 * S
    assert clip.until_ns >= 106 * S
    (last,) = one.ends("A", 120 * S)
    assert isinstance(last, RecordClip)
    assert (last.clip, last.from_ns) == (clip.clip, clip.from_ns)
    assert 125 * S <= last.until_ns <= 130 * S


def test_what_overlaps_is_one_clip_and_what_does_not_is_another() -> None:
    one = adapt({"when": "alarm", "record": {}}, {"when": "moving", "record": {}})
    (first,) = one.begins("alarm", ("mic",), "A", 100 * S, 100 * S)
    (second,) = one.begins("moving", ("cam",), "B", 103 * S, 103 * S)
    assert isinstance(first, RecordClip)
    assert isinstance(second, RecordClip)
    assert first.clip == second.clip
    assert second.event == "B"
    assert one.clip_of("A") == one.clip_of("B") == first.clip
    one.ends("A", 104 * S)
    one.ends("B", 105 * S)
    (third,) = one.begins("alarm", ("mic",), "C", 200 * S, 200 * S)
    assert isinstance(third, RecordClip)
    assert third.clip != first.clip


def test_a_clip_does_not_grow_for_ever() -> None:
    one = adapt({"when": "moving", "record": {"max_s": 60}})
    one.begins("moving", ("cam",), "A", 0, 0)
    (clip,) = one.goes_on(59 * S)
    assert isinstance(clip, RecordClip)
    assert clip.until_ns == 60 * S
    assert one.goes_on(61 * S) == [], "and there is no further one"
    assert one.ends("A", 100 * S) == []
    assert one.clip_of("A") is None, "nothing is kept of what is over"


def test_what_overlaps_all_day_is_cut() -> None:
    one = adapt({"when": "moving", "record": {"before_s": 5, "after_s": 5, "max_s": 60}})
    names: dict[str, list[int]] = {}
    for number in range(100):
        at = number * 4 * S
        (clip,) = one.begins("moving", ("cam",), str(number), at, at)
        assert isinstance(clip, RecordClip)
        names.setdefault(clip.clip, []).append(clip.until_ns - clip.from_ns)
        one.ends(str(number), at + S)
    assert 5 <= len(names) <= 8
    assert max(max(lengths) for lengths in names.values()) <= 75 * S


def test_a_snapshot_is_of_pictures_alone() -> None:
    one = adapt({"when": "alarm", "snapshot": True, "raise": ["yard"]})
    wishes = one.begins("alarm", ("mic",), "A", 0, 0)
    assert [wish for wish in wishes if isinstance(wish, TakeSnapshot)] == [
        TakeSnapshot("yard/1970-01-01/000000-A-yard", "yard", "A")
    ]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"when": "alarm"}, "does nothing"),
        ({"when": "fire", "raise": ["cam"]}, "no event 'fire'; there is alarm, moving, motion, sound"),
        ({"when": "motion", "raise": ["cam"]}, "needs a 'source'"),
        ({"when": "motion", "source": "mic", "raise": ["cam"]}, "modality audio, and no motion"),
        ({"when": "sound", "source": "attic", "raise": ["cam"]}, "no source 'attic'"),
        ({"when": "alarm", "source": "mic", "raise": ["cam"]}, "names its sources itself"),
        ({"when": "alarm", "raise": ["attic"]}, "no source 'attic'"),
        ({"when": "alarm", "record": {"before_s": 1000}}, "less than or equal to 120"),
    ],
)
def test_rules_that_can_not_be(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapt(rule)
