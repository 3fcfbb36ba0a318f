"""Policies, ends and broken peers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edged.wire.channel import MAX_PACKET_BYTES, Channel, Closed
from edged.wire.feed import FeedReader, FeedWriter, Inbox
from edged.wire.pool import Lease, Pool, PoolError
from edged.wire.records import Beat, EndOfSource, Release, Setup
from tests.wire.test_pool import descriptor, form


def lend(pool: Pool, writer: FeedWriter, reader: FeedReader, sequence: int) -> Lease:
    slot = pool.acquire()
    assert slot is not None
    pool.lend(slot, sequence, [writer])
    assert writer.send(descriptor(slot, sequence))
    lease = reader.receive()
    assert isinstance(lease, Lease)
    return lease


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def ends(pair: tuple[Channel, Channel]) -> tuple[Pool, FeedWriter, FeedReader]:
    pool = Pool(form())
    return pool, FeedWriter(pair[0], {"cam": pool}), FeedReader(pair[1])


def test_newest_releases_the_older_unread(ends: tuple[Pool, FeedWriter, FeedReader]) -> None:
    pool, writer, reader = ends
    inbox = Inbox("newest")
    assert [inbox.put(lend(pool, writer, reader, n)) for n in (1, 2, 3)] == [False, True, True]
    writer.credits()
    assert pool.free == pool.layout.slots - 1
    left = inbox.take()
    assert isinstance(left, Lease)
    assert left.descriptor.sequence == 3
    assert inbox.peek() is None


def test_every_keeps_all_in_order(ends: tuple[Pool, FeedWriter, FeedReader]) -> None:
    pool, writer, reader = ends
    inbox = Inbox("every")
    assert not any(inbox.put(lend(pool, writer, reader, n)) for n in (1, 2, 3))
    taken = [inbox.take() for _ in range(3)]
    assert [lease.descriptor.sequence for lease in taken if isinstance(lease, Lease)] == [1, 2, 3]


@pytest.mark.parametrize("policy", ["newest", "every"])
def test_the_end_comes_after_the_last_frame(policy: str, ends: tuple[Pool, FeedWriter, FeedReader]) -> None:
    pool, writer, reader = ends
    inbox = Inbox("newest" if policy == "newest" else "every")
    inbox.put(lend(pool, writer, reader, 1))
    assert writer.send(EndOfSource("cam"))
    end = reader.receive()
    assert end == EndOfSource("cam")
    assert not inbox.put(end)
    assert isinstance(inbox.take(), Lease)
    assert inbox.take() == end


def test_a_reader_can_finish_what_it_holds_after_the_writer_died(
    ends: tuple[Pool, FeedWriter, FeedReader],
) -> None:
    pool, writer, reader = ends
    lease = lend(pool, writer, reader, 1)
    writer.close()
    pool.close()
    with pytest.raises(Closed):
        reader.receive()
    assert lease.view("picture").shape == (4, 4)
    lease.release()  # nobody is there for the credit, and that is no error


def test_a_writer_sends_nothing_to_a_reader_that_died(
    ends: tuple[Pool, FeedWriter, FeedReader],
) -> None:
    _, writer, reader = ends
    reader.close()
    assert not writer.send(EndOfSource("cam"))
    assert not writer.open
    assert not writer.send(EndOfSource("cam"))


def test_records_that_have_no_place_in_a_feed_are_refused(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    reader = FeedReader(theirs)
    ours.send(Beat())
    with pytest.raises(PoolError):
        reader.receive()


def test_a_descriptor_of_an_unknown_pool_is_refused(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    reader = FeedReader(theirs)
    ours.send(descriptor(0, 1))
    with pytest.raises(PoolError):
        reader.receive()


def test_a_full_socket_says_so_instead_of_blocking(pair: tuple[Channel, Channel]) -> None:
    ours, _ = pair
    sent = 0
    while ours.send(Release("cam", 1, 0, sent)):
        sent += 1
        assert sent < 100_000
    assert sent >= 256, "a socket has to hold more credits than the largest pool has slots"
    assert not ours.send(Release("cam", 1, 0, sent), timeout_s=0.01)


def test_a_record_that_is_too_large_is_the_senders_error(pair: tuple[Channel, Channel]) -> None:
    ours, _ = pair
    with pytest.raises(ValueError, match="bytes"):
        ours.send(Setup(bytes(MAX_PACKET_BYTES + 1)))


def test_a_frame_does_not_supersede_an_end(ends: tuple[Pool, FeedWriter, FeedReader]) -> None:
    pool, writer, reader = ends
    inbox = Inbox("newest")
    inbox.put(EndOfSource("cam"))
    assert not inbox.put(lend(pool, writer, reader, 1))
    assert inbox.take() == EndOfSource("cam")
