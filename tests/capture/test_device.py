"""The grid of pictures, and the way from a device's thread to the main loop."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.capture.device import Arrivals, Sampler
from edged.wire.clock import SECOND_NS


@given(st.floats(0.5, 60), st.sampled_from([10, 25, 29.97, 50]))
def test_the_rate_is_kept_whatever_the_devices(rate_hz: float, fps: float) -> None:
    sampler = Sampler(rate_hz)
    stamps = [round(count * SECOND_NS / fps) for count in range(round(20 * fps))]
    taken = [stamp for stamp in stamps if sampler.take(stamp)]
    assert abs(len(taken) - 20 * min(rate_hz, fps)) <= 2 + 0.02 * len(taken)


def test_a_jump_begins_a_new_grid() -> None:
    sampler = Sampler(1.0)
    assert [sampler.take(n * SECOND_NS) for n in (0, 1, 100, 101, 5, 6)] == [True] * 6


def test_a_higher_rate_takes_effect_with_the_next_picture() -> None:
    sampler = Sampler(1.0)
    stamps = [n * SECOND_NS // 25 for n in range(100)]
    taken = []
    for number, stamp in enumerate(stamps):
        if number == 30:
            sampler.at(25.0)
        if number == 60:
            sampler.at(1.0)
        taken += [number] if sampler.take(stamp) else []
    assert taken == [0, 25, *range(30, 60), 60, 85]


def test_what_arrives_is_bounded() -> None:
    arrivals: Arrivals[int] = Arrivals(2)
    assert arrivals.offer(1)
    assert arrivals.put(2)
    assert not arrivals.offer(3)
    assert not arrivals.put(3, until_s=0.01)
    assert [arrivals.get(), arrivals.get(), arrivals.get()] == [1, 2, None]


def test_a_failure_comes_after_what_came_before_it() -> None:
    arrivals: Arrivals[int] = Arrivals(2)
    arrivals.offer(1)
    arrivals.offer(2)
    arrivals.fail(OSError("unplugged"))
    assert [arrivals.get(), arrivals.get()] == [1, 2], "even where there was no room left"
    with pytest.raises(OSError, match="unplugged"):
        arrivals.get()


def test_a_failure_leaves_nothing_open() -> None:
    """Without waiting for the garbage collector: descriptors are few, and reconnecting goes on for ever."""
    gc.disable()
    try:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            arrivals: Arrivals[int] = Arrivals(1)
            arrivals.fail(OSError("unplugged"))
            with pytest.raises(OSError, match="unplugged"):
                arrivals.get()
            del arrivals
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    finally:
        gc.enable()
