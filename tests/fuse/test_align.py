"""Observations of many feeds come out in the order of their stamps, whatever the interleaving."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.fuse.align import Aligner
from edged.fuse.presence import Feed
from edged.wire.records import EndOfSource, Observations
from tests.fuse.looks import CAM, MIC, look

MOTION: Feed = ("cam", "")
FEEDS = [CAM, MOTION, MIC]


def feed_of(seen: Observations) -> Feed:
    return seen.source, seen.model


def test_what_no_feed_can_overtake_comes_at_once() -> None:
    aligner = Aligner([CAM, MIC])
    first, second, third = look(1, 0.9), look(2, 0.9, MIC), look(3, 0.9)
    assert list(aligner.push(first)) == []
    assert list(aligner.push(second)) == [first]
    assert list(aligner.push(third)) == [second]
    assert list(aligner.end(EndOfSource(*CAM))) == []
    assert list(aligner.end(EndOfSource(*MIC))) == [EndOfSource(*MIC), third, EndOfSource(*CAM)]
    assert aligner.ended


def test_one_feed_waits_for_nobody() -> None:
    aligner = Aligner([CAM])
    assert [list(aligner.push(look(at_s, 0))) for at_s in (1, 2)] == [[look(1, 0)], [look(2, 0)]]


def test_an_ended_feed_is_not_waited_for() -> None:
    aligner = Aligner(FEEDS)
    for feed in (MIC, MOTION):
        assert list(aligner.end(EndOfSource(*feed))) == [EndOfSource(*feed)]
    assert not aligner.ended
    assert list(aligner.push(look(5, 0.9))) == [look(5, 0.9)]


def test_equal_stamps_have_one_order() -> None:
    """By source and model, whoever was first."""
    seen = [look(1, 0.9, feed) for feed in (MIC, CAM, MOTION)]
    for order in (seen, seen[::-1]):
        aligner = Aligner(FEEDS)
        out = [one for pushed in order for one in aligner.push(pushed)]
        assert [(one.source, one.model) for one in out] == [MOTION, CAM, MIC]


def test_a_feed_that_nobody_told_of_is_an_error() -> None:
    with pytest.raises(KeyError):
        list(Aligner([CAM]).push(look(1, 0.9, MIC)))


def test_no_feeds_have_ended() -> None:
    assert Aligner([]).ended


stamps = st.sets(st.integers(0, 30), max_size=15).map(sorted)


def run(feeds: dict[Feed, list[int]], order: list[Feed]) -> tuple[list[Observations], list[Observations]]:
    """What comes out, and what of it came before the feeds ended."""
    aligner = Aligner(feeds)
    left = {feed: iter([look(at, 0.9, feed) for at in all_]) for feed, all_ in feeds.items()}
    came = [one for feed in order for one in aligner.push(next(left[feed]))]
    flowing = [one for one in came if isinstance(one, Observations)]
    for feed in feeds:
        came += aligner.end(EndOfSource(*feed))
    assert aligner.ended
    for feed in feeds:
        end = came.index(EndOfSource(*feed))
        assert not any(isinstance(one, Observations) and feed_of(one) == feed for one in came[end:])
    return [one for one in came if isinstance(one, Observations)], flowing


@given(st.data(), st.tuples(stamps, stamps, stamps))
def test_the_order_is_that_of_the_stamps_and_the_same_for_any_interleaving(
    data: st.DataObject, times: tuple[list[int], list[int], list[int]]
) -> None:
    feeds = dict(zip(FEEDS, times, strict=True))
    turns = [feed for feed, all_ in feeds.items() for _ in all_]
    orders = [turns, turns[::-1], data.draw(st.permutations(turns))]
    results = [run(feeds, order) for order in orders]
    for out, flowing in results:
        assert out == results[0][0]
        assert len(out) == len(turns), "nothing is lost, nothing doubled"
        assert [one.stamp_ns for one in out] == sorted(one.stamp_ns for one in out)
        if all(times):
            slowest = min(all_[-1] for all_ in times)
            waited = [at for all_ in times for at in all_ if at > slowest]
            assert len(out) - len(flowing) == len(waited), "nothing else waits"
