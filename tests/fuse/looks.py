"""Observations as tests write them: times in seconds, one label each."""

from __future__ import annotations

from edged.config.schema import EventRule
from edged.fuse.presence import Feed
from edged.fuse.rule import Change, Rule
from edged.wire.clock import SECOND_NS
from edged.wire.records import Detection, Modality, Observations, Trace

CAM: Feed = ("cam", "people")
MIC: Feed = ("mic", "voice")
PERIOD_S = 0.2
TRACE = Trace(1_000_000, 2_000_000, 4_000_000, 7_000_000, 11_000_000, 16_000_000)


def look(
    at_s: float,
    score: float,
    feed: Feed = CAM,
    *,
    label: str = "",
    span_s: float = 0.0,
) -> Observations:
    """What a feed saw at a moment; a score of 0 is nothing at all."""
    source, model = feed
    modality: Modality = "audio" if source == "mic" else "video"
    seen = Detection(label or ("speech" if modality == "audio" else "person"), score)
    stamp_ns, span_ns = round(at_s * SECOND_NS), round(span_s * SECOND_NS)
    return Observations(source, model, modality, stamp_ns, span_ns, (seen,) if score else (), TRACE)


def looks(
    start_s: float, scores: list[float], feed: Feed = CAM, every_s: float = PERIOD_S
) -> list[Observations]:
    """One after the other."""
    return [look(start_s + place * every_s, score, feed) for place, score in enumerate(scores)]


VIDEO = {"source": "cam", "label": "person", "min_score": 0.5}
AUDIO = {"source": "mic", "label": "speech", "min_score": 0.5}


def rule_of(*, video: object = None, audio: object = None, every_s: float = PERIOD_S, **keys: object) -> Rule:
    """A rule whose feeds look so often."""
    period_ns = round(every_s * SECOND_NS)
    settings = EventRule.model_validate({"video": video, "audio": audio, **keys})
    feeds = {modality: {CAM if modality == "video" else MIC: period_ns} for modality, _ in settings.evidences}
    return Rule(settings, feeds)


def told(changes: list[Change]) -> list[tuple[str, float, float]]:
    """The phases with the event's start and its last evidence, in seconds."""
    return [(one.phase, one.started_ns / SECOND_NS, one.last_ns / SECOND_NS) for one in changes]


def observe(rule: Rule, seen: list[Observations]) -> list[Change]:
    """All that a rule has to say."""
    return [change for one in seen for change in rule.observe(one)]


def intervals(changes: list[Change]) -> list[tuple[int, int]]:
    """From when to when the events were, as their ends tell."""
    return [(one.started_ns, one.last_ns) for one in changes if one.phase == "end"]
