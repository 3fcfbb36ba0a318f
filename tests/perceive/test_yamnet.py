"""YAMNet on real sound, by the way it goes in the daemon."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.capture.device import Sampler
from edged.perceive.cards import Card, Model
from edged.wire.clock import SECOND_NS
from edged.wire.pool import Samples
from edged.wire.records import Detection
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES
from tests.perceive.lend import Lender, look, open_card, read_sound

RATE_HZ = 2.0
Heard = list[tuple[float, dict[str, float]]]


@pytest.fixture
def yamnet(data: Path) -> tuple[Card, Model]:
    """The shipped card and its model."""
    return open_card("yamnet", data)


def listen(model: Model, path: Path, from_s: float = 0, to_s: float = 1e9) -> Heard:
    """The middle of each window, and what was heard in it."""
    heard, sampler = [], Sampler(RATE_HZ)
    with Lender("mic", "audio") as lender:
        for stamp_ns, samples in read_sound(path):
            end_ns = stamp_ns + CHUNK_NS
            if not from_s * SECOND_NS <= stamp_ns < to_s * SECOND_NS:
                continue
            found = look(model, lender.sound(stamp_ns, samples, due=sampler.take(end_ns)))
            if found is not None:
                middle_s = (end_ns - model.window_ns / 2) / SECOND_NS
                heard.append((middle_s, {one.label: one.score for one in found}))
    return heard


def test_it_hears_the_sirens_and_nothing_like_them(data: Path, yamnet: tuple[Card, Model]) -> None:
    """At 71.0-73.6 and 100.0-102.6 s, as av/scene_a.json says."""
    heard = listen(yamnet[1], data / "av/scene_a.mp4")
    sirens = [at_s for at_s, scores in heard if scores.get("siren", 0) >= 0.4]
    first, second = [at for at in sirens if at < 90], [at for at in sirens if at >= 90]
    half_s = yamnet[1].window_ns / 2 / SECOND_NS
    for found, start_s, end_s in ((first, 71.0, 73.6), (second, 100.0, 102.6)):
        assert len(found) >= 4
        assert start_s - half_s <= min(found)
        assert max(found) <= end_s + half_s


def test_it_runs_at_the_source_s_rate_once_it_has_a_second(data: Path, yamnet: tuple[Card, Model]) -> None:
    heard = listen(yamnet[1], data / "audio/silero_test.wav", 0, 20)
    middles = [at_s for at_s, _ in heard]
    assert middles[0] >= yamnet[1].window_ns / 2 / SECOND_NS, "not before there is a whole window"
    assert middles[0] < 1.1
    assert np.diff(middles).mean() == pytest.approx(1 / RATE_HZ, rel=0.05)
    assert np.diff(middles).max() <= 1 / RATE_HZ + CHUNK_NS / SECOND_NS


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("rain.wav", "rain"),
        ("typing.wav", "typing"),
        ("car_engine.wav", "vehicle"),
        ("snoring.wav", "snoring"),
        ("silero_test.wav", "speech"),
    ],
)
def test_it_knows_real_sounds(data: Path, yamnet: tuple[Card, Model], name: str, label: str) -> None:
    heard = listen(yamnet[1], data / "audio" / name, 0, 8)
    assert np.mean([scores.get(label, 0) for _, scores in heard]) > 0.3, heard


def test_a_group_scores_as_its_best_member(data: Path, yamnet: tuple[Card, Model]) -> None:
    card, model = yamnet
    whole, _ = open_card("yamnet", data, groups={}, min_score=0.0)
    _, plain = open_card("yamnet", data, groups={}, min_score=0.0)
    path = data / "av/scene_a.mp4"
    pairs = list(zip(listen(model, path, 100, 104), listen(plain, path, 100, 104), strict=True))
    assert pairs
    for (_, grouped), (_, single) in pairs:
        assert len(single) == len(whole.labels)
        for name, members in card.groups.items():
            best = max(single[member] for member in members)
            assert grouped.get(name, 0) == (best if best >= card.min_score else 0)


def test_the_best_come_first(data: Path, yamnet: tuple[Card, Model]) -> None:
    _, model = yamnet
    with Lender("mic", "audio") as lender:
        for stamp_ns, samples in read_sound(data / "audio/crowd_cheering.wav"):
            found = look(model, lender.sound(stamp_ns, samples))
            if found:
                assert len({one.label for one in found}) == len(found)
                assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
                return
    pytest.fail("nothing was heard")


def test_a_gap_is_waited_out(yamnet: tuple[Card, Model]) -> None:
    """A window never holds what lies on both sides of a gap."""
    _, model = yamnet
    noise = np.random.default_rng(1).normal(0, 0.1, (40, CHUNK_SAMPLES)).astype(np.float32)

    def ran(lender: Lender, place: int, shift_ns: int = 0) -> tuple[Detection, ...] | None:
        samples: Samples = noise[place]
        return look(model, lender.sound(place * CHUNK_NS + shift_ns, samples))

    with Lender("mic", "audio") as lender:
        before = [ran(lender, place) is not None for place in range(15)]
        after = [ran(lender, place, SECOND_NS) is not None for place in range(15, 30)]
    assert before == after == [False] * 10 + [True] * 5, "0.975 s are ten chunks and a bit"


def test_sources_do_not_mix(data: Path, yamnet: tuple[Card, Model]) -> None:
    _, model = yamnet
    talk = list(read_sound(data / "audio/silero_test.wav"))[:30]
    rain = list(read_sound(data / "audio/rain.wav"))[:30]
    together = []
    with Lender("hall", "audio") as hall, Lender("yard", "audio") as yard:
        for one, other in zip(talk, rain, strict=True):
            together.append(look(model, hall.sound(*one)))
            look(model, yard.sound(*other))
    _, fresh = open_card("yamnet", data)
    with Lender("hall", "audio") as hall:
        assert [look(fresh, hall.sound(*one)) for one in talk] == together
