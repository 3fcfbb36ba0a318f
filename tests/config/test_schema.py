"""The JSON Schema and the models say the same, in the words of the design."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edged.config.load import Document, load, read, validate
from edged.config.schema import Config, EventRule, Evidence, Mqtt, json_schema, source_kinds
from edged.errors import ConfigError
from edged.perceive.cards import shipped

SCHEMA = json_schema()
CONFIGS = sorted(shipped("configs").glob("*.yaml"))

Json = dict[str, Any]


def plain(document: Document) -> Json:
    """The data as a JSON file would hold them."""
    data: Json = json.loads(json.dumps(document.data))
    return data


def accepted_by_schema(data: Json) -> bool:
    return Draft202012Validator(SCHEMA).is_valid(data)


def accepted_by_models(data: Json) -> bool:
    try:
        validate(Document("x.yaml", json.dumps(data)), Config, Path("/nowhere"))
    except ConfigError:
        return False
    return True


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_there_are_shipped_configurations() -> None:
    assert "scene.yaml" in [path.name for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    Draft202012Validator(SCHEMA).validate(plain(read(path)))
    load(path)


def nodes(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:  # noqa: ANN401
    """Every mapping and list in `data`, and where it is."""
    if isinstance(data, dict):
        yield path, data
        for key, value in data.items():
            yield from nodes(value, (*path, key))
    elif isinstance(data, list):
        yield path, data
        for place, value in enumerate(data):
            yield from nodes(value, (*path, place))


WHOLE: Json = {
    "device": "porch",
    "models_dirs": ["weights"],
    "mqtt": {"url": "mqtts://broker.lan", "username": "edged", "password_file": "mqtt-password"},
    "sources": {
        "cam": {"kind": "stream", "url": "rtsp://camera.lan/main", "rate_hz": 2},
        "mic": {"kind": "synthetic", "modality": "audio", "figure_s": [1, 2]},
    },
    "models": {"people": {"card": "yolox-nano", "sources": ["cam"], "priority": "high", "budget_ms": 80}},
    "events": {
        "talk": {
            "video": {"source": "cam", "label": ["person"]},
            "audio": {"source": "mic", "label": "speech", "min_score": 0.4},
            "within_s": 0.5,
        }
    },
}


@pytest.mark.parametrize("path", [path for path, node in nodes(WHOLE) if isinstance(node, dict)], ids=str)
def test_an_unknown_key_is_refused_everywhere(path: tuple[str, ...]) -> None:
    assert accepted_by_schema(WHOLE)
    data = copy.deepcopy(WHOLE)
    inside = data
    for step in path:
        inside = inside[step]
    inside["Colour"] = "red"
    assert not accepted_by_schema(data)
    assert not accepted_by_models(data)


def changes() -> Iterator[tuple[tuple[str | int, ...], Json]]:
    """The whole configuration with each value replaced by others, and each key left out."""
    for path, node in nodes(WHOLE):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            for value in (None, True, 7, -1, 0.25, "", "text", "B A D", [], ["text"], {}, {"text": 1}, ...):
                data = copy.deepcopy(WHOLE)
                inside: Any = data
                for step in path:
                    inside = inside[step]
                if value is ...:
                    del inside[key]
                else:
                    inside[key] = value
                yield (*path, key), data


def test_what_the_schema_refuses_the_models_refuse() -> None:
    for path, data in changes():
        if not accepted_by_schema(data):
            assert not accepted_by_models(data), path


def test_what_only_the_models_refuse_is_beyond_a_schema() -> None:
    refused = {path for path, data in changes() if accepted_by_schema(data) and not accepted_by_models(data)}
    assert refused == {
        ("mqtt", "url"),
        # Names that have to stand elsewhere, and modalities that have to agree.
        ("sources", "cam"),
        ("sources", "mic"),
        ("sources", "mic", "modality"),
        ("models", "people", "sources"),
        ("models", "people", "sources", 0),
        ("events", "talk", "video", "source"),
        ("events", "talk", "audio", "source"),
        # Values that have to fit each other.
        ("sources", "mic", "figure_s", 0),
        ("sources", "mic", "figure_s", 1),
        ("events", "talk"),
    }


def test_the_words_are_those_of_the_design() -> None:
    assert list(Config.model_fields) == [
        "device",
        "state_dir",
        "models_dirs",
        "mqtt",
        "sources",
        "models",
        "events",
        "adapt",
        "clips",
    ]
    assert {"url", "username", "password_file"} <= Mqtt.model_fields.keys()
    for kind, config in source_kinds().items():
        assert {"kind", "modality", "rate_hz"} <= config.model_fields.keys(), kind
    use = SCHEMA["$defs"]["ModelUse"]["properties"]
    assert {"card", "sources", "priority", "budget_ms"} <= use.keys()
    assert use["priority"]["enum"] == ["critical", "high", "normal", "low"]
    assert {"source", "label", "min_score", "release_score"} <= Evidence.model_fields.keys()
    assert {"video", "audio", "combine", "within_s", "hold_s"} <= EventRule.model_fields.keys()


def test_the_defaults_are_those_of_the_design() -> None:
    rule = EventRule(audio=Evidence(source="mic", label=("siren",), min_score=0.4))
    assert (rule.within_s, rule.combine) == (0, "all")
    assert rule.audio
    assert rule.audio.keep_score == pytest.approx(0.28), "evidence goes on a little below where it began"
    assert Mqtt().prefix == "edged"


def test_a_number_names_its_unit() -> None:
    unitless = {"seconds", "min_score", "release_score", "slots", "threads", "seed", "width", "height", "fps"}
    unitless |= {"min_share", "min_change", "mask", "device", "channel", "channels"}
    unitless |= {"idle", "active"}  # the key that they belong to says it
    for name, model in SCHEMA["$defs"].items():
        for field, form in model["properties"].items():
            kinds = json.dumps(form)
            if '"number"' in kinds or '"integer"' in kinds:
                assert field in unitless or field.endswith(
                    ("_s", "_ms", "_hz", "_bytes", "_db", "_dbfs", "_db_s")
                ), f"{name}.{field}"


@pytest.mark.parametrize("kind", source_kinds())
def test_a_kind_s_name_is_its_drop_in_s(kind: str) -> None:
    field = source_kinds()[kind].model_fields["kind"]
    assert field.annotation
    assert field.annotation.__args__ == (kind,)


def test_a_source_tells_what_it_opens() -> None:
    data = {
        "a": {"kind": "stream", "url": "clip.mp4"},
        "b": {"kind": "stream", "url": "rtsp://x/y", "modality": "audio"},
        "c": {"kind": "synthetic", "slots": 3},
        "d": {"kind": "synthetic", "seconds": 4},
    }
    config = validate(Document("x", json.dumps({"sources": data})), Config, Path("/media"))
    assert config.sources["a"].device == "/media/clip.mp4"
    assert [source.finite for source in config.sources.values()] == [True, False, False, True]
    assert [source.pool_slots for source in config.sources.values()] == [8, 64, 3, 8]
