"""A microphone at this device, through PortAudio.

What is heard stays in this process and its pools; nothing of it is logged.
"""

from __future__ import annotations

import atexit
import grp
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from edged.capture.device import Arrivals, Sound, Timing
from edged.capture.microphones import NO_PORTAUDIO, Microphone, microphones
from edged.capture.timebase import TimeBase
from edged.config.source import Source
from edged.errors import SourceError
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.pool import Samples

if TYPE_CHECKING:
    import sounddevice

log = logging.getLogger(__name__)

BLOCK_S = 0.08
LATENCY_S = 0.2
"""With less of either, sound got lost, and PortAudio did not say so (ALSA over PulseAudio)."""
WAITING_S = 10.0
"""So much sound waits for the main loop at most."""
WINDOW_NS = 5 * SECOND_NS
MIN_SHARE = 0.9
"""Of the samples that are due in `WINDOW_NS`; with fewer the device has to be opened anew."""
LATE_NS = 20_000_000
LATE_FOR_NS = SECOND_NS
"""Sound that has come later by `LATE_NS` and more for so long will not come sooner again: something was lost
on the way, or the clock of the device is slower than any crystal's, as a sound server's may be."""
MAX_LATENCY_S = 1.0
"""A driver that says more counts its time from elsewhere."""
CLOSE_S = 0.3
"""So long `close` waits for PortAudio."""
BEGIN_S = 5.0
"""So long `open` waits for the first block; PulseAudio may take two seconds."""
SOUND_DEVICES = Path("/dev/snd")

DEVICE_UNAVAILABLE = -9985
"""PortAudio's code."""


def _audio_only(value: object) -> object:
    if value == "video":
        raise PydanticCustomError("mic", "a microphone has no picture; a camera is a source of kind camera")
    return value


class Config(Source):
    """A microphone at this device."""

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["mic"]
    modality: Annotated[Literal["audio"], BeforeValidator(_audio_only)] = "audio"
    """A microphone gives sound only."""
    microphone: Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1, max_length=256)] = Field(
        "default", alias="device"
    )
    """`default`, a number, or a part of a name; `edged devices` lists both. Names stay, numbers change."""
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    """So many are opened, and their mean is heard."""
    channel: Annotated[int, Field(ge=1, le=64)] | None = None
    """Only this one of them is heard, counted from 1."""

    @property
    def device(self) -> str:
        """The number or the name."""
        return str(self.microphone)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.channel is not None and self.channel > self.channels:
            raise PydanticCustomError("mic", "'channel' counts from 1 to the number of 'channels'")
        return self


def open(sources: Mapping[str, Config], _: Timing) -> Input:  # noqa: A001
    """Opens the microphone that all `sources` share; this may take seconds.

    Raises:
        SourceError: no PortAudio, no such device, busy, not permitted; or PortAudio hangs in closing it.
    """
    wanted = next(iter(sources.values())).microphone
    name = f"microphone '{wanted}'"
    if any(thread.name == name for thread in threading.enumerate()):
        message = f"{name}: PortAudio has not come back from closing it; only a new process helps"
        raise SourceError(message, stuck=True)
    try:
        import sounddevice
    except OSError as error:
        raise SourceError(NO_PORTAUDIO, permanent=True) from error
    one = Input(sources, name)
    try:
        # PortAudio looks for devices once, when it starts; some may have been plugged in since.
        if sounddevice._initialized:
            sounddevice._terminate()
        sounddevice._initialize()
        device = find(microphones(), wanted)
        channels = max(source.channels for source in sources.values())
        if device.channels < channels:
            raise SourceError(f"{name}: has {device.channels} channels, not {channels}", permanent=True)
        one.start(device)
    except (LookupError, OSError) as error:
        raise SourceError(f"{name}: {error}") from error
    except sounddevice.PortAudioError as error:
        one.close()
        raise SourceError(f"{name}: {_reason(error)}") from error
    return one


