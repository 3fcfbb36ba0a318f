"""Chunks for models and what clips keep, from sound in blocks of any length, at any rate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.capture.device import Sound
from edged.capture.listening import GAP_NS, Chunks, Keeper, Kept
from edged.wire.clock import SECOND_NS
from edged.wire.pool import Samples
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES, SAMPLE_RATE_HZ

Wave = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

NATIVE = [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]
OPUS = [8_000, 12_000, 16_000, 24_000, 48_000]
BEGIN_NS = 7_000_000_123
EDGE_S = 0.05
"""At the ends of a recording a resampler hears the silence beyond."""
lengths_of_blocks = st.lists(st.integers(1, 6000), min_size=1, max_size=20)


def sounds(wave: Samples, rate_hz: int, lengths: Iterable[int], begin_ns: int = BEGIN_NS) -> Iterator[Sound]:
    """The recording in blocks, exactly stamped (rounded down to nanoseconds)."""
    at, lengths = 0, iter(lengths)
    while at < len(wave):
        block = wave[at : at + next(lengths)]
        yield Sound("mic", begin_ns + at * SECOND_NS // rate_hz, block, rate_hz)
        at += len(block)


def sampled(wave: Wave, seconds: float, rate_hz: int) -> Samples:
    return wave(np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


def sine(at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 0.9 * np.sin(2 * np.pi * 997 * at)


def sweep(at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """50 Hz to 3.4 kHz in six seconds."""
    return 0.9 * np.sin(2 * np.pi * (50 * at + (3400 - 50) / 12 * at**2))


def chunked(recording: Iterable[Sound]) -> list[tuple[int, Samples]]:
    chunks = Chunks()
    return [chunk for sound in recording for chunk in chunks.add(sound)]


@given(lengths_of_blocks)
def test_sound_that_is_at_the_rate_already_is_only_cut(lengths: list[int]) -> None:
    wave = np.arange(sum(lengths), dtype=np.float32)
    made = chunked(sounds(wave, SAMPLE_RATE_HZ, lengths))
    assert len(made) == len(wave) // CHUNK_SAMPLES
    for count, (stamp_ns, samples) in enumerate(made):
        assert stamp_ns == BEGIN_NS + count * CHUNK_NS
        assert (samples == wave[count * CHUNK_SAMPLES :][:CHUNK_SAMPLES]).all()


@settings(deadline=None)
@given(st.sampled_from(NATIVE), lengths_of_blocks)
def test_blocks_make_no_difference(rate_hz: int, lengths: list[int]) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, rate_hz).astype(np.float32)
    one = chunked(sounds(wave, rate_hz, cycle(lengths)))
    other = chunked(sounds(wave, rate_hz, cycle([rate_hz // 100])))
    assert len(one) == len(other) >= 7
    for count, ((stamp_ns, samples), (_, same)) in enumerate(zip(one, other, strict=True)):
        assert stamp_ns == BEGIN_NS + count * CHUNK_NS
        assert samples.dtype == np.float32
        assert samples.shape == (CHUNK_SAMPLES,)
        assert (samples == same).all()


@pytest.mark.parametrize("rate_hz", NATIVE)
def test_chunks_are_the_sound_at_their_stamps(rate_hz: int) -> None:
    made = chunked(sounds(sampled(sweep, 6, rate_hz), rate_hz, cycle([rate_hz // 50])))
    assert len(made) >= 60
    for stamp_ns, samples in made:
        at = (stamp_ns - BEGIN_NS) / SECOND_NS + np.arange(CHUNK_SAMPLES) / SAMPLE_RATE_HZ
        wrong = np.abs(samples - sweep(at))[at > EDGE_S]
        assert wrong.max(initial=0) < 1e-3


@pytest.mark.parametrize("rate_hz", NATIVE)
def test_a_click_is_found_where_it_was(rate_hz: int) -> None:
    wave = np.zeros(2 * rate_hz, np.float32)
    click = round(1.2345 * rate_hz)
    wave[click] = 1
    made = chunked(sounds(wave, rate_hz, cycle([777])))
    power = np.concatenate([samples for _, samples in made]).astype(np.float64) ** 2
    found_s = (np.arange(len(power)) * power).sum() / power.sum() / SAMPLE_RATE_HZ
    assert abs(found_s - click / rate_hz) < 0.2e-3


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_what_models_can_not_hear_does_not_come_back_as_something_else(rate_hz: int) -> None:
    at = np.arange(rate_hz) / rate_hz
    passed, folded = (
        np.sqrt(np.mean(np.concatenate([part for _, part in chunked(made)][2:-2]) ** 2) * 2)
        for made in (
            sounds(np.sin(2 * np.pi * tone * at).astype(np.float32), rate_hz, cycle([rate_hz // 50]))
            for tone in (7_000, 9_000)
        )
    )
    assert abs(passed - 1) < 0.01
    assert folded < 1e-5


def test_a_chunk_comes_soon() -> None:
    """From 48,000 samples a second in blocks of 10 ms, within 55 ms of its last sample."""
    chunks, came = Chunks(), []
    for sound in sounds(sampled(sine, 5, 48_000), 48_000, cycle([480])):
        end_ns = sound.stamp_ns + 10_000_000
        came += [end_ns - stamp_ns - CHUNK_NS for stamp_ns, _ in chunks.add(sound)]
    assert max(came) <= 55_000_000
    assert np.mean(came) <= 30_000_000


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_drift_and_jitter_lose_nothing_and_do_not_add_up(rate_hz: int) -> None:
    """A device that is 200 ppm slow for ten minutes, with stamps that are off by up to 20 ms."""
    random = np.random.default_rng(1)
    block, drift, seconds = rate_hz // 10, 1 + 200e-6, 600
    chunks, made = Chunks(), []
    for count in range(seconds * 10):
        true_s = count * block / rate_hz * drift
        stamp_ns = round((true_s + random.uniform(-0.005, 0.005) + 0.02 * (count % 50 == 7)) * SECOND_NS)
        made += list(chunks.add(Sound("mic", stamp_ns, np.zeros(block, np.float32), rate_hz)))
    assert seconds * SAMPLE_RATE_HZ - len(made) * CHUNK_SAMPLES < 2 * CHUNK_SAMPLES
    errors_ms = [
        (stamp_ns / SECOND_NS - count * CHUNK_SAMPLES / SAMPLE_RATE_HZ * drift) * 1000
        for count, (stamp_ns, _) in enumerate(made)
    ]
    assert max(map(abs, errors_ms[50:])) < 12
    steps = np.diff([stamp_ns for stamp_ns, _ in made])
    assert np.abs(steps - CHUNK_NS).max() < 4_000_000, "they follow slowly"


@pytest.mark.parametrize("jump_ns", [GAP_NS + 1_000_000, SECOND_NS, -2 * SECOND_NS])
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_a_gap_or_jump_begins_anew(rate_hz: int, jump_ns: int) -> None:
    ones = np.ones(rate_hz, np.float32)
    chunks, before, after = Chunks(), [], []
    for sound in sounds(ones, rate_hz, cycle([rate_hz // 20])):
        before += list(chunks.add(sound))
    again_ns = BEGIN_NS + SECOND_NS + jump_ns
    for sound in sounds(-ones, rate_hz, cycle([rate_hz // 20]), again_ns):
        after += list(chunks.add(sound))
    assert [stamp_ns for stamp_ns, _ in after] == [again_ns + n * CHUNK_NS for n in range(len(before))]
    assert all((samples > 0.5).all() for _, samples in before[1:])
    assert all((samples < -0.5).all() for _, samples in after[1:])


def test_the_rate_of_the_device_may_change() -> None:
    chunks, made = Chunks(), []
    for begin_s, rate_hz in ((0, 48_000), (1, 44_100), (2, 16_000)):
        wave = sampled(sine, 1, rate_hz)
        for sound in sounds(wave, rate_hz, cycle([rate_hz // 10]), begin_s * SECOND_NS):
            made += list(chunks.add(sound))
    per_second = Counter(stamp_ns // SECOND_NS for stamp_ns, _ in made)
    assert per_second == {0: 10, 1: 10, 2: 10}
    for stamp_ns, samples in made:
        at = stamp_ns % SECOND_NS / SECOND_NS + np.arange(CHUNK_SAMPLES) / SAMPLE_RATE_HZ
        assert np.abs(samples - sine(at))[at > EDGE_S].max(initial=0) < 1e-3


def kept_of(recording: Iterable[Sound], rates: Iterator[int], every: int) -> list[Kept]:
    """All that is kept when the rate changes after each `every` blocks."""
    keeper, kept = Keeper(next(rates)), []
    for count, sound in enumerate(recording, 1):
        kept += list(keeper.add(sound))
        if count % every == 0:
            keeper.rate(next(rates))
    return [*kept, *keeper.end()]


def check_kept(kept: list[Kept], wave: Wave, seconds: float) -> None:
    """Nothing is missing, nothing doubled, and each sample is what was to be heard at its time."""
    end_ns = float(BEGIN_NS)
    for stamp_ns, samples, rate_hz in kept:
        assert abs(stamp_ns - end_ns) <= 2, "they follow each other without a gap"
        end_ns = stamp_ns + len(samples) * SECOND_NS / rate_hz
        at = (stamp_ns - BEGIN_NS) / SECOND_NS + np.arange(len(samples)) / rate_hz
        wrong = np.abs(samples - wave(at))[(at > EDGE_S) & (at < seconds - EDGE_S)]
        assert wrong.max(initial=0) < 1e-3
    assert abs(end_ns - BEGIN_NS - seconds * SECOND_NS) <= SECOND_NS / min(rate for *_, rate in kept)


@pytest.mark.parametrize("rate_hz", NATIVE)
@pytest.mark.parametrize("wave", [sine, sweep])
def test_the_kept_rate_changes_without_a_click(wave: Wave, rate_hz: int) -> None:
    recording = sounds(sampled(wave, 6, rate_hz), rate_hz, cycle([rate_hz // 50, rate_hz // 33, 1, 77]))
    kept = kept_of(recording, cycle([8_000, 48_000, 16_000, 24_000, 12_000]), 30)
    rates = [rate for *_, rate in kept]
    assert sum(one != other for one, other in pairwise(rates)) >= 10
    check_kept(kept, wave, 6)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(NATIVE), lengths_of_blocks, st.lists(st.sampled_from(OPUS), min_size=2), st.integers(1, 9)
)
def test_whenever_the_kept_rate_changes(
    rate_hz: int, lengths: list[int], rates: list[int], every: int
) -> None:
    wave = sampled(sine, 2, rate_hz)
    check_kept(kept_of(sounds(wave, rate_hz, cycle(lengths)), cycle(rates), every), sine, 2)


@pytest.mark.parametrize("rate_hz", NATIVE)
def test_each_rate_has_the_samples_of_its_time(rate_hz: int) -> None:
    kept = kept_of(sounds(sampled(sine, 4, rate_hz), rate_hz, cycle([rate_hz // 50])), cycle(OPUS), 40)
    counts: Counter[int] = Counter()
    for _, samples, kept_hz in kept:
        counts[kept_hz] += len(samples)
    assert math.isclose(sum(count / hz for hz, count in counts.items()), 4, abs_tol=1 / 8_000)


def test_a_rate_that_does_not_change_is_kept_exactly() -> None:
    wave = sampled(sine, 2, 48_000)
    kept = kept_of(sounds(wave, 48_000, cycle([999])), cycle([48_000]), 7)
    assert (np.concatenate([samples for _, samples, _ in kept]) == wave).all()


@pytest.mark.parametrize("kept_hz", [8_000, 48_000])
def test_before_a_gap_nothing_of_it_is_lost(kept_hz: int) -> None:
    keeper, kept = Keeper(kept_hz), []
    for begin_s in (0, 3):
        for sound in sounds(sampled(sine, 1, 44_100), 44_100, cycle([441]), begin_s * SECOND_NS):
            kept += list(keeper.add(sound))
    kept += list(keeper.end())
    counts: Counter[int] = Counter()
    for stamp_ns, samples, _ in kept:
        counts[stamp_ns // SECOND_NS] += len(samples)
    assert counts == {0: kept_hz, 3: kept_hz}


def test_kept_sound_is_the_same_each_time() -> None:
    wave = np.random.default_rng(2).normal(0, 0.1, 88_200).astype(np.float32)
    first, second = (
        kept_of(sounds(wave, 44_100, cycle([3528])), cycle([8_000, 24_000]), 5) for _ in range(2)
    )
    assert len(first) == len(second)
    for (stamp_ns, samples, rate_hz), (same_ns, same, same_hz) in zip(first, second, strict=True):
        assert (stamp_ns, rate_hz) == (same_ns, same_hz)
        assert (samples == same).all()
