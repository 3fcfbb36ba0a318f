"""A rendered scene with sound, for the demo, tests and benchmarks: no device needed.

A room with sensor noise; a figure walks through it, a voice speaks, an alarm beeps, each in its part
of a period that repeats. Picture and sound of one scene run on one clock.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from edged.capture.device import Bytes, Frame, Item, Sound, Timing, plane
from edged.config.fields import LocalPath, Name
from edged.config.source import Source
from edged.errors import SourceError
from edged.wire.clock import SECOND_NS
from edged.wire.pool import Samples
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import av

NOISY_ROOMS = 8
"""So many copies of the room with different sensor noise are shown in turn."""
VOICE_DBFS, ALARM_DBFS, FLOOR_DBFS = -14.0, -20.0, -62.0

Span = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class Config(Source):
    """A rendered scene."""

    kind: Literal["synthetic"]
    scene: Name = "room"
    """Sources of one scene share a process and a clock; they have to agree in all that follows."""
    width: Annotated[int, Field(ge=64, le=3840, multiple_of=2)] = 640
    height: Annotated[int, Field(ge=64, le=2160, multiple_of=2)] = 360
    period_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """After so long the scene repeats."""
    figure_s: Span = (1.0, 6.0)
    """When in each period the figure is to be seen."""
    figure_image: LocalPath | None = None
    """A picture to show for the figure, standing still over the whole height; a drawn one walks."""
    voice_s: Span = (3.0, 5.5)
    """When in each period the voice speaks."""
    alarm_s: Span = (7.5, 8.5)
    """When in each period the alarm beeps."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """The scene ends after so long; by default never."""
    seed: int = 0

    @property
    def device(self) -> str:
        """The scene."""
        return self.scene

    @property
    def finite(self) -> bool:
        """A scene with an end."""
        return self.seconds is not None

    @model_validator(mode="after")
    def _spans(self) -> Config:
        for name in ("figure_s", "voice_s", "alarm_s"):
            start, end = getattr(self, name)
            if not start <= end <= self.period_s:
                raise ValueError(f"{name} has to lie within the period of {self.period_s} s, start first")
        return self


def open(sources: Mapping[str, Config], timing: Timing) -> Scene:  # noqa: A001
    """Renders what can be rendered beforehand.

    Raises:
        SourceError: the sources of the scene contradict each other, or its image can't be read.
    """
    return Scene(sources, timing)


class Scene:
    """The running scene."""

    def __init__(self, sources: Mapping[str, Config], timing: Timing) -> None:
        self.missing: dict[str, str] = {}
        self._config = config = next(iter(sources.values()))
        own = set(Source.model_fields)
        if any(other.model_dump(exclude=own) != config.model_dump(exclude=own) for other in sources.values()):
            raise SourceError(f"the sources of scene '{config.scene}' contradict each other", permanent=True)
        self._timing = timing
        self.lost: Counter[str] = Counter()
        # As a camera does, it gives all its pictures all the time.
        self._cameras = {n: s.rate_hz.active for n, s in sources.items() if s.modality == "video"}
        self._microphones = [n for n, s in sources.items() if s.modality == "audio"]
        random = np.random.default_rng(config.seed)
        if self._cameras:
            self._picture = _Picture(config, random)
        if self._microphones:
            self._sound = _sound(config, random)

    def want(self, rates_hz: Mapping[str, float]) -> None:
        """There is nothing to be saved."""

    def read(self) -> Iterator[Item | None]:
        """Frames and sound in the order of time."""
        end_ns = round(self._config.seconds * SECOND_NS) if self._config.seconds else None
        begin_s = self._timing.start_ns / SECOND_NS
        counts = {name: math.ceil(begin_s * rate) for name, rate in self._cameras.items()}
        counts |= dict.fromkeys(self._microphones, math.ceil(self._timing.start_ns / CHUNK_NS))
        while True:
            # Of each source the moment when its next item is complete; the earliest goes.
            moments = {n: round(counts[n] * SECOND_NS / rate) for n, rate in self._cameras.items()}
            moments |= {n: (counts[n] + 1) * CHUNK_NS for n in self._microphones}
            name = min(moments, key=lambda n: moments[n])
            media_ns = moments[name]
            if end_ns is not None and media_ns >= end_ns:
                return
            counts[name] += 1
            due_ns = self._timing.due_ns(media_ns)
            if name in self._cameras:
                frame = self._picture.render(media_ns / SECOND_NS, counts[name])
                yield Frame(name, self._timing.stamp_ns(media_ns), frame, due_ns)
            else:
                start = (counts[name] - 1) * CHUNK_SAMPLES
                samples = self._sound.take(range(start, start + CHUNK_SAMPLES), mode="wrap")
                stamp_ns = self._timing.stamp_ns(media_ns - CHUNK_NS)
                yield Sound(name, stamp_ns, samples, SAMPLE_RATE_HZ, due_ns)

    def close(self) -> None:
        """Nothing to give back."""


class _Picture:
    """Draws into one yuv420p frame that is used again and again."""

    def __init__(self, config: Config, random: np.random.Generator) -> None:
        import av

        self._config = config
        self._frame = av.VideoFrame(config.width, config.height, "yuv420p")
        room = _room(config.height, config.width)
        noise = random.normal(0, 2, (NOISY_ROOMS, *room.shape))
        self._rooms = np.clip(room + noise, 16, 235).astype(np.uint8)
        self._planes = [plane(self._frame, index) for index in range(3)]
        self._walks = config.figure_image is None
        self._figure = _drawn(config.height) if config.figure_image is None else _image(config)

    def render(self, at_s: float, count: int) -> av.VideoFrame:
        """The scene at `at_s` seconds."""
        y, u, v = self._planes
        y[:], u[:], v[:] = self._rooms[count % NOISY_ROOMS], 132, 122
        start, end = self._config.figure_s
        phase = at_s % self._config.period_s
        if start <= phase < end:
            luma, cb, cr, mask = self._figure
            height, width = luma.shape
            way = (phase - start) / (end - start) if self._walks else 0.5
            left = round((self._config.width - width) * way) // 2 * 2
            top = (self._config.height - height) // 2 * 2
            np.copyto(y[top : top + height, left : left + width], luma, where=mask)
            half = (slice(top // 2, (top + height) // 2), slice(left // 2, (left + width) // 2))
            np.copyto(u[half], cb, where=mask[::2, ::2])
            np.copyto(v[half], cr, where=mask[::2, ::2])
        return self._frame


def _room(height: int, width: int) -> npt.NDArray[np.float64]:
    """Luma of a wall, a floor, a door and a window."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    room = np.where(y < 0.72, 150 - 30 * y, 90 + 40 * (y - 0.72))
    room = np.where((x > 0.7) & (x < 0.83) & (y > 0.25) & (y < 0.72), 105, room)
    return np.where((x > 0.12) & (x < 0.34) & (y > 0.15) & (y < 0.42), 205, room)


