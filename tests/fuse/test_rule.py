"""One rule at work: start at once, updates, the end with its last evidence; whatever the order."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.schema import EventRule
from edged.fuse.rule import Change, Rule
from edged.wire.clock import SECOND_NS
from edged.wire.records import Observations
from tests.fuse.looks import AUDIO, CAM, MIC, VIDEO, intervals, look, looks, observe, rule_of, told

# One modality.


def test_it_starts_at_once_and_ends_with_its_last_evidence() -> None:
    rule = rule_of(video=VIDEO, hold_s=1)
    assert told(rule.observe(look(0.0, 0.2))) == []
    assert told(rule.observe(look(0.2, 0.9))) == [("start", 0.2, 0.2)]
    assert told(observe(rule, looks(0.4, [0.9] * 4))) == []
    assert rule.on
    assert told(observe(rule, looks(1.2, [0.0] * 5))) == [], "the hold has not run out"
    assert told(rule.observe(look(2.2, 0.0))) == [("end", 0.2, 1.0)]
    assert not rule.on


def test_the_phases_of_an_event_are_numbered() -> None:
    rule = rule_of(video=VIDEO, hold_s=1)
    changes = observe(rule, looks(0, [0.5, 0.5, 0.5, 0.5, 0.5, 0.9, *[0.0] * 8] * 2))
    assert [(one.number, one.sequence, one.phase) for one in changes] == [
        (1, 1, "start"),
        (1, 2, "update"),
        (1, 3, "end"),
        (2, 1, "start"),
        (2, 2, "update"),
        (2, 3, "end"),
    ]


def test_hysteresis() -> None:
    rule = rule_of(video={**VIDEO, "release_score": 0.2}, hold_s=0.5)
    changes = observe(rule, looks(0, [0.49, 0.5, 0.2, 0.2, 0.19, 0.49, 0.49, 0.49, 0.49]))
    assert told(changes) == [("start", 0.2, 0.2), ("end", 0.2, 0.6)]


def test_the_release_score_is_seven_tenths_by_default() -> None:
    changes = observe(rule_of(video=VIDEO, hold_s=0), looks(0, [0.5, 0.36, 0.34, 0.34]))
    assert told(changes) == [("start", 0, 0), ("end", 0, 0.2)]


@pytest.mark.parametrize(
    ("gap_s", "events"),
    [(0.4, [(0, 0.4)]), (1.0, [(0, 1)]), (1.2, [(0, 0), (1.2, 1.2)]), (9, [(0, 0), (9, 9)])],
)
def test_the_hold_bridges_a_gap(gap_s: float, events: list[tuple[float, float]]) -> None:
    rule = rule_of(video=VIDEO, hold_s=1)
    blind = looks(0.2, [0.0] * (round(gap_s / 0.2) - 1))
    changes = [*observe(rule, [look(0, 0.9), *blind, look(gap_s, 0.9)]), *rule.close()]
    assert [(start / SECOND_NS, end / SECOND_NS) for start, end in intervals(changes)] == events


def test_a_score_that_rises_is_an_update_but_not_too_often() -> None:
    rule = rule_of(video=VIDEO)
    changes = observe(rule, looks(0, [0.5, 0.7, 0.55, 0.55, 0.55, 0.55, 0.75, 0.9, 0.9, 0.9, 0.95, 0.95]))
    assert told(changes) == [("start", 0, 0), ("update", 0, 1), ("update", 0, 2)]
    assert [one.score for one in changes] == [0.5, 0.7, 0.95]
    assert [one.sightings["video"].observed.stamp_ns / SECOND_NS for one in changes] == [0, 0.2, 2]


def test_a_score_that_falls_is_no_update() -> None:
    assert len(observe(rule_of(video=VIDEO), looks(0, [0.9] * 10 + [0.5] * 20))) == 1


def test_any_of_the_labels_will_do() -> None:
    rule = rule_of(video={**VIDEO, "label": ["person", "dog"]}, hold_s=1)
    seen = [look(0, 0.9, label="dog"), look(0.2, 0.9, label="person"), look(0.4, 0.9, label="cat")]
    assert told([*observe(rule, seen), *rule.close()]) == [("start", 0, 0), ("end", 0, 0.2)]


def test_the_cause_of_a_change_is_told() -> None:
    rule = rule_of(video=VIDEO, hold_s=0)
    seen = looks(0, [0.9, 0.0, 0.0])
    start, end = observe(rule, seen)
    assert (start.cause, end.cause) == (seen[0], seen[2])
    rule.observe(look(1, 0.9))
    assert [one.cause for one in rule.close()] == [None]


# Two modalities.


def test_all_needs_both() -> None:
    rule = rule_of(video=VIDEO, audio=AUDIO)
    assert observe(rule, looks(0, [0.9] * 5)) == []
    assert observe(rule, looks(0, [0.0] * 5, MIC)) == []
    assert told(observe(rule, looks(1, [0.9], MIC))) == [("start", 1, 1)]


def test_an_event_of_both_lasts_as_long_as_both() -> None:
    rule = rule_of(video=VIDEO, audio=AUDIO, hold_s=1)
    seen = looks(0, [0.9] * 20 + [0.0] * 20) + looks(2, [0.9] * 20 + [0.0] * 20, MIC)
    changes = observe(rule, sorted(seen, key=lambda one: one.stamp_ns))
    assert told(changes) == [("start", 2, 2), ("end", 2, 3.8)]
    assert {modality: one.detection.label for modality, one in changes[0].sightings.items()} == {
        "video": "person",
        "audio": "speech",
    }


def test_the_start_does_not_wait_for_the_slower_one() -> None:
    """Whichever of the two completes the evidence brings the start, and nobody else is waited for."""
    rule = rule_of(video=VIDEO, audio=AUDIO)
    observe(rule, looks(0, [0.9] * 20, MIC))  # far ahead
    assert told(rule.observe(look(0, 0.9))) == [("start", 0, 0)]


@pytest.mark.parametrize(
    ("within_s", "apart_s", "found"), [(0, 1, False), (0.5, 1, False), (1, 1, True), (5, 4, True)]
)
@pytest.mark.parametrize("first", [CAM, MIC])
def test_how_far_apart_the_evidences_may_lie(
    within_s: float, apart_s: float, found: bool, first: tuple[str, str]
) -> None:
    rule = rule_of(video=VIDEO, audio=AUDIO, within_s=within_s)
    second = MIC if first == CAM else CAM
    seen = looks(0, [0.9] + [0.0] * 40, first) + looks(0, [0.0] * 40, second)
    seen.append(look(apart_s + 0.2, 0.9, second))  # the first holds for a period
    seen.sort(key=lambda one: one.stamp_ns)
    changes = observe(rule, seen)
    assert [one.phase for one in changes[:1]] == (["start"] if found else [])
    if found:
        assert changes[0].started_ns == round((apart_s + 0.2) * SECOND_NS), "the later of the two"


def test_the_score_of_both_shows_the_weaker() -> None:
    rule = rule_of(video=VIDEO, audio=AUDIO)
    rule.observe(look(0, 0.9))
    (start,) = rule.observe(look(0, 0.6, MIC))
    assert start.score == pytest.approx((0.9 * 0.6) ** 0.5)


def test_any_needs_one_and_tells_when_the_other_joins() -> None:
    rule = rule_of(video=VIDEO, audio=AUDIO, combine="any", hold_s=1)
    assert told(rule.observe(look(0, 0.6))) == [("start", 0, 0)]
    (update,) = rule.observe(look(0.2, 0.9, MIC))
    assert (update.phase, update.score) == ("update", 0.9)
    assert update.sightings.keys() == {"video", "audio"}
    seen = looks(0.4, [0.9] * 10, MIC) + looks(0.4, [0.0] * 25) + looks(2.4, [0.0] * 15, MIC)
    assert told(observe(rule, sorted(seen, key=lambda one: one.stamp_ns))) == [
        ("end", 0, 2.2),
    ]


def test_of_any_a_dead_source_holds_up_nothing() -> None:
    """The camera is silent from the beginning: the microphone's events start, and end by `passed`."""
    rule = rule_of(video=VIDEO, audio=AUDIO, combine="any", hold_s=1)
    assert told(observe(rule, looks(0, [0.9, 0.0, 0.0], MIC))) == [("start", 0, 0)]
    changes = observe(rule, looks(5, [0.9, 0.0], MIC))
    assert told(changes) == [("end", 0, 0), ("start", 5, 5)], "a new one does not wait for the camera"
    assert told(rule.passed(7 * SECOND_NS)) == [("end", 5, 5)]


