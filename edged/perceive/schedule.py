"""Which model runs next on what: by priority, then by age. A simple schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edged.wire.clock import now_ns
from edged.wire.feed import Inbox, Policy
from edged.wire.pool import Lease
from edged.wire.records import EndOfSource

Priority = Literal["critical", "high", "normal", "low"]
URGENCY: Mapping[str, int] = {"critical": 0, "high": 1, "normal": 2, "low": 3}


@dataclass(frozen=True, slots=True)
class Work:
    """One thing that a model is to look at, or the end of a source. Whoever takes it releases it."""

    model: str
    source: str
    item: Lease | EndOfSource


@dataclass(slots=True)
class Subscription:
    """A model reads a source."""

    model: str
    source: str
    policy: Policy
    priority: Priority = "normal"
    budget_ms: float | None = None
    inbox: Inbox = field(init=False)

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.policy)


class Schedule:
    """What waits, and which of it is next."""

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self._subscriptions = subscriptions
        self.drops: dict[str, Counter[str]] = {one.source: Counter() for one in subscriptions}
        """By source and reason."""

    def put(self, item: Lease | EndOfSource) -> None:
        """Takes over `item` for every model that reads its source."""
        source = item.descriptor.source if isinstance(item, Lease) else item.source
        for one in self._subscriptions:
            if one.source == source:
                held = item.share() if isinstance(item, Lease) else item
                self.drops[source]["superseded"] += one.inbox.put(held)
        if isinstance(item, Lease):
            item.release()

    def next(self) -> Work | None:
        """The most urgent work, or None. What is over its budget by now is dropped."""
        while True:
            waiting = [(one, item) for one in self._subscriptions if (item := one.inbox.peek())]
            if not waiting:
                return None
            one, _ = min(waiting, key=lambda pair: (URGENCY[pair[0].priority], _captured_ns(pair[1])))
            item = one.inbox.take()
            if isinstance(item, Lease) and one.budget_ms is not None:
                age_ms = (now_ns() - item.descriptor.captured_ns) / 1e6
                if age_ms > one.budget_ms:
                    item.release()
                    self.drops[one.source]["expired"] += 1
                    continue
            return Work(one.model, one.source, item)


def _captured_ns(item: Lease | EndOfSource) -> int:
    return item.descriptor.captured_ns if isinstance(item, Lease) else 0
