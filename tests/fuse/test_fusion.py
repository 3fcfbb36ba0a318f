"""From a configuration and observations to events that keep their contract with subscribers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from edged.config.schema import Config
from edged.fuse.fusion import Fusion, feeds_of
from edged.fuse.presence import Feed
from edged.wire.clock import SECOND_NS, WallClock
from edged.wire.event import Event, json_schema
from edged.wire.records import Detection, Observations
from tests.fuse.looks import CAM, MIC, TRACE, look, looks

SOUNDS: Feed = ("mic", "sounds")
MOTION: Feed = ("cam", "")
SCHEMA = Draft202012Validator(json_schema(), format_checker=FormatChecker())

CONFIG = {
    "device": "porch",
    "sources": {
        "cam": {"kind": "synthetic", "rate_hz": 5},
        "mic": {"kind": "synthetic", "modality": "audio", "rate_hz": 2},
    },
    "models": {
        "people": {"card": "yolox-nano", "sources": ["cam"]},
        "voice": {"card": "silero-vad", "sources": ["mic"]},
        "sounds": {"card": "yamnet", "sources": ["mic"]},
    },
    "events": {
        "person": {"video": {"source": "cam", "label": "person"}, "hold_s": 1},
        "person_speaking": {
            "video": {"source": "cam", "label": "person"},
            "audio": {"source": "mic", "label": "speech", "model": "voice"},
            "hold_s": 1,
        },
        "stir": {
            "video": {"source": "cam", "label": ["person", "motion"]},
            "audio": {"source": "mic", "label": ["speech", "siren"]},
            "combine": "any",
            "hold_s": 1,
        },
    },
}
LABELS = {
    "people": frozenset({"person", "dog"}),
    "voice": frozenset({"speech"}),
    "sounds": frozenset({"speech", "siren"}),
}


def fusion(events: Mapping[str, object] | None = None) -> Fusion:
    config = Config.model_validate(CONFIG | ({"events": events} if events else {}))
    return Fusion(config, feeds_of(config, LABELS), WallClock.replay())


def only(name: str) -> Fusion:
    """One of the events alone."""
    return fusion({name: CONFIG["events"][name]})  # type: ignore[index]  # a plain mapping


def observe(one: Fusion, seen: list[Observations]) -> list[Event]:
    return [event for look_ in seen for event in one.observe(look_)]


def valid(events: list[Event]) -> list[Event]:
    """The events, which are as the schema says."""
    for event in events:
        SCHEMA.validate(json.loads(event.to_json()))
    return events


def test_an_evidence_s_feeds() -> None:
    config = Config.model_validate(CONFIG)
    assert feeds_of(config, LABELS) == {
        "person": [CAM],
        "person_speaking": [CAM, MIC],
        "stir": [MOTION, CAM, MIC, SOUNDS],
    }


def test_a_measured_label_of_a_named_model_is_that_model_s() -> None:
    video = {"source": "cam", "label": "motion", "model": "people"}
    config = Config.model_validate(CONFIG | {"events": {"stir": {"video": video}}})
    assert feeds_of(config, LABELS) == {"stir": []}


def test_an_event_from_start_to_end() -> None:
    box = (0.1, 0.2, 0.5, 0.9)
    one = only("person")
    seen = Observations(
        "cam", "people", "video", 6_400_000_000, 0, (Detection("person", 0.87654, box),), TRACE
    )
    (start,) = valid(one.observe(seen))
    assert dict(one.states()) == {"person": True}
    assert (start.schema, start.device, start.type) == ("edged.event/1", "porch", "person")
    assert (start.phase, start.sequence, start.ended_at, start.clip) == ("start", 1, None, None)
    assert start.started_at == start.updated_at == "1970-01-01T00:00:06.400000Z"
    assert start.score == 0.8765
    assert start.rates == {"cam": 5}
    (evidence,) = start.evidence
    assert (evidence.source, evidence.modality, evidence.label) == ("cam", "video", "person")
    assert (evidence.score, evidence.box, evidence.span, evidence.track) == (0.8765, box, None, None)
    assert evidence.at == start.started_at
    assert start.latency_ms
    stages = dict(start.latency_ms)
    assert stages.pop("total") == pytest.approx(sum(stages.values()), abs=0.01)
    assert (stages["capture"], stages["queue"], stages["prepare"]) == (1, 2, 3)
    assert (stages["infer"], stages["decode"]) == (4, 5)

    (end,) = valid(observe(one, looks(6.6, [0.9, *[0.0] * 6])))
    assert (end.id, end.traceparent, end.type) == (start.id, start.traceparent, start.type)
    assert (end.phase, end.sequence) == ("end", 2)
    assert end.started_at == start.started_at
    assert end.updated_at == end.ended_at == "1970-01-01T00:00:06.600000Z", (
        "the last evidence, not the hold's end"
    )
    assert dict(one.states()) == {"person": False}


def test_two_modalities_are_fused_into_one_event() -> None:
    one = only("person_speaking")
    assert observe(one, looks(0, [0.9] * 10)) == []
    (start,) = valid(one.observe(look(1, 0.6, MIC, span_s=0.096)))
    assert [(item.modality, item.source, item.label) for item in start.evidence] == [
        ("audio", "mic", "speech"),
        ("video", "cam", "person"),
    ]
    audio = start.evidence[0]
    assert audio.span == ("1970-01-01T00:00:00.952000Z", "1970-01-01T00:00:01.048000Z")
    assert audio.at == "1970-01-01T00:00:01.000000Z"
    assert start.rates == {"cam": 5, "mic": 2}
    assert start.score == pytest.approx((0.9 * 0.6) ** 0.5, abs=1e-4)


def test_only_the_named_model_s_word_counts() -> None:
    one = only("person_speaking")
    observe(one, looks(0, [0.9] * 10))
    assert one.observe(look(1, 0.9, SOUNDS, label="speech")) == []


def test_one_look_can_start_several_events() -> None:
    one = fusion()
    observe(one, [look(0, 0.9, MIC)])
    events = valid(one.observe(look(0, 0.9)))
    assert [(event.type, event.phase) for event in events] == [
        ("person", "start"),
        ("person_speaking", "start"),
        ("stir", "update"),
    ]
    assert len({event.id for event in events}) == 3


def test_what_no_event_asks_for_is_passed_over() -> None:
    one = only("person")
    assert one.observe(look(0, 0.9, MIC)) == []
    assert one.observe(look(0, 0.9, MOTION, label="motion")) == []


def test_a_dead_source_s_event_ends() -> None:
    one = fusion()
    observe(one, looks(0, [0.9, 0.9]))
    assert one.passed(SECOND_NS) == []
    events = valid(one.passed(5 * SECOND_NS))
    assert [(event.type, event.phase) for event in events] == [("person", "end"), ("stir", "end")]
    assert all(event.latency_ms is None for event in events), "no observation brought it"
    assert {event.ended_at for event in events} == {"1970-01-01T00:00:00.200000Z"}


def test_close_ends_all_that_is_open() -> None:
    one = fusion()
    observe(one, [*looks(0, [0.9, 0.9]), look(0.2, 0.9, MIC)])
    events = valid(one.close())
    assert [(event.type, event.phase) for event in events] == [
        ("person", "end"),
        ("person_speaking", "end"),
        ("stir", "end"),
    ]
    assert one.close() == []
    assert not any(on for _, on in one.states())


def test_each_event_has_an_identity_of_its_own() -> None:
    events = valid(observe(only("person"), looks(0, [0.9, *[0.0] * 6] * 4)))
    starts = [event for event in events if event.phase == "start"]
    assert len(starts) == 4
    assert len({event.id for event in starts}) == 4
    assert len({event.traceparent for event in starts}) == 4


LOOKS = st.tuples(
    st.sampled_from([(CAM, "person"), (CAM, "dog"), (MOTION, "motion"), (MIC, "speech"), (SOUNDS, "siren")]),
    st.sampled_from([0.0, 0.1, 0.4, 0.6, 0.85, 1.0]),
    st.sampled_from([0.05, 0.2, 0.2, 0.5, 3.0]),
    st.sampled_from([False, False, False, True]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LOOKS, max_size=60))
def test_whatever_is_seen_the_events_keep_their_contract(
    steps: list[tuple[tuple[Feed, str], float, float, bool]],
) -> None:
    """Each id starts once and ends once, its sequence counts up, and every phase is as the schema says."""
    one, at_s, events = fusion(), 0.0, list[Event]()
    for (feed, label), score, step_s, passed in steps:
        at_s += step_s
        span_s = 0.096 if feed == MIC else 0.975 if feed == SOUNDS else 0.0
        events += one.observe(look(at_s, score, feed, label=label, span_s=span_s))
        if passed:
            events += one.passed(round((at_s - 2) * SECOND_NS))
        open_ = {event.type for event in events if event.phase != "end"} if events else set()
        assert {name for name, on in one.states() if on} <= open_
    events += one.close()
    by_id = defaultdict(list)
    for event in valid(events):
        by_id[event.id].append(event)
    for phases in by_id.values():
        kinds = [event.phase for event in phases]
        assert kinds == ["start", *["update"] * (len(kinds) - 2), "end"]
        assert [event.sequence for event in phases] == list(range(1, len(phases) + 1))
        assert len({(event.type, event.started_at, event.traceparent) for event in phases}) == 1
        assert [event.updated_at for event in phases] == sorted(event.updated_at for event in phases)
        assert phases[-1].ended_at == phases[-1].updated_at
        assert all(event.ended_at is None for event in phases[:-1])
