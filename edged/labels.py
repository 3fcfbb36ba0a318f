"""Whether the configuration's models and labels fit the cards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edged.config.schema import MEASURED, Config
from edged.perceive.cards import Card

SHOWN = 12
"""A card may have hundreds of labels; an error names so many."""


def check_labels(config: Config, cards: Mapping[str, Card]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The place and a message for each misfit."""
    for name, card in cards.items():
        for place, source in enumerate(config.models[name].sources):
            modality = config.sources[source].modality
            if modality != card.modality:
                message = (
                    f"card '{config.models[name].card}' wants {card.modality}, '{source}' has {modality}"
                )
                yield ("models", name, "sources", place), message
    for name, rule in config.events.items():
        for modality, evidence in rule.evidences:
            if any(m not in cards for m, use in config.models.items() if evidence.source in use.sources):
                continue  # that card's own fault is reported
            measured = {label for label, what in MEASURED.items() if what == modality}
            known = measured if evidence.model is None else set()
            for model, use in config.models.items():
                if evidence.source in use.sources and evidence.model in (None, model):
                    known |= cards[model].vocabulary
            for place, label in enumerate(evidence.label):
                if label not in known:
                    some = ", ".join(sorted(known)[:SHOWN]) + (", …" if len(known) > SHOWN else "")
                    message = f"nothing on '{evidence.source}' reports '{label}'; there is {some}"
                    yield ("events", name, modality, "label", place), message
