"""What every worker process does alike: its name, its log, its channel to the daemon, its end."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from edged.errors import EdgedError
from edged.wire.channel import Channel, Closed
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.records import Beat, Setup

BEAT_NS = SECOND_NS // 2
_PR_SET_PDEATHSIG = 1

S = TypeVar("S")
log = logging.getLogger(__name__)


def set_up_logging(process: str, level: int = logging.INFO) -> None:
    """Plain lines to standard error; journald adds the time. `$EDGED_LOG` sets another level."""
    wanted = os.environ.get("EDGED_LOG", "").upper()
    logging.basicConfig(
        level=wanted if wanted in ("DEBUG", "INFO", "WARNING", "ERROR") else level,
        format=f"%(levelname)s {process}: %(message)s",
        stream=sys.stderr,
    )


def run_worker(role: str, setup_type: type[S], work: Callable[[Channel, S], None]) -> None:
    """The `main` of a worker: `argv` holds its name and the number of its control descriptor.

    It ends when `work` returns, when the daemon closes the channel, and when the daemon dies.
    """
    name, fd = sys.argv[1], int(sys.argv[2])
    # A terminal's Ctrl-C goes to all of its processes; the daemon decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # However wedged this process is, it does not outlive the daemon.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    Path("/proc/self/comm").write_text(f"edged-{name}"[:15], encoding="utf-8")
    set_up_logging(f"{role}[{name}]")
    control = Channel.from_fd(fd)
    with contextlib.suppress(Closed):
        control.wait(None)
        packet = control.receive()
        if packet and isinstance(packet[0], Setup):
            try:
                work(control, msgspec.json.decode(packet[0].config, type=setup_type))
            except EdgedError as error:
                log.error("%s", error)
                sys.exit(1)


class Pulse:
    """Tells the daemon, twice a second, that the main loop goes round."""

    def __init__(self, control: Channel) -> None:
        self._control = control
        self._next_ns = 0

    def beat(self) -> bool:
        """Sends when it is time; True when it did."""
        if now_ns() < self._next_ns:
            return False
        self._next_ns = now_ns() + BEAT_NS
        self._control.send(Beat())
        return True
