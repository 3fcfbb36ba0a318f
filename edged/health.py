"""What is known of each source and model now, and how it is told to subscribers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from edged.config.source import Source
from edged.wire.records import Counts, Modality, Observations, RateState, State


@dataclass(slots=True)
class _Tally:
    """What one worker has counted: its present process, and those before it."""

    generation: int = 0
    delivered: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    recorded: Counter[str] = field(default_factory=Counter)
    now: Counts | None = None

    def take(self, generation: int, counts: Counts) -> None:
        if generation != self.generation:
            self.delivered, self.drops, self.recorded = self.total()
            self.generation = generation
        self.now = counts

    def total(self) -> tuple[int, Counter[str], Counter[str]]:
        now = self.now
        if now is None:
            return self.delivered, self.drops, self.recorded
        drops, recorded = self.drops.copy(), self.recorded.copy()
        drops.update(now.drops)
        recorded.update(now.recorded)
        return self.delivered + now.delivered, drops, recorded


@dataclass(slots=True)
class SourceHealth:
    """One source."""

    modality: Modality
    rates: RateState
    state: State = "starting"
    reason: str = ""
    motion: float | None = None
    level: float | None = None
    _capture: _Tally = field(default_factory=_Tally)
    _perceive: _Tally = field(default_factory=_Tally)

    @classmethod
    def of(cls, name: str, config: Source) -> SourceHealth:
        """A source that has not been heard of."""
        rates = RateState(name, config.rate_hz.idle, config.sample_rate_hz.idle, "idle")
        return cls(config.modality, rates)

    def count(self, generation: int, counts: Counts, *, capture: bool) -> None:
        """Takes in what a worker has counted since it was spawned; those before it stay counted."""
        (self._capture if capture else self._perceive).take(generation, counts)

    def measure(self, seen: Observations) -> None:
        """Takes in what capture measured."""
        if seen.modality == "video":
            self.motion = seen.detections[0].score
        else:
            self.level = seen.detections[0].score

    def to_json(self) -> bytes:
        """As published on `source/<name>`."""
        delivered, drops, recorded = self._capture.total()
        analysed, unread, _ = self._perceive.total()
        told = {
            "state": self.state,
            "reason": self.reason or None,
            "modality": self.modality,
            "rate_hz": self.rates.rate_hz,
            "sample_rate_hz": self.rates.sample_rate_hz if self.modality == "audio" else None,
            "rate_cause": self.rates.cause,
            "motion": self.motion,
            "level": self.level,
            "delivered": delivered,
            "analysed": analysed,
            "drops": drops + unread,
            "recorded": recorded or None,
        }
        return msgspec.json.encode(told)


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """One model."""

    state: Literal["loading", "running", "failed"] = "loading"
    reason: str = ""
