"""What is known of each source and model now, and how it is told to subscribers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from edged.config.source import Source
from edged.wire.records import Counts, Modality, Observations, RateState, State


@dataclass(slots=True)
class SourceHealth:
    """One source."""

    modality: Modality
    rates: RateState
    state: State = "starting"
    reason: str = ""
    delivered: int = 0
    analysed: int = 0
    recorded: dict[str, int] = field(default_factory=dict)
    motion: float | None = None
    level: float | None = None
    _drops: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, config: Source) -> SourceHealth:
        """A source that has not been heard of."""
        rates = RateState(name, config.rate_hz.idle, config.sample_rate_hz.idle, "idle")
        return cls(config.modality, rates)

    def count(self, worker: str, generation: int, counts: Counts, *, capture: bool) -> None:
        """Takes in what a worker has counted since it was spawned; those before it stay counted."""
        self._drops[worker, generation] = counts.drops
        if capture:
            self.delivered = counts.delivered
            self.recorded = counts.recorded
        else:
            self.analysed = counts.delivered

    def measure(self, seen: Observations) -> None:
        """Takes in what capture measured."""
        if seen.modality == "video":
            self.motion = seen.detections[0].score
        else:
            self.level = seen.detections[0].score

    @property
    def drops(self) -> dict[str, int]:
        """By reason, of all workers since the start."""
        total: Counter[str] = Counter()
        for drops in self._drops.values():
            total.update(drops)
        return dict(total)

    def to_json(self) -> bytes:
        """As published on `source/<name>`."""
        told = {
            "state": self.state,
            "reason": self.reason or None,
            "modality": self.modality,
            "rate_hz": self.rates.rate_hz,
            "sample_rate_hz": self.rates.sample_rate_hz if self.modality == "audio" else None,
            "rate_cause": self.rates.cause,
            "motion": self.motion,
            "level": self.level,
            "delivered": self.delivered,
            "analysed": self.analysed,
            "drops": self.drops,
            "recorded": self.recorded or None,
        }
        return msgspec.json.encode(told)


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """One model."""

    state: Literal["loading", "running", "failed"] = "loading"
    reason: str = ""
