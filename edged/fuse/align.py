"""Brings observations of many feeds into the order of their stamps, for a replay.

A feed's own observations come in order, each later than the one before. What lies at or before the
slowest feed's progress (the watermark) can't be overtaken any more, and is let through.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import count

from edged.wire.records import EndOfSource, Observations

_END_NS = 1 << 62


class Aligner:
    """Waits for every feed that has not ended."""

    def __init__(self, feeds: Iterable[tuple[str, str]]) -> None:
        """`feeds`: (source, model) of each."""
        self._progress = dict.fromkeys(feeds, -_END_NS)
        self._waiting: list[tuple[int, str, str, int, Observations | EndOfSource]] = []
        self._count = count()

    def push(self, seen: Observations) -> Iterator[Observations | EndOfSource]:
        """Takes one in; those that are in order now."""
        feed = (seen.source, seen.model)
        if feed not in self._progress:
            raise KeyError(feed)
        # Source and model break ties, so that equal stamps have one order, too.
        heapq.heappush(self._waiting, (seen.stamp_ns, *feed, next(self._count), seen))
        self._progress[feed] = max(self._progress[feed], seen.stamp_ns)
        return self._ready()

    def end(self, end: EndOfSource) -> Iterator[Observations | EndOfSource]:
        """The feed brings nothing more. Its end has a place in the order, too: behind its last one."""
        feed = (end.source, end.model)
        heapq.heappush(self._waiting, (self._progress[feed], *feed, next(self._count), end))
        self._progress[feed] = _END_NS
        return self._ready()

    @property
    def ended(self) -> bool:
        """Whether every feed has."""
        return all(progress == _END_NS for progress in self._progress.values())

    def _ready(self) -> Iterator[Observations | EndOfSource]:
        watermark = min(self._progress.values(), default=_END_NS)
        while self._waiting and self._waiting[0][0] <= watermark:
            yield heapq.heappop(self._waiting)[-1]
