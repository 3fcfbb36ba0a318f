"""Bad input at the command line: a clear message, the right exit code, no traceback, nothing left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.process.edged import ROOT, SCENE, edged, left_behind

CAM = "sources: {cam: {kind: stream, url: %s}}\nevents: {m: {video: {source: cam, label: motion}}}\n"


def write(folder: Path, text: str) -> Path:
    """A configuration file."""
    file = folder / "edged.yaml"
    file.write_text(text)
    return file


def test_check_names_every_error_with_its_place(tmp_path: Path) -> None:
    file = write(tmp_path, "device: UPPER\nsources:\n  cam: {kind: stream, url: a.mp4, rat_hz: 5}\nfoo: 1\n")
    done = edged("check", file)
    assert done.returncode == 2
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [
        f"{file}:1:9",
        f"{file}:3:35",
        f"{file}:4:1",
    ]


def test_check_is_content_with_what_is_shipped() -> None:
    for file in (ROOT / "configs").glob("*.yaml"):
        done = edged("check", file)
        assert done.returncode == 0, done.stderr
        assert "no errors" in done.stdout


def test_schemas_are_schemas() -> None:
    for option in ("--schema", "--event-schema"):
        done = edged("check", option)
        assert done.returncode == 0
        jsonschema.Draft202012Validator.check_schema(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["check", "nowhere.yaml"], "nowhere.yaml:1:1: can't be read", id="no configuration"),
        pytest.param(["run", "nowhere.yaml"], "nowhere.yaml:1:1: can't be read", id="run"),
        pytest.param(["check"], "name a file", id="no argument"),
        pytest.param(["fly"], "No such command", id="no command"),
        pytest.param(["replay", str(SCENE), "--source", "door=a.mp4"], "no source 'door'", id="no source"),
        pytest.param(["replay", str(SCENE), "--source", "cam"], "NAME=FILE", id="no file"),
        pytest.param(["replay", str(SCENE), "--models", "nowhere"], "is no folder", id="no models"),
        pytest.param(["run", str(SCENE), "--mqtt", "http://a"], "mqtt://host", id="no broker's URL"),
        pytest.param(["watch", "--mqtt", "mqtt://u:p@host"], "password_file", id="password in the URL"),
    ],
)
def test_usage_and_configuration_exit_with_2(arguments: list[str], message: str) -> None:
    done = edged(*arguments)
    assert done.returncode == 2
    # A box may break the line anywhere.
    assert message.replace(" ", "") in "".join(sign for sign in done.stderr if sign not in " \n│")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "there is no such file", id="missing"),
        pytest.param(b"", "can't be opened", id="empty"),
        pytest.param(b"no video at all" * 100, "can't be opened", id="no video"),
    ],
)
def test_a_replay_of_a_bad_file_fails_with_a_reason(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    done = edged("replay", write(tmp_path, CAM % "a.mp4"))
    assert done.returncode == 1
    assert "source cam" in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert left_behind() == []


def test_a_video_without_sound_is_an_error_of_the_source_that_wants_it(data: Path) -> None:
    video = data / "video/one-by-one-person.mp4"
    done = edged("replay", SCENE, "--source", f"cam={video}", "--models", data / "models", "--mqtt", "none")
    assert done.returncode == 1
    assert f"source mic: {video} has no sound" in done.stderr


def test_sound_without_a_picture_likewise(data: Path, tmp_path: Path) -> None:
    sound = data / "audio/how_are_you_doing.wav"
    done = edged("replay", write(tmp_path, CAM % sound))
    assert done.returncode == 1
    assert f"{sound} has no picture" in done.stderr


def test_missing_weights_say_where_they_were_looked_for(data: Path, tmp_path: Path) -> None:
    source = f"cam={data / 'av/scene_a.mp4'}"
    done = edged("replay", SCENE, "--source", source, "--models", tmp_path, "--mqtt", "none")
    assert done.returncode == 1
    assert "yolox_nano.onnx" in done.stderr
    assert str(tmp_path) in done.stderr


def test_a_live_source_goes_on_while_another_fails(tmp_path: Path) -> None:
    """The daemon runs on with the state of the source that can't be opened; see test_faults for MQTT."""
    file = write(
        tmp_path,
        "sources:\n  cam: {kind: stream, url: none.mp4}\n  room: {kind: synthetic, rate_hz: 10, period_s: 2,"
        " figure_s: [0.5, 1], voice_s: [1, 1], alarm_s: [1, 1]}\n"
        "events: {m: {video: {source: room, label: motion, min_score: 0.01}, hold_s: 0.3}}\n",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "edged", "run", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    events = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.terminate()
    _, log = process.communicate(timeout=10)
    assert process.returncode == 0
    assert [event["phase"] for event in events] == ["start", "end"]
    assert "source cam: failed" in log
    assert "there is no such file" in log


def test_two_daemons_do_not_share_an_outbox(tmp_path: Path) -> None:
    text = (
        ROOT / "configs/demo.yaml"
    ).read_text() + f"state_dir: {tmp_path}\nmqtt: {{url: 'mqtt://127.0.0.1:9'}}\n"
    file = write(tmp_path, text)
    with subprocess.Popen(
        [sys.executable, "-m", "edged", "run", str(file)], stderr=subprocess.PIPE, text=True
    ) as first:
        assert first.stderr
        assert "can't be reached" in first.stderr.readline() + first.stderr.readline()
        second = edged("run", file)
        first.terminate()
        first.communicate(timeout=10)
    assert second.returncode == 1
    assert "another edged uses it" in second.stderr
    assert left_behind() == []


def test_the_version_is_the_packages() -> None:
    import edged as package

    assert edged("--version").stdout.strip() == f"edged {package.__version__}"
