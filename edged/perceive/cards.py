"""Model cards: what a model is, where its weights lie, and how it reads; `<name>/model.yaml`."""

from __future__ import annotations

import hashlib
import importlib
import os
import pkgutil
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field, ValidationInfo, field_validator

import edged
import edged.perceive.families
from edged.config.fields import Name, Score, Strict
from edged.config.load import Document, read, validate
from edged.errors import ConfigError, ModelError
from edged.wire.pool import Lease
from edged.wire.records import Detection, Modality
from edged.wire.views import PictureView

FILE = "model.yaml"


class Weights(Strict):
    """The file that is run."""

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Its name, looked for beside the card and in the folders of models."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """When given, another file of that name is refused."""


class Card(Strict):
    """What all families' cards have."""

    family: str
    """The drop-in in `edged/perceive/families` that prepares its input and decodes its output."""
    description: str
    licence: str
    source: str
    """Where the model comes from."""
    weights: Weights | None = None
    labels: tuple[Name, ...] = Field(min_length=1)
    """In the order of the output; or the name of a list in `models/labels`."""
    groups: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    """Further labels: the score of one is the highest of its members."""
    min_score: Score = 0.1
    """What scores less is not reported."""

    @field_validator("labels", mode="before")
    @classmethod
    def _listed(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        if not re.fullmatch(r"[a-z0-9-]+", value):
            raise ValueError("a list of labels has a name of a-z 0-9 -")
        for folder in model_dirs((info.context or {}).get("dirs", ())):
            path = folder / "labels" / f"{value}.txt"
            if path.is_file():
                return tuple(slug(line) for line in path.read_text(encoding="utf-8").splitlines() if line)
        raise ValueError(f"there is no list of labels '{value}'")

    @field_validator("groups")
    @classmethod
    def _members(cls, groups: dict[str, tuple[str, ...]], info: ValidationInfo) -> dict[str, tuple[str, ...]]:
        known = set(info.data.get("labels", ()))
        for name, members in groups.items():
            if strange := set(members) - known:
                raise ValueError(f"group '{name}' holds {', '.join(sorted(strange))}, which is no label")
        return groups

    @property
    def modality(self) -> Modality:
        """What it looks at."""
        return "video"

    @property
    def view(self) -> PictureView | None:
        """How it wants its picture; None for sound."""
        return None

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every label that it can report."""
        return frozenset(self.labels) | self.groups.keys()


class Model(Protocol):
    """A loaded model. One request at a time: prepare, infer, decode."""

    window_ns: int
    """How much sound one run hears, up to the end of the chunk; 0 for pictures."""

    def prepare(self, lease: Lease) -> bool:
        """Writes the engine's input from the slot; False when there is nothing to run yet."""

    def infer(self) -> None:
        """Runs the engine on what was prepared.

        Raises:
            ModelError: the engine failed.
        """

    def decode(self) -> tuple[Detection, ...]:
        """What was seen or heard, the best first."""

    def close(self) -> None:
        """Frees the engine."""


def slug(name: str) -> str:
    """A label as it is written in configurations: `Smoke detector, smoke alarm` has underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:63]


def model_dirs(first: Sequence[str] = ()) -> list[Path]:
    """Where cards and weights are looked for, in order: `first`, `$EDGED_MODELS`, the state
    directory, and what came with edged.
    """
    folders = [Path(folder) for folder in first]
    folders += [Path(folder) for folder in os.environ.get("EDGED_MODELS", "").split(os.pathsep) if folder]
    if state := os.environ.get("STATE_DIRECTORY"):
        folders.append(Path(state, "models"))
    return [*folders, shipped("models")]


def shipped(name: str) -> Path:
    """A folder that comes with edged: inside an installed package, else at the top of the checkout."""
    package = Path(edged.__file__).parent
    inside = package / "shipped" / name
    return inside if inside.is_dir() else package.parent / name


def families() -> list[str]:
    """The names that a card's `family` can have."""
    return [entry.name.replace("_", "-") for entry in pkgutil.iter_modules(edged.perceive.families.__path__)]


def _drop_in(family: str) -> Any:  # noqa: ANN401 - a module with Card and open
    return importlib.import_module(f"{edged.perceive.families.__name__}.{family.replace('-', '_')}")


def load_card(name: str, dirs: Sequence[str] = ()) -> Card:
    """The card called `name`.

    Raises:
        ModelError: there is none.
        ConfigError: it has faults.
    """
    for folder in model_dirs(dirs):
        path = folder / name / FILE
        if path.is_file():
            document = read(path)
            card: Card = validate(document, _card_type(document), path.parent, dirs=tuple(dirs))
            return card
    known = sorted({path.parent.name for folder in model_dirs(dirs) for path in folder.glob(f"*/{FILE}")})
    raise ModelError(f"there is no card '{name}'; there is {', '.join(known)}")


def _card_type(document: Document) -> type[Card]:
    family = document.data.get("family") if isinstance(document.data, dict) else None
    if family not in families():
        message = f"there is no family '{family}'; there is {', '.join(families())}"
        raise ConfigError([document.problem(("family",), message)])
    card_type: type[Card] = _drop_in(family).Card
    return card_type


def find_weights(name: str, weights: Weights, dirs: Sequence[str] = ()) -> Path:
    """The card's weights, checked against its checksum.

    Raises:
        ModelError: they are not there, or others.
    """
    folders = model_dirs(dirs)
    for folder in folders:
        for path in (folder / name / weights.file, folder / weights.file):
            if not path.is_file():
                continue
            if weights.sha256 is not None:
                found = hashlib.sha256(path.read_bytes()).hexdigest()
                if found != weights.sha256:
                    raise ModelError(
                        f"{path} is not the file that card '{name}' is for: "
                        f"its sha256 is {found[:16]}…, the card says {weights.sha256[:16]}…"
                    )
            return path
    places = ", ".join(map(str, folders[:-1])) or "no further folders are set"
    raise ModelError(
        f"the weights {weights.file} of card '{name}' were not found ({places}); "
        "name their folder by --models or $EDGED_MODELS"
    )


def open_model(name: str, card: Card, dirs: Sequence[str], threads: int) -> Model:
    """Loads the model of `card`, ready to run.

    Raises:
        ModelError: its weights are not there, do not fit the card, or can't be run here.
    """
    weights = find_weights(name, card.weights, dirs) if card.weights else None
    model: Model = _drop_in(card.family).open(card, weights, threads)
    return model
