"""The grid of samples and the cutting of sound, whatever comes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edged.capture.device import Chunker, Sampler
from edged.wire.clock import SECOND_NS
from edged.wire.views import CHUNK_SAMPLES, SAMPLE_RATE_HZ


@given(st.floats(0.5, 60), st.sampled_from([10, 25, 29.97, 50]))
def test_the_rate_is_kept_whatever_the_devices(rate_hz: float, fps: float) -> None:
    sampler = Sampler(rate_hz)
    stamps = [round(count * SECOND_NS / fps) for count in range(round(20 * fps))]
    taken = [stamp for stamp in stamps if sampler.take(stamp)]
    assert abs(len(taken) - 20 * min(rate_hz, fps)) <= 2 + 0.02 * len(taken)


def test_a_jump_begins_a_new_grid() -> None:
    sampler = Sampler(1.0)
    assert [sampler.take(n * SECOND_NS) for n in (0, 1, 100, 101, 5, 6)] == [True] * 6


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40))
def test_chunks_hold_every_sample_once_in_order(lengths: list[int]) -> None:
    chunker, at, out = Chunker(), 0, []
    for length in lengths:
        samples = np.arange(at, at + length, dtype=np.float32)
        out += list(chunker.add(at * SECOND_NS // SAMPLE_RATE_HZ, samples))
        at += length
    joined = np.concatenate([samples for _, samples in out]) if out else np.zeros(0)
    assert (joined == np.arange(len(joined))).all()
    assert at - len(joined) < CHUNK_SAMPLES
    for stamp, samples in out:
        assert abs(stamp - int(samples[0]) * SECOND_NS // SAMPLE_RATE_HZ) <= 100_000


def test_a_gap_begins_anew() -> None:
    chunker = Chunker()
    assert list(chunker.add(0, np.zeros(1000, np.float32))) == []
    ((stamp, samples),) = chunker.add(SECOND_NS, np.ones(CHUNK_SAMPLES, np.float32))
    assert stamp == SECOND_NS
    assert (samples == 1).all()
