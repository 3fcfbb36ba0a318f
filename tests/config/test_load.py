"""Every fault of a configuration is told with its place, and nothing but ConfigError gets out."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.load import MAX_FILE_BYTES, Document, load, validate
from edged.config.schema import Config
from edged.errors import ConfigError, Problem

MARK = "§"
"""Stands in a text before the place that an error has to name."""

VALID = """\
device: porch
state_dir: state
models_dirs: [weights]
mqtt: {url: "mqtt://broker.lan", username: edged, password_file: secret, event_expiry_s: 60}
sources:
  cam: {kind: synthetic, rate_hz: 5, figure_s: [1, 2.5]}
  door: {kind: stream, url: "rtsp://camera.lan/main", loop: false}
  mic: {kind: synthetic, modality: audio}
models:
  people: {card: yolox-nano, sources: [cam, door], priority: high, budget_ms: 80}
  voice: {card: silero-vad, sources: [mic]}
events:
  visit:
    video: {source: cam, label: person, model: people, min_score: 0.5, release_score: 0.3}
    hold_s: 2
  talk:
    video: {source: cam, label: [person, dog]}
    audio: {source: mic, label: speech}
    combine: any
    within_s: 1.5
"""


def faults(folder: Path, marked: str) -> tuple[list[str], list[str]]:
    """What `load` says of a marked text, and the places that the marks name."""
    path = folder / "edged.yaml"
    parts = marked.split(MARK)
    path.write_text("".join(parts), encoding="utf-8")
    places, before = [], ""
    for part in parts[:-1]:
        before += part
        places.append(f"{path}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: ")
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value).splitlines(), places


def put(old: str, new: str) -> str:
    """The valid configuration with one thing changed."""
    assert VALID.count(old) == 1, f"{old!r} is not unique"
    return VALID.replace(old, new)


ONE_FAULT = {
    "unknown key": (put("device:", "§colour: red\ndevice:"), "unknown key 'colour'"),
    "unknown key of a source": (put("loop: false", "§lop: false"), "unknown key 'lop'"),
    "unknown key of an event": (put("    hold_s", "    §holds"), "unknown key 'holds'"),
    "number as text": (put("rate_hz: 5", 'rate_hz: §"5"'), "input should be a valid number"),
    "text for a number": (put("rate_hz: 5", "rate_hz: §often"), "input should be a valid number"),
    "boolean for a number": (put("rate_hz: 5", "rate_hz: §true"), "input should be a valid number"),
    "number for a boolean": (put("loop: false", "loop: §1"), "input should be a valid boolean"),
    "on for a boolean": (put("loop: false", "loop: §on"), "input should be a valid boolean"),
    "fraction for an integer": (
        put("event_expiry_s: 60", "event_expiry_s: §60.0"),
        "input should be a valid integer",
    ),
    "number for a text": (put("username: edged", "username: §7"), "input should be a valid string"),
    "infinity": (put("rate_hz: 5", "rate_hz: §1e999"), "input should be a finite number"),
    "very long number": (put("rate_hz: 5", f"rate_hz: §{'9' * 5000}"), "input should be a finite number"),
    "text for keys": (
        put("{card: silero-vad, sources: [mic]}", "§silero-vad"),
        "keys with values are wanted",
    ),
    "list for keys": (
        put("{kind: synthetic, modality: audio}", "§[mic]"),
        "keys with values are wanted here",
    ),
    "text for a list": (put("[cam, door]", "§cam"), "input should be a valid tuple"),
    "nothing for keys": ("sources:§", "keys with values are wanted here"),
    "missing key": (put("voice: {card: silero-vad, ", "§voice: {"), "'card' is missing here"),
    "missing sources": ("§device: porch", "'sources' is missing here"),
    "missing kind": (put("mic: {kind: synthetic, ", "§mic: {"), "'kind' is missing here"),
    "empty file": (MARK, "'sources' is missing here"),
    "a comment alone": ("§# nothing\n", "'sources' is missing here"),
    "a list": ("§- sources", "keys with values are wanted here"),
    "unknown kind": (
        put("mic: {kind: synthetic", "mic: {kind: §holographic"),
        "there is no kind holographic; there is camera, mic, stream, synthetic",
    ),
    "duplicate key": (put("    hold_s: 2", "    hold_s: 2\n    §hold_s: 3"), "'hold_s' stands here a second"),
    "duplicate name": (
        put("models:\n", "  §cam: {kind: synthetic}\nmodels:\n"),
        "'cam' stands here a second time (first in line 6)",
    ),
    "same name, quoted": (put("models:\n", '  §"cam": {kind: synthetic}\nmodels:\n'), "second time"),
    "bad name": (put("mic: {kind", "§Mic!: {kind"), "a name has 1 to 63 of a-z 0-9 _ -"),
    "empty name": (put("mic: {kind", '§"": {kind'), "a name has 1 to 63 of a-z 0-9 _ -"),
    "long name": (put("device: porch", f"device: §{'a' * 64}"), "a name has 1 to 63 of a-z 0-9 _ -"),
    "a slash in a name": (put("device: porch", "device: §a/b"), "a name has 1 to 63 of a-z 0-9 _ -"),
    "a name with a line's end": (put("device: porch", 'device: §"porch\\n"'), "a name has 1 to 63"),
    "unknown source of a model": (
        put("sources: [mic]", "sources: [mic, §hall]"),
        "there is no source 'hall'; there is cam, door, mic",
    ),
    "source named twice": (put("[cam, door]", "[cam, door, §cam]"), "source 'cam' is named twice"),
    "unknown source of an event": (
        put("audio: {source: mic", "audio: {source: §hall"),
        "there is no source 'hall'; there is cam, door, mic",
    ),
    "unknown model of an event": (
        put("model: people", "model: §folk"),
        "there is no model 'folk'; there is people, voice",
    ),
    "a model elsewhere": (put("model: people", "model: §voice"), "model 'voice' does not run on 'cam'"),
    "wrong modality": (
        put("audio: {source: mic", "audio: {source: §cam"),
        "source 'cam' has modality video, not audio",
    ),
    "unknown modality": (put("modality: audio", "modality: §smell"), "input should be 'video' or 'audio'"),
    "score over 1": (put("min_score: 0.5", "min_score: §1.5"), "less than or equal to 1"),
    "score below 0": (put("min_score: 0.5", "min_score: §-0.1"), "greater than or equal to 0"),
    "release over begin": (
        put("video: {source: cam, label: person, ", "video: §{source: cam, label: person, ").replace(
            "release_score: 0.3", "release_score: 0.6"
        ),
        "release_score can't be above min_score",
    ),
    "no evidence": ("sources: {cam: {kind: synthetic}}\nevents: {visit: §{hold_s: 1}}", "an event needs"),
    "no source": ("sources: §{}", "at least 1 item"),
    "no label": (put("label: speech", "label: §[]"), "at least 1 item"),
    "password in a URL": (
        put('"mqtt://broker.lan"', '§"mqtt://me:secret@broker.lan"'),
        "name the user by 'username' and the password by 'password_file', not in the URL",
    ),
    "no port": (put("broker.lan", "broker.lan:70000").replace('"mqtt:', '§"mqtt:'), "port out of range"),
    "topic with a wildcard": (put("username: edged", 'prefix: §"edged/#"'), "a topic prefix holds no + #"),
    "unsupported scheme": (put('"rtsp://camera.lan/main"', '§"gopher://x/"'), "'gopher://' is not supported"),
    "figure out of its period": (put("cam: {kind", "cam: §{kind").replace("2.5]", "25]"), "figure_s"),
    "tab": ("sources:\n§\tcam: {kind: synthetic}\n", "not YAML: found character '\\t'"),
    "open bracket": ("sources: [cam\n§", "not YAML: expected ',' or ']'"),
    "two documents": ("sources: {}\n§---\nsources: {}\n", "not YAML: but found another document"),
    "unknown alias": ("sources: §*all", "not YAML: found undefined alias 'all'"),
    "control character": ("sources:\n  cam: {kind: synth§\x01etic}", "the character U+0001 is not allowed"),
    "key that is a list": ("sources: {§[a, b]: 1, cam: {kind: synthetic}}", "a key has to be a plain word"),
    "tag of a scalar": (put("device: porch", "device: §!secret porch"), "the tag !secret is not allowed"),
    "tag of Python": (
        put("[weights]", "§!!python/object/apply:os.getcwd []"),
        "the tag tag:yaml.org,2002:python/object/apply:os.getcwd is not allowed",
    ),
    "alias in itself": ("sources: §&all\n  cam: *all\n", "holds itself"),
    "very deep": (f"§{'[' * 100_000}", "too deep"),
    "deep": ("{a: " * 51 + "§{a: 1}" + "}" * 51, "too large or too deep"),
    "wide characters before": ("sources: {'日本': {kind: synthetic}, cam: {kind: §odd}}", "no kind odd"),
}


@pytest.mark.parametrize(("text", "message"), ONE_FAULT.values(), ids=ONE_FAULT.keys())
def test_a_fault_has_its_place(tmp_path: Path, text: str, message: str) -> None:
    said, places = faults(tmp_path, text)
    (place,) = places
    assert any(line.startswith(place) and message in line for line in said), said


def test_the_valid_one_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "edged.yaml"
    path.write_text(VALID, encoding="utf-8")
    config = load(path)
    assert config.events["talk"].within_s == 1.5
    assert config.models["people"].sources == ("cam", "door")
    assert config.state_dir == str(tmp_path / "state"), "a path counts from the file's folder"


def test_all_faults_are_told_at_once_and_in_order(tmp_path: Path) -> None:
    said, places = faults(
        tmp_path,
        """\
