"""A feed carries descriptors from one capture process to one reader, and credits back.

The reader names its policy: `newest` (older frames are released unread, and counted) or `every`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Literal

from edged.wire.channel import Channel, Closed
from edged.wire.pool import Lease, Pool, PoolError, PoolReader
from edged.wire.records import Descriptor, EndOfSource, Layout, Release

Policy = Literal["newest", "every"]


class FeedWriter:
    """The capture process's end towards one reader."""

    def __init__(self, channel: Channel, pools: Mapping[str, Pool]) -> None:
        """Introduces the pools to the reader.

        Raises:
            Closed: the reader is gone.
        """
        self.channel = channel
        self._pools = pools
        self.open = True
        for pool in pools.values():
            channel.send(pool.layout, (pool.fd,), timeout_s=1.0)

    def send(self, message: Descriptor | EndOfSource, *, timeout_s: float = 0.0) -> bool:
        """Sends without waiting unless told to; False when the reader is gone or has no room."""
        try:
            return self.open and self.channel.send(message, timeout_s=timeout_s)
        except Closed:
            self.close()
            return False

    def credits(self) -> None:
        """Takes in the slots that the reader has released.

        Raises:
            PoolError: the reader released what it did not hold.
        """
        try:
            while self.open and (packet := self.channel.receive()):
                if isinstance(packet[0], Release) and (pool := self._pools.get(packet[0].source)):
                    pool.release(self, packet[0])
        except Closed:
            self.close()

    def close(self) -> None:
        """The reader is gone, or is to go: what it held is free."""
        if self.open:
            self.open = False
            self.channel.close()
            for pool in self._pools.values():
                pool.forget(self)


class FeedReader:
    """A reader's end: maps the pools and hands out leases."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._pools: dict[str, PoolReader] = {}

    def receive(self) -> Lease | EndOfSource | None:
        """The next thing that has come, or None. What is leased has to be released.

        Raises:
            Closed: the writer is gone; leases that are held stay readable.
            PoolError: the writer broke the rules.
        """
        while packet := self.channel.receive():
            message, fds = packet
            if isinstance(message, Layout) and len(fds) == 1:
                self._pools[message.source] = PoolReader(message, fds[0])
            elif isinstance(message, EndOfSource):
                return message
            elif isinstance(message, Descriptor) and (pool := self._pools.get(message.source)):
                return Lease(self, message, pool.views(message))
            else:
                raise PoolError(f"{type(message).__name__} has no place in a feed")
        return None

    def give_back(self, descriptor: Descriptor) -> None:
        """Sends the credit; a writer that is gone needs none."""
        credit = Release(descriptor.source, descriptor.generation, descriptor.slot, descriptor.sequence)
        # A writer takes in its credits with each frame, and a socket holds more of them than a pool
        # has slots: no room for a second means that it is stuck, and will be replaced.
        with contextlib.suppress(Closed):
            self.channel.send(credit, timeout_s=1.0)

    def close(self) -> None:
        """Ends the feed; the writer takes back all that was lent."""
        self.channel.close()


class Inbox:
    """What one model still has to read of one source, by its policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._waiting: deque[Lease | EndOfSource] = deque()

    def put(self, item: Lease | EndOfSource) -> bool:
        """Takes over a hold; True when an older frame was released unread for it."""
        older = self._waiting[-1] if self._waiting else None
        superseded = self._policy == "newest" and isinstance(item, Lease) and isinstance(older, Lease)
        if superseded and isinstance(older, Lease):
            self._waiting.pop()
            older.release()
        self._waiting.append(item)
        return superseded

    def peek(self) -> Lease | EndOfSource | None:
        """The next item, left where it is."""
        return self._waiting[0] if self._waiting else None

    def take(self) -> Lease | EndOfSource:
        """The next item, with its hold."""
        return self._waiting.popleft()
