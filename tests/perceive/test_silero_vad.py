"""Both ways to run Silero VAD pass the same suite, on real sound."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from edged.perceive.cards import Model
from edged.wire.clock import SECOND_NS
from edged.wire.pool import Samples
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES
from tests.perceive.lend import Lender, look, open_card, read_sound

SPEECH_S = [(10.0, 16.0), (45.8, 49.7), (55.0, 59.4), (108.0, 113.9)]
"""As av/scene_a.json says."""
PAUSE_S = 1.0
"""Between two sentences of one who speaks."""

Chunks = list[tuple[int, Samples]]


@pytest.fixture(scope="module")
def scene(data: Path) -> Chunks:
    """The sound of a scene with four speeches, sirens, an engine and footsteps."""
    return list(read_sound(data / "av/scene_a.mp4"))


@pytest.fixture(params=["silero-vad", "voice"])
def model(request: pytest.FixtureRequest, data: Path) -> Model:
    """One of the two, fresh."""
    _, one = open_card(request.param, data, min_score=0.0)
    return one


def part(scene: Chunks, from_s: float, to_s: float) -> Chunks:
    """The chunks that begin in a span."""
    return [chunk for chunk in scene if from_s <= chunk[0] / SECOND_NS < to_s]


def scores(model: Model, chunks: Iterable[tuple[int, Samples]], source: str = "mic") -> list[float]:
    """The probability of speech in each chunk."""
    found = []
    with Lender(source, "audio") as lender:
        for stamp_ns, samples in chunks:
            (one,) = look(model, lender.sound(stamp_ns, samples)) or ()
            assert one.label == "speech"
            found.append(one.score)
    return found


def test_it_finds_speech_where_it_is_and_nowhere_else(model: Model, scene: Chunks) -> None:
    spans: list[tuple[float, float]] = []
    for (stamp_ns, _), score in zip(scene, scores(model, scene), strict=True):
        if score < 0.5:
            continue
        start_s, end_s = stamp_ns / SECOND_NS, (stamp_ns + CHUNK_NS) / SECOND_NS
        if spans and start_s - spans[-1][1] <= PAUSE_S:
            spans[-1] = (spans[-1][0], end_s)
        else:
            spans.append((start_s, end_s))
    edges = [edge for span in spans for edge in span]
    assert edges == pytest.approx([edge for span in SPEECH_S for edge in span], abs=0.3)


def test_each_source_has_a_memory_of_its_own(data: Path, model: Model, scene: Chunks) -> None:
    """Two sources in turn give what each gives alone."""
    talk, siren = part(scene, 9, 13), part(scene, 70, 74)
    talk, siren = talk[:40], siren[:40]
    together: tuple[list[float], list[float]] = ([], [])
    with Lender("hall", "audio") as hall, Lender("yard", "audio") as yard:
        for one, other in zip(talk, siren, strict=True):
            for lender, (stamp_ns, samples), found in ((hall, one, together[0]), (yard, other, together[1])):
                found += [seen.score for seen in look(model, lender.sound(stamp_ns, samples)) or ()]
    assert max(together[0]) > 0.9
    assert max(together[1]) < 0.5
    assert together[0] == scores(_again(model, data), talk)
    assert together[1] == scores(_again(model, data), siren)


@pytest.mark.parametrize("gap_ns", [CHUNK_NS, 30 * SECOND_NS, -5 * SECOND_NS])
def test_after_a_gap_it_begins_anew(data: Path, model: Model, scene: Chunks, gap_ns: int) -> None:
    before, after = part(scene, 10, 12), part(scene, 12, 13)
    later = [(stamp_ns + gap_ns, samples) for stamp_ns, samples in after]
    fresh = scores(_again(model, data), after)
    assert scores(model, before + later)[len(before) :] == fresh
    assert scores(_again(model, data), before + after)[len(before) :] != fresh, "without a gap it remembers"


def test_a_container_s_rounding_is_no_gap(data: Path, model: Model, scene: Chunks) -> None:
    talk = part(scene, 10, 12)
    rounded = [(stamp_ns + place % 3 * 5_000_000, samples) for place, (stamp_ns, samples) in enumerate(talk)]
    assert scores(model, rounded) == scores(_again(model, data), talk)


def test_silence_and_noise_are_no_speech(model: Model) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (40, CHUNK_SAMPLES)).astype(np.float32)
    noise[:20] = 0
    found = scores(model, [(place * CHUNK_NS, samples) for place, samples in enumerate(noise)])
    assert max(found) < 0.5


def test_what_scores_less_than_the_card_says_is_not_reported(data: Path, scene: Chunks) -> None:
    for name in ("silero-vad", "voice"):
        _, model = open_card(name, data, min_score=0.3)
        with Lender("mic", "audio") as lender:
            found = [look(model, lender.sound(*chunk)) for chunk in part(scene, 9, 12)]
        assert () in found, "the first second is quiet"
        assert all(one.score >= 0.3 for seen in found for one in seen or ())
        assert any(found)


def _again(model: Model, data: Path) -> Model:
    """A fresh one of the same family."""
    name = {"SileroVad": "silero-vad", "PysileroVad": "voice"}[type(model).__name__]
    return open_card(name, data, min_score=0.0)[1]
