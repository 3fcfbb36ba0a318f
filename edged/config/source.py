"""What the configuration of every kind of source has."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edged.config.fields import Rate, Rates, SampleRate, SampleRates, Seconds, Strict
from edged.config.gates import LevelConfig, MotionConfig
from edged.wire.records import Modality


class Source(Strict):
    """What every kind of source has."""

    modality: Modality = "video"
    """What of the device is read: its picture or its sound. A source has one."""
    rate_hz: Rates = Rate(idle=5.0, active=5.0)
    """How often the source is analysed: frames, or windows of sound, a second; one number, or idle and
    active."""
    sample_rate_hz: SampleRates = SampleRate(idle=16_000, active=16_000)
    """What is kept of a microphone's sound in clips; models get the rate they need in any case."""
    active_for_s: Seconds = 10.0
    """How long a source stays at its active rates after its own last motion or sound."""
    stalled_after_s: Annotated[float, Field(ge=0.5, le=3600)] = 2.0
    """A device that brings nothing for so long is `stalled`."""
    motion: MotionConfig = MotionConfig()
    """When its picture moves."""
    sound: LevelConfig = LevelConfig()
    """When its sound is more than the silence of its place."""
    slots: Annotated[int, Field(ge=2, le=256)] | None = None
    """Slots of the shared memory pool; by default 8 for video and 64 (six seconds) for sound."""

    @property
    def device(self) -> str:
        """What is opened; sources of one kind and device share a process and a clock."""
        raise NotImplementedError

    @property
    def finite(self) -> bool:
        """Whether the source comes to an end by itself, so that it can be replayed."""
        return False

    @property
    def pool_slots(self) -> int:
        """Slots of the pool, the default resolved."""
        return self.slots or (8 if self.modality == "video" else 64)