# The end.


def test_close_ends_what_is_open() -> None:
    rule = rule_of(video=VIDEO)
    observe(rule, looks(0, [0.9, 0.9]))
    assert told(rule.close()) == [("end", 0, 0.2)]
    assert rule.close() == []


def test_a_dead_source_s_event_ends_when_its_time_has_passed() -> None:
    rule = rule_of(video=VIDEO, hold_s=1)
    observe(rule, looks(0, [0.9, 0.9]))
    assert rule.passed(round(1.2 * SECOND_NS)) == [], "the hold has not run out"
    changes = rule.passed(round(1.2 * SECOND_NS) + 1)
    assert told(changes) == [("end", 0, 0.2)]
    assert changes[0].cause is None
    assert rule.passed(9 * SECOND_NS) == []


def test_a_source_that_looks_seldom_is_not_dead_between_its_looks() -> None:
    """Four looks, one each five seconds, at a hold of a second and a half: one event."""
    rule = rule_of(video=VIDEO, every_s=5)
    changes = []
    for tenth in range(200):
        if tenth % 50 == 0:
            changes += rule.observe(look(tenth / 10, 0.9))
        changes += rule.passed(round((tenth / 10 - 2) * SECOND_NS))
    assert told(changes) == [("start", 0, 0)]
    assert told(rule.passed(60 * SECOND_NS)) == [("end", 0, 15)]


