"""Devices' clocks that drift, jitter, jump, wrap and stand still, simulated packet by packet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edged.capture.timebase import WRAP_NS, TimeBase
from edged.wire.clock import SECOND_NS

VIDEO, AUDIO = 0, 1
MS = 1_000_000
FRAME_NS, BLOCK_NS = 40 * MS, 64 * MS

Media = Callable[[int, int], int]
"""What a track's clock shows at a moment: (track, nanoseconds) → nanoseconds."""


def packets(
    seconds: int, media: Media, jitter_ms: float = 20.0, seed: int = 1
) -> Iterator[tuple[int, int, int, int]]:
    """(track, moment taken, media time, arrival), in the order of arrival."""
    random = np.random.default_rng(seed)
    taken = [(VIDEO, t) for t in range(0, seconds * SECOND_NS, FRAME_NS)]
    taken += [(AUDIO, t) for t in range(0, seconds * SECOND_NS, BLOCK_NS)]
    late = random.exponential(jitter_ms * MS, len(taken))
    # Sound waits longer in the device than the picture does, as in real cameras.
    arrived = [
        (t + 5 * MS + 30 * MS * track + int(more), track, t)
        for (track, t), more in zip(taken, late, strict=True)
    ]
    for arrival_ns, track, t in sorted(arrived):
        yield track, t, media(track, t), arrival_ns


def errors(times: Iterator[tuple[int, int, int, int]], skip_s: float = 5.0) -> dict[int, np.ndarray]:
    """How much later each stamp is than the moment, per track, in milliseconds."""
    base = TimeBase()
    found: dict[int, list[float]] = {VIDEO: [], AUDIO: []}
    for track, taken_ns, media_ns, arrived_ns in times:
        stamp_ns = base.stamp_ns(track, media_ns, arrived_ns)
        assert stamp_ns <= arrived_ns + 200 * MS
        if taken_ns >= skip_s * SECOND_NS:
            found[track].append((stamp_ns - taken_ns) / MS)
    return {track: np.array(values) for track, values in found.items()}


def apart(found: dict[int, np.ndarray]) -> float:
    """How far picture and sound lie from each other at most, in milliseconds."""
    pictures = np.interp(
        np.arange(len(found[AUDIO])) * BLOCK_NS, np.arange(len(found[VIDEO])) * FRAME_NS, found[VIDEO]
    )
    return float(np.abs(pictures - found[AUDIO]).max())


@pytest.mark.parametrize("ppm", [-200, 0, 200])
def test_an_hour_of_drift(ppm: int) -> None:
    """The device's clock is off: both of its tracks stay with the moment they were taken at."""
    found = errors(packets(3600, lambda _, t: round(t * (1 + ppm * 1e-6)) + 77 * SECOND_NS))
    assert apart(found) < (10 if ppm else 1)
    for values in found.values():
        assert np.abs(values).max() < 40
        assert np.abs(np.diff(values)).max() < 20


@pytest.mark.parametrize("ppm", [-200, 200])
def test_tracks_that_drift_apart(ppm: int) -> None:
    """The sound's clock is another than the picture's, and off by up to 720 ms after an hour."""
    found = errors(packets(3600, lambda track, t: round(t * (1 + ppm * 1e-6 * track))))
    assert apart(found) < 40


def test_the_stamps_of_mpeg_wrap() -> None:
    start_ns = WRAP_NS - 60 * SECOND_NS
    found = errors(packets(120, lambda _, t: (start_ns + t) % WRAP_NS))
    assert apart(found) < 1
    assert np.abs(found[VIDEO]).max() < 40


@pytest.mark.parametrize("by_s", [-5000, -60, 5, 100_000])
def test_a_jump(by_s: int) -> None:
    """Both tracks jump, at the same moment, but their packets are interleaved."""
    found = errors(
        packets(120, lambda _, t: t + (by_s * SECOND_NS if t > 60 * SECOND_NS else 0) + WRAP_NS // 3)
    )
    assert apart(found) < 40
    assert max(np.abs(values).max() for values in found.values()) < 300  # the jitter of the first packet


def test_one_track_jumps_alone() -> None:
    found = errors(packets(120, lambda track, t: t + (track * 50 * SECOND_NS if t > 60 * SECOND_NS else 0)))
    assert max(np.abs(values).max() for values in found.values()) < 300


def test_a_clock_that_stood_still() -> None:
    """Nothing for ten seconds, and then the media time goes on as if there had been no time."""
    times = [
        one
        for one in packets(120, lambda _, t: t - (10 * SECOND_NS if t > 60 * SECOND_NS else 0))
        if not 50 * SECOND_NS < one[1] <= 60 * SECOND_NS
    ]
    found = errors(iter(times), skip_s=65)
    assert apart(found) < 40
    assert max(np.abs(values).max() for values in found.values()) < 300


def test_a_network_that_stood_still() -> None:
    """The same silence, but all that was taken meanwhile comes at once: no stamp is moved."""
    times = sorted(
        (track, taken, media, max(arrived, 60 * SECOND_NS) if taken > 55 * SECOND_NS else arrived)
        for track, taken, media, arrived in packets(120, lambda _, t: t)
    )
    found = errors(iter(sorted(times, key=lambda one: one[3])))
    assert apart(found) < 1
    assert np.abs(found[VIDEO]).max() < 40


def test_what_is_sent_faster_than_real_time_waits() -> None:
    base = TimeBase()
    stamps = [base.stamp_ns(VIDEO, n * FRAME_NS, n * FRAME_NS // 10) for n in range(1000)]
    # After a second that the first packets may have been late, the film runs at its own speed.
    assert (np.diff(stamps)[300:] == FRAME_NS).all() or np.abs(
        np.diff(stamps)[300:] - FRAME_NS
    ).max() < 0.1 * MS


def test_a_burst_at_the_beginning_is_as_old_as_it_is() -> None:
    """What was taken while the connection was probed comes at once, a second late."""
    base = TimeBase(slack_ns=3 * SECOND_NS)
    arrivals = [(n * FRAME_NS, max(SECOND_NS, n * FRAME_NS + 5 * MS)) for n in range(35)]
    for media_ns, arrived_ns in arrivals:
        base.prime(VIDEO, media_ns, arrived_ns)
    stamps = [base.stamp_ns(VIDEO, media_ns, arrived_ns) for media_ns, arrived_ns in arrivals]
    assert stamps == [media_ns + 5 * MS for media_ns, _ in arrivals]
