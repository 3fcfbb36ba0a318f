"""No slot is ever read after it was reused, whatever the order of release, death and restart."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from edged.wire.channel import Channel, Closed
from edged.wire.feed import FeedReader, FeedWriter
from edged.wire.pool import (
    HEADER_BYTES,
    MAX_POOL_BYTES,
    Lease,
    Pool,
    PoolError,
    PoolReader,
    StaleSlotError,
    layout,
)
from edged.wire.records import Descriptor, Layout, Release

SLOTS = 3
VIEWS: dict[str, Any] = {"picture": ((4, 4), np.uint8), "sound": ((8,), np.float32)}


def form(generation: int = 1, slots: int = SLOTS) -> Layout:
    return layout("cam", "video", generation, slots, VIEWS)


def descriptor(slot: int, sequence: int, generation: int = 1) -> Descriptor:
    return Descriptor("cam", generation, slot, sequence, 0, 0, 0, 0, True, None, None, (4, 4))


class _Reader:
    """A reader process: its feed, and what it holds with the value that it expects there."""

    def __init__(self, pools: dict[str, Pool]) -> None:
        ours, theirs = Channel.pair()
        self.writer = FeedWriter(ours, pools)
        self.feed = FeedReader(theirs)
        self.feed.receive()  # the layout
        self.held: list[tuple[Lease, int]] = []

    def close(self) -> None:
        self.held.clear()
        self.feed.close()
        self.writer.close()


class PoolMachine(RuleBasedStateMachine):
    """One writer that dies and comes back, and readers that come, read, release and die at will."""

    readers: Bundle[_Reader] = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.generation = 0
        self.sequence = 0
        self.value = 0
        self.alive: list[_Reader] = []
        self.all: list[_Reader] = []
        self.start_writer()

    def start_writer(self) -> None:
        self.generation += 1
        self.sequence = 0
        self.pool = Pool(form(self.generation))
        self.pools = {"cam": self.pool}

    @rule(target=readers)
    def reader_comes(self) -> _Reader:
        reader = _Reader(self.pools)
        self.alive.append(reader)
        self.all.append(reader)
        return reader

    @rule()
    def write(self) -> None:
        """One frame to every reader that is there, or a drop where all slots are lent."""
        current = [reader for reader in self.alive if reader.writer.open]
        for reader in current:
            reader.writer.credits()
        current = [reader for reader in current if reader.writer.open]
        slot = self.pool.acquire()
        lent = {lease.descriptor.slot for r in current for lease, _ in r.held if self._is_current(lease)}
        if slot is None:
            return
        assert slot not in lent, "a slot that somebody reads was handed out for writing"
        self.value = self.value % 250 + 1
        self.sequence += 1
        for view in self.pool.views(slot).values():
            view[:] = self.value
        if not current:
            self.pool.abandon(slot)
            return
        self.pool.lend(slot, self.sequence, [reader.writer for reader in current])
        for reader in current:
            assert reader.writer.send(descriptor(slot, self.sequence, self.generation))
            lease = reader.feed.receive()
            assert isinstance(lease, Lease)
            reader.held.append((lease, self.value))

    @rule(reader=readers, which=st.integers(0, SLOTS))
    def reader_releases(self, reader: _Reader, which: int) -> None:
        if which < len(reader.held):
            lease, _ = reader.held.pop(which)
            lease.release()
            with pytest.raises(PoolError):
                lease.release()
            with pytest.raises(PoolError):
                lease.view("picture")

    @rule(reader=consumes(readers))
    def reader_dies(self, reader: _Reader) -> None:
        """Without a word: its end of the socket closes, and it reads nothing any more."""
        reader.held.clear()
        reader.feed.close()
        self.alive.remove(reader)

    @rule()
    def writer_dies_and_comes_back(self) -> None:
        """Readers keep what they hold, from the old memory; the new writer knows nothing of it."""
        for reader in self.alive:
            reader.writer.channel.close()
        self.pool.close()
        self.start_writer()

    @precondition(lambda self: self.alive)
    @rule()
    def reader_sees_the_writer_gone(self) -> None:
        for reader in self.alive:
            if reader.writer.channel.fileno() < 0:
                with pytest.raises(Closed):
                    reader.feed.receive()

    @invariant()
    def what_is_held_is_unchanged(self) -> None:
        for reader in self.alive:
            for lease, value in reader.held:
                assert (lease.view("picture") == value).all()
                assert (lease.view("sound") == value).all()

    @invariant()
    def no_slot_is_lost(self) -> None:
        for reader in self.alive:
            if reader.writer.channel.fileno() >= 0:
                reader.writer.credits()
        held = {lease.descriptor.slot for r in self.alive for lease, _ in r.held if self._is_current(lease)}
        dead = [reader for reader in self.alive if not reader.writer.open]
        if not dead:
            # Slots of readers that died are free once their sockets were looked at.
            assert self.pool.free <= SLOTS - len(held)

    def _is_current(self, lease: Lease) -> bool:
        return lease.descriptor.generation == self.generation

    def teardown(self) -> None:
        for reader in self.all:
            reader.close()
        self.pool.close()


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_slots_of_a_dead_reader_are_free_again() -> None:
    pool = Pool(form())
    reader = _Reader({"cam": pool})
    for sequence in range(1, SLOTS + 1):
        slot = pool.acquire()
        assert slot is not None
        pool.lend(slot, sequence, [reader.writer])
    assert pool.acquire() is None
    reader.feed.close()
    reader.writer.credits()
    assert not reader.writer.open
    assert pool.free == SLOTS
    pool.close()


def test_one_slow_reader_keeps_a_slot_that_the_other_released() -> None:
    pool = Pool(form())
    slot = pool.acquire()
    assert slot is not None
    pool.lend(slot, 1, ["fast", "slow"])
    credit = Release("cam", 1, slot, 1)
    pool.release("fast", credit)
    assert pool.free == SLOTS - 1
    pool.release("slow", credit)
    assert pool.free == SLOTS


@pytest.mark.parametrize(
    "credit",
    [
        pytest.param(Release("cam", 1, 0, 2), id="another sequence"),
        pytest.param(Release("cam", 2, 0, 1), id="another generation"),
        pytest.param(Release("cam", 1, 1, 1), id="a free slot"),
        pytest.param(Release("cam", 1, 99, 1), id="no slot"),
    ],
)
def test_a_false_credit_is_refused_and_frees_nothing(credit: Release) -> None:
    pool = Pool(form())
    slot = pool.acquire()
    assert slot == 0
    pool.lend(slot, 1, ["reader"])
    with pytest.raises(PoolError):
        pool.release("reader", credit)
    with pytest.raises(PoolError):
        pool.release("stranger", Release("cam", 1, 0, 1))
    assert pool.free == SLOTS - 1


def test_a_credit_counts_once() -> None:
    pool = Pool(form())
    slot = pool.acquire()
    assert slot is not None
    pool.lend(slot, 1, ["reader"])
    pool.release("reader", Release("cam", 1, slot, 1))
    with pytest.raises(PoolError):
        pool.release("reader", Release("cam", 1, slot, 1))
    assert pool.free == SLOTS


def test_a_stale_descriptor_is_never_read() -> None:
    pool = Pool(form())
    reader = PoolReader(pool.layout, os.dup(pool.fd))
    slot = pool.acquire()
    assert slot is not None
    with pytest.raises(StaleSlotError):  # while it is written
        reader.views(descriptor(slot, 1))
    pool.lend(slot, 2, ["reader"])
    assert reader.views(descriptor(slot, 2))
    for stale in (descriptor(slot, 1), descriptor(slot, 2, generation=2), descriptor(SLOTS, 2)):
        with pytest.raises(StaleSlotError):
            reader.views(stale)
    pool.release("reader", Release("cam", 1, slot, 2))
    while pool.acquire() != slot:
        pass
    with pytest.raises(StaleSlotError):  # while it is written again
        reader.views(descriptor(slot, 2))


def test_a_shared_lease_gives_its_credit_when_the_last_holder_releases() -> None:
    given: list[Descriptor] = []

    class Lender:
        def give_back(self, descriptor: Descriptor) -> None:
            given.append(descriptor)

    lease = Lease(Lender(), descriptor(0, 1), {"picture": np.zeros(1)})
    with lease, lease.share():
        assert lease.view("picture").size == 1
    assert given == [descriptor(0, 1)]
    with pytest.raises(PoolError):
        lease.share()


def test_readers_cannot_write_and_views_do_not_overlap() -> None:
    pool = Pool(form())
    reader = PoolReader(pool.layout, os.dup(pool.fd))
    slot = pool.acquire()
    assert slot is not None
    views = pool.views(slot)
    views["picture"][:] = 7
    views["sound"][:] = 0.5
    pool.lend(slot, 1, ["reader"])
    seen = reader.views(descriptor(slot, 1))
    assert (seen["picture"] == 7).all()
    assert (seen["sound"] == 0.5).all()
    with pytest.raises(ValueError, match="read-only"):
        seen["picture"][0] = 1
    assert all(view.offset_bytes % HEADER_BYTES == 0 for view in pool.layout.views)


def test_a_lying_layout_is_refused() -> None:
    pool = Pool(form())
    with pytest.raises(PoolError):
        PoolReader(form(slots=SLOTS + 1), os.dup(pool.fd))
    with pytest.raises(PoolError):
        layout("cam", "video", 1, MAX_POOL_BYTES // 1024, {"large": ((4096,), np.uint8)})


def test_the_memory_cannot_be_cut_off_under_a_reader() -> None:
    pool = Pool(form())
    with pytest.raises(PermissionError):
        os.ftruncate(pool.fd, 0)


def test_no_descriptor_is_left_behind() -> None:
    def run() -> int:
        pool = Pool(form())
        reader = _Reader({"cam": pool})
        reader.close()
        pool.close()
        del pool, reader
        gc.collect()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, not paths

    first = run()
    assert [run() for _ in range(5)] == [first] * 5