def test_the_hold_is_not_shorter_than_between_two_looks_of_those_who_saw_it() -> None:
    """Nor than a window of sound is long; but a camera that looks seldom does not keep a sound alive."""
    rule = Rule(
        EventRule.model_validate({"video": VIDEO, "audio": AUDIO, "combine": "any", "hold_s": 0}),
        {"video": {CAM: 5 * SECOND_NS}, "audio": {MIC: SECOND_NS // 2}},
    )
    assert told(rule.observe(look(0, 0.9, MIC, span_s=0.975)))[0][0] == "start"
    assert rule.passed(round(0.975 * SECOND_NS)) == []
    assert told(rule.passed(round(0.976 * SECOND_NS))) == [("end", 0, 0)]
    assert told(rule.observe(look(10, 0.9)))[0][0] == "start"
    assert rule.passed(15 * SECOND_NS) == []
    assert told(rule.passed(15 * SECOND_NS + 1)) == [("end", 10, 10)]


def test_what_comes_after_its_event_was_given_up_begins_a_new_one() -> None:
    rule = rule_of(video=VIDEO, every_s=1, hold_s=1)
    observe(rule, looks(0, [0.9, 0.9], every_s=1))
    assert told(rule.passed(4 * SECOND_NS)) == [("end", 0, 1)]
    assert told(rule.observe(look(3.5, 0.9))) == [("start", 3.5, 3.5)], "late, and still of the same visit"


def test_a_feed_that_was_not_heard_of_keeps_an_event_open() -> None:
    """Its evidence may still come; only `passed` says that it will not."""
    rule = rule_of(video=VIDEO, audio=AUDIO, combine="any", hold_s=1)
    assert told(observe(rule, looks(0, [0.9, *[0.0] * 20]))) == [("start", 0, 0)]
    assert told(rule.observe(look(0.8, 0.9, MIC)))[0][0] == "update"
    assert told(rule.observe(look(5, 0.0, MIC))) == [("end", 0, 0.8)]


# Whatever the order.


@pytest.mark.parametrize("ahead", [CAM, MIC])
def test_the_feed_that_lags_may_come_from_either_side(ahead: tuple[str, str]) -> None:
    """Sound is there from 1.2 to 1.6 s and at 2.2 s; the camera looks at 1.5, 3.5 and 5.5 s."""
    rule = rule_of(video=VIDEO, audio=AUDIO, hold_s=0, every_s=2)
    seen = looks(1.5, [0.9, 0.9, 0.0], every_s=2) + looks(1.2, [0.9, 0.9, 0.9, 0.0, 0.0, 0.9, 0.0, 0.0], MIC)
    seen.sort(key=lambda one: (one.source, one.model) != ahead)
    changes = [*observe(rule, seen), *rule.close()]
    assert intervals(changes) == [(1_500_000_000, 2_200_000_000)]


SCORES = st.sampled_from([0.0, 0.2, 0.4, 0.4, 0.6, 0.9])
STEPS = st.sampled_from([1, 1, 1, 1, 2, 4])
HOLDS = st.sampled_from([0.0, 0.0, 0.3, 1.0, 3.0])
Feed = tuple[int, list[Observations]]


@st.composite
def feeds(draw: st.DrawFn, feed: tuple[str, str]) -> Feed:
    """The looks of one feed with losses, and its period in milliseconds."""
    period_ms = draw(st.sampled_from([200, 500, 2000]))
    span_s = draw(st.sampled_from([0.096, 0.975])) if feed == MIC else 0.0
    jitter_ms = draw(st.sampled_from([0, period_ms // 3]))
    at_ms = draw(st.integers(0, period_ms))
    seen = []
    for step, score in draw(st.lists(st.tuples(STEPS, SCORES), min_size=1, max_size=20)):
        at_ms += step * period_ms - (draw(st.integers(0, jitter_ms)) if jitter_ms else 0)
        seen.append(look(at_ms / 1000, score, feed, span_s=span_s))
    return period_ms, seen


def orders(count: int, other: int) -> st.SearchStrategy[list[bool]]:
    """Interleavings of two feeds."""
    return st.permutations([True] * count + [False] * other)


def run(settings_: EventRule, cam: Feed, mic: Feed, order: list[bool]) -> list[Change]:
    """The changes when the feeds' looks come in that order."""
    rule = Rule(settings_, {"video": {CAM: cam[0] * 1_000_000}, "audio": {MIC: mic[0] * 1_000_000}})
    left = {True: iter(cam[1]), False: iter(mic[1])}
    return [*observe(rule, [next(left[turn]) for turn in order]), *rule.close()]


@settings(max_examples=400, deadline=None)
@given(st.data(), feeds(CAM), feeds(MIC), HOLDS)
def test_any_interleaving_of_two_feeds_gives_the_same_events(
    data: st.DataObject, cam: Feed, mic: Feed, hold_s: float
) -> None:
    keys = {"video": VIDEO, "audio": AUDIO, "hold_s": hold_s}
    settings_ = EventRule.model_validate(keys)
    ahead = run(settings_, cam, mic, [True] * len(cam[1]) + [False] * len(mic[1]))
    behind = run(settings_, cam, mic, [False] * len(mic[1]) + [True] * len(cam[1]))
    mixed = run(settings_, cam, mic, data.draw(orders(len(cam[1]), len(mic[1]))))
    assert intervals(ahead) == intervals(behind) == intervals(mixed)


@settings(max_examples=200, deadline=None)
@given(st.data(), feeds(CAM), feeds(MIC), st.sampled_from([0.1, 0.5, 2.0]))
def test_so_it_does_where_the_hold_is_longer_than_evidences_may_lie_apart(
    data: st.DataObject, cam: Feed, mic: Feed, within_s: float
) -> None:
    hold_s = within_s + max(cam[0], mic[0], 975) / 1000
    settings_ = EventRule.model_validate(
        {"video": VIDEO, "audio": AUDIO, "hold_s": hold_s, "within_s": within_s}
    )
    ahead = run(settings_, cam, mic, [True] * len(cam[1]) + [False] * len(mic[1]))
    mixed = run(settings_, cam, mic, data.draw(orders(len(cam[1]), len(mic[1]))))
    assert intervals(ahead) == intervals(mixed)


@settings(max_examples=300, deadline=None)
@given(
    st.data(),
    feeds(CAM),
    feeds(MIC),
    HOLDS,
    st.sampled_from(["all", "any"]),
    st.sampled_from([0.0, 0.5, 5.0]),
)
def test_every_event_starts_once_ends_once_and_lies_after_the_one_before(
    data: st.DataObject, cam: Feed, mic: Feed, hold_s: float, combine: str, within_s: float
) -> None:
    """For any feeds, in any order, with time passing in between."""
    settings_ = EventRule.model_validate(
        {"video": VIDEO, "audio": AUDIO, "hold_s": hold_s, "combine": combine, "within_s": within_s}
    )
    rule = Rule(settings_, {"video": {CAM: cam[0] * 1_000_000}, "audio": {MIC: mic[0] * 1_000_000}})
    left = {True: iter(cam[1]), False: iter(mic[1])}
    changes: list[Change] = []
    for turn in data.draw(orders(len(cam[1]), len(mic[1]))):
        seen = next(left[turn])
        changes += rule.observe(seen)
        if data.draw(st.booleans()):
            changes += rule.passed(seen.stamp_ns - data.draw(st.sampled_from([0, SECOND_NS, 5 * SECOND_NS])))
    changes += rule.close()
    assert not rule.on
    phases = defaultdict(list)
    for one in changes:
        phases[one.number].append(one)
        assert one.started_ns <= one.last_ns
        assert 0.35 <= one.score <= 0.9
        assert len(one.sightings) == 2 or combine == "any"
    assert list(phases) == list(range(1, len(phases) + 1)), "they begin one after the other"
    for event in phases.values():
        assert [one.sequence for one in event] == list(range(1, len(event) + 1))
        kinds = [one.phase for one in event]
        assert kinds == ["start", *["update"] * (len(kinds) - 2), "end"]
        assert len({one.started_ns for one in event}) == 1, "a start is never taken back"
        assert [one.last_ns for one in event] == sorted(one.last_ns for one in event)
        assert [one.score for one in event] == sorted(one.score for one in event)
    for (_, ended_ns), (started_ns, _) in pairwise(intervals(changes)):
        assert ended_ns < started_ns


@settings(max_examples=200, deadline=None)
@given(feeds(CAM), HOLDS)
def test_one_feed_s_events_are_runs_of_evidence_without_a_gap_over_the_hold(cam: Feed, hold_s: float) -> None:
    """Against a plain computation over the whole recording."""
    period_ns = cam[0] * 1_000_000
    rule = Rule(EventRule.model_validate({"video": VIDEO, "hold_s": hold_s}), {"video": {CAM: period_ns}})
    found = intervals([*observe(rule, cam[1]), *rule.close()])
    expected: list[list[int]] = []
    last_ns, running = -(1 << 62), False
    for seen in cam[1]:
        score = max((one.score for one in seen.detections), default=0)
        running = running and seen.stamp_ns - last_ns <= 3 * period_ns
        if score < (0.35 if running else 0.5):
            running = False
            continue
        if expected and (running or seen.stamp_ns - last_ns <= max(hold_s * SECOND_NS, period_ns)):
            expected[-1][1] = seen.stamp_ns
        else:
            expected.append([seen.stamp_ns, seen.stamp_ns])
        last_ns, running = seen.stamp_ns, True
    assert found == [tuple(one) for one in expected]


def test_a_feed_that_ended_is_not_waited_for() -> None:
    rule = rule_of(video=VIDEO, audio=AUDIO, combine="any")
    observe(rule, looks(0, [0.9, 0.9, 0.0]))
    assert rule.on
    changes = [change for feed in (CAM, MIC) for change in rule.ended(feed)]
    assert [change.phase for change in changes] == ["end"]
    assert not rule.on
