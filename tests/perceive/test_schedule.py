"""What runs next: by priority, then by age; what is dropped is counted; every lease is given back once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.perceive.schedule import Priority, Schedule, Subscription
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.feed import Policy
from edged.wire.pool import Lease, PoolError
from edged.wire.records import EndOfSource
from edged.wire.views import CHUNK_SAMPLES
from tests.perceive.lend import SLOTS, Lender

SILENCE = np.zeros(CHUNK_SAMPLES, np.float32)
SOURCES = ("hall", "yard")


@contextmanager
def lenders() -> Iterator[dict[str, Lender]]:
    """One for each source."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Lender(name, "audio")) for name in SOURCES}


def captured(lender: Lender, captured_ns: int = 0) -> Lease:
    """Something that was captured at a moment."""
    return lender.sound(0, SILENCE, captured_ns=captured_ns)


def taken(schedule: Schedule) -> list[tuple[str, str, int]]:
    """The models, sources and capture stamps in the order of the schedule, to the end; −1 for an end."""
    order = []
    while work := schedule.next():
        if isinstance(work.item, EndOfSource):
            order.append((work.model, work.source, -1))
        else:
            with work.item as lease:
                order.append((work.model, work.source, lease.descriptor.captured_ns))
    return order


def test_nothing_waits() -> None:
    assert Schedule([Subscription("a", "hall", "every")]).next() is None
    assert Schedule([]).next() is None


def test_the_more_urgent_model_runs_first() -> None:
    urgencies: list[Priority] = ["low", "critical", "normal", "high"]
    schedule = Schedule([Subscription(one, "hall", "every", one) for one in urgencies])
    with lenders() as lend:
        schedule.put(captured(lend["hall"], 1))
        schedule.put(captured(lend["hall"], 2))
        order = taken(schedule)
    assert order == [
        (one, "hall", stamp) for one in ("critical", "high", "normal", "low") for stamp in (1, 2)
    ]


def test_of_equal_urgency_the_older_runs_first() -> None:
    schedule = Schedule([Subscription("a", "hall", "every"), Subscription("b", "yard", "every")])
    with lenders() as lend:
        for source, stamp in (("yard", 30), ("hall", 20), ("yard", 40), ("hall", 50)):
            schedule.put(captured(lend[source], stamp))
        order = taken(schedule)
    assert order == [("a", "hall", 20), ("b", "yard", 30), ("b", "yard", 40), ("a", "hall", 50)]


def test_an_urgent_model_goes_before_an_older_frame() -> None:
    schedule = Schedule([Subscription("a", "hall", "every"), Subscription("b", "yard", "every", "high")])
    with lenders() as lend:
        schedule.put(captured(lend["hall"], 1))
        schedule.put(captured(lend["yard"], 2))
        assert taken(schedule) == [("b", "yard", 2), ("a", "hall", 1)]


def test_the_newest_supersedes_and_is_counted() -> None:
    schedule = Schedule([Subscription("a", "hall", "newest"), Subscription("b", "hall", "every", "low")])
    with lenders() as lend:
        for stamp in (1, 2, 3):
            schedule.put(captured(lend["hall"], stamp))
        assert schedule.drops == {"hall": {"superseded": 2}}
        assert lend["hall"].lent == 3, "the other model still wants all of them"
        assert taken(schedule) == [("a", "hall", 3), ("b", "hall", 1), ("b", "hall", 2), ("b", "hall", 3)]
        assert lend["hall"].lent == 0
    assert schedule.drops == {"hall": {"superseded": 2}}


def test_what_is_superseded_goes_back_at_once() -> None:
    schedule = Schedule([Subscription("a", "hall", "newest")])
    with lenders() as lend:
        for stamp in range(1, 3 * SLOTS):  # more than there are slots
            schedule.put(captured(lend["hall"], stamp))
            assert lend["hall"].lent == 1
        assert taken(schedule) == [("a", "hall", 3 * SLOTS - 1)]


