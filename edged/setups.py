"""What the workers are told at their start, as it follows from the configuration and the cards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from edged.config.adapt import AdaptRule
from edged.config.schema import Config
from edged.perceive.cards import Card
from edged.wire.setup import ModelSetup, PerceiveSetup, RecordSetup
from edged.wire.views import PictureView

LATE_S = 5.0
"""An event may be so much older than the wish for a clip of it."""

Views = dict[str, tuple[PictureView, ...]]


def wanted_of(
    config: Config, cards: Mapping[str, Card], sources: Collection[str]
) -> tuple[Views, tuple[str, ...]]:
    """What models want of some sources: the pictures of each, and those that are listened to."""
    wanted = [
        (source, cards[name])
        for name, model in config.models.items()
        for source in model.sources
        if source in sources
    ]
    views = {
        name: tuple(dict.fromkeys(card.view for source, card in wanted if source == name and card.view))
        for name in sources
    }
    heard = {source for source, card in wanted if card.modality == "audio"}
    return {name: some for name, some in views.items() if some}, tuple(sorted(heard))


def clip_setup(config: Config, sources: Collection[str], folder: Path, start_ns: int) -> RecordSetup | None:
    """What a device records of events; None where no rule asks for anything of its sources."""
    rules = [rule for rule in config.adapt if not _reached(config, rule).isdisjoint(sources)]
    records = [rule.record for rule in rules if rule.record]
    if not records and not any(rule.snapshot for rule in rules):
        return None
    before_s = max((record.before_s + LATE_S for record in records), default=0.0)
    return _setup(config, folder, start_ns, before_s, clips=bool(records), tape=False)


def tape_setup(config: Config, folder: Path, start_ns: int) -> RecordSetup:
    """Everything is recorded into `folder`, for a replay."""
    return _setup(config, folder, start_ns, 0.0, clips=False, tape=True)


def perceive_setup(config: Config, *, ordered: bool) -> PerceiveSetup:
    """The models of the perceive process; `ordered`: every frame counts, and none is too late."""
    newest = [name for name, source in config.sources.items() if source.modality == "video"]
    return PerceiveSetup(
        models={
            name: ModelSetup(
                model.card,
                tuple(model.sources),
                model.priority,
                None if ordered else model.budget_ms,
                model.threads,
            )
            for name, model in config.models.items()
        },
        models_dirs=config.models_dirs,
        newest=() if ordered else tuple(newest),
    )


def _reached(config: Config, rule: AdaptRule) -> set[str]:
    """The sources that a rule takes clips or snapshots of."""
    event = config.events.get(rule.when)
    own = {one.source for _, one in event.evidences} if event else {str(rule.source)}
    return own | set(rule.raises)


def _setup(
    config: Config, folder: Path, start_ns: int, before_s: float, *, clips: bool, tape: bool
) -> RecordSetup:
    limits = config.clips
    return RecordSetup(
        folder=str(folder),
        tape=tape,
        clips=clips,
        start_ns=start_ns,
        before_s=before_s,
        ring_bytes=int(limits.ring_bytes),
        max_bytes=int(limits.max_bytes),
        max_age_s=limits.max_age_s,
    )
