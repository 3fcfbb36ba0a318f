"""The daemon: starts the workers in order, joins their feeds, fuses, publishes, and stops in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edged import __version__
from edged.config.schema import Config
from edged.config.source import Source
from edged.errors import EdgedError
from edged.fuse.adapt import Adapt, Wish
from edged.fuse.align import Aligner
from edged.fuse.fusion import Fusion, feeds_of
from edged.health import ModelHealth, SourceHealth
from edged.perceive.cards import load_card
from edged.publish.mqtt import Publisher
from edged.publish.outbox import Outbox
from edged.setups import clip_setup, perceive_setup, tape_setup, wanted_of
from edged.supervise import Worker
from edged.wire.channel import Channel
from edged.wire.clock import SECOND_NS, WallClock, now_ns
from edged.wire.event import Event, new_ulid
from edged.wire.records import (
    Attach,
    Beat,
    Counts,
    EndOfSource,
    Message,
    ModelState,
    Observations,
    RateState,
    Ready,
    RecordClip,
    Recorded,
    Setup,
    SourceState,
)
from edged.wire.setup import CaptureSetup

log = logging.getLogger(__name__)

PERCEIVE = "perceive"
STATE_OFF = b'{"state":"OFF"}'
TICK_S = 0.25
REPORT_S = 10.0
LATENESS_NS = 2 * SECOND_NS
"""An evidence that has not been heard of for so long is no longer waited for."""
CAPTURE_STARTING_S = 15.0
"""A capture process that has not said a word by then hangs."""
STOP_S = 0.7
"""For the workers to end by themselves; then they are killed. A stop takes 2 s at most in all."""
FLUSH_S = 0.6
"""For the broker's last acknowledgements; what it does not take stays in the outbox."""
REPLAY_FLUSH_S = 8.0


@dataclass(frozen=True, slots=True)
class Options:
    """How the daemon runs."""

    replay: bool = False
    """Read the sources once from their beginning to their end, and then stop."""
    paced: bool = True
    """In a replay: at the recording's own speed, as live; otherwise as fast as it goes, every frame."""
    record: Path | None = None
    """Record all that the sources deliver into this folder, for a replay."""


@dataclass(slots=True)
class _Capture:
    """One device, and the sources that read it."""

    name: str
    kind: str
    sources: dict[str, Source]
    worker: Worker
    views: bool
    """Whether any model reads it."""
    first_ns: int = 0
    newest_ns: int = -1
    """The newest stamp it delivered."""
    ended: bool = False


