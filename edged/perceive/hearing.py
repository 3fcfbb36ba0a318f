"""What the models of sound share: the recent samples of each source."""

from __future__ import annotations

import numpy as np

from edged.wire.pool import Lease, Samples
from edged.wire.views import SOUND

GAP_NS = 40_000_000


class Recent:
    """The last samples of one source, without a gap between them."""

    def __init__(self, length: int) -> None:
        self.samples: Samples = np.zeros(length, np.float32)
        self.filled = 0
        """How many of them are real."""
        self._next_ns: int | None = None

    def add(self, lease: Lease) -> bool:
        """Appends a chunk; True when something was lost before it, and all began anew."""
        chunk, stamp_ns = lease.view(SOUND), lease.descriptor.stamp_ns
        gap = self._next_ns is not None and abs(stamp_ns - self._next_ns) > GAP_NS
        if gap:
            self.samples[:] = 0
            self.filled = 0
        keep = len(self.samples) - len(chunk)
        self.samples[:keep] = self.samples[len(chunk) :]
        self.samples[keep:] = chunk
        self.filled = min(self.filled + len(chunk), len(self.samples))
        self._next_ns = stamp_ns + lease.descriptor.duration_ns
        return gap
