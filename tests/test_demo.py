"""`edged demo` as a newcomer runs it, and on a film with real models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.process.edged import edged, left_behind, listening


def test_the_demo_needs_nothing() -> None:
    pytest.importorskip("amqtt")
    done = edged("demo", "--seconds", "12")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("movement", "voice", "somebody_talks", "loud", "infer", "total", "room_cam", "nothing"):
        assert word in done.stdout
    assert "Traceback" not in done.stderr
    assert left_behind() == []


def test_the_demo_on_a_film_with_real_models(data: Path, broker: Broker) -> None:
    film = data / "av/scene_a.mp4"
    with listening(broker.url) as listener:
        arguments = ("--seconds", "12", "--source", film, "--models", data / "models", "--mqtt", broker.url)
        done = edged("demo", *arguments)
        listener.listen(0.3)
        assert done.returncode == 0, done.stdout + done.stderr
        assert listener.events("person", "start")
        assert listener.events("person_speaking", "start")
        starts = {one["id"] for one in listener.events(phase="start")}
        assert starts == {one["id"] for one in listener.events(phase="end")}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["--models", "/nowhere"], 2, "no weights", id="models"),
        pytest.param(["--mqtt", "mqtt://127.0.0.1:9"], 1, "can't be reached", id="broker"),
        pytest.param(["--source", "ftp://a/b"], 2, "not supported", id="scheme"),
        pytest.param(["--seconds", "0"], 2, "--seconds", id="seconds"),
    ],
)
def test_bad_input_is_named(arguments: list[str], code: int, message: str) -> None:
    done = edged("demo", *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_film_that_is_not_there_is_a_state_with_a_reason(broker: Broker) -> None:
    done = edged("demo", "--seconds", "6", "--source", "nowhere.mp4", "--mqtt", broker.url)
    assert "there is no such file" in done.stdout
    assert "failed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
