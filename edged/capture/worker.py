"""The capture process: one device, stamped, measured, scaled into pools, and announced to readers."""

from __future__ import annotations

import importlib
import logging
import random
import select
import time
from collections import Counter
from typing import Any

from edged.capture.device import Chunk, Device, Frame, Sampler, Timing
from edged.capture.gates import Motion, level_dbfs, loudness
from edged.capture.scaler import Scaler
from edged.config.fields import Source
from edged.errors import SourceError
from edged.wire.channel import Channel
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.feed import FeedWriter
from edged.wire.pool import Pool, PoolError, layout
from edged.wire.records import (
    Attach,
    Counts,
    Descriptor,
    Detection,
    EndOfSource,
    Modality,
    Observations,
    Ready,
    SourceState,
    State,
    Stop,
    Trace,
)
from edged.wire.setup import CaptureSetup
from edged.wire.views import CHUNK_NS, CHUNK_SAMPLES, SOUND
from edged.wire.worker import Pulse, run_worker

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
POLL_NS = 1_100_000
"""Waiting for messages ends so long before a frame is due."""
HEALTHY_NS = 10 * SECOND_NS
"""A device that ran for so long is tried again at once when it fails."""


class Stopped(Exception):
    """The daemon wants the end."""


class SourceWorker:
    """What the process keeps for one source."""

    def __init__(self, name: str, config: Source, setup: CaptureSetup) -> None:
        self.name, self.config = name, config
        self.period_ns = round(SECOND_NS / config.rate_hz)
        self.state: State | None = None
        self.delivered = 0
        self.drops: Counter[str] = Counter()
        views = setup.views.get(name, ())
        self.scaler = Scaler(views)
        self.motion = Motion()
        self.windows = Sampler(config.rate_hz)
        shapes: dict[str, Any] = {view.name: (view.shape, "uint8") for view in views}
        if name in setup.heard:
            shapes[SOUND] = ((CHUNK_SAMPLES,), "float32")
        self.pool = (
            Pool(layout(name, config.modality, setup.generation, config.pool_slots, shapes))
            if shapes
            else None
        )


