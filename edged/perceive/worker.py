"""The perceive process: runs models on what capture lends it, and tells the daemon what they saw."""

from __future__ import annotations

import logging
import select
from typing import cast

from edged.errors import EdgedError, ModelError
from edged.perceive.cards import Model, load_card, open_model
from edged.perceive.schedule import Priority, Schedule, Subscription, Work
from edged.wire.channel import Channel, Closed
from edged.wire.clock import now_ns
from edged.wire.feed import FeedReader
from edged.wire.pool import Lease, PoolError
from edged.wire.records import (
    Attach,
    Counts,
    Detection,
    EndOfSource,
    ModelState,
    Observations,
    Ready,
    Stop,
    Trace,
)
from edged.wire.setup import PerceiveSetup
from edged.wire.worker import Pulse, run_worker

log = logging.getLogger(__name__)

IDLE_S = 0.25
SEND_TIMEOUT_S = 5.0


class Perceive:
    """The process's state."""

    def __init__(self, control: Channel, setup: PerceiveSetup) -> None:
        self._control = control
        self._models: dict[str, Model] = {}
        for name, wanted in setup.models.items():
            try:
                card = load_card(wanted.card, setup.models_dirs)
                self._models[name] = open_model(wanted.card, card, setup.models_dirs, wanted.threads)
            except EdgedError as error:
                log.error("model %s: %s", name, error)
                control.send(ModelState(name, running=False, reason=str(error)), timeout_s=SEND_TIMEOUT_S)
            else:
                control.send(ModelState(name, running=True), timeout_s=SEND_TIMEOUT_S)
        self._schedule = Schedule(
            [
                Subscription(
                    name,
                    source,
                    "newest" if source in setup.newest else "every",
                    cast("Priority", wanted.priority),
                    wanted.budget_ms,
                )
                for name, wanted in setup.models.items()
                if name in self._models
                for source in wanted.sources
            ]
        )
        self._sources = sorted({source for wanted in setup.models.values() for source in wanted.sources})
        self._inferences = dict.fromkeys(self._sources, 0)
        self._feeds: dict[int, FeedReader] = {}
        self._failing: set[str] = set()
        self._pulse = Pulse(control)
        self._poller = select.poll()
        self._poller.register(control.fileno(), select.POLLIN)

    def run(self) -> None:
        """Until told to stop."""
        self._control.send(Ready(), timeout_s=SEND_TIMEOUT_S)
        work: Work | None = None
        while self._receive(0 if work else IDLE_S):
            work = self._schedule.next()
            if work is None:
                continue
            if isinstance(work.item, EndOfSource):
                self._count(work.source)
                self._control.send(EndOfSource(work.source, work.model), timeout_s=SEND_TIMEOUT_S)
            else:
                with work.item as lease:
                    self._look(work, lease)
        for model in self._models.values():
            model.close()

    def _receive(self, timeout_s: float) -> bool:
        """Takes in all that has come; False when the daemon wants the end."""
        for fd, _ in self._poller.poll(timeout_s * 1000):
            if fd in self._feeds:
                self._read(fd, self._feeds[fd])
                continue
            while packet := self._control.receive():
                message, fds = packet
                if isinstance(message, Stop):
                    return False
                if isinstance(message, Attach) and len(fds) == 1:
                    feed = FeedReader(Channel.from_fd(fds[0]))
                    self._feeds[feed.channel.fileno()] = feed
                    self._poller.register(feed.channel.fileno(), select.POLLIN)
        if self._pulse.beat():
            for source in self._sources:
                self._count(source)
        return True

    def _count(self, source: str) -> None:
        drops = {reason: n for reason, n in self._schedule.drops.get(source, {}).items() if n}
        self._control.send(Counts(source, self._inferences[source], drops))

    def _read(self, fd: int, feed: FeedReader) -> None:
        try:
            while item := feed.receive():
                self._schedule.put(item)
        except (Closed, PoolError) as error:
            if isinstance(error, PoolError):
                log.error("a capture process broke the rules: %s", error)
            # What is leased already can still be read: the memory lives as long as its map.
            self._poller.unregister(fd)
            del self._feeds[fd]
            feed.close()

    def _look(self, work: Work, lease: Lease) -> None:
        """One run of one model; a failure is counted, and never taken for having seen nothing."""
        model, slot = self._models[work.model], lease.descriptor
        prepare_ns = now_ns()
        try:
            if not model.prepare(lease):
                return
            prepared_ns = now_ns()
            model.infer()
            inferred_ns = now_ns()
            found: tuple[Detection, ...] = model.decode()
        except ModelError as error:
            self._schedule.drops[work.source]["engine_failed"] += 1
            if work.model not in self._failing:
                self._failing.add(work.model)
                self._control.send(ModelState(work.model, running=False, reason=str(error)), timeout_s=1.0)
            return
        if work.model in self._failing:
            self._failing.remove(work.model)
            self._control.send(ModelState(work.model, running=True), timeout_s=1.0)
        self._inferences[work.source] += 1
        trace = Trace(slot.captured_ns, slot.queued_ns, prepare_ns, prepared_ns, inferred_ns, now_ns())
        if model.window_ns:
            stamp_ns = slot.stamp_ns + slot.duration_ns - model.window_ns // 2
            seen = Observations(work.source, work.model, "audio", stamp_ns, model.window_ns, found, trace)
        else:
            seen = Observations(work.source, work.model, "video", slot.stamp_ns, 0, found, trace)
        while not self._control.send(seen, timeout_s=SEND_TIMEOUT_S):
            log.warning("the daemon has not read for %s s", SEND_TIMEOUT_S)


def main() -> None:
    """The process's entry."""

    run_worker("perceive", PerceiveSetup, lambda control, setup: Perceive(control, setup).run())


if __name__ == "__main__":
    main()
