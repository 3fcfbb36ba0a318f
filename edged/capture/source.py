"""What a capture process keeps for one source: its gates, its rates, its pool, its counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from edged.capture.device import Frame, Sampler
from edged.capture.level import Level
from edged.capture.listening import Chunks
from edged.capture.motion import Motion
from edged.capture.scaler import Scaler
from edged.config.source import Source
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.pool import Pool, layout
from edged.wire.records import RateState, State
from edged.wire.setup import CaptureSetup
from edged.wire.views import CHUNK_SAMPLES, SOUND


class SourceWorker:
    """One source of a device."""

    def __init__(self, name: str, config: Source, setup: CaptureSetup) -> None:
        """Raises PoolError when the views are larger than a pool may be."""
        self.name, self.config = name, config
        self.state: State | None = None
        self.reason = ""
        self.delivered = 0
        self.drops: Counter[str] = Counter()
        self.sampler = Sampler(config.rate_hz.idle)
        self.motion, self.level = Motion(config.motion), Level(config.sound)
        self.chunks = Chunks()
        self.newest: Frame | None = None
        """The newest picture, for snapshots."""
        self.encoded = False
        """Whether the device gives packets, so that nothing has to be encoded for clips."""
        self.rates = RateState(name, config.rate_hz.idle, config.sample_rate_hz.idle, "idle")
        self._moved_until_ns = self._asked_until_ns = 0
        self.ran = False
        """Whether anything came since the device was opened."""
        self._came_ns = now_ns()
        views = setup.views.get(name, ())
        self.scaler = Scaler(views)
        shapes: dict[str, Any] = {view.name: (view.shape, "uint8") for view in views}
        if name in setup.heard:
            shapes[SOUND] = ((CHUNK_SAMPLES,), "float32")
        self.pool = (
            Pool(layout(name, config.modality, setup.generation, config.pool_slots, shapes))
            if shapes
            else None
        )

    # Progress.

    def opened(self) -> None:
        """The device was opened; from now on it is waited for."""
        self._came_ns, self.ran = now_ns(), False

    def came(self, at_ns: int) -> None:
        """The device brought something."""
        self._came_ns, self.ran = at_ns, True

    def silent_ns(self, at_ns: int) -> int:
        """For how long it has brought nothing."""
        return at_ns - self._came_ns

    @property
    def patience_ns(self) -> int:
        """After so long without anything the source is stalled. What renders or counts its own pictures
        may have a longer period than that.
        """
        stalled_s = self.config.stalled_after_s
        if not self.encoded and self.config.modality == "video":
            stalled_s = max(stalled_s, 1.5 / self.rates.rate_hz)
        return round(stalled_s * SECOND_NS)

    # Rates.

    def ask(self, until_ns: int) -> None:
        """Something else wants the active rates until then (monotonic); 0: nothing does any longer."""
        self._asked_until_ns = max(self._asked_until_ns, until_ns) if until_ns else 0

    def stir(self, stamp_ns: int) -> None:
        """It moved, or sounded, itself."""
        self._moved_until_ns = stamp_ns + round(self.config.active_for_s * SECOND_NS)

    def settle(self, stamp_ns: int) -> RateState | None:
        """The rates that hold from now on, and why, where one of these has changed."""
        if self._moved_until_ns > stamp_ns:
            cause = "motion" if self.config.modality == "video" else "sound"
        else:
            cause = "asked" if self._asked_until_ns > now_ns() else "idle"
        if cause == self.rates.cause:
            return None
        level = "idle" if cause == "idle" else "active"
        rate_hz: float = getattr(self.config.rate_hz, level)
        samples_hz: int = getattr(self.config.sample_rate_hz, level)
        if rate_hz != self.rates.rate_hz:
            self.sampler.at(rate_hz)
        self.rates = RateState(self.name, rate_hz, samples_hz, cause)
        return self.rates
