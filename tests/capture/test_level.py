"""The level of a sound, and the gate over a noise floor that adapts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.capture.level import QUIETEST_DBFS, Level, level_dbfs, loudness
from edged.config.gates import LevelConfig
from edged.wire.clock import SECOND_NS

CHUNK_S = 0.096
RATE_HZ = 16_000


@pytest.mark.parametrize(("amplitude", "dbfs"), [(1.0, 0.0), (0.1, -20.0), (0.0, -100.0), (1e-9, -100.0)])
def test_levels(amplitude: float, dbfs: float) -> None:
    assert level_dbfs(np.full(1536, amplitude, np.float32)) == pytest.approx(dbfs, abs=0.01)


def test_no_samples_are_silence() -> None:
    assert level_dbfs(np.zeros(0, np.float32)) == QUIETEST_DBFS


def test_loudness_is_linear_in_decibels() -> None:
    assert [loudness(level) for level in (-100, -60, -30, 0)] == [0, 0, 0.5, 1]


class Ear:
    """A gate that hears noise of given levels, one after the other."""

    def __init__(self, chunk_s: float = CHUNK_S, **config: float) -> None:
        self.level = Level(LevelConfig.model_validate(config))
        self._random = np.random.default_rng(0)
        self._chunk_s, self._at_s = chunk_s, 0.0

    def hear(self, dbfs: float, seconds: float) -> list[bool]:
        """Whether the gate was open after each chunk."""
        heard = []
        for _ in range(round(seconds / self._chunk_s)):
            noise = self._random.standard_normal(round(self._chunk_s * RATE_HZ)) * 10 ** (dbfs / 20)
            got = self.level.add(noise.astype(np.float32), round(self._at_s * SECOND_NS))
            assert got == pytest.approx(max(QUIETEST_DBFS, dbfs), abs=1.5)
            self._at_s += self._chunk_s
            heard.append(self.level.active)
        return heard


@pytest.mark.parametrize("dbfs", [-80.0, -50.0, -25.0])
def test_a_steady_noise_is_no_sound(dbfs: float) -> None:
    assert not any(Ear().hear(dbfs, 60))


@pytest.mark.parametrize("chunk_s", [0.02, CHUNK_S, 0.5])
@pytest.mark.parametrize("floor", [-62.0, -40.0])
def test_what_is_louder_than_the_place_is_a_sound(floor: float, chunk_s: float) -> None:
    ear = Ear(chunk_s)
    ear.hear(floor, 10)
    assert all(ear.hear(floor + 20, 5))
    after = ear.hear(floor, 5)
    assert not any(after[1:])


def test_a_fan_that_stays_on_becomes_the_floor_and_is_forgotten_at_once() -> None:
    ear = Ear()
    ear.hear(-60, 10)
    fan = ear.hear(-40, 60)
    assert fan[0]
    open_s = sum(fan) * CHUNK_S
    assert 20 < open_s < 45, "20 dB less half of 9, at half a decibel a second"
    assert fan == sorted(fan, reverse=True), "it closes once"
    assert all(ear.hear(-28, 1)), "over the fan"
    ear.hear(-60, 1)
    assert all(ear.hear(-45, 1)), "the fan is off again"


def test_speech_stays_a_sound_through_a_minute() -> None:
    ear = Ear()
    ear.hear(-60, 5)
    spoken = [all(ear.hear(-25, 1.5)) for _ in range(40) if not ear.hear(-58, 0.5)[-1]]
    assert spoken == [True] * 40


def test_a_sound_has_a_least_level_however_silent_the_place_is() -> None:
    ear = Ear()
    ear.hear(-100, 60)
    assert not any(ear.hear(-58, 5))
    assert all(ear.hear(-50, 2))


def test_after_a_muted_microphone_a_noise_is_soon_the_floor() -> None:
    ear = Ear()
    ear.hear(-120, 60)
    assert sum(ear.hear(-50, 60)) * CHUNK_S < 22


def test_the_gate_closes_lower_than_it_opens() -> None:
    ear = Ear(above_floor_db=10, rise_db_s=0.001)
    ear.hear(-50, 5)
    assert not any(ear.hear(-43, 1)), "7 dB do not open it,"
    assert all(ear.hear(-35, 1))
    assert all(ear.hear(-43, 1)), "but keep it open"
    assert not any(ear.hear(-47, 1))


def test_the_floor_of_a_loud_beginning_falls_at_once() -> None:
    ear = Ear()
    ear.hear(-20, 3)
    ear.hear(-60, 0.5)
    assert all(ear.hear(-30, 2))


@given(st.lists(st.tuples(st.floats(-110, 0), st.integers(-(10**9), 10**10)), min_size=2, max_size=40))
def test_the_floor_keeps_its_bounds_whatever_the_stamps(heard: list[tuple[float, int]]) -> None:
    config = LevelConfig()
    level, floors, stamp_ns = Level(config), [], 0
    for dbfs, later_ns in heard:
        stamp_ns += later_ns
        got = level.add(np.full(100, 10 ** (dbfs / 20), np.float32), stamp_ns)
        floors.append(level.floor_dbfs)
        assert config.min_dbfs - config.above_floor_db <= level.floor_dbfs <= 0.01
        assert not level.active or got >= config.min_dbfs - config.above_floor_db / 2 - 0.01
    assert max(b - a for a, b in pairwise(floors)) <= 2 * config.rise_db_s + 0.01, "a gap of at most 2 s"
