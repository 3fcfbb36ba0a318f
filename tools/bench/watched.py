"""`edged replay` as fast as it goes, with the moments of its observations.

    python -m tools.bench.watched CONFIG

The process is the daemon, its workers are processes of their own, and it publishes to the configured
broker; only a stamp is taken of what perceive says. It prints a JSON object: `frames` analysed, `seconds`
from the receipt of the first observation to that of the last, and `starts` of events.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from edged.config.load import load
from edged.config.schema import Config
from edged.daemon import Daemon, Options
from edged.errors import EdgedError
from edged.supervise import Worker
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.event import Event
from edged.wire.records import Message, Observations


class Watched(Daemon):
    """The daemon, overheard."""

    def __init__(self, config: Config) -> None:
        self.starts = 0
        self.stamps_ns: list[int] = []
        super().__init__(config, Options(replay=True, paced=False), on_event=self._count)

    def said(self, worker: Worker, message: Message) -> None:
        """What capture measures itself has no model, and does not count as analysed."""
        super().said(worker, message)
        if isinstance(message, Observations) and message.model:
            self.stamps_ns.append(now_ns())

    def _count(self, event: Event) -> None:
        self.starts += event.phase == "start"


async def _watch(config: Config) -> Watched:
    daemon = Watched(config)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, daemon.stop)
    await daemon.run()
    return daemon


def main() -> None:
    """Reads the arguments, replays, and prints."""
    try:
        daemon = asyncio.run(_watch(load(Path(sys.argv[1]))))
    except EdgedError as error:
        sys.exit(str(error))
    stamps_ns = daemon.stamps_ns
    seconds = (stamps_ns[-1] - stamps_ns[0]) / SECOND_NS if stamps_ns else 0.0
    print(json.dumps({"frames": len(stamps_ns), "seconds": seconds, "starts": daemon.starts}))


if __name__ == "__main__":
    main()
