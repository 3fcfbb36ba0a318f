"""The other side of the broker: what `edged watch`, the demo and tests read events with."""

from __future__ import annotations

import queue
import secrets
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.reasoncodes import ReasonCode

from edged.config.schema import Mqtt
from edged.errors import EdgedError
from edged.publish.mqtt import address, make_client


class Subscriber:
    """A connection that receives what is published on some topics. A context manager."""

    def __init__(self, config: Mqtt, topics: list[str]) -> None:
        """Connects, and subscribes.

        Raises:
            EdgedError: the broker can't be reached, or refuses.
        """
        self._received: queue.SimpleQueue[tuple[str, bytes] | EdgedError] = queue.SimpleQueue()
        self._answer: queue.SimpleQueue[EdgedError | None] = queue.SimpleQueue()
        self._client = make_client(config, f"edged-watch-{secrets.token_hex(4)}", paho.MQTTv311)

        def on_connect(client: paho.Client, _: Any, __: Any, reason: ReasonCode, ___: Any) -> None:  # noqa: ANN401
            if reason.is_failure:
                self._answer.put(EdgedError(f"{config.url}: refused: {reason.getName()}"))
            else:
                client.subscribe([(topic, 1) for topic in topics])

        def on_subscribe(_: Any, __: Any, ___: Any, reasons: list[ReasonCode], ____: Any) -> None:  # noqa: ANN401
            if any(reason.is_failure for reason in reasons):
                self._answer.put(EdgedError(f"{config.url}: may not subscribe to {', '.join(topics)}"))
            else:
                self._answer.put(None)

        def on_message(_: Any, __: Any, message: paho.MQTTMessage) -> None:  # noqa: ANN401
            self._received.put((message.topic, bytes(message.payload)))

        def on_disconnect(_: Any, __: Any, ___: Any, reason: ReasonCode, ____: Any) -> None:  # noqa: ANN401
            error = EdgedError(f"{config.url}: connection lost: {reason.getName()}")
            self._answer.put(error)
            self._received.put(error)

        self._client.on_connect, self._client.on_message = on_connect, on_message
        self._client.on_subscribe, self._client.on_disconnect = on_subscribe, on_disconnect
        host, port = address(config)
        try:
            self._client.connect(host, port)
        except OSError as error:
            raise EdgedError(f"{config.url}: can't be reached: {error}") from error
        self._client.loop_start()
        try:
            answer = self._answer.get(timeout=10.0)
        except queue.Empty:
            answer = EdgedError(f"{config.url}: does not answer")
        if answer:
            self.close()
            raise answer

    def messages(self, timeout_s: float | None) -> Iterator[tuple[str, bytes]]:
        """Topic and payload of what comes, until nothing came for `timeout_s`.

        Raises:
            EdgedError: the connection was lost.
        """
        while True:
            try:
                received = self._received.get(timeout=timeout_s)
            except queue.Empty:
                return
            if isinstance(received, EdgedError):
                raise received
            yield received

    def close(self) -> None:
        """Disconnects."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