class Daemon:
    """Everything that runs; made and run inside one event loop."""

    def __init__(
        self,
        config: Config,
        options: Options,
        *,
        on_event: Callable[[Event], None] | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        """`on_progress` gets the newest stamp of a replay, in seconds.

        Raises:
            EdgedError: the state directory or a card can't be used.
        """
        self._config, self._options = config, options
        self._on_event, self._on_progress = on_event, on_progress
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._begun_ns = now_ns()
        self._error: str | None = None
        self._clock = WallClock.replay() if options.replay else WallClock.live()
        self._cards = {name: load_card(use.card, config.models_dirs) for name, use in config.models.items()}
        labels = {name: card.vocabulary for name, card in self._cards.items()}
        self._fusion = Fusion(config, feeds_of(config, labels), self._clock)
        self._sources = {name: SourceHealth.of(name, source) for name, source in config.sources.items()}
        self._models = {name: ModelHealth() for name in config.models}
        feeds = [(source, "") for source in config.sources]
        feeds += [(source, name) for name, model in config.models.items() for source in model.sources]
        self._aligner = Aligner(feeds)
        self._ordered = options.replay and not options.paced
        self._captures = self._plan()
        devices = {source: name for name, capture in self._captures.items() for source in capture.sources}
        self._adapt = Adapt(config, devices, self._clock)
        self._devices = devices
        self._stirred: dict[str, str] = {}
        """The id of the motion or sound that goes on at a source."""
        self._perceive = Worker(PERCEIVE, "edged.perceive.worker", self) if config.models else None
        self._ready: set[str] = set()
        self._newest_ns = 0
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._outbox = Outbox(self._outbox_dir())
        self._publisher = (
            Publisher(config.mqtt, config.device, self._outbox, self._loop, self._report)
            if config.mqtt
            else None
        )

    # Life.

    async def run(self) -> None:
        """From start to stop.

        Raises:
            EdgedError: a replay could not be finished.
        """
        tick = None
        try:
            if self._publisher:
                self._publisher.start()
            self._end_left_open()
            if self._perceive:
                self._perceive.start()
            if not (self._options.replay and self._perceive):
                self._start_captures()
            tick = asyncio.create_task(self._tick(), name="tick")
            await self._stop.wait()
        finally:
            if tick:
                tick.cancel()
            await self._shut_down()
        if self._error:
            raise EdgedError(self._error)

    def stop(self, error: str | None = None) -> None:
        """Ends `run` in order; with `error` it raises."""
        self._error = self._error or error
        self._stop.set()

    async def _shut_down(self) -> None:
        workers = [capture.worker for capture in self._captures.values()]
        workers += [self._perceive] if self._perceive else []
        await asyncio.gather(*(worker.stop(STOP_S) for worker in workers))
        for event in self._fusion.close():
            self._emit(event)
        if self._publisher:
            self._report()
            replay = self._options.replay
            await self._publisher.stop(REPLAY_FLUSH_S if replay else FLUSH_S, insist=replay)
            if replay and self._outbox.waiting:
                why = self._publisher.trouble or "it did not acknowledge them"
                self._error = self._error or f"{self._outbox.waiting} events were not published: {why}"
        await asyncio.to_thread(self._outbox.close)
        if self._scratch:
            self._scratch.cleanup()

    def _outbox_dir(self) -> Path:
        if self._options.replay or not self._config.mqtt:
            # Nothing outlives a replay, and without a broker nothing waits for one.
            self._scratch = tempfile.TemporaryDirectory(prefix="edged-")
            return Path(self._scratch.name)
        return self._state_dir()

    def _state_dir(self) -> Path:
        if self._config.state_dir:
            return Path(self._config.state_dir)
        if state := os.environ.get("STATE_DIRECTORY"):
            return Path(state.split(":")[0])
        return Path.home() / ".local/state/edged" / self._config.device

    def _plan(self) -> dict[str, _Capture]:
        groups: dict[tuple[str, str], dict[str, Source]] = {}
        for name, source in self._config.sources.items():
            kind = str(source.model_dump()["kind"])
            groups.setdefault((kind, source.device), {})[name] = source
        read = {source for model in self._config.models.values() for source in model.sources}
        captures = {}
        for (kind, _), sources in groups.items():
            name = next(iter(sources))
            stalled_s = max(2.0, min(source.stalled_after_s for source in sources.values()))
            worker = Worker(name, "edged.capture.worker", self, stalled_s, CAPTURE_STARTING_S)
            captures[name] = _Capture(name, kind, sources, worker, views=bool(read & sources.keys()))
        return captures

    def _start_captures(self) -> None:
        for capture in self._captures.values():
            if not capture.worker.generation:
                capture.worker.start()

    def _end_left_open(self) -> None:
        """Events of a daemon that was killed: each gets its end, with its last evidence's stamp."""
        for event in self._outbox.left_open:
            self._emit(
                msgspec.structs.replace(
                    event,
                    phase="end",
                    sequence=event.sequence + 1,
                    ended_at=event.updated_at,
                    latency_ms=None,
                )
            )

    # What workers are told and say.

    def started(self, worker: Worker) -> None:
        """Sends the setup, and joins the new process with the others by feeds of its own."""
        if worker is self._perceive:
            worker.send(Setup(msgspec.json.encode(perceive_setup(self._config, ordered=self._ordered))))
            for capture in self._captures.values():
                self._join(capture)
            return
        capture = self._captures[worker.name]
        worker.send(Setup(msgspec.json.encode(self._capture_setup(capture))))
        self._join(capture)

    def ended(self, worker: Worker) -> None:
        """A worker died; it will be replaced."""
        if worker is self._perceive:
            for name in self._models:
                self._models[name] = ModelHealth("failed", "its process ended")
        else:
            for name, source in self._captures[worker.name].sources.items():
                self._sources[name].state, self._sources[name].reason = "reconnecting", "its process ended"
                idle = source.rate_hz.idle, source.sample_rate_hz.idle
                self._rates_changed(RateState(name, *idle, "idle"))
        self._report()

    def said(self, worker: Worker, message: Message) -> None:
        """Acts on a worker's record."""
        match message:
            case Observations():
                self._observe(worker, message)
            case Counts():
                capture = worker is not self._perceive
                self._sources[message.source].count(worker.generation, message, capture=capture)
            case SourceState():
                source = self._sources[message.source]
                source.state, source.reason = message.state, message.reason
                level = logging.INFO if message.state in ("running", "ended", "starting") else logging.WARNING
                log.log(level, "source %s: %s %s", message.source, message.state, message.reason)
                if self._options.replay and message.state in ("failed", "reconnecting") and message.reason:
                    self.stop(f"source {message.source}: {message.reason}")
                self._report()
            case RateState():
                self._rates_changed(message)
            case Recorded():
                if message.written:
                    log.info("written: %s", message.path)
                else:
                    log.warning("%s could not be written: %s", message.path, message.reason)
            case ModelState():
                self._models[message.model] = ModelHealth(
                    "running" if message.running else "failed", message.reason
                )
                if self._options.replay and not message.running:
                    self.stop(f"model {message.model}: {message.reason}")
                self._report()
            case EndOfSource():
                if worker is not self._perceive:
                    self._captures[worker.name].ended = True
                for ordered in self._aligner.end(message):
                    self._fuse(ordered)
                if self._options.replay and self._aligner.ended:
                    self.stop()
            case Ready():
                self._ready.add(worker.name)
                if worker is self._perceive:
                    self._start_captures()
                self._report()
            case Beat():
                pass
            case _:
                log.error("%s sent a %s", worker.name, type(message).__name__)

    def _rates_changed(self, rates: RateState) -> None:
        source = self._sources[rates.source]
        level = logging.INFO if rates.rate_hz != source.rates.rate_hz else logging.DEBUG
        log.log(level, "source %s: %g Hz (%s)", rates.source, rates.rate_hz, rates.cause)
        source.rates = rates
        self._fusion.rates_hz[rates.source] = rates.rate_hz
        now = now_ns()
        if known := self._stirred.pop(rates.source, None):
            self._wish(self._adapt.ends(known, now))
        if rates.cause in ("motion", "sound"):
            stirred = self._stirred[rates.source] = new_ulid(time.time_ns() // 1_000_000)
            self._wish(self._adapt.begins(rates.cause, (rates.source,), stirred, now, now))
        self._report()

    def _wish(self, wishes: list[Wish]) -> None:
        """Sends them to whom they concern. A replay follows its recording alone."""
        if self._options.replay:
            return
        for wish in wishes:
            source = wish.sources[0] if isinstance(wish, RecordClip) else wish.source
            self._captures[self._devices[source]].worker.send(wish)

    def _observe(self, worker: Worker, seen: Observations) -> None:
        if not seen.model:
            self._sources[seen.source].measure(seen)
            capture = self._captures[worker.name]
            capture.first_ns = capture.first_ns or now_ns()
            capture.newest_ns = max(capture.newest_ns, seen.stamp_ns)
            self._newest_ns = max(self._newest_ns, seen.stamp_ns)
        if self._ordered:
            for ordered in self._aligner.push(seen):
                self._fuse(ordered)
        else:
            self._fuse(seen)

    def _fuse(self, seen: Observations | EndOfSource) -> None:
        if isinstance(seen, EndOfSource):
            events = self._fusion.ended(seen.source, seen.model)
        else:
            events = self._fusion.observe(seen)
        for event in events:
            self._emit(event)

    def _emit(self, event: Event) -> None:
        event = self._adapted(event)
        payload = event.to_json()
        if self._config.mqtt and self._publisher:
            topic = self._publisher.topic("event", event.type)
            message = self._outbox.put(event, topic, payload, self._config.mqtt.event_expiry_s)
            self._publisher.event(message)
            state = {
                "state": "OFF" if event.phase == "end" else "ON",
                "id": event.id,
                "since": event.started_at,
            }
            self._publisher.live(self._publisher.topic("state", event.type), msgspec.json.encode(state))
        if self._on_event:
            self._on_event(event)

    def _adapted(self, event: Event) -> Event:
        """Sets going what follows from the event, and names the clip that is made of it."""
        if self._options.replay or not self._config.adapt:
            return event
        now = now_ns()
        if event.phase == "start":
            where = tuple(item.source for item in event.evidence)
            began_ns = self._clock.stamp_ns(event.started_at)
            self._wish(self._adapt.begins(event.type, where, event.id, began_ns, now))
        clip = self._adapt.clip_of(event.id)
        if event.phase == "end":
            self._wish(self._adapt.ends(event.id, now))
        return msgspec.structs.replace(event, clip=clip) if clip else event

    def _capture_setup(self, capture: _Capture) -> CaptureSetup:
        options, config = self._options, self._config
        record = None
        if options.record:
            record = tape_setup(config, options.record, self._begun_ns)
        elif not options.replay:
            clips = Path(config.clips.dir or self._state_dir() / "clips")
            record = clip_setup(config, capture.sources.keys(), clips, self._begun_ns)
        views, heard = wanted_of(config, self._cards, capture.sources)
        return CaptureSetup(
            name=capture.name,
            kind=capture.kind,
            sources={n: msgspec.Raw(s.model_dump_json().encode()) for n, s in capture.sources.items()},
            views=views,
            heard=heard,
            generation=capture.worker.generation,
            replay=options.replay,
            paced=options.paced,
            start_ns=self._resume_ns(capture),
            record=record,
        )

    def _resume_ns(self, capture: _Capture) -> int:
        """Where a process that takes over from one that died goes on in a recording.

        A camera goes on while nobody looks, and so does a file that stands for one.
        """
        finite = all(source.finite for source in capture.sources.values())
        looped = any(getattr(source, "loop", False) for source in capture.sources.values())
        if not finite or looped or capture.newest_ns < 0:
            return 0
        if self._options.replay:
            return capture.newest_ns + 1
        return now_ns() - capture.first_ns

    def _join(self, capture: _Capture) -> None:
        if not (self._perceive and self._perceive.alive and capture.worker.alive and capture.views):
            return
        writing, reading = Channel.pair()
        capture.worker.send(Attach(capture.name), (writing.fileno(),))
        self._perceive.send(Attach(capture.name), (reading.fileno(),))
        # Ours are copies: the end of a feed is seen only when nobody holds its other end.
        writing.close()
        reading.close()

    # What subscribers are told of us.

    @property
    def ready(self) -> bool:
        """Every worker is at work."""
        workers = {*self._captures, *([PERCEIVE] if self._perceive else [])}
        return workers <= self._ready

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            if not self._ordered:
                newest_ns = self._newest_ns if self._options.replay else now_ns()
                for event in self._fusion.passed(newest_ns - LATENESS_NS):
                    self._emit(event)
            if self._on_progress:
                self._on_progress(self._newest_ns / SECOND_NS)
            for capture in self._captures.values():
                capture.worker.check()
            if self._perceive:
                self._perceive.check()
            if ticks % round(1 / TICK_S) == 0:
                self._wish(self._adapt.goes_on(now_ns()))
            if ticks % round(REPORT_S / TICK_S) == 0:
                self._report()

    def _report(self) -> None:
        """Sources, states and health, retained; the publisher sends what has changed."""
        publisher = self._publisher
        if publisher is None:
            return
        for name, source in self._sources.items():
            publisher.live(publisher.topic("source", name), source.to_json())
        for name, on in self._fusion.states():
            if not on:
                publisher.live(publisher.topic("state", name), STATE_OFF)
        troubles = [f"source {n}: {s.reason}" for n, s in self._sources.items() if s.reason]
        troubles += [f"model {n}: {m.reason}" for n, m in self._models.items() if m.reason]
        health = {
            "version": __version__,
            "ready": self.ready,
            "sources": {name: source.state for name, source in self._sources.items()},
            "models": {name: model.state for name, model in self._models.items()},
            "outbox": {"waiting": self._outbox.waiting, "drops": dict(self._outbox.drops + publisher.drops)},
            "errors": troubles,
        }
        publisher.live(publisher.topic("health"), msgspec.json.encode(health))