§colour: red
device: §Porch
sources:
  §cam: {rate_hz: 5}
  mic: {kind: synthetic, modality: §smell, §loud: true, rate_hz: §often}
  §mic: {kind: synthetic}
models:
  people: {card: §7, sources: §[]}
  §voice: {card: silero-vad}
""",
    )
    assert len(said) == len(places)
    for line, place in zip(said, places, strict=True):
        assert line.startswith(place), said


def test_all_references_are_told_at_once(tmp_path: Path) -> None:
    said, places = faults(
        tmp_path,
        """\
sources: {cam: {kind: synthetic}}
models: {people: {card: a, sources: [§porch, §hall]}, voice: {card: b, sources: [§mic]}}
events:
  visit: {video: {source: §porch, label: person, model: §folk}, audio: {source: §cam, label: speech}}
""",
    )
    assert len(said) == len(places)
    for line, place in zip(said, places, strict=True):
        assert line.startswith(place), said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sources: {}\ndevice: \xff\n", ":2:9: not UTF-8 text"),
        ("sources: {}\n# \xe9 ".encode() + b"\xc3\x28", ":2:5: not UTF-8 text"),
        ("sources: {}".encode("utf-16"), ":1:1: not UTF-8 text"),
        (b"#" * (MAX_FILE_BYTES + 1), f":1:1: larger than {MAX_FILE_BYTES} bytes"),
        (b"#" * MAX_FILE_BYTES + "é".encode(), f":1:1: larger than {MAX_FILE_BYTES} bytes"),
        (b"\x00" * 100, ":1:1: not YAML: the character U+0000 is not allowed"),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "edged.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}{message}"


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "edged.yaml"
    path.write_bytes(codecs.BOM_UTF8 + VALID.encode())
    assert load(path).device == "porch"
    path.write_bytes(codecs.BOM_UTF8 + b"device: \xff")
    with pytest.raises(ConfigError, match=":1:9: not UTF-8"):
        load(path)


@pytest.mark.parametrize(("name", "why"), [("gone.yaml", "No such file"), (".", "Is a directory")])
def test_a_file_that_can_not_be_read(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}:1:1: can't be read: {why}")


@pytest.mark.timeout(30)
def test_a_billion_laughs_end_early() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(ConfigError, match="too large"):
        Document("laughs.yaml", "\n".join(lines))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("False", False),
        ("12:30", "12:30"),
        ("1:2:3", "1:2:3"),
        ("2026-11-05", "2026-11-05"),
        ("1e3", 1000.0),
        ("1E-2", 0.01),
        (".5", 0.5),
        ("+3", 3),
        ("-0", 0),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'null'", "null"),
        ('"12"', "12"),
        ("=", "="),
        ("[1, [a]]", (1, ("a",))),
    ],
)
def test_plain_values_are_read_as_yaml_1_2_says(text: str, value: object) -> None:
    read = Document("x.yaml", f"key: {text}").data["key"]
    assert (read, type(read)) == (value, type(value))


def test_a_merge_key_is_a_key_like_others() -> None:
    assert Document("x.yaml", "a: &a {x: 1}\nb: {<<: *a}").data["b"] == {"<<": {"x": 1}}


def refusal(document: Callable[[], Document]) -> list[Problem]:
    """The faults of a document, none when it is valid; only ConfigError may come out."""
    try:
        validate(document(), Config, Path("/nowhere"))
    except ConfigError as error:
        return error.problems or [Problem("", 0, 0, "refused without a reason")]
    return []


def read_any(text: str) -> None:
    """What `load` does with a text."""
    for problem in refusal(lambda: Document("x.yaml", text)):
        assert 1 <= problem.line <= len(text.splitlines()) + 2
        assert problem.column >= 1
        assert problem.message


# A generous limit: it is to find what grows without bound, on machines that stall now and then.
unhurried = settings(deadline=timedelta(seconds=10), max_examples=300)
SIGNS = ["{", "}", "[", "]", ":", ": ", ",", "- ", "&a ", "*a", "!!int ", "!x ", "|", ">", '"', "'", "#", "?"]
SIGNS += [
    "\n",
    "\t",
    " ",
    "---\n",
    "...",
    "%",
    "<<: ",
    "~",
    "true",
    "on",
    "1e3",
    "-1",
    "0.5",
    "9" * 400,
    "\0",
]
SIGNS += ["\ud800", '"\\ud800"', "\x85", "\u2028", "é", "[]", "{}", "null", "audio", "cam", "mic", "kind"]


@unhurried
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    read_any(text)


@unhurried
@given(st.lists(st.sampled_from(SIGNS), max_size=40).map("".join))
def test_any_run_of_signs_is_read_or_refused(text: str) -> None:
    read_any(text)


@unhurried
@given(
    st.lists(
        st.tuples(st.integers(0, len(VALID)), st.integers(0, 30), st.sampled_from([*SIGNS, ""])),
        min_size=1,
        max_size=4,
    )
)
def test_a_valid_one_after_any_edit_is_read_or_refused(edits: list[tuple[int, int, str]]) -> None:
    text = VALID
    for start, length, new in edits:
        text = text[:start] + new + text[start + length :]
    read_any(text)


PLACES: list[tuple[str, ...]] = [("device",), ("mqtt", "url"), ("sources", "cam"), ("sources", "cam", "kind")]
PLACES += [("sources", "door", "url"), ("models", "people", "sources"), ("events", "talk", "audio", "label")]
PLACES += [("events", "visit"), ("events", "visit", "video", "release_score"), ("sources",), ("state_dir",)]
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(
    plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)


@unhurried
@given(st.sampled_from(PLACES), anything)
def test_any_value_in_any_place_is_taken_or_refused(place: tuple[str, ...], value: object) -> None:
    document = Document("x.yaml", VALID)
    inside = document.data
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    assert all(problem.line >= 1 for problem in refusal(lambda: document))


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load(path)  # no such bytes hold a source