def _drawn(height: int) -> tuple[Bytes, Bytes, Bytes, npt.NDArray[np.bool_]]:
    """A person as the outline of head, trunk, arms and legs: luma, both chromas, mask."""
    tall, wide = height * 7 // 10 // 4 * 4, height * 28 // 100 // 4 * 4
    y, x = np.mgrid[0:tall, 0:wide] / np.array([tall, wide]).reshape(2, 1, 1)
    x = x - 0.5
    head = (x / 0.2) ** 2 + ((y - 0.1) / 0.1) ** 2 < 1
    trunk = (np.abs(x) < 0.26 - 0.1 * (y - 0.2)) & (y > 0.21) & (y < 0.56)
    arms = (np.abs(np.abs(x) - 0.34 - 0.1 * (y - 0.2)) < 0.075) & (y > 0.22) & (y < 0.58)
    legs = (np.abs(np.abs(x) - 0.13) < 0.105) & (y > 0.54)
    mask = head | trunk | arms | legs
    luma = np.select([head, trunk | arms, legs], [170, 70, 45], 0).astype(np.uint8)
    cb = np.select([head, trunk | arms], [110, 150], 128).astype(np.uint8)[::2, ::2]
    cr = np.select([head, trunk | arms], [150, 110], 128).astype(np.uint8)[::2, ::2]
    return luma, cb, cr, mask


