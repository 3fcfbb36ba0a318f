"""The capture process: one device, stamped, measured, scaled into pools, and announced to readers."""

from __future__ import annotations

import importlib
import logging
import random
import select
import sys
import threading
import time
from typing import TYPE_CHECKING

from edged.capture.device import Arrivals, Device, Encoded, Frame, Sound, Timing
from edged.capture.level import loudness
from edged.capture.source import SourceWorker
from edged.errors import SourceError
from edged.wire.channel import Channel, Closed
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.feed import FeedWriter
from edged.wire.pool import PoolError, Samples
from edged.wire.records import (
    Attach,
    Counts,
    Descriptor,
    Detection,
    EndOfSource,
    Message,
    Modality,
    Observations,
    Raise,
    Ready,
    RecordClip,
    SourceState,
    State,
    Stop,
    TakeSnapshot,
    Trace,
)
from edged.wire.setup import CaptureSetup
from edged.wire.views import CHUNK_NS, SOUND
from edged.wire.worker import Pulse, run_worker

if TYPE_CHECKING:
    from edged.capture.recorder import Recorder

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
POLL_NS = 1_100_000
"""Waiting for messages ends so long before a frame is due."""
HEALTHY_NS = 10 * SECOND_NS
"""A device that ran for so long is tried again at once when it fails."""
OPEN_NS = 20 * SECOND_NS
"""An opening that takes longer than every time-out will never end."""
LOST_NS = 8 * SECOND_NS
"""A device that has brought nothing for so long, and no error either, is opened anew."""
TAPE_HZ = 48_000
"""Samples a second of a microphone's sound in a recording for replays."""
SERVE_NS = SECOND_NS // 50
"""A wish is heard after so long at most, whatever the device brings."""
LOOK_NS = SECOND_NS // 5
"""So often it is seen to whether something came."""


