"""Models and labels that a configuration names have to fit the cards, and are told with their place."""

from __future__ import annotations

import json
from pathlib import Path

from edged.config.load import Document, validate
from edged.config.schema import Config
from edged.labels import SHOWN, check_labels
from edged.perceive.cards import load_card

CONFIG = """\
sources: {cam: {kind: synthetic}, mic: {kind: synthetic, modality: audio}}
models:
  people: {card: yolox-nano, sources: [cam]}
  sounds: {card: yamnet, sources: [mic]}
  voice: {card: silero-vad, sources: [mic]}
events:
  talk: {video: {source: cam, label: person}, audio: {source: mic, label: speech}}
"""


def misfits(text: str, without: str = "") -> list[str]:
    """Each misfit as `line:column message`; `without`: a model whose card could not be loaded."""
    document = Document("x.yaml", text)
    config = validate(document, Config, Path("/"))
    cards = {name: load_card(use.card) for name, use in config.models.items() if name != without}
    problems = [document.problem(path, message) for path, message in check_labels(config, cards)]
    return [f"{one.line}:{one.column} {one.message}" for one in problems]


def event(evidence: dict[str, object], modality: str = "video") -> str:
    return f"{CONFIG}  more: {{{modality}: {json.dumps(evidence)}}}\n"


def test_what_fits() -> None:
    assert misfits(CONFIG) == []
    assert misfits(event({"source": "cam", "label": ["dog", "motion"]})) == []
    assert misfits(event({"source": "mic", "label": ["sound", "siren"]}, "audio")) == [], "groups are labels"


def test_a_model_of_another_modality() -> None:
    assert misfits(CONFIG.replace("sources: [cam]", "sources: [cam, mic]")) == [
        "3:45 card 'yolox-nano' wants video, 'mic' has audio"
    ]


def test_a_label_that_nobody_reports() -> None:
    (told,) = misfits(event({"source": "cam", "label": "unicorn"}))
    assert told.startswith("8:44 nothing on 'cam' reports 'unicorn'; there is aeroplane, apple, backpack")
    assert told.endswith(", …")
    assert told.count(",") == SHOWN


def test_each_label_has_its_place() -> None:
    told = misfits(event({"source": "cam", "label": ["person", "unicorn", "dog", "dragon"]}))
    assert [one.split()[0] for one in told] == ["8:55", "8:73"]


def test_a_label_of_another_model() -> None:
    """Silero says speech and no more."""
    assert misfits(event({"source": "mic", "label": "siren"}, "audio")) == []
    (told,) = misfits(event({"source": "mic", "label": "siren", "model": "voice"}, "audio"))
    assert told.endswith("nothing on 'mic' reports 'siren'; there is speech")


def test_what_capture_measures_is_no_model_s_word() -> None:
    assert misfits(event({"source": "cam", "label": "motion"})) == []
    (told,) = misfits(event({"source": "cam", "label": "motion", "model": "people"}))
    assert "nothing on 'cam' reports 'motion'" in told


def test_what_is_measured_depends_on_the_modality() -> None:
    (told,) = misfits(event({"source": "cam", "label": "sound"}))
    assert "nothing on 'cam' reports 'sound'" in told


def test_a_source_without_models() -> None:
    text = CONFIG.replace("cam: {kind: synthetic}", "cam: {kind: synthetic}, yard: {kind: synthetic}")
    assert misfits(text + "  more: {video: {source: yard, label: person}}\n") == [
        "8:39 nothing on 'yard' reports 'person'; there is motion"
    ]


def test_a_card_with_faults_of_its_own_is_not_blamed_twice() -> None:
    assert misfits(event({"source": "cam", "label": "unicorn"}), without="people") == []