def find(there: Sequence[Microphone], wanted: int | str) -> Microphone:
    """The microphone that the configuration names.

    Raises:
        LookupError: there is none such, or several; the message lists those that there are.
    """
    if wanted == "default":
        fitting = [one for one in there if one.default]
    elif isinstance(wanted, int):
        fitting = [one for one in there if one.index == wanted]
    else:
        fitting = [one for one in there if one.name == wanted]
        fitting = fitting or [one for one in there if wanted.lower() in one.name.lower()]
    if len(fitting) == 1:
        return fitting[0]
    if not there:
        raise LookupError(f"there is no microphone{_forbidden()}")
    names = ", ".join(f"{one.index}: '{one.name}'" for one in fitting or there)
    if fitting:
        raise LookupError(f"several have this name, say more of it or the number: {names}")
    raise LookupError(f"there is no such microphone; there is {names}{_forbidden()}")


def _forbidden() -> str:
    for node in SOUND_DEVICES.glob("pcm*c"):
        if not os.access(node, os.R_OK | os.W_OK):
            try:
                group = grp.getgrgid(node.stat().st_gid).gr_name
            except (OSError, KeyError):
                group = "audio"
            return (
                f"; {node} may not be opened: add the user to the group '{group}' (`sudo usermod -aG {group} "
                "USER`, then log in again; in a service SupplementaryGroups=)"
            )
    return ""


@dataclass(frozen=True, slots=True)
class _Block:
    samples: Samples
    """[frames, channels]."""
    count: int
    """Frames since the opening, with these."""
    arrived_ns: int
    age_s: float
    """How long ago the first frame was taken, as the driver says."""


class Input:
    """An open microphone."""

    def __init__(self, sources: Mapping[str, Config], name: str) -> None:
        self.missing: dict[str, str] = {}
        self.lost: Counter[str] = Counter()
        self._sources = sources
        self._name = name
        self._rate_hz = 0
        self._count = 0
        self._arrivals: Arrivals[_Block] = Arrivals(round(WAITING_S / BLOCK_S))
        self._stream: sounddevice.InputStream | None = None
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._closed = threading.Event()

    def start(self, device: Microphone) -> None:
        """Returns when it hears something, or nothing for `BEGIN_S`.

        Raises:
            sounddevice.PortAudioError: it can't be opened.
        """
        import sounddevice

        self._rate_hz = round(device.rate_hz)
        self._stream = sounddevice.InputStream(
            samplerate=self._rate_hz,
            blocksize=round(BLOCK_S * self._rate_hz),
            device=device.index,
            channels=max(one.channels for one in self._sources.values()),
            dtype="float32",
            latency=LATENCY_S,
            callback=self._take,
            finished_callback=self._ended.set,
        )
        self._stream.start()
        self._begun.wait(BEGIN_S)

    def want(self, rates_hz: Mapping[str, float]) -> None:
        """A microphone gives no pictures."""

    def read(self) -> Iterator[Sound | None]:
        """What is heard, at the device's own rate, for each source.

        Raises:
            SourceError: it has gone, or does not give all that it should.
        """
        clock = _Clock(self._rate_hz, self.lost)
        while not self._closed.is_set():
            block = self._arrivals.get()
            if block is None:
                if self._ended.is_set():
                    raise SourceError(f"{self._name}: was unplugged, or its sound server has gone")
                yield None
                continue
            try:
                stamp_ns = clock.stamp_ns(block)
            except ValueError as error:
                raise SourceError(f"{self._name}: {error}") from None
            for name, config in self._sources.items():
                yield Sound(name, stamp_ns, heard(block.samples, config), self._rate_hz)

    def close(self) -> None:
        """Gives the microphone back. PortAudio may hang in a driver or a sound server: nobody waits."""
        self._closed.set()
        thread = threading.Thread(target=self._close, name=self._name, daemon=True)
        thread.start()
        thread.join(CLOSE_S)
        if thread.is_alive():
            import sounddevice

            log.warning("%s: PortAudio has not come back; the device stays open", self._name)
            atexit.unregister(sounddevice._exit_handler)  # it would wait, too

    def _close(self) -> None:
        if self._stream:
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)
        self._arrivals.close()

    def _take(self, samples: Samples, frames: int, time: Any, status: Any) -> None:  # noqa: ANN401
        # In PortAudio's thread, which must not wait.
        arrived_ns = now_ns()
        self._count += frames
        if status.input_overflow:
            self.lost["overflow"] += 1
        age_s = time.currentTime - time.inputBufferAdcTime
        if not self._arrivals.offer(_Block(samples.copy(), self._count, arrived_ns, age_s)):
            self.lost["behind"] += 1
        self._begun.set()


