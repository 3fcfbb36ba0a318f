"""The configuration as pydantic models, and all that can be checked without opening a device."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema, PydanticCustomError

import edged.capture.sources
from edged.config.adapt import AdaptRule, Clips
from edged.config.fields import LocalPath, Name, Score, Seconds, Strict
from edged.config.source import Source

MEASURED = {"motion": "video", "sound": "audio"}
"""Labels that capture itself observes on every source, and their modality."""


def source_kinds() -> dict[str, type[Source]]:
    """The `Config` of each drop-in in `edged/capture/sources`, by kind."""
    folder = edged.capture.sources
    return {
        entry.name: importlib.import_module(f"{folder.__name__}.{entry.name}").Config
        for entry in pkgutil.iter_modules(folder.__path__)
    }


class _AnyKind:
    """Resolves a source by its `kind` among the drop-ins."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: type[Source], handler: GetCoreSchemaHandler) -> CoreSchema:
        union: Any = Union[tuple(source_kinds().values())]  # noqa: UP007 - built at run time
        return handler.generate_schema(Annotated[union, Field(discriminator="kind")])


AnySource = Annotated[Source, _AnyKind]


def _broker_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise ValueError("a broker's URL reads mqtt://host[:port] or mqtts://host[:port]")
    if parts.username or parts.password:
        raise ValueError("name the user by 'username' and the password by 'password_file', not in the URL")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("nothing may follow the port")
    _ = parts.port  # raises ValueError when it is no port
    return url


def _topic_level(text: str) -> str:
    if any(sign in text for sign in "+#\0") or text.startswith(("/", "$")) or text.endswith("/"):
        raise ValueError("a topic prefix holds no + # or NUL, and neither begins nor ends with /")
    return text


class Mqtt(Strict):
    """The broker that events go to."""

    url: Annotated[str, AfterValidator(_broker_url)] = "mqtt://127.0.0.1:1883"
    """`mqtt://host[:port]`, or `mqtts://` for TLS."""
    username: str | None = None
    password_file: LocalPath | None = None
    """A file that holds the password alone; it is read at each connection."""
    ca_file: LocalPath | None = None
    """Certificates that sign the broker's; by default those of the system."""
    prefix: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_topic_level)] = "edged"
    """The first level of every topic."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """The version of MQTT; `auto` takes 5, and 3.1.1 where the broker does not answer to it."""
    event_expiry_s: Annotated[int, Field(ge=1, le=31_536_000)] = 604_800
    """An event that could not be delivered for so long is dropped, and counted."""


class ModelUse(Strict):
    """A model and what it runs on."""

    card: Name
    """The model's card, by name."""
    sources: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The sources it runs on; their modality has to fit."""
    priority: Literal["critical", "high", "normal", "low"] = "normal"
    """The more urgent model runs first when several have work."""
    budget_ms: Annotated[float, Field(gt=0, le=60_000)] | None = None
    """A frame older than this when its turn comes is dropped, and counted."""
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Threads of the engine."""


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Labels = Annotated[
    tuple[Name, ...],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=Name | Annotated[list[Name], Field(min_length=1)]),
]


class Evidence(Strict):
    """What has to be observed."""

    source: Name
    label: Labels
    """A label of a model's card, or several of which any will do; `motion` and `sound` need no model."""
    model: Name | None = None
    """Only this model's word counts; by default that of every model on the source with the label."""
    min_score: Score = 0.5
    """Evidence begins at this score."""
    release_score: Score | None = None
    """Evidence goes on down to this score; by default 0.7 × `min_score`."""

    @property
    def keep_score(self) -> float:
        """`release_score` with its default."""
        return 0.7 * self.min_score if self.release_score is None else self.release_score

    @model_validator(mode="after")
    def _hysteresis(self) -> Evidence:
        if self.release_score is not None and self.release_score > self.min_score:
            raise PydanticCustomError("release", "release_score can't be above min_score")
        return self


