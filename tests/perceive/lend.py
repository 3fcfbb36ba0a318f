"""Lends real pictures and sound to a model, by the way they go in the daemon: pool, feed, lease."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from edged.capture.device import Sound
from edged.capture.listening import Chunks
from edged.capture.scaler import Scaler
from edged.perceive.cards import Card, Model, load_card, open_model
from edged.wire.channel import Channel
from edged.wire.feed import FeedReader, FeedWriter
from edged.wire.pool import Array, Lease, Pool, Samples, layout
from edged.wire.records import Descriptor, Detection, Modality
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES, SOUND, PictureView

SLOTS = 4


class Lender:
    """One source, and the one who reads it."""

    def __init__(self, source: str, modality: Modality, views: tuple[PictureView, ...] = ()) -> None:
        shapes: dict[str, Any] = {view.name: (view.shape, np.uint8) for view in views}
        if modality == "audio":
            shapes[SOUND] = ((CHUNK_SAMPLES,), np.float32)
        self._source = source
        self._pool = Pool(layout(source, modality, 1, SLOTS, shapes))
        self._scaler = Scaler(views)
        writing, reading = Channel.pair()
        self._writer = FeedWriter(writing, {source: self._pool})
        self._reader = FeedReader(reading)
        self._sequence = 0

    def picture(self, picture: av.VideoFrame) -> Lease:
        """The picture, scaled into every view."""
        slot = self._slot()
        self._scaler.write(picture, self._pool.views(slot))
        return self._lend(slot, picture=(picture.width, picture.height))

    def sound(self, stamp_ns: int, samples: Samples, *, due: bool = True, captured_ns: int = 0) -> Lease:
        """A chunk whose first sample was taken at `stamp_ns`."""
        slot = self._slot()
        self._pool.views(slot)[SOUND][:] = samples
        return self._lend(slot, stamp_ns=stamp_ns, duration_ns=CHUNK_NS, due=due, captured_ns=captured_ns)

    @property
    def lent(self) -> int:
        """How many slots the reader has not given back."""
        self._writer.credits()
        return SLOTS - self._pool.free

    def slot(self, lease: Lease) -> dict[str, Array]:
        """The writer's own arrays of what is lent."""
        return self._pool.views(lease.descriptor.slot)

    def close(self) -> None:
        """Ends the feed and drops the pool."""
        self._reader.close()
        self._writer.close()
        self._pool.close()

    def __enter__(self) -> Lender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _slot(self) -> int:
        self._writer.credits()
        slot = self._pool.acquire()
        assert slot is not None, "every slot is lent"
        return slot

    def _lend(
        self,
        slot: int,
        *,
        stamp_ns: int = 0,
        duration_ns: int = 0,
        due: bool = True,
        captured_ns: int = 0,
        picture: tuple[int, int] | None = None,
    ) -> Lease:
        self._sequence += 1
        self._pool.lend(slot, self._sequence, [self._writer])
        self._writer.send(
            Descriptor(
                source=self._source,
                generation=1,
                slot=slot,
                sequence=self._sequence,
                stamp_ns=stamp_ns,
                duration_ns=duration_ns,
                captured_ns=captured_ns,
                queued_ns=0,
                due=due,
                motion=None,
                level_dbfs=None,
                picture=picture,
            )
        )
        lease = self._reader.receive()
        assert isinstance(lease, Lease)
        return lease


def open_card(name: str, data: Path, **changes: object) -> tuple[Card, Model]:
    """A shipped card, changed, with its real weights."""
    card = load_card(name).model_copy(update=changes)
    return card, open_model(name, card, (str(data / "models"),), threads=1)


def look(model: Model, lease: Lease) -> tuple[Detection, ...] | None:
    """What the model sees or hears in it; None when there was nothing to run yet. Releases it."""
    with lease:
        if not model.prepare(lease):
            return None
        model.infer()
        return model.decode()


def read_picture(path: Path) -> av.VideoFrame:
    """The first picture of a file."""
    with av.open(str(path)) as container:
        picture: av.VideoFrame = next(container.decode(container.streams.video[0]))
        return picture


def read_sound(path: Path) -> Iterator[tuple[int, Samples]]:
    """The chunks of a file's sound: the stamp of the first sample, and the samples."""
    chunks, at = Chunks(), 0
    with av.open(str(path)) as container:
        rate_hz = container.streams.audio[0].rate
        resampler = av.AudioResampler("flt", "mono", rate_hz)
        for frame in [*container.decode(audio=0), None]:
            for part in resampler.resample(frame):
                samples = part.to_ndarray()[0]
                yield from chunks.add(Sound("", at * 1_000_000_000 // rate_hz, samples, rate_hz))
                at += len(samples)
