"""What becomes of a microphone's sound: chunks for models, and what clips keep of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from edged.capture.device import Sound
from edged.capture.resample import Resampler
from edged.wire.clock import SECOND_NS
from edged.wire.pool import Samples
from edged.wire.views import CHUNK_SAMPLES, SAMPLE_RATE_HZ

GAP_NS = 40_000_000
"""A stamp that is off by more begins a new run; less is rounding, jitter or drift, and loses no sample."""
DEAD_BAND_NS = 5_000_000
"""A stamp may be off by so much before the run's stamps follow."""
FOLLOW_NS = SECOND_NS
"""They follow as an exponential with this time constant."""
PRIME_S = 0.1
"""A resampler that takes over hears so much of the past first: more than its filter is long."""
GRID_HZ = 4_000
"""All rates in which sound is kept are multiples of it."""

Kept = tuple[int, Samples, int]
"""When the first sample was taken; the samples, float32, [any length], −1 to 1; samples a second."""

_NOTHING: Samples = np.zeros(0, np.float32)


class Run:
    """Sound without a gap: where in time each of its samples lies."""

    def __init__(self, first: Sound) -> None:
        """Begins with `first`, which is still to be taken."""
        self.rate_hz = first.rate_hz
        self.count = 0
        """Samples taken."""
        self._origin_ns = first.stamp_ns

    def goes_on(self, sound: Sound) -> bool:
        """Whether `sound` follows without a gap, a jump or another rate."""
        return sound.rate_hz == self.rate_hz and abs(self._late_ns(sound)) <= GAP_NS

    def take(self, sound: Sound) -> None:
        """Counts the samples. The run's stamps follow the sound's slowly, and stay exact while they agree."""
        late_ns = self._late_ns(sound)
        excess_ns = late_ns - min(max(late_ns, -DEAD_BAND_NS), DEAD_BAND_NS)
        lasts_ns = len(sound.samples) * SECOND_NS // self.rate_hz
        self._origin_ns += round(excess_ns * -math.expm1(-lasts_ns / FOLLOW_NS))
        self.count += len(sound.samples)

    def stamp_ns(self, index: int, rate_hz: int) -> int:
        """When sample `index` of the run was taken, were the run sampled at `rate_hz`."""
        return self._origin_ns + index * SECOND_NS // rate_hz

    def _late_ns(self, sound: Sound) -> int:
        return sound.stamp_ns - self.stamp_ns(self.count, self.rate_hz)


class Chunks:
    """Cuts one source's sound into chunks for models. The same sound gives the same chunks, whatever the
    blocks it comes in.
    """

    def __init__(self) -> None:
        self._run: _ChunkRun | None = None

    def add(self, sound: Sound) -> Iterator[tuple[int, Samples]]:
        """The chunks that are full now: when the first sample was taken, and the samples, float32,
        [CHUNK_SAMPLES], −1 to 1, at SAMPLE_RATE_HZ. After a gap it begins anew; what was no full chunk is
        dropped.
        """
        if self._run is None or not self._run.goes_on(sound):
            self._run = _ChunkRun(sound)
        yield from self._run.add(sound)


class _ChunkRun(Run):
    def __init__(self, first: Sound) -> None:
        super().__init__(first)
        self._resampler = Resampler(first.rate_hz, SAMPLE_RATE_HZ)
        self._begin = 0
        """Index of the first pending sample."""
        self._pending = _NOTHING

    def add(self, sound: Sound) -> Iterator[tuple[int, Samples]]:
        self.take(sound)
        self._pending = np.concatenate([self._pending, self._resampler.add(sound.samples)])
        while len(self._pending) >= CHUNK_SAMPLES:
            chunk, self._pending = self._pending[:CHUNK_SAMPLES], self._pending[CHUNK_SAMPLES:]
            stamp_ns = self.stamp_ns(self._begin, SAMPLE_RATE_HZ)
            self._begin += CHUNK_SAMPLES
            yield stamp_ns, chunk


