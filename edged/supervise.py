"""Keeps one worker process alive: spawns it, listens to it, and spawns it again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import subprocess
import sys
from typing import Protocol

from edged.wire.channel import Channel, Closed
from edged.wire.clock import SECOND_NS, now_ns
from edged.wire.records import Message, Stop

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.1, 10.0
HEALTHY_S = 10.0
"""A worker that lived for so long is replaced at once; one that dies sooner, after a growing pause."""
STALLED_S = 20.0
"""A main loop that says nothing for so long is stuck."""
STARTING_S = 120.0
"""The same before a worker's first word: large models load slowly."""


KILL_S = 0.2


class Owner(Protocol):
    """Who has a worker."""

    def started(self, worker: Worker) -> None:
        """A process was spawned; it waits for its setup."""

    def said(self, worker: Worker, message: Message) -> None:
        """It sent a record."""

    def ended(self, worker: Worker) -> None:
        """It is gone, and will be replaced."""


class Worker:
    """One role's process."""

    def __init__(
        self,
        name: str,
        module: str,
        owner: Owner,
        stalled_s: float = STALLED_S,
        starting_s: float = STARTING_S,
    ) -> None:
        """`module` is run with the name and the control descriptor as its arguments; after `stalled_s`
        without a word it is stuck, or after `starting_s` without its first.
        """
        self.name = name
        self._stalled_s, self._starting_s = stalled_s, starting_s
        self.generation = 0
        """Counts the processes, from 1."""
        self._module, self._owner = module, owner
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Channel | None = None
        self._born_ns = self._heard_ns = 0
        self._patience_s = starting_s
        self._failures = 0
        self._retry: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def alive(self) -> bool:
        """Whether there is a process to talk to."""
        return self._control is not None

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Spawns the process and hands it to the owner."""
        self._retry = None
        self.generation += 1
        ours, theirs = Channel.pair()
        # The working directory is no place to import modules from (Python 3.11 and later).
        environment = os.environ | {"PYTHONSAFEPATH": "1"}
        command = [sys.executable, "-m", self._module, self.name, str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
        )
        theirs.close()
        self._control = ours
        self._born_ns = self._heard_ns = now_ns()
        self._patience_s = self._starting_s
        self._loop.add_reader(ours.fileno(), self._receive, ours)
        self._owner.started(self)

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Sends a record; to one that is dying, in vain."""
        if self._control:
            with contextlib.suppress(Closed):
                if not self._control.send(message, fds, timeout_s=0.2):
                    log.warning("%s takes no messages", self.name)

    def check(self) -> None:
        """Ends a process whose main loop has stopped going round; its end brings the next."""
        if self._control and now_ns() - self._heard_ns > self._patience_s * SECOND_NS:
            log.error("%s has not moved for %.0f s: replaced", self.name, self._patience_s)
            self._gone(self._control)

    async def stop(self, timeout_s: float) -> None:
        """Asks for the end, and insists after `timeout_s`."""
        self._stopping = True
        if self._retry:
            self._retry.cancel()
        self.send(Stop())
        deadline = self._loop.time() + timeout_s
        while self._process and self._process.poll() is None and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        self._kill()
        if self._control:
            self._close(self._control)

    def _receive(self, control: Channel) -> None:
        # Not without end: one busy worker must not keep the others from being heard.
        for _ in range(64):
            try:
                packet = control.receive()
            except Closed:
                self._gone(control)
                return
            if packet is None:
                return
            self._heard_ns, self._patience_s = now_ns(), self._stalled_s
            self._owner.said(self, packet[0])

    def _gone(self, control: Channel) -> None:
        self._close(control)
        self._kill()
        if self._stopping or self._process is None:
            return
        code, lived_s = self._process.returncode, (now_ns() - self._born_ns) / SECOND_NS
        self._failures = 0 if lived_s > HEALTHY_S else self._failures + 1
        pause_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        log.warning("%s ended (%s): again in %.1f s", self.name, _ending(code), pause_s)
        self._owner.ended(self)
        self._retry = self._loop.call_later(pause_s, self.start)

    def _close(self, control: Channel) -> None:
        self._loop.remove_reader(control.fileno())
        control.close()
        self._control = None

    def _kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                # One that hangs in the kernel does not die; its successor need not wait for that.
                self._process.wait(KILL_S)


def _ending(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
