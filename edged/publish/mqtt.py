"""MQTT: 5, or 3.1.1 where the broker knows no better. Events come from the outbox, state from life.

A thread connects, and connects again for ever with jittered, capped backoff; paho's own thread moves
the bytes. All state lies in the event loop's thread: paho's callbacks only hand over to it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edged.config.schema import Mqtt
from edged.errors import EdgedError
from edged.publish.outbox import Message, Outbox

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
CONNECT_TIMEOUT_S = 5.0
ANSWER_S = 3.0
"""For the broker's CONNACK."""
UNSUPPORTED = "Unsupported protocol version"
KEEPALIVE_S = 15
WINDOW = 64
"""Unacknowledged messages at a time, unless the broker wants fewer."""
FRESH = 1024
"""Events that wait in memory for room in the window; more are read back from the outbox."""
OVERHEAD_BYTES = 256
"""Of a PUBLISH packet beside topic and payload, its properties included; generous."""


def make_client(config: Mqtt, client_id: str, protocol: MQTTProtocolVersion) -> paho.Client:
    """A client that has what the configuration says, and does not reconnect by itself.

    Raises:
        EdgedError: the password file or the certificates can't be read.
    """
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, reconnect_on_failure=False
    )
    client.connect_timeout = CONNECT_TIMEOUT_S

    def on_socket_open(_: Any, __: Any, sock: Any) -> None:  # noqa: ANN401
        # An event is a small packet, and must not wait for the broker to confirm the one before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    client.on_socket_open = on_socket_open
    try:
        if config.username is not None:
            password = Path(config.password_file).read_text("utf-8").strip() if config.password_file else None
            client.username_pw_set(config.username, password)
        if config.url.startswith("mqtts:"):
            client.tls_set(ca_certs=config.ca_file)
    except (OSError, ValueError) as error:
        raise EdgedError(f"{config.password_file or config.ca_file}: can't be used: {error}") from error
    return client


def address(config: Mqtt) -> tuple[str, int]:
    """Host and port of the broker."""
    parts = urlsplit(config.url)
    return parts.hostname or "", parts.port or (8883 if parts.scheme == "mqtts" else 1883)


@dataclass(slots=True)
class _Answer:
    """The broker's to one attempt to connect."""

    given: threading.Event = field(default_factory=threading.Event)
    accepted: bool = False
    reason: str = ""
    """Why it was refused; empty when the broker hung up or kept silent."""


