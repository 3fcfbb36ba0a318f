"""One real capture process without a daemon: whoever runs it is both the daemon and the reader."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import msgspec

from edged.config.schema import source_kinds
from edged.wire.channel import Channel, Closed
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.feed import FeedReader
from edged.wire.pool import Lease
from edged.wire.records import Attach, EndOfSource, Message, Ready, Setup, Stop
from edged.wire.setup import CaptureSetup, RecordSetup
from edged.wire.views import PictureView

Json = Mapping[str, Any]


class Capturing:
    """The process, its control channel and one feed. A context manager."""

    def __init__(
        self,
        sources: Mapping[str, Json],
        *,
        view: PictureView | None = None,
        heard: bool = False,
        replay: bool = False,
        paced: bool = True,
        record: RecordSetup | None = None,
    ) -> None:
        """`sources`: as in a configuration, all of one device. `view`: what is read of each picture."""
        kind = str(next(iter(sources.values()))["kind"])
        config = source_kinds()[kind]
        checked = {name: config.model_validate(dict(source)) for name, source in sources.items()}
        self._setup = CaptureSetup(
            name=next(iter(sources)),
            kind=kind,
            sources={name: msgspec.Raw(one.model_dump_json().encode()) for name, one in checked.items()},
            views={n: (view,) for n, one in checked.items() if view and one.modality == "video"},
            heard=tuple(n for n, one in checked.items() if heard and one.modality == "audio"),
            generation=1,
            replay=replay,
            start_ns=0,
            paced=paced,
            record=record,
        )

    def __enter__(self) -> Capturing:
        self.control, theirs = Channel.pair()
        command = [sys.executable, "-m", "edged.capture.worker", self._setup.name, str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self.control.send(Setup(msgspec.json.encode(self._setup)))
        writing, reading = Channel.pair()
        self.control.send(Attach(self._setup.name), (writing.fileno(),))
        writing.close()
        self._feed = FeedReader(reading)
        self._poller = select.poll()
        for channel in (self.control, reading):
            self._poller.register(channel.fileno(), select.POLLIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Closed):
            self.control.send(Stop(), timeout_s=1.0)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._feed.close()
        self.control.close()

    def cpu_ns(self) -> int:
        """CPU time of all its threads so far (the clock of a process, see clock_getcpuclockid(3))."""
        return time.clock_gettime_ns((~self.process.pid << 3) | 2)

    def coming(self, seconds: float) -> Iterator[tuple[Message | Lease, int]]:
        """What it says and lends, with the moment of its receipt, for so long or to the end of all
        sources. A lease is released when the next is asked for.
        """
        deadline_ns = now_ns() + round(seconds * SECOND_NS)
        ended = 0
        while (left_ns := deadline_ns - now_ns()) > 0 and ended < len(self._setup.sources):
            self._poller.poll(max(1, left_ns // 1_000_000))
            try:
                while item := self._feed.receive():
                    if isinstance(item, Lease):
                        yield item, now_ns()
                        item.release()
                while packet := self.control.receive():
                    ended += isinstance(packet[0], EndOfSource)
                    yield packet[0], now_ns()
            except Closed:
                return

    def ready(self, seconds: float = 20.0) -> None:
        """Waits until it is set up. What it says until then is lost."""
        next((True for message, _ in self.coming(seconds) if isinstance(message, Ready)), None)
