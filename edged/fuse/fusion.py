"""All rules of a configuration, and the events they make of observations."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edged.config.schema import MEASURED, Config, Evidence
from edged.fuse.presence import Feed, Sighting
from edged.fuse.rule import Change, Rule
from edged.wire.clock import SECOND_NS, WallClock, now_ns
from edged.wire.event import (
    SCHEMA,
    Event,
    EvidenceItem,
    latency_ms,
    new_traceparent,
    new_ulid,
)
from edged.wire.records import Modality, Observations


@dataclass(slots=True)
class _Identity:
    id: str
    traceparent: str


class Fusion:
    """State, and a function from an observation to events."""

    def __init__(self, config: Config, feeds: Mapping[str, list[Feed]], clock: WallClock) -> None:
        """`feeds`: the feeds of each event's evidences, as `feeds_of` gives them."""
        self.rates_hz = {name: source.rate_hz.idle for name, source in config.sources.items()}
        """How often each source is analysed now; whoever learns of a change sets it."""
        self._config = config
        self._clock = clock
        self._rules: dict[str, Rule] = {}
        self._by_feed: dict[Feed, list[str]] = defaultdict(list)
        self._identities: dict[tuple[str, int], _Identity] = {}
        for name, rule in config.events.items():
            periods = {
                modality: {
                    feed: round(SECOND_NS / config.sources[feed[0]].rate_hz.idle)
                    for feed in feeds[name]
                    if config.sources[feed[0]].modality == modality and feed[0] == evidence.source
                }
                for modality, evidence in rule.evidences
            }
            self._rules[name] = Rule(rule, periods)
            for feed in feeds[name]:
                self._by_feed[feed].append(name)

    def observe(self, seen: Observations) -> list[Event]:
        """The events that an observation brings."""
        return [
            self._event(name, change)
            for name in self._by_feed.get((seen.source, seen.model), ())
            for change in self._rules[name].observe(seen)
        ]

    def passed(self, stamp_ns: int) -> list[Event]:
        """The events that end because nothing earlier than `stamp_ns` will come any more."""
        return [
            self._event(name, change)
            for name, rule in self._rules.items()
            if rule.on
            for change in rule.passed(stamp_ns)
        ]

    def ended(self, source: str, model: str) -> list[Event]:
        """The events that end because a feed brings nothing more."""
        return [
            self._event(name, change)
            for name in self._by_feed.get((source, model), ())
            for change in self._rules[name].ended((source, model))
        ]

    def close(self) -> list[Event]:
        """Ends all that is open."""
        return [self._event(name, change) for name, rule in self._rules.items() for change in rule.close()]

    def states(self) -> Iterator[tuple[str, bool]]:
        """Each event type, and whether one is open."""
        return ((name, rule.on) for name, rule in self._rules.items())

    def _event(self, name: str, change: Change) -> Event:
        clock, key = self._clock, (name, change.number)
        if change.phase == "start":
            self._identities[key] = _Identity(new_ulid(time.time_ns() // 1_000_000), new_traceparent())
        identity = self._identities[key]
        if change.phase == "end":
            del self._identities[key]
        return Event(
            schema=SCHEMA,
            id=identity.id,
            device=self._config.device,
            type=name,
            phase=change.phase,
            sequence=change.sequence,
            started_at=clock.rfc3339(change.started_ns),
            updated_at=clock.rfc3339(change.last_ns),
            ended_at=clock.rfc3339(change.last_ns) if change.phase == "end" else None,
            score=round(change.score, 4),
            evidence=tuple(self._item(modality, one) for modality, one in sorted(change.sightings.items())),
            clip=None,
            rates={s: self.rates_hz[s] for s in sorted(self._sources(change))},
            latency_ms=latency_ms(change.cause.trace, now_ns()) if change.cause else None,
            traceparent=identity.traceparent,
        )

    def _item(self, modality: Modality, sighting: Sighting) -> EvidenceItem:
        seen, detection = sighting.observed, sighting.detection
        half_ns = seen.span_ns // 2
        return EvidenceItem(
            source=seen.source,
            modality=modality,
            label=detection.label,
            score=round(detection.score, 4),
            box=detection.box,
            track=None,
            span=(self._clock.rfc3339(seen.stamp_ns - half_ns), self._clock.rfc3339(seen.stamp_ns + half_ns))
            if seen.span_ns
            else None,
            at=self._clock.rfc3339(seen.stamp_ns),
        )

    @staticmethod
    def _sources(change: Change) -> list[str]:
        return sorted({sighting.observed.source for sighting in change.sightings.values()})


def feeds_of(config: Config, labels: Mapping[str, frozenset[str]]) -> dict[str, list[Feed]]:
    """The feeds that can bring each event's evidences; `labels`: what each model can see or hear."""

    def feeds(evidence: Evidence) -> Iterator[Feed]:
        wanted = set(evidence.label)
        if wanted & MEASURED.keys() and evidence.model is None:
            yield evidence.source, ""
        for name, model in config.models.items():
            if evidence.source in model.sources and evidence.model in (None, name) and wanted & labels[name]:
                yield evidence.source, name

    return {
        name: [feed for _, evidence in rule.evidences for feed in feeds(evidence)]
        for name, rule in config.events.items()
    }