class Publisher:
    """Publishes events and live state."""

    def __init__(
        self,
        config: Mqtt,
        device: str,
        outbox: Outbox,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when the connection came, went or was refused."""
        self._config, self._outbox, self._loop, self._changed = config, outbox, loop, changed
        self._device = device
        self._base = f"{config.prefix}/{device}"
        self._client: paho.Client | None = None
        """While connected."""
        self.trouble = "not connected yet"
        """Why there is no connection; empty while there is one."""
        self.drops: Counter[str] = Counter()
        self._live: dict[str, bytes] = {self.topic("status"): b"online"}
        self._stale: dict[str, None] = {}
        """Topics whose live payload the broker does not have yet, in their order."""
        self._fresh: deque[Message] = deque()
        self._in_flight: dict[int, int | None] = {}
        """The key of each unacknowledged event, None for live state, by the packet's number."""
        self._window, self._max_bytes = WINDOW, 1 << 28
        self._behind = True
        """Something lies in the outbox that is not in `_fresh`."""
        self._known = 0
        """Messages up to this key were taken over; the others lie in the outbox."""
        self._reading = False
        self._stopping = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begins to connect."""
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us."""
        return self._client is not None

    def topic(self, *levels: str) -> str:
        """A topic of this device."""
        return "/".join((self._base, *levels))

    def event(self, message: Message) -> None:
        """Publishes an accepted event as soon as those before it are on their way."""
        if self._behind or len(self._fresh) >= FRESH:
            self._behind = True
        else:
            self._fresh.append(message)
            self._known = message.key
        self._pump()

    def live(self, topic: str, payload: bytes) -> None:
        """Keeps `topic` (retained) at `payload`, now and after each reconnect."""
        if self._live.get(topic) != payload:
            self._live[topic] = payload
            self._stale[topic] = None
            self._pump()

    async def stop(self, timeout_s: float, *, insist: bool) -> None:
        """Waits for acknowledgements for so long at most, says that we are off, and disconnects.

        With `insist` it waits for a connection, too.
        """
        deadline = time.monotonic() + timeout_s
        while (self._client or insist) and self._outbox.waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._stopping.set()
        if client := self._client:
            self._client = None
            said = client.publish(self.topic("status"), b"offline", qos=1, retain=True)
            while not said.is_published() and time.monotonic() < deadline + 0.2:
                await asyncio.sleep(0.01)
            client.disconnect()
        self._lost.set()

    # In the thread that connects.

    def _run(self) -> None:
        protocol = paho.MQTTv311 if self._config.protocol == "3.1.1" else paho.MQTTv5
        retry_s = FIRST_RETRY_S
        while not self._stopping.is_set():
            self._lost.clear()
            answer = _Answer()
            try:
                client = self._connect(protocol, answer)
            except (OSError, EdgedError, ValueError) as error:
                reason = str(error) or type(error).__name__
                self._tell(f"{self._config.url}: can't be reached: {reason}")
            else:
                answer.given.wait(ANSWER_S)
                if answer.accepted:
                    self._lost.wait()
                    retry_s = FIRST_RETRY_S
                elif not answer.reason:
                    self._tell(f"{self._config.url}: does not answer")
                client.loop_stop()
                # An old broker refuses MQTT 5, hangs up on it, or says nothing at all.
                if not answer.accepted and self._config.protocol == "auto":
                    protocol = paho.MQTTv311 if protocol == paho.MQTTv5 else paho.MQTTv5
                    if protocol == paho.MQTTv311 and answer.reason in ("", UNSUPPORTED):
                        continue
            self._stopping.wait(random.uniform(0.5, 1.0) * retry_s)  # noqa: S311 - jitter
            retry_s = min(LAST_RETRY_S, retry_s * 2)

    def _connect(self, protocol: MQTTProtocolVersion, answer: _Answer) -> paho.Client:
        client = make_client(self._config, f"edged-{self._device}", protocol)
        client.max_inflight_messages_set(WINDOW)  # ours may be smaller: paho ignores the broker's
        client.will_set(self.topic("status"), b"offline", qos=1, retain=True)

        def on_connect(_: Any, __: Any, ___: Any, reason: ReasonCode, properties: Properties | None) -> None:  # noqa: ANN401
            if reason.is_failure:
                answer.reason = reason.getName()
                self._tell(f"{self._config.url}: refused: {answer.reason}")
            else:
                answer.accepted = True
                self._call(self._online, client, properties)
            answer.given.set()

        def on_disconnect(_: Any, __: Any, ___: Any, reason: ReasonCode, ____: Any) -> None:  # noqa: ANN401
            if answer.accepted and not self._stopping.is_set():
                self._tell(f"{self._config.url}: connection lost: {reason.getName()}")
            answer.given.set()
            self._lost.set()

        def on_publish(_: Any, __: Any, mid: int, reason: ReasonCode, ____: Any) -> None:  # noqa: ANN401
            self._call(self._acknowledged, client, mid, reason)

        client.on_connect, client.on_disconnect, client.on_publish = on_connect, on_disconnect, on_publish
        host, port = address(self._config)
        client.connect(host, port, keepalive=KEEPALIVE_S)
        client.loop_start()
        return client

    def _tell(self, trouble: str) -> None:
        self._call(self._offline, trouble)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the event loop's thread.

    def _online(self, client: paho.Client, properties: Properties | None) -> None:
        if self._stopping.is_set():
            return
        self._client, self.trouble = client, ""
        self._window = min(WINDOW, int(getattr(properties, "ReceiveMaximum", WINDOW)))
        self._max_bytes = int(getattr(properties, "MaximumPacketSize", 1 << 28))
        log.info("connected to %s", self._config.url)
        self._changed()
        self._stale = dict.fromkeys(self._live)
        # What was on its way is not known to have arrived: again, from the oldest.
        self._fresh.clear()
        self._in_flight.clear()
        self._behind, self._known = True, 0
        self._pump()

    def _offline(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.warning("%s", trouble)
        self._client, self.trouble = None, trouble
        self._changed()

    def _acknowledged(self, client: paho.Client, mid: int, reason: ReasonCode) -> None:
        if client is not self._client or mid not in self._in_flight:
            return
        key = self._in_flight.pop(mid)
        if reason.is_failure:
            log.error("the broker refused what was published: %s", reason.getName())
            self.drops["refused"] += 1
        if key is not None:
            self._outbox.done(key)
        self._pump()

    def _pump(self) -> None:
        client = self._client
        if client is None:
            return
        while self._stale and len(self._in_flight) < self._window:
            topic = next(iter(self._stale))
            del self._stale[topic]
            self._in_flight[client.publish(topic, self._live[topic], qos=1, retain=True).mid] = None
        while self._fresh and len(self._in_flight) < self._window:
            message = self._fresh.popleft()
            if len(message.payload) + len(message.topic) + OVERHEAD_BYTES > self._max_bytes:
                log.error("an event of %d bytes is too large for the broker", len(message.payload))
                self.drops["too_large"] += 1
                self._outbox.done(message.key)
                continue
            properties = _properties(message) if client.protocol == paho.MQTTv5 else None
            sent = client.publish(message.topic, message.payload, qos=1, properties=properties)
            self._in_flight[sent.mid] = message.key
        if self._behind and not self._fresh and not self._reading:
            self._reading = True
            newest = self._outbox.last_key
            self._outbox.read(self._known, FRESH, lambda rows: self._call(self._read, client, rows, newest))

    def _read(self, client: paho.Client, rows: list[Message], newest: int) -> None:
        self._reading = False
        if client is self._client:
            self._fresh.extend(rows)
            # Fewer than asked for: there are no others up to what was the newest then.
            self._known = rows[-1].key if len(rows) == FRESH else newest
            self._behind = self._known < self._outbox.last_key
        self._pump()


def _properties(message: Message) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = max(1, message.expires_at - int(time.time()))
    properties.ContentType = "application/json"
    return properties