class Capture:
    """The process's state."""

    def __init__(self, control: Channel, setup: CaptureSetup) -> None:
        self._control = control
        self._setup = setup
        self._kind = importlib.import_module(f"edged.capture.sources.{setup.kind}")
        self._sources: dict[str, SourceWorker] = {}
        for name, config in setup.sources.items():
            try:
                source = self._kind.Config.model_validate_json(bytes(config))
                self._sources[name] = SourceWorker(name, source, setup)
            except PoolError as error:  # the configuration asks for more than a pool may have
                control.send(SourceState(name, "failed", str(error)), timeout_s=1.0)
        self._pools = {name: one.pool for name, one in self._sources.items() if one.pool}
        self._readers: list[FeedWriter] = []
        self._pulse = Pulse(control)
        self._at_end = False
        self._patient = setup.replay and not setup.paced
        """Every frame waits for room; otherwise one without room is dropped."""

    def run(self) -> None:
        """Opens the device again and again, until told to stop."""
        self._control.send(Ready())
        failures = 0
        try:
            if self._setup.replay and self._pools:
                while not self._readers:
                    self._serve(1.0)
            if not self._sources:
                self._rest()
            while True:
                opened_ns = now_ns()
                try:
                    self._read()
                    if self._ended():
                        self._rest()
                    failures = 0
                except SourceError as error:
                    if now_ns() - opened_ns > HEALTHY_NS:
                        failures = 0
                    failures += 1
                    self._fail(error, failures)
        except Stopped:
            pass

    def _read(self) -> None:
        """Opens the device and delivers what it gives, to its end."""
        for one in self._sources.values():
            self._tell(one, "starting" if one.state is None else "reconnecting")
        configs = {name: one.config for name, one in self._sources.items()}
        setup = self._setup
        device: Device = self._kind.open(configs, Timing(setup.replay, setup.paced, setup.start_ns))
        try:
            for name, reason in device.missing.items():
                self._tell(self._sources[name], "failed", reason)
            for item in device.read():
                self._wait_until(item.due_ns)
                self._serve(0)
                one = self._sources[item.source]
                if one.state != "running":
                    self._tell(one, "running")
                if isinstance(item, Frame):
                    self._frame(one, item)
                else:
                    self._chunk(one, item)
        finally:
            device.close()

    def _frame(self, one: SourceWorker, frame: Frame) -> None:
        captured_ns = now_ns()
        picture = frame.picture
        motion = round(one.motion.share(picture), 4)
        one.delivered += 1
        slot = self._slot(one)
        if slot is not None and one.pool:
            one.scaler.write(picture, one.pool.views(slot))
            size = (picture.width, picture.height)
            times = (frame.stamp_ns, one.period_ns, captured_ns)
            self._lend(one, slot, times, due=True, motion=motion, picture=size)
        self._observe(one, "video", frame.stamp_ns, 0, captured_ns, Detection("motion", motion))

    def _chunk(self, one: SourceWorker, chunk: Chunk) -> None:
        captured_ns = now_ns()
        level = round(level_dbfs(chunk.samples), 1)
        one.delivered += 1
        slot = self._slot(one)
        if slot is not None and one.pool:
            one.pool.views(slot)[SOUND][:] = chunk.samples
            due = one.windows.take(chunk.stamp_ns + CHUNK_NS)
            times = (chunk.stamp_ns, CHUNK_NS, captured_ns)
            self._lend(one, slot, times, due=due, level_dbfs=level)
        middle_ns = chunk.stamp_ns + CHUNK_NS // 2
        score = round(loudness(level), 4)
        self._observe(one, "audio", middle_ns, CHUNK_NS, captured_ns, Detection("sound", score))

    def _slot(self, one: SourceWorker) -> int | None:
        """A slot to write into; None when nobody reads, or all are lent (that drop is counted)."""
        if one.pool is None:
            return None
        while True:
            if not any(reader.open for reader in self._readers):
                one.drops["no_reader"] += 1
                return None
            slot = one.pool.acquire()
            if slot is not None:
                return slot
            if not self._patient:
                one.drops["no_slot"] += 1
                return None
            self._serve(0.5)

    def _lend(
        self,
        one: SourceWorker,
        slot: int,
        times: tuple[int, int, int],
        *,
        due: bool,
        motion: float | None = None,
        level_dbfs: float | None = None,
        picture: tuple[int, int] | None = None,
    ) -> None:
        assert one.pool  # noqa: S101 - for the type checker
        stamp_ns, duration_ns, captured_ns = times
        readers = [reader for reader in self._readers if reader.open]
        one.pool.lend(slot, one.delivered, readers)
        descriptor = Descriptor(
            source=one.name,
            generation=self._setup.generation,
            slot=slot,
            sequence=one.delivered,
            stamp_ns=stamp_ns,
            duration_ns=duration_ns,
            captured_ns=captured_ns,
            queued_ns=now_ns(),
            due=due,
            motion=motion,
            level_dbfs=level_dbfs,
            picture=picture,
        )
        for reader in readers:
            # A pool has fewer slots than a socket has room: only a reader that breaks off says no.
            if not reader.send(descriptor, timeout_s=1.0):
                reader.close()
                one.drops["no_reader"] += 1

    def _observe(
        self,
        one: SourceWorker,
        modality: Modality,
        stamp_ns: int,
        span_ns: int,
        captured_ns: int,
        measured: Detection,
    ) -> None:
        done_ns = now_ns()
        trace = Trace(captured_ns, captured_ns, captured_ns, captured_ns, captured_ns, done_ns)
        seen = Observations(one.name, "", modality, stamp_ns, span_ns, (measured,), trace)
        while not self._control.send(seen, timeout_s=1.0):
            if not self._patient:
                one.drops["daemon_busy"] += 1
                return

    def _wait_until(self, due_ns: int) -> None:
        while (left_ns := due_ns - now_ns()) > POLL_NS:
            self._serve(min((left_ns - POLL_NS) / SECOND_NS, 0.5))
        if left_ns > 0:
            time.sleep(left_ns / SECOND_NS)  # poll() would round up to a whole millisecond, and be late

    def _serve(self, timeout_s: float) -> None:
        """Credits and the daemon's wishes; waits for them when there is nothing else to do."""
        if timeout_s:
            poller = select.poll()
            poller.register(self._control.fileno(), select.POLLIN)
            for reader in self._readers:
                poller.register(reader.channel.fileno(), select.POLLIN)
            poller.poll(timeout_s * 1000)
        while packet := self._control.receive():
            message, fds = packet
            if isinstance(message, Stop):
                raise Stopped
            if isinstance(message, Attach) and len(fds) == 1:
                self._readers.append(FeedWriter(Channel.from_fd(fds[0]), self._pools))
                if self._at_end:
                    self._announce_end(self._readers[-1:])
        for reader in self._readers:
            try:
                reader.credits()
            except PoolError as error:
                log.error("a reader broke the rules and is dropped: %s", error)
                reader.close()
        self._readers = [reader for reader in self._readers if reader.open]
        if self._pulse.beat():
            for one in self._sources.values():
                self._control.send(Counts(one.name, one.delivered, dict(one.drops)))

    def _ended(self) -> bool:
        """The device came to its end; False when it is to begin again."""
        if not self._setup.replay and any(getattr(s.config, "loop", False) for s in self._sources.values()):
            return False
        self._at_end = True
        self._announce_end(self._readers)
        for one in self._sources.values():
            if one.state != "failed":
                self._tell(one, "ended")
            self._control.send(Counts(one.name, one.delivered, dict(one.drops)), timeout_s=10.0)
            self._control.send(EndOfSource(one.name), timeout_s=10.0)
        return True

    def _announce_end(self, readers: list[FeedWriter]) -> None:
        for name in self._pools:
            for reader in readers:
                reader.send(EndOfSource(name), timeout_s=10.0)

    def _fail(self, error: SourceError, failures: int) -> None:
        for one in self._sources.values():
            self._tell(one, "failed" if error.permanent else "reconnecting", str(error))
        if error.permanent:
            self._rest()
        longest = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(failures - 1, 10))
        wake_ns = now_ns() + round(random.uniform(0.5, 1.0) * longest * SECOND_NS)  # noqa: S311 - jitter
        self._wait_until(wake_ns)

    def _rest(self) -> None:
        """Nothing more to do but to wait for the end, slots still being read."""
        while True:
            self._serve(0.5)

    def _tell(self, one: SourceWorker, state: State, reason: str = "") -> None:
        if (state, reason) != (one.state, "") or reason:
            one.state = state
            self._control.send(SourceState(one.name, state, reason), timeout_s=1.0)


def main() -> None:
    """The process's entry."""
    run_worker("capture", CaptureSetup, lambda control, setup: Capture(control, setup).run())


if __name__ == "__main__":
    main()