class EventRule(Strict):
    """When an event starts, and when it is over."""

    video: Evidence | None = None
    audio: Evidence | None = None
    combine: Literal["all", "any"] = "all"
    """With two modalities: both are needed, or either will do."""
    within_s: Seconds = 0.0
    """How far apart the two evidences may lie; 0: they overlap."""
    hold_s: Seconds = 1.5
    """The event is over when nothing has supported it for so long; never less than between two looks."""

    @property
    def evidences(self) -> Iterator[tuple[Literal["video", "audio"], Evidence]]:
        """The evidences with their modality, video first."""
        if self.video:
            yield "video", self.video
        if self.audio:
            yield "audio", self.audio

    @model_validator(mode="after")
    def _some(self) -> EventRule:
        if not self.video and not self.audio:
            raise PydanticCustomError("no_evidence", "an event needs 'video', 'audio' or both")
        return self


_NAMES_ONLY: JsonDict = {"additionalProperties": False}
"""Pydantic leaves out of the schema that other keys than names are refused."""


class Config(Strict):
    """A whole configuration file."""

    device: Name = "edged"
    """This device's name in topics and events."""
    state_dir: LocalPath | None = None
    """Where the outbox lies; by default `$STATE_DIRECTORY`, else `~/.local/state/edged`."""
    models_dirs: tuple[LocalPath, ...] = ()
    """Further folders with cards and weights, looked into first."""
    mqtt: Mqtt | None = None
    """Without it, events are printed and go nowhere else."""
    sources: Annotated[dict[Name, AnySource], Field(min_length=1, json_schema_extra=_NAMES_ONLY)]
    models: dict[Name, ModelUse] = Field(default_factory=dict, json_schema_extra=_NAMES_ONLY)
    events: dict[Name, EventRule] = Field(default_factory=dict, json_schema_extra=_NAMES_ONLY)
    adapt: tuple[AdaptRule, ...] = ()
    """What follows from events, and from motion and sound themselves."""
    clips: Clips = Clips()
    """Where clips and snapshots lie. None are taken unless a rule of `adapt` asks for them."""

    @model_validator(mode="after")
    def _references(self) -> Config:
        faults = list(self._faults())
        if faults:
            # One error can name one place; `load` asks for all of them.
            raise PydanticCustomError("references", "{faults}", {"faults": faults})
        return self

    def _faults(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        for name, model in self.models.items():
            for place, source in enumerate(model.sources):
                if source not in self.sources:
                    yield ("models", name, "sources", place), self._unknown("source", source, self.sources)
                elif source in model.sources[:place]:
                    yield ("models", name, "sources", place), f"source '{source}' is named twice"
        for name, rule in self.events.items():
            for modality, evidence in rule.evidences:
                path = ("events", name, modality)
                source_config = self.sources.get(evidence.source)
                if source_config is None:
                    yield (*path, "source"), self._unknown("source", evidence.source, self.sources)
                elif source_config.modality != modality:
                    yield (
                        (*path, "source"),
                        f"source '{evidence.source}' has modality {source_config.modality}, not {modality}",
                    )
                if evidence.model is not None and evidence.model not in self.models:
                    yield (*path, "model"), self._unknown("model", evidence.model, self.models)
                elif (
                    evidence.model is not None and evidence.source not in self.models[evidence.model].sources
                ):
                    yield (*path, "model"), f"model '{evidence.model}' does not run on '{evidence.source}'"

        for place, adapt in enumerate(self.adapt):
            yield from self._adapt_faults(("adapt", place), adapt)

    def _adapt_faults(
        self, path: tuple[str | int, ...], rule: AdaptRule
    ) -> Iterator[tuple[tuple[str | int, ...], str]]:
        for index, source in enumerate(rule.raises):
            if source not in self.sources:
                yield (*path, "raise", index), self._unknown("source", source, self.sources)
        if rule.when in self.events:
            if rule.source:
                yield (*path, "source"), f"event '{rule.when}' names its sources itself"
        elif rule.when not in MEASURED:
            yield (*path, "when"), self._unknown("event", rule.when, {**self.events, **MEASURED})
        elif rule.source is None:
            yield (*path, "when"), f"'{rule.when}' needs a 'source'"
        elif rule.source not in self.sources:
            yield (*path, "source"), self._unknown("source", rule.source, self.sources)
        elif (modality := self.sources[rule.source].modality) != MEASURED[rule.when]:
            yield (*path, "source"), f"source '{rule.source}' has modality {modality}, and no {rule.when}"

    @staticmethod
    def _unknown(what: str, name: str, known: dict[str, Any]) -> str:
        return f"there is no {what} '{name}'; there is {', '.join(known) or 'none'}"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration, for editors."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **TypeAdapter(Config).json_schema(), "title": "edged configuration"}
