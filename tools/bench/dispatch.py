"""What edged adds to a model's own time: from "the frame is in the pool" to "the daemon has the result".

A real perceive process runs yolox-nano; the benchmark stands for capture (it owns the pool and sends
descriptors) and for the daemon (it has the control channel in its event loop, as edged.supervise does).
`through_ms` counts from `Descriptor.queued_ns` to the receipt of the `Observations`; `alone_ms` is one
`session.run` of the original model on the same picture, as float32 that was made just before. Each
picture goes both ways, in turn first through and first alone, after a pause as a 10 Hz camera makes it.
`overhead_ms` is the difference of the two for one picture. The other figures are the worker's own
stamps: `queue_ms` from queued to the beginning of preparation, `prepare_ms`, `infer_ms`, `decode_ms`,
and `return_ms` from decoded to the receipt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import msgspec
import numpy as np
import numpy.typing as npt

from edged.capture.scaler import Scaler
from edged.errors import ModelError
from edged.perceive.cards import load_card
from edged.supervise import Worker
from edged.wire.channel import Channel
from edged.wire.clock import now_ns
from edged.wire.feed import FeedWriter
from edged.wire.pool import Pool, layout
from edged.wire.records import Attach, Descriptor, Message, ModelState, Observations, Ready, Setup
from edged.wire.setup import ModelSetup, PerceiveSetup
from edged.wire.views import PictureView
from tools.bench.engine import PlainSession
from tools.bench.footage import visit
from tools.bench.measure import Unmeasurable, median, percentile
from tools.bench.report import Goal

GOALS = (Goal("overhead_ms_p50", at_most=1.0),)

CARD, WEIGHTS, SOURCE = "yolox-nano", "yolox_nano.onnx", "cam"
PICTURES = 20
"""A round, each both ways: five seconds."""
PAUSE_S = 0.1
TIMEOUT_S = 30.0
STAGES = ("queue", "prepare", "infer", "decode", "return")


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` rounds over the same pictures."""
    return asyncio.run(_measure(pairs, data))


async def _measure(pairs: int, data: Path) -> dict[str, float]:
    models = data / "models"
    alone = PlainSession(models / WEIGHTS)
    try:
        view = load_card(CARD, (str(models),)).view
    except ModelError as error:
        raise Unmeasurable(str(error)) from error
    assert view is not None
    bench = _Bench(view, models)
    through_ns: list[int] = []
    alone_ns: list[int] = []
    stages_ns: dict[str, list[int]] = {stage: [] for stage in STAGES}
    try:
        await bench.start()
        pictures = visit(data, PICTURES)
        for picture in pictures[:3]:  # warms both up
            await bench.through(picture)
            alone.run_ns(bench.as_floats(picture))
        for number in range(pairs):
            for picture in pictures:
                for way in ("through", "alone") if number % 2 else ("alone", "through"):
                    await asyncio.sleep(PAUSE_S)
                    if way == "alone":
                        alone_ns.append(alone.run_ns(bench.as_floats(picture)))
                        continue
                    taken_ns, stages = await bench.through(picture)
                    through_ns.append(taken_ns)
                    for stage, spent_ns in zip(STAGES, stages, strict=True):
                        stages_ns[stage].append(spent_ns)
    finally:
        await bench.stop()
    overhead_ms = [(a - b) / 1e6 for a, b in zip(through_ns, alone_ns, strict=True)]
    return {
        "overhead_ms_p50": median(overhead_ms),
        "overhead_ms_p95": percentile(overhead_ms, 0.95),
        "through_ms_p50": median(through_ns) / 1e6,
        "alone_ms_p50": median(alone_ns) / 1e6,
        **{f"{stage}_ms_p50": median(spent) / 1e6 for stage, spent in stages_ns.items()},
    }


