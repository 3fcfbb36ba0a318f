"""One rule of the configuration at work: from presences to an event's start, updates and end.

Pure: no clock, no randomness. Support is where the needed evidences overlap; an event is a run of
support with no gap over the hold: `hold_s`, and never less than between two looks. The intervals of one
evidence come in order, so in which order the looks of two feeds arrive does not change the events of
`all`, only when they are told; unless evidences may lie further apart than the hold (`within_s`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from edged.config.schema import EventRule
from edged.fuse.presence import Feed, Interval, Presence, Sighting
from edged.wire.clock import SECOND_NS
from edged.wire.event import Phase
from edged.wire.records import Modality, Observations

UPDATE_SCORE = 0.1
"""A score that rose by so much is worth an update,"""
UPDATE_NS = SECOND_NS
"""but not more than one in this time of the recording."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a rule wants told."""

    phase: Phase
    number: int
    """Counts the rule's events: the same for all phases of one."""
    sequence: int
    started_ns: int
    last_ns: int
    """The stamp of the last supporting evidence."""
    score: float
    sightings: dict[Modality, Sighting]
    cause: Observations | None
    """What brought the change; none for an end by the passing of time."""


@dataclass(slots=True)
class _Open:
    number: int
    started_ns: int
    last_ns: int
    score: float
    sightings: dict[Modality, Sighting]
    told_score: float
    told_ns: int
    told: frozenset[Modality]
    sequence: int = 1


