"""Sound at another rate, as it comes."""

from __future__ import annotations

import soxr

from edged.wire.pool import Samples

QUALITY = "HQ"
"""Of soxr 1.1. Measured from 48,000 and 44,100 to 16,000 samples a second: flat to 0.1 dB up to 0.91 of the
lower Nyquist frequency (7.3 kHz), aliases below −126 dB. A chunk of 96 ms out of blocks of 10 ms is complete
26 ms after its last sample came (mean; 50 ms at most), as with MQ, which lets through 20 dB more; LQ takes
10 ms less, and ends at 5.8 kHz. 0.4 ms of CPU a second of sound."""


class Resampler:
    """A run of samples without a gap, at another rate.

    Sample `j` of the output is the input at the moment `j / out_hz` of the run, whatever the delay with
    which it comes, and however the input is cut into blocks.
    """

    def __init__(self, in_hz: int, out_hz: int) -> None:
        """At equal rates nothing is computed, and nothing comes later."""
        self._stream = (
            soxr.ResampleStream(in_hz, out_hz, 1, dtype="float32", quality=QUALITY)
            if in_hz != out_hz
            else None
        )

    def add(self, samples: Samples, *, last: bool = False) -> Samples:
        """The output that follows, float32, [any length]; with `last` all of it, and no more can be added."""
        if self._stream is None:
            return samples
        made: Samples = self._stream.resample_chunk(samples, last=last)
        return made