class Stopped(Exception):
    """The daemon wants the end."""


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
        self._device: Device | None = None
        self._recorder: Recorder | None = None
        self._ring: Recorder | None = None
        """The recorder, where clips are to be made and not only snapshots."""
        if setup.record:
            from edged.capture.recorder import Recorder

            self._recorder = Recorder(setup.name, setup.record, self._send, start_ns=setup.record.start_ns)
            self._ring = self._recorder if setup.record.clips or setup.record.tape else None
        self._taping = bool(setup.record and setup.record.tape)
        self._pulse = Pulse(control)
        self._look_ns = self._served_ns = 0
        self._at_end = False
        self._endless = not any(one.config.finite for one in self._sources.values())
        """Silence is a fault. In a file one track may be shorter than the other."""
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
        finally:
            if self._recorder:
                self._recorder.close()

    # The device.

    def _read(self) -> None:
        """Opens the device and delivers what it gives, to its end."""
        for one in self._sources.values():
            self._tell(one, "starting" if one.state is None else "reconnecting", one.reason)
        device = self._device = self._open()
        try:
            for name, reason in device.missing.items():
                self._tell(self._sources[name], "failed", reason)
            device.want({name: one.rates.rate_hz for name, one in self._sources.items()})
            for one in self._sources.values():
                one.opened()
            for item in device.read():
                if item is None:
                    self._serve(0)
                elif isinstance(item, Encoded):
                    self._wait_until(item.due_ns)
                    self._packet(item)
                    if now_ns() - self._served_ns > SERVE_NS:  # at rest no picture comes for seconds
                        self._serve(0)
                else:
                    self._wait_until(item.due_ns)
                    self._serve(0)
                    one = self._sources[item.source]
                    one.came(now_ns())
                    if one.state != "running":
                        self._tell(one, "running")
                    if isinstance(item, Frame):
                        self._frame(one, item)
                    else:
                        self._sound(one, item)
                self._look()
        finally:
            self._device = None
            device.close()

    def _open(self) -> Device:
        """Opens the device in a thread: it may take seconds, and never end."""
        configs = {name: one.config for name, one in self._sources.items()}
        setup = self._setup
        wake_fd = self._control.fileno()
        timing = Timing(setup.replay, setup.paced, setup.start_ns, wake_fd=wake_fd)
        opened: Arrivals[Device] = Arrivals(1, wake_fd)

        def work() -> None:
            try:
                opened.put(self._kind.open(configs, timing))
            except BaseException as error:  # noqa: BLE001 - raised in the main thread
                opened.fail(error)

        threading.Thread(target=work, name="open", daemon=True).start()
        while (device := opened.get()) is None:
            self._serve(0)
            if now_ns() - timing.opened_ns > OPEN_NS:
                raise SourceError(f"opening takes more than {OPEN_NS // SECOND_NS} s", stuck=True)
        return device

    def _look(self) -> None:
        """Sees to what has not come, and to what has lapsed."""
        now = now_ns()
        if now < self._look_ns:
            return
        self._look_ns = now + LOOK_NS
        if not self._setup.replay:
            for one in self._sources.values():
                self._settle(one, now)
        if self._endless:
            self._seek_progress(now)

    def _seek_progress(self, now: int) -> None:
        alive = [one for one in self._sources.values() if one.state not in ("failed", "ended")]
        for one in alive:
            silent_ns = one.silent_ns(now)
            if silent_ns > one.patience_ns and one.state != "stalled":
                self._tell(one, "stalled", f"nothing has come for {silent_ns / SECOND_NS:.1f} s")
        lost = [one for one in alive if one.silent_ns(now) > one.patience_ns + LOST_NS]
        if lost and lost == alive:
            # Its own time-outs have passed: it would not end if it were closed, either.
            raise SourceError(f"{lost[0].name}: {lost[0].reason}, and no error either", stuck=True)
        for one in lost:
            if one.ran:  # a track that has never come would not come by opening it again
                raise SourceError(f"{one.name}: {one.reason}")

    # What it gives.

    def _packet(self, packet: Encoded) -> None:
        now = now_ns()
        for name in packet.sources:
            one = self._sources[name]
            one.encoded = True
            one.came(now)
            if one.state == "stalled":
                self._tell(one, "running")
        if self._ring:
            self._ring.add(packet)

    def _frame(self, one: SourceWorker, frame: Frame) -> None:
        one.newest = frame
        if self._ring and not one.encoded:
            self._ring.picture(one.name, frame, one.config.rate_hz.active)
        if not one.sampler.take(frame.stamp_ns):
            return
        captured_ns = now_ns()
        picture = frame.picture
        motion = round(one.motion.share(picture, frame.stamp_ns), 4)
        if one.motion.moving:
            one.stir(frame.stamp_ns)
        self._settle(one, frame.stamp_ns)
        one.delivered += 1
        slot = self._slot(one)
        if slot is not None and one.pool:
            one.scaler.write(picture, one.pool.views(slot))
            size = (picture.width, picture.height)
            times = (frame.stamp_ns, one.sampler.period_ns, captured_ns)
            self._lend(one, slot, times, due=True, motion=motion, picture=size)
        self._observe(one, "video", frame.stamp_ns, 0, captured_ns, Detection("motion", motion))

    def _sound(self, one: SourceWorker, sound: Sound) -> None:
        if self._ring and not one.encoded:
            self._ring.sound(one.name, sound, TAPE_HZ if self._taping else one.rates.sample_rate_hz)
        for stamp_ns, samples in one.chunks.add(sound):
            self._chunk(one, stamp_ns, samples)

    def _chunk(self, one: SourceWorker, stamp_ns: int, samples: Samples) -> None:
        captured_ns = now_ns()
        level = round(one.level.add(samples, stamp_ns), 1)
        if one.level.active:
            one.stir(stamp_ns)
        self._settle(one, stamp_ns)
        one.delivered += 1
        slot = self._slot(one)
        if slot is not None and one.pool:
            one.pool.views(slot)[SOUND][:] = samples
            due = one.sampler.take(stamp_ns + CHUNK_NS)
            times = (stamp_ns, CHUNK_NS, captured_ns)
            self._lend(one, slot, times, due=due, level_dbfs=level)
        middle_ns = stamp_ns + CHUNK_NS // 2
        score = round(loudness(level), 4)
        self._observe(one, "audio", middle_ns, CHUNK_NS, captured_ns, Detection("sound", score))

    def _settle(self, one: SourceWorker, stamp_ns: int) -> None:
        if changed := one.settle(stamp_ns):
            if self._device:
                self._device.want({one.name: changed.rate_hz})
            self._send(changed, timeout_s=1.0)

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
        if self._recorder and self._taping:
            about = {"source": one.name, "sequence": one.delivered, "stamp_ns": stamp_ns}
            self._recorder.descriptor(about | {measured.label: measured.score})
        done_ns = now_ns()
        trace = Trace(captured_ns, captured_ns, captured_ns, captured_ns, captured_ns, done_ns)
        seen = Observations(one.name, "", modality, stamp_ns, span_ns, (measured,), trace)
        while not self._control.send(seen, timeout_s=1.0):
            if not self._patient:
                one.drops["daemon_busy"] += 1
                return

    # The others.

    def _wait_until(self, due_ns: int) -> None:
        while (left_ns := due_ns - now_ns()) > POLL_NS:
            self._serve(min((left_ns - POLL_NS) / SECOND_NS, 0.5))
        if left_ns > 0:
            time.sleep(left_ns / SECOND_NS)  # poll() would round up to a whole millisecond, and be late

    def _serve(self, timeout_s: float) -> None:
        """Credits and the daemon's wishes; waits for them when there is nothing else to do."""
        self._served_ns = now_ns()
        if timeout_s:
            poller = select.poll()
            poller.register(self._control.fileno(), select.POLLIN)
            for reader in self._readers:
                poller.register(reader.channel.fileno(), select.POLLIN)
            poller.poll(timeout_s * 1000)
        while packet := self._control.receive():
            message, fds = packet
            match message:
                case Stop():
                    raise Stopped
                case Attach() if len(fds) == 1:
                    self._attach(Channel.from_fd(fds[0]))
                case Raise() if one := self._sources.get(message.source):
                    one.ask(message.until_ns)
                    self._settle(one, one.newest.stamp_ns if one.newest and self._setup.replay else now_ns())
                case RecordClip() if self._recorder:
                    self._recorder.record(message)
                case TakeSnapshot() if self._recorder:
                    self._snapshot(self._recorder, message)
                case _:
                    log.error("the daemon sent a %s that has no place here", type(message).__name__)
        for reader in self._readers:
            try:
                reader.credits()
            except PoolError as error:
                log.error("a reader broke the rules and is dropped: %s", error)
                reader.close()
        self._readers = [reader for reader in self._readers if reader.open]
        if self._recorder:
            self._recorder.tick(now_ns())
        if self._pulse.beat():
            for one in self._sources.values():
                self._send(self._counts(one))

    def _attach(self, channel: Channel) -> None:
        try:
            reader = FeedWriter(channel, self._pools)
        except Closed:  # it has gone already; the next one will be introduced, too
            channel.close()
            return
        self._readers.append(reader)
        if self._at_end:
            self._announce_end([reader])

    def _snapshot(self, recorder: Recorder, wish: TakeSnapshot) -> None:
        one = self._sources.get(wish.source)
        if one and one.newest:
            recorder.snapshot(wish, one.newest)

    def _counts(self, one: SourceWorker) -> Counts:
        lost = self._device.lost if self._device else {}
        recorded = self._recorder.counts() if self._recorder else {}
        return Counts(one.name, one.delivered, {**one.drops, **lost}, recorded)

    def _ended(self) -> bool:
        """The device came to its end; False when it is to begin again."""
        if not self._setup.replay and any(getattr(s.config, "loop", False) for s in self._sources.values()):
            return False
        self._at_end = True
        self._announce_end(self._readers)
        for one in self._sources.values():
            if one.state != "failed":
                self._tell(one, "ended")
            self._control.send(self._counts(one), timeout_s=10.0)
            self._control.send(EndOfSource(one.name), timeout_s=10.0)
        return True

    def _announce_end(self, readers: list[FeedWriter]) -> None:
        for name in self._pools:
            for reader in readers:
                reader.send(EndOfSource(name), timeout_s=10.0)

    def _fail(self, error: SourceError, failures: int) -> None:
        for one in self._sources.values():
            self._tell(one, "failed" if error.permanent else "reconnecting", str(error))
        if error.stuck:
            log.error("%s: this process ends, and the next one takes over", error)
            sys.exit(1)
        if error.permanent:
            self._rest()
        longest = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(failures - 1, 10))
        wake_ns = now_ns() + round(random.uniform(0.5, 1.0) * longest * SECOND_NS)  # noqa: S311 - jitter
        self._wait_until(wake_ns)

    def _rest(self) -> None:
        """Nothing more to do but to wait for the end, slots still being read."""
        while True:
            self._serve(0.5)
            self._look()

    def _tell(self, one: SourceWorker, state: State, reason: str = "") -> None:
        if (state, reason) != (one.state, one.reason):
            one.state, one.reason = state, reason
            self._send(SourceState(one.name, state, reason), timeout_s=1.0)

    def _send(self, message: Message, timeout_s: float = 0.0) -> None:
        self._control.send(message, timeout_s=timeout_s)


def main() -> None:
    """The process's entry."""
    run_worker("capture", CaptureSetup, lambda control, setup: Capture(control, setup).run())


if __name__ == "__main__":
    main()
