"""A small MQTT broker inside the process, for the demo on a machine that has none. Loopback only."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from types import TracebackType

from edged.errors import EdgedError


class EmbeddedBroker:
    """amqtt (MQTT 3.1.1) in a thread of its own, on a free port. A context manager."""

    START_S = 10.0

    def __init__(self) -> None:
        """Raises EdgedError when amqtt is missing or does not start."""
        try:
            import amqtt.broker  # noqa: F401 - the thread imports it again
        except ImportError as error:
            raise EdgedError(
                "no broker runs here, and the built-in one is not installed: pip install 'edged[demo]'"
            ) from error
        for noisy in ("amqtt", "transitions", "asyncio"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"mqtt://127.0.0.1:{probe.getsockname()[1]}"
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._thread.start()
        if not self._started.wait(self.START_S) or self._error:
            raise EdgedError(f"the built-in broker did not start: {self._error}")

    def close(self) -> None:
        """Ends the broker."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5.0)

    def __enter__(self) -> EmbeddedBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # noqa: BLE001 - told in __init__, whatever amqtt raises
            self._error = error
            self._started.set()
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        from amqtt.broker import Broker

        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": self.url.removeprefix("mqtt://")}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await broker.start()
        self._started.set()
        await self._over.wait()
        await broker.shutdown()