class _Bench:
    """Capture's and the daemon's part; the owner of the perceive process."""

    def __init__(self, view: PictureView, models: Path) -> None:
        use = ModelSetup(CARD, (SOURCE,), "normal", None, 1)
        setup = PerceiveSetup({"people": use}, (str(models),), newest=(SOURCE,))
        self._setup = Setup(msgspec.json.encode(setup))
        self._view, self._scaler = view, Scaler((view,))
        self._pool = Pool(layout(SOURCE, "video", 1, 8, {view.name: (view.shape, "uint8")}))
        self._worker = Worker("perceive", "edged.perceive.worker", self)
        self._writer: FeedWriter | None = None
        self._sequence = 0
        self._wanted: Callable[[Message], bool] = lambda _: False
        self._came: asyncio.Future[tuple[Message, int]] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Returns when the model is loaded and warm enough to take frames."""
        ready = self._expect(lambda message: isinstance(message, Ready))
        self._worker.start()
        await asyncio.wait_for(ready, TIMEOUT_S)

    async def stop(self) -> None:
        """Ends the process."""
        await self._worker.stop(2.0)
        if self._writer:
            self._writer.close()
        self._pool.close()

    def as_floats(self, picture: av.VideoFrame) -> npt.NDArray[np.float32]:
        """The picture as the original model wants it."""
        planes = np.empty(self._view.shape, np.uint8)
        self._scaler.write(picture, {self._view.name: planes})
        return planes[None].astype(np.float32)

    async def through(self, picture: av.VideoFrame) -> tuple[int, tuple[int, ...]]:
        """One picture through the pool and back: nanoseconds in all, and by stage."""
        writer, pool = self._writer, self._pool
        assert writer is not None
        writer.credits()
        slot = pool.acquire()
        if slot is None:
            raise Unmeasurable("perceive gives no slots back")
        captured_ns = now_ns()
        self._scaler.write(picture, pool.views(slot))
        self._sequence += 1
        pool.lend(slot, self._sequence, [writer])
        came = self._expect(lambda message: isinstance(message, Observations))
        queued_ns = now_ns()
        writer.send(
            Descriptor(
                source=SOURCE,
                generation=1,
                slot=slot,
                sequence=self._sequence,
                stamp_ns=captured_ns,
                duration_ns=round(PAUSE_S * 1e9),
                captured_ns=captured_ns,
                queued_ns=queued_ns,
                due=True,
                motion=0.0,
                level_dbfs=None,
                picture=(picture.width, picture.height),
            )
        )
        seen, came_ns = await asyncio.wait_for(came, TIMEOUT_S)
        assert isinstance(seen, Observations)
        if not any(one.label == "person" for one in seen.detections):
            raise Unmeasurable("the model saw nobody in a picture with a person")
        trace = seen.trace
        worker_ns = (trace.prepare_ns, trace.prepared_ns, trace.inferred_ns, trace.decoded_ns)
        stamps_ns = (queued_ns, *worker_ns, came_ns)
        return came_ns - queued_ns, tuple(after - before for before, after in pairwise(stamps_ns))

    def _expect(self, wanted: Callable[[Message], bool]) -> asyncio.Future[tuple[Message, int]]:
        self._wanted = wanted
        self._came = asyncio.get_running_loop().create_future()
        return self._came

    # The owner of the worker; see edged.supervise.Owner.

    def started(self, worker: Worker) -> None:
        """Sends the setup and the feed."""
        writing, reading = Channel.pair()
        worker.send(self._setup)
        worker.send(Attach(SOURCE), (reading.fileno(),))
        reading.close()
        self._writer = FeedWriter(writing, {SOURCE: self._pool})

    def said(self, _: Worker, message: Message) -> None:
        """Takes the time first."""
        came_ns = now_ns()
        if isinstance(message, ModelState) and not message.running:
            self._fail(message.reason)
        elif not self._came.done() and self._wanted(message):
            self._came.set_result((message, came_ns))

    def ended(self, _: Worker) -> None:
        """There is no second try in a measurement."""
        self._fail("the perceive process ended")

    def _fail(self, reason: str) -> None:
        if not self._came.done():
            self._came.set_exception(Unmeasurable(reason))