def test_what_is_over_its_budget_is_dropped_and_counted() -> None:
    now = now_ns()
    schedule = Schedule(
        [
            Subscription("patient", "hall", "every", "low"),
            Subscription("hasty", "hall", "every", "high", budget_ms=500),
        ]
    )
    with lenders() as lend:
        schedule.put(captured(lend["hall"], now - SECOND_NS))
        schedule.put(captured(lend["hall"], now + 60 * SECOND_NS))
        schedule.put(captured(lend["hall"], now - 2 * SECOND_NS))
        order = taken(schedule)
        assert lend["hall"].lent == 0
    assert [(model, stamp > now) for model, _, stamp in order] == [
        ("hasty", True),
        ("patient", False),
        ("patient", True),
        ("patient", False),
    ]
    assert schedule.drops["hall"]["expired"] == 2


def test_the_end_of_a_source_comes_after_its_frames_to_every_model() -> None:
    schedule = Schedule(
        [Subscription("a", "hall", "every"), Subscription("b", "hall", "every", budget_ms=9e9)]
    )
    with lenders() as lend:
        schedule.put(captured(lend["hall"], now_ns()))
        schedule.put(EndOfSource("hall"))
        order = taken(schedule)
    assert {(model, stamp == -1) for model, _, stamp in order} == {
        ("a", False),
        ("a", True),
        ("b", False),
        ("b", True),
    }
    for model in "ab":
        assert [stamp == -1 for name, _, stamp in order if name == model] == [False, True]


def test_what_nobody_reads_goes_back() -> None:
    schedule = Schedule([Subscription("a", "hall", "every")])
    with lenders() as lend:
        schedule.put(captured(lend["yard"]))
        schedule.put(EndOfSource("yard"))
        assert lend["yard"].lent == 0
    assert schedule.next() is None


subscriptions = st.lists(
    st.builds(
        Subscription,
        st.sampled_from(["people", "faces", "voice"]),
        st.sampled_from(SOURCES),
        st.sampled_from(list[Policy](["newest", "every"])),
        st.sampled_from(list[Priority](["critical", "high", "normal", "low"])),
        st.sampled_from([None, 1e-6, 1e9]),
    ),
    max_size=5,
    unique_by=lambda one: (one.model, one.source),
)
steps = st.lists(
    st.sampled_from(["take", "take", "end hall", "end yard", "hall", "hall", "yard", "yard"]), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(subscriptions, steps)
def test_every_lease_is_given_back_exactly_once(chosen: list[Subscription], order: list[str]) -> None:
    """Whatever comes and is taken in whatever order; the pool refuses a second credit for a slot."""
    schedule = Schedule(chosen)
    put = {(one.model, one.source): 0 for one in chosen}
    got = dict.fromkeys(put, 0)
    ended = set()
    with lenders() as lend:
        for step in order:
            if step == "take":
                work = schedule.next()
                if work and isinstance(work.item, Lease):
                    got[work.model, work.source] += 1
                    work.item.release()
            elif step in lend:
                if lend[step].lent < SLOTS and step not in ended:
                    schedule.put(captured(lend[step], now_ns()))
                    for model, source in put:
                        put[model, source] += source == step
            else:
                ended.add(step.removeprefix("end "))
                schedule.put(EndOfSource(step.removeprefix("end ")))
        for model, source, stamp in taken(schedule):
            got[model, source] += stamp != -1
        assert all(one.lent == 0 for one in lend.values())
    for source in SOURCES:
        dropped = sum(schedule.drops.get(source, {}).values())
        asked = sum(count for (_, read), count in put.items() if read == source)
        assert asked == dropped + sum(count for (_, read), count in got.items() if read == source)
    for one in chosen:
        if one.policy == "every" and one.budget_ms != 1e-6:
            assert got[one.model, one.source] == put[one.model, one.source], "nothing of it was dropped"


def test_the_pool_would_notice_a_second_credit() -> None:
    with lenders() as lend:
        lease = captured(lend["hall"])
        lease.release()
        with pytest.raises(PoolError, match="released twice"):
            lease.release()
