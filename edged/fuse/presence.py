"""When the evidence of one modality was there: intervals, by hysteresis on its scores."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from edged.wire.records import Detection, Observations

Feed = tuple[str, str]
"""A source and a model that looks at it."""
MAX_INTERVALS = 64
"""So many of the past are kept until the other modality has caught up; the oldest go."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """The observation that counts, and the detection in it."""

    observed: Observations
    detection: Detection

    @property
    def feed(self) -> Feed:
        """Who saw it."""
        return self.observed.source, self.observed.model


@dataclass(slots=True, eq=False)
class Interval:
    """The evidence was there without a break."""

    start_ns: int
    last_ns: int
    """The newest stamp at which it was seen."""
    latest: Sighting
    reach_ns: int
    """It holds for so long after: to the end of a window, or until the next picture."""


@dataclass(slots=True)
class Presence:
    """The intervals of one evidence, from one or more models that look for it.

    Each model's observations come in the order of their stamps; those of different models may
    interleave in any order.
    """

    labels: frozenset[str]
    min_score: float
    keep_score: float
    intervals: deque[Interval] = field(default_factory=lambda: deque(maxlen=MAX_INTERVALS))
    _open: dict[str, Interval] = field(default_factory=dict)

    def observe(self, seen: Observations, period_ns: int) -> Interval | None:
        """Takes in one model's look; the interval that it began or prolonged, if any."""
        found = [one for one in seen.detections if one.label in self.labels]
        best = max(found, key=lambda one: one.score, default=None)
        running = self._open.get(seen.model)
        if running and seen.stamp_ns - running.last_ns > 3 * max(seen.span_ns, period_ns):
            running = None  # too much was lost between to say that it was there all along
        threshold = self.keep_score if running else self.min_score
        if best is None or best.score < threshold:
            self._open.pop(seen.model, None)
            return None
        sighting = Sighting(seen, best)
        if running is None:
            running = Interval(seen.stamp_ns, seen.stamp_ns, sighting, seen.span_ns or period_ns)
            self._open[seen.model] = running
            self.intervals.append(running)
        running.last_ns, running.latest = seen.stamp_ns, sighting
        return running

    def forget_before(self, stamp_ns: int) -> None:
        """Drops what ended earlier."""
        running = self._open.values()
        for one in [one for one in self.intervals if one.last_ns + one.reach_ns < stamp_ns]:
            if one not in running:
                self.intervals.remove(one)