class Keeper:
    """One source's sound at the rate that clips keep, which may change while it runs: without a gap, a
    click, or a sample twice.

    The resampler of the new rate takes over at the next moment that is a sample in both rates and in the
    native one: within 0.25 ms at 48,000 samples a second, 10 ms at 44,100. By then it has heard the last
    `PRIME_S`.
    """

    def __init__(self, rate_hz: int) -> None:
        """`rate_hz`: a multiple of `GRID_HZ`."""
        self._rate_hz = rate_hz
        self._run: _KeptRun | None = None

    def rate(self, rate_hz: int) -> None:
        """Another rate from now on, a multiple of `GRID_HZ`: it takes over with the sound that comes next."""
        self._rate_hz = rate_hz

    def add(self, sound: Sound) -> Iterator[Kept]:
        """What can be kept now; after a gap first all of what came before it. A resampled sound comes
        some tens of milliseconds late.
        """
        if self._run is None or not self._run.goes_on(sound):
            yield from self.end()
            self._run = _KeptRun(sound, self._rate_hz)
        yield from self._run.add(sound, self._rate_hz)

    def end(self) -> Iterator[Kept]:
        """What is left, when no more comes."""
        if self._run:
            yield from self._run.end()
            self._run = None


class _KeptRun(Run):
    def __init__(self, first: Sound, rate_hz: int) -> None:
        super().__init__(first)
        self._kept_hz = rate_hz
        self._kept = 0
        """Samples kept, or, after a change of the rate, what they would be had it been the rate always."""
        self._resampler = Resampler(first.rate_hz, rate_hz)
        self._skip = 0
        """So many samples of the resampler belong to the past that it had to hear."""
        self._past = _NOTHING
        """The newest native samples: what the next resampler may have to hear."""
        self._grid_hz = math.gcd(first.rate_hz, GRID_HZ)
        self._prime = math.ceil(PRIME_S * self._grid_hz)

    def add(self, sound: Sound, rate_hz: int) -> Iterator[Kept]:
        self.take(sound)
        self._past = np.concatenate([self._past, sound.samples])
        made = self._resampled(sound.samples)
        if rate_hz != self._kept_hz:
            moment = -(-self._kept * self._grid_hz // self._kept_hz)
            missing = moment * self._kept_hz // self._grid_hz - self._kept
            if len(made) >= missing:
                yield from self._keep(made[:missing])
                made = self._take_over(rate_hz, moment)
        yield from self._keep(made)
        moment = self._kept * self._grid_hz // self._kept_hz
        self._past = self._past_from(moment - self._prime)

    def end(self) -> Iterator[Kept]:
        yield from self._keep(self._resampled(_NOTHING, last=True))

    def _take_over(self, rate_hz: int, moment: int) -> Samples:
        """Goes on at `rate_hz` from `moment`, counted in the grid; what has come already from there on."""
        begin = max(0, moment - self._prime)
        self._kept_hz = rate_hz
        self._kept = moment * rate_hz // self._grid_hz
        self._skip = (moment - begin) * rate_hz // self._grid_hz
        self._resampler = Resampler(self.rate_hz, rate_hz)
        return self._resampled(self._past_from(begin))

    def _past_from(self, moment: int) -> Samples:
        forgotten = self.count - len(self._past)
        return self._past[max(0, moment * self.rate_hz // self._grid_hz - forgotten) :]

    def _resampled(self, samples: Samples, *, last: bool = False) -> Samples:
        made = self._resampler.add(samples, last=last)
        skipped = min(self._skip, len(made))
        self._skip -= skipped
        return made[skipped:]

    def _keep(self, samples: Samples) -> Iterator[Kept]:
        if len(samples):
            stamp_ns = self.stamp_ns(self._kept, self._kept_hz)
            self._kept += len(samples)
            yield stamp_ns, samples, self._kept_hz
