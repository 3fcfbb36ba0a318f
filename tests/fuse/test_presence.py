"""When the evidence of one modality was there: hysteresis, gaps, and what is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.fuse.presence import MAX_INTERVALS, Presence
from edged.wire.clock import SECOND_NS
from edged.wire.records import Detection, Observations
from tests.fuse.looks import CAM, MIC, TRACE, look

PERIOD_NS = SECOND_NS
OTHER = ("cam", "faces")


def presence(*labels: str) -> Presence:
    return Presence(frozenset(labels or {"person"}), 0.5, 0.3)


def spans(one: Presence) -> list[tuple[float, float]]:
    """The intervals in seconds."""
    return [(found.start_ns / SECOND_NS, found.last_ns / SECOND_NS) for found in one.intervals]


def watch(one: Presence, *scores: float, start_s: float = 0.0) -> Presence:
    """Looks once a second."""
    for place, score in enumerate(scores):
        one.observe(look(start_s + place, score), PERIOD_NS)
    return one


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ([0.0, 0.0], []),
        ([0.49, 0.49], []),
        ([0.5], [(0, 0)]),
        ([0.0, 0.5, 0.3, 0.3, 0.0], [(1, 3)]),
        ([0.5, 0.29, 0.4, 0.5], [(0, 0), (3, 3)]),
        ([0.4, 0.9, 0.4], [(1, 2)]),
        ([0.9, 0.0, 0.9, 0.9], [(0, 0), (2, 3)]),
    ],
)
def test_it_begins_at_one_score_and_goes_on_down_to_another(
    scores: list[float], found: list[tuple[float, float]]
) -> None:
    assert spans(watch(presence(), *scores)) == found


@pytest.mark.parametrize(("gap_s", "whole"), [(1, True), (3, True), (3.001, False), (60, False)])
def test_what_was_lost_between_is_bridged_for_three_looks(gap_s: float, whole: bool) -> None:
    one = watch(presence(), 0.9)
    one.observe(look(gap_s, 0.9), PERIOD_NS)
    assert spans(one) == ([(0, gap_s)] if whole else [(0, 0), (gap_s, gap_s)])


def test_after_a_longer_loss_it_has_to_begin_anew() -> None:
    one = watch(presence(), 0.9)
    one.observe(look(10, 0.4), PERIOD_NS)
    assert spans(one) == [(0, 0)]


def test_a_long_window_bridges_more_than_a_short_period() -> None:
    one = presence("speech")
    for at_s in (0, 2.5, 5):
        one.observe(look(at_s, 0.9, MIC, span_s=1), SECOND_NS // 2)
    assert spans(one) == [(0, 5)]


def test_it_holds_until_the_next_look_or_the_window_s_end() -> None:
    one, other = watch(presence(), 0.9), presence("speech")
    other.observe(look(0, 0.9, MIC, span_s=0.25), PERIOD_NS)
    assert one.intervals[0].reach_ns == PERIOD_NS
    assert other.intervals[0].reach_ns == SECOND_NS // 4


def test_only_its_labels_count_and_the_best_of_them() -> None:
    one = presence("person", "dog")
    found = (Detection("cat", 0.99), Detection("dog", 0.6), Detection("person", 0.7), Detection("dog", 0.8))
    one.observe(Observations("cam", "people", "video", 5, 0, found, TRACE), PERIOD_NS)
    (interval,) = one.intervals
    assert interval.latest.detection == Detection("dog", 0.8)
    assert interval.latest.observed.stamp_ns == 5


def test_the_latest_sighting_is_kept() -> None:
    (interval,) = watch(presence(), 0.6, 0.9, 0.7).intervals
    latest = interval.latest
    assert (latest.detection.score, latest.observed.stamp_ns) == (0.7, 2 * SECOND_NS)


def test_each_model_has_intervals_of_its_own() -> None:
    one = presence()
    for at_s in range(4):
        one.observe(look(at_s, 0.9, CAM), PERIOD_NS)
        one.observe(look(at_s + 0.5, 0.9 if at_s % 2 else 0.0, OTHER), PERIOD_NS)
    assert spans(one) == [(0, 3), (1.5, 1.5), (3.5, 3.5)]


def test_forgetting_drops_what_is_over_and_keeps_what_goes_on() -> None:
    one = presence()
    one.observe(look(0, 0.9, CAM), PERIOD_NS)
    for at_s in range(6):
        one.observe(look(at_s, 0.9 if at_s in (1, 4) else 0.0, OTHER), PERIOD_NS)
    assert spans(one) == [(0, 0), (1, 1), (4, 4)]
    one.forget_before(2 * SECOND_NS)
    assert len(one.intervals) == 3, "they hold for a second more"
    one.forget_before(2 * SECOND_NS + 1)
    assert spans(one) == [(0, 0), (4, 4)], "the first still runs, as far as is known"
    one.observe(look(3, 0.4, CAM), PERIOD_NS)
    assert spans(one) == [(0, 3), (4, 4)]
    one.observe(look(4, 0.0, CAM), PERIOD_NS)
    one.forget_before(9 * SECOND_NS)
    assert spans(one) == []


def test_memory_is_bounded() -> None:
    one = watch(presence(), *[0.9, 0.0] * (2 * MAX_INTERVALS))
    assert len(one.intervals) == MAX_INTERVALS
    assert spans(one)[-1] == (4 * MAX_INTERVALS - 2,) * 2


@given(
    st.lists(st.tuples(st.sampled_from([0.2, 0.4, 1, 3, 4]), st.sampled_from([0.0, 0.2, 0.3, 0.4, 0.5, 0.9])))
)
def test_intervals_are_apart_and_supported(steps: list[tuple[float, float]]) -> None:
    one, at_s, seen = presence(), 0.0, {}
    for step_s, score in steps:
        at_s += step_s
        seen[look(at_s, score).stamp_ns] = score
        one.observe(look(at_s, score), PERIOD_NS)
    before = -1
    for interval in one.intervals:
        assert before < interval.start_ns <= interval.last_ns
        before = interval.last_ns
        assert seen[interval.start_ns] >= 0.5
        inside = [score for stamp, score in seen.items() if interval.start_ns <= stamp <= interval.last_ns]
        assert min(inside) >= 0.3
        assert interval.latest.detection.score == seen[interval.last_ns]
    covered = [(interval.start_ns, interval.last_ns) for interval in one.intervals]
    for stamp, score in seen.items():
        assert score < 0.5 or any(start <= stamp <= last for start, last in covered[-MAX_INTERVALS:])