def heard(samples: Samples, config: Config) -> Samples:
    """One source's part of what the device gives, float32: [frames] of [frames, channels]."""
    if config.channel is not None or config.channels == 1:
        return np.ascontiguousarray(samples[:, (config.channel or 1) - 1])
    mean: Samples = samples[:, : config.channels].mean(axis=1)
    return mean


def _reason(error: Exception) -> str:
    code = error.args[1] if len(error.args) > 1 else None
    if code == DEVICE_UNAVAILABLE:
        return "is busy: another program has it (`fuser -v /dev/snd/*` names it), or it was unplugged"
    return f"can't be opened: {error}{_forbidden()}"


class _Clock:
    """When each block was taken, by the number of its frames; and whether all frames come.

    PortAudio does not say reliably what it lost, and its drivers count time in different ways: the frames
    are counted against the monotonic clock.
    """

    def __init__(self, rate_hz: int, lost: Counter[str]) -> None:
        self._rate_hz = rate_hz
        self._lost = lost
        self._base = TimeBase()
        self._skipped_ns = 0
        self._recent: deque[tuple[int, int]] = deque()
        """Arrival and count of the blocks of `WINDOW_NS`."""
        # A stream that begins may say anything for some seconds: until then the least is none.
        self._latencies: deque[float] = deque([0.0], maxlen=round(WINDOW_NS / SECOND_NS / BLOCK_S))
        """How much older the last frame was than its arrival. The least of it goes with the blocks that came
        soonest, and to those the time base fits."""
        self._least_ns = self._least_before_ns = 0
        """By how much all blocks of this `LATE_FOR_NS`, and of the one before, have come late."""
        self._window_ns = 0
        """When this `LATE_FOR_NS` began."""

    def stamp_ns(self, block: _Block) -> int:
        """When the block's first frame was taken; ValueError when too few come."""
        self._check(block)
        lasts_ns = len(block.samples) * SECOND_NS // self._rate_hz
        if 0 <= block.age_s < MAX_LATENCY_S:
            self._latencies.append(max(0.0, block.age_s - lasts_ns / SECOND_NS))
        media_ns = block.count * SECOND_NS // self._rate_hz + self._skipped_ns
        end_ns = self._base.stamp_ns(0, media_ns, block.arrived_ns)
        self._follow(block.arrived_ns, block.arrived_ns - end_ns)
        return end_ns - lasts_ns - round(min(self._latencies) * SECOND_NS)

    def _check(self, block: _Block) -> None:
        self._recent.append((block.arrived_ns, block.count))
        while len(self._recent) > 1 and block.arrived_ns - self._recent[1][0] >= WINDOW_NS:
            self._recent.popleft()
        first_ns, first = self._recent[0]
        due = (block.arrived_ns - first_ns) * self._rate_hz / SECOND_NS
        if block.arrived_ns - first_ns >= WINDOW_NS and block.count - first < MIN_SHARE * due:
            share = (block.count - first) / due
            raise ValueError(f"only {share:.0%} of its samples came in the last seconds; it is opened again")

    def _follow(self, arrived_ns: int, late_ns: int) -> None:
        if arrived_ns - self._window_ns < LATE_FOR_NS:
            self._least_ns = min(self._least_ns, late_ns)
            return
        if self._window_ns and self._least_ns >= LATE_NS:
            if self._least_ns - self._least_before_ns >= LATE_NS // 2:  # at once, not little by little
                self._lost["gap"] += 1
            self._skipped_ns += self._least_ns
            late_ns -= self._least_ns
            self._least_ns = 0
        self._least_before_ns, self._least_ns, self._window_ns = self._least_ns, late_ns, arrived_ns
