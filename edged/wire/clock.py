"""Two clocks: the monotonic one that stamps everything, and the wall clock that people read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

SECOND_NS = 1_000_000_000


def now_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds: one clock for all processes of a machine, never set back."""
    return time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class WallClock:
    """Turns stamps into times that people read."""

    epoch_ns: int
    """Unix time in nanoseconds at stamp 0."""

    @classmethod
    def live(cls) -> WallClock:
        """The machine's wall clock as it is now."""
        return cls(time.time_ns() - time.monotonic_ns())

    @classmethod
    def replay(cls) -> WallClock:
        """A recording begins at 1970-01-01T00:00:00Z, so that a time reads as a position in it."""
        return cls(0)

    def rfc3339(self, stamp_ns: int) -> str:
        """The stamp as RFC 3339 in UTC with microseconds."""
        moment = datetime.fromtimestamp((self.epoch_ns + stamp_ns) // 1000 / 1e6, tz=timezone.utc)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def stamp_ns(self, time_text: str) -> int:
        """The stamp of a time that `rfc3339` made, to a microsecond."""
        moment = datetime.fromisoformat(time_text.replace("Z", "+00:00"))
        return (moment - _UNIX) // timedelta(microseconds=1) * 1000 - self.epoch_ns


_UNIX = datetime(1970, 1, 1, tzinfo=timezone.utc)
