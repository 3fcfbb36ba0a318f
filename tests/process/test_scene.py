"""The acceptance scene: a real recording, real models, a real broker, and a subscriber."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from edged.wire.event import json_schema
from tests.conftest import Broker
from tests.process.edged import SCENE, Json, edged, listening, same, seconds, spans

SPEAKING = [(10.0, 16.5), (55.0, 60.0), (108.0, 114.5)]


@pytest.fixture(scope="module")
def truth(data: Path) -> Json:
    """When persons are to be seen and sounds to be heard, in seconds."""
    found: Json = json.loads((data / "av/scene_a.json").read_text())
    return found


def replay(data: Path, *arguments: str) -> list[Json]:
    """One replay's events."""
    source = f"cam={data / 'av/scene_a.mp4'}"
    done = edged("replay", SCENE, "--source", source, "--models", data / "models", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(events: list[Json], truth: Json) -> None:
    """The acceptance of the scene."""
    visits = truth["person"]
    persons = spans(events, "person")
    found = [v for v in visits if any(abs(start - v[0]) <= 1.5 for start, _ in persons)]
    assert len(found) >= 5, persons
    for start, end in persons:
        assert any(on - 2 <= start and end <= off + 2 for on, off in visits), (start, end)
    speaking = spans(events, "person_speaking")
    assert len(speaking) == len(SPEAKING), speaking
    for (start, end), (on, off) in zip(speaking, SPEAKING, strict=True):
        assert on <= start <= end <= off, speaking
    sirens = spans(events, "siren")
    for sound in truth["sounds"]:
        if sound["label"] == "siren":
            assert any(start < sound["off"] and end > sound["on"] for start, end in sirens), sirens


def check_form(events: list[Json]) -> None:
    """Each event has one start, then updates, then one end; each fits the schema."""
    for event in events:
        jsonschema.validate(event, json_schema())
        for one in event["evidence"]:
            # Evidence is of the event itself, not of long before.
            at_s = seconds(one["at"])
            assert seconds(event["started_at"]) - 0.6 <= at_s <= seconds(event["updated_at"]) + 0.6
    for identity in {one["id"] for one in events}:
        phases = [(one["sequence"], one["phase"]) for one in events if one["id"] == identity]
        updates = ["update"] * (len(phases) - 2)
        assert phases == list(enumerate(["start", *updates, "end"], 1))


def test_the_scene_over_mqtt(data: Path, broker: Broker, truth: Json) -> None:
    with listening(broker.url) as listener:
        printed = replay(data, "--mqtt", broker.url)
        listener.listen(1.0)
        received = listener.events()
        assert received == printed
        assert listener.last("/scene/health")["outbox"]["waiting"] == 0
        assert listener.last("/state/person") == {"state": "OFF"}
        cam = listener.last("/source/cam")
        assert (cam["state"], cam["delivered"], cam["analysed"], cam["drops"]) == ("ended", 697, 697, {})
    check(received, truth)
    check_form(received)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_replays_agree(data: Path) -> None:
    first = same(replay(data, "--mqtt", "none"))
    for _ in range(9):
        assert same(replay(data, "--mqtt", "none")) == first


@pytest.mark.long
@pytest.mark.timeout(400)
def test_paced_gives_the_same_list(data: Path, broker: Broker, truth: Json) -> None:
    fast = replay(data, "--mqtt", "none")
    source = f"cam={data / 'av/scene_a.mp4'}"
    arguments = ("--source", source, "--models", data / "models", "--mqtt", broker.url, "--paced", "--json")
    done = edged("replay", SCENE, *arguments, timeout_s=250)
    assert done.returncode == 0, done.stderr
    paced = [json.loads(line) for line in done.stdout.splitlines()]
    check(paced, truth)
    check_form(paced)
    for kind in ("person", "person_speaking", "siren"):
        expected, got = spans(fast, kind), spans(paced, kind)
        assert len(got) == len(expected), kind
        for (start, _), (paced_start, _) in zip(expected, got, strict=True):
            assert abs(start - paced_start) <= 0.5