@dataclass(slots=True)
class Rule:
    """The state of one rule."""

    rule: EventRule
    feeds: dict[Literal["video", "audio"], dict[Feed, int]]
    """For each modality the feeds that can bring its evidence, with their period in nanoseconds."""
    _presences: dict[Modality, Presence] = field(init=False)
    _progress: dict[Feed, int] = field(init=False)
    _looks_ns: dict[Feed, int] = field(init=False)
    """What a feed saw holds for so long: until its next look, or to the end of its window."""
    _open: _Open | None = None
    _count: int = 0
    _spent_ns: int = -(1 << 62)
    """Support up to here belongs to events that are over."""

    def __post_init__(self) -> None:
        self._presences = {
            modality: Presence(frozenset(evidence.label), evidence.min_score, evidence.keep_score)
            for modality, evidence in self.rule.evidences
        }
        self._looks_ns = {feed: period for feeds in self.feeds.values() for feed, period in feeds.items()}
        self._progress = dict.fromkeys(self._looks_ns, -(1 << 62))

    def observe(self, seen: Observations) -> list[Change]:
        """Takes in one look of a feed that this rule has."""
        feed = (seen.source, seen.model)
        self._progress[feed] = max(self._progress[feed], seen.stamp_ns)
        self._looks_ns[feed] = max(self._looks_ns[feed], seen.span_ns)
        interval = self._presences[seen.modality].observe(seen, self.feeds[seen.modality][feed])
        changes = self._support(seen, interval) if interval else []
        return changes + self._end(min(self._progress.values()), seen)

    def passed(self, stamp_ns: int) -> list[Change]:
        """Nothing before `stamp_ns` will be seen any more, whatever the feeds have said so far."""
        for feed, progress in self._progress.items():
            self._progress[feed] = max(progress, stamp_ns)
        return self._end(min(self._progress.values()), None)

    def ended(self, feed: Feed) -> list[Change]:
        """The feed brings nothing more, and is not waited for."""
        self._progress[feed] = 1 << 62
        return self._end(min(self._progress.values()), None)

    def close(self) -> list[Change]:
        """The end of everything: an open event ends with its last evidence."""
        return self._finish(None) if self._open else []

    @property
    def on(self) -> bool:
        """Whether an event is open."""
        return self._open is not None

    def _support(self, seen: Observations, interval: Interval) -> list[Change]:
        changes = []
        for started_ns, last_ns, sightings in sorted(
            self._overlaps(seen.modality, interval), key=lambda overlap: overlap[:2]
        ):
            if last_ns <= self._spent_ns:
                continue
            if self._open and started_ns > self._held_ns(self._open):
                changes += self._finish(seen)
            if self._open is None:
                # What goes on after its event was given up begins anew with what is new of it.
                started_ns = started_ns if started_ns > self._spent_ns else last_ns
                self._open = self._begin(started_ns, last_ns, sightings)
                changes.append(self._change("start", seen))
            else:
                changes += self._prolong(self._open, last_ns, sightings, seen)
        return changes

    def _overlaps(
        self, modality: Modality, interval: Interval
    ) -> list[tuple[int, int, dict[Modality, Sighting]]]:
        """Where `interval` and what the other modality has give support: from, to, and by what."""
        own: dict[Modality, Sighting] = {modality: interval.latest}
        others = {other: presence for other, presence in self._presences.items() if other != modality}
        if not others or self.rule.combine == "any":
            return [(interval.start_ns, interval.last_ns, own)]
        found = []
        within_ns = round(self.rule.within_s * SECOND_NS)
        ((name, presence),) = others.items()
        for other in presence.intervals:
            started_ns = max(interval.start_ns, other.start_ns)
            reached_ns = min(interval.last_ns + interval.reach_ns, other.last_ns + other.reach_ns)
            if started_ns <= reached_ns + within_ns:
                first_ns, newest_ns = sorted((interval.last_ns, other.last_ns))
                last_ns = max(started_ns, min(newest_ns, first_ns + within_ns))
                found.append((started_ns, last_ns, own | {name: other.latest}))
        return found

    def _held_ns(self, event: _Open) -> int:
        """What comes later does not belong to the event."""
        looks_ns = [self._looks_ns[sighting.feed] for sighting in event.sightings.values()]
        return event.last_ns + max(round(self.rule.hold_s * SECOND_NS), *looks_ns)

    def _begin(self, started_ns: int, last_ns: int, sightings: dict[Modality, Sighting]) -> _Open:
        self._count += 1
        last_ns = max(started_ns, last_ns)
        score, told = self._score(sightings), frozenset(sightings)
        return _Open(self._count, started_ns, last_ns, score, sightings, score, last_ns, told)

    def _prolong(
        self, event: _Open, last_ns: int, sightings: dict[Modality, Sighting], seen: Observations
    ) -> list[Change]:
        event.last_ns = max(event.last_ns, last_ns)
        for modality, sighting in sightings.items():
            known = event.sightings.get(modality)
            if known is None or sighting.detection.score > known.detection.score:
                event.sightings = {**event.sightings, modality: sighting}
        event.score = max(event.score, self._score(event.sightings))
        joined = frozenset(event.sightings) != event.told
        rose = event.score >= event.told_score + UPDATE_SCORE and event.last_ns >= event.told_ns + UPDATE_NS
        if not joined and not rose:
            return []
        event.sequence += 1
        event.told, event.told_score, event.told_ns = frozenset(event.sightings), event.score, event.last_ns
        return [self._change("update", seen)]

    def _end(self, progress_ns: int, cause: Observations | None) -> list[Change]:
        hold_ns, within_ns = round(self.rule.hold_s * SECOND_NS), round(self.rule.within_s * SECOND_NS)
        for presence in self._presences.values():
            presence.forget_before(progress_ns - max(hold_ns, *self._looks_ns.values()) - within_ns)
        if self._open and progress_ns > self._held_ns(self._open):
            return self._finish(cause)
        return []

    def _finish(self, cause: Observations | None) -> list[Change]:
        assert self._open is not None  # noqa: S101 - for the type checker
        self._open.sequence += 1
        change = self._change("end", cause)
        self._spent_ns = self._open.last_ns
        self._open = None
        return [change]

    def _score(self, sightings: dict[Modality, Sighting]) -> float:
        """`all`: the geometric mean, so that a weak part shows; `any`: the strongest."""
        scores = [sighting.detection.score for sighting in sightings.values()]
        if self.rule.combine == "any":
            return max(scores)
        return math.prod(scores) ** (1 / len(scores))

    def _change(self, phase: Phase, cause: Observations | None) -> Change:
        event = self._open
        assert event is not None  # noqa: S101 - for the type checker
        return Change(
            phase,
            event.number,
            event.sequence,
            event.started_ns,
            event.last_ns,
            event.score,
            dict(event.sightings),
            cause,
        )