def _image(config: Config) -> tuple[Bytes, Bytes, Bytes, npt.NDArray[np.bool_]]:
    import av

    path = str(config.figure_image)
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            picture = next(container.decode(video=0))
    except (av.FFmpegError, OSError, StopIteration) as error:
        raise SourceError(f"{path}: is no picture that can be read", permanent=True) from error
    scale = min(config.height / picture.height, config.width / picture.width)
    size = [max(4, int(side * scale) // 4 * 4) for side in (picture.width, picture.height)]
    small = picture.reformat(*size, format="yuv420p", dst_color_range="MPEG")
    luma, cb, cr = (plane(small, index).copy() for index in range(3))
    return luma, cb, cr, np.ones(luma.shape, bool)


def _sound(config: Config, random: np.random.Generator) -> Samples:
    """One period of the scene."""
    sound = random.standard_normal(round(config.period_s * SAMPLE_RATE_HZ)) * _amplitude(FLOOR_DBFS)
    for span, made, dbfs in ((config.voice_s, _voice, VOICE_DBFS), (config.alarm_s, _alarm, ALARM_DBFS)):
        start, end = (round(edge * SAMPLE_RATE_HZ) for edge in span)
        if start < end:
            wave = made(end - start, random)
            sound[start:end] += wave * _amplitude(dbfs) / max(1e-9, np.sqrt(np.mean(wave**2)))
    return np.clip(sound, -1, 1).astype(np.float32)


def _amplitude(dbfs: float) -> float:
    return float(10 ** (dbfs / 20))


def _alarm(length: int, _: np.random.Generator) -> npt.NDArray[np.float64]:
    """Beeps of 3.1 kHz, twice a second, as smoke alarms have them."""
    at = np.arange(length) / SAMPLE_RATE_HZ
    beeps: npt.NDArray[np.float64] = np.sin(2 * np.pi * 3100 * at) * (at % 0.5 < 0.3)
    return beeps


def _voice(length: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Vowels that glide into each other, by additive synthesis: the harmonics of a wavering pitch,
    weighted by three formants, a syllable each 0.22 s, with a breath of noise between.

    Formants: G. E. Peterson and H. L. Barney, "Control methods used in a study of the vowels", 1952.
    """
    a, i, u = (730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240)
    vowels = np.array([a, i, u, (530, 1840, 2480), (570, 840, 2410)])
    at, syllable = np.arange(length) / SAMPLE_RATE_HZ, 0.22
    spoken = vowels[random.integers(0, len(vowels), int(at[-1] / syllable) + 2)]
    middles = (np.arange(len(spoken)) + 0.5) * syllable
    formants = [np.interp(at, middles, spoken[:, index]) for index in range(3)]
    pitch = 120 * (1 + 0.12 * np.sin(2 * np.pi * at / 1.7) + 0.04 * np.sin(2 * np.pi * 2.9 * at))
    angle = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ
    wave: npt.NDArray[Any] = np.zeros(length)
    for harmonic in range(1, 32):
        tone = harmonic * pitch
        weights = zip(formants, (80, 110, 170), (1.0, 0.6, 0.3), strict=True)
        weight = sum(gain / (1 + ((tone - formant) / width) ** 2) for formant, width, gain in weights)
        wave += np.where(tone < 5000, weight, 0) * harmonic**-0.6 * np.sin(harmonic * angle)
    phase = at / syllable % 1
    wave *= np.clip(1.6 * np.sin(np.pi * phase), 0.05, 1)
    breath = np.diff(random.standard_normal(length), prepend=0)
    wave /= np.abs(wave).max()
    wave += 0.03 * breath * np.clip(1 - np.abs(phase - 0.02) / 0.12, 0, 1)
    return wave
