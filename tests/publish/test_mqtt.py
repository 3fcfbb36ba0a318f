"""Against a real Mosquitto, and against amqtt, which knows only MQTT 3.1.1."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edged.config.schema import Mqtt
from edged.errors import EdgedError
from edged.publish.mqtt import Publisher
from edged.publish.outbox import Outbox
from edged.publish.subscriber import Subscriber
from edged.wire.event import Event
from tests.conftest import Broker, make_broker
from tests.publish.test_outbox import event

WAIT_S = 20.0
EMBEDDED = """
from edged.publish.broker import EmbeddedBroker
with EmbeddedBroker() as broker:
    print(broker.url, flush=True)
    input()
"""


class Rig:
    """A publisher with its outbox."""

    def __init__(self, url: str, folder: Path, **more: object) -> None:
        config = Mqtt.model_validate({"url": url} | more)
        self.outbox = Outbox(folder)
        self.publisher = Publisher(config, "test", self.outbox, asyncio.get_running_loop(), lambda: None)

    def emit(self, one: Event) -> None:
        payload = one.to_json()
        self.publisher.event(self.outbox.put(one, self.publisher.topic("event", one.type), payload, 3600))

    async def until(self, done: Callable[[], bool]) -> None:
        for _ in range(round(WAIT_S / 0.02)):
            if done():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not in time; {self.publisher.trouble}, {self.outbox.waiting} waiting")


@asynccontextmanager
async def rig(url: str, folder: Path, **more: object) -> AsyncIterator[Rig]:
    one = Rig(url, folder, **more)
    one.publisher.start()
    try:
        yield one
    finally:
        await one.publisher.stop(1.0, insist=False)
        await asyncio.to_thread(one.outbox.close)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Runs a coroutine as a test."""
    asyncio.run(asyncio.wait_for(_awaited(test), 60))


async def _awaited(test: Callable[[], Awaitable[None]]) -> None:
    await test()


def sequences(received: list[tuple[str, bytes]]) -> list[int]:
    """Of the events, in the order of their coming, without repetitions."""
    return list(dict.fromkeys(json.loads(p)["sequence"] for topic, p in received if "/event/" in topic))


def test_events_arrive_in_order_and_leave_the_outbox(broker: Broker, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(broker.url, tmp_path) as one:
            for number in range(1, 501):
                one.emit(event("update", number))
            await one.until(lambda: one.outbox.waiting == 0)

    with Subscriber(Mqtt(url=broker.url), ["edged/#"]) as subscriber:
        run(test)
        received = list(subscriber.messages(0.5))
    assert sequences(received) == list(range(1, 501))
    statuses = [payload for topic, payload in received if topic == "edged/test/status"]
    assert statuses == [b"online", b"offline"]


def test_nothing_is_lost_while_the_broker_is_away(broker: Broker, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(broker.url, tmp_path) as one:
            await one.until(lambda: one.publisher.connected)
            await asyncio.to_thread(broker.stop)
            await one.until(lambda: not one.publisher.connected)
            for number in range(1, 3001):  # more than wait in memory
                one.emit(event("update", number))
            one.publisher.live(one.publisher.topic("state", "person"), b"while away")
            await asyncio.to_thread(broker.start)
            with Subscriber(Mqtt(url=broker.url), ["edged/#"]) as subscriber:
                await one.until(lambda: one.outbox.waiting == 0)
                received.extend(subscriber.messages(0.5))

    received: list[tuple[str, bytes]] = []
    run(test)
    # The subscriber may come after the first; none of the others is missing, and none out of order.
    got = sequences(received)
    assert got == list(range(got[0], 3001))
    assert dict(received)["edged/test/state/person"] == b"while away"


def test_what_a_dead_daemon_left_is_published_by_the_next(broker: Broker, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(1, 101):
        one = event("update", number)
        outbox.put(one, "edged/test/event/person", one.to_json(), 3600)
    outbox.close()

    async def test() -> None:
        async with rig(broker.url, tmp_path) as again:
            await again.until(lambda: again.outbox.waiting == 0)

    with Subscriber(Mqtt(url=broker.url), ["edged/#"]) as subscriber:
        run(test)
        assert sequences(list(subscriber.messages(0.5))) == list(range(1, 101))


def test_live_state_is_retained_and_the_will_is_set(broker: Broker, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(broker.url, tmp_path) as one:
            topic = one.publisher.topic("state", "person")
            for payload in (b"1", b"2", b"3"):
                one.publisher.live(topic, payload)
            await one.until(lambda: one.publisher.connected)
            await asyncio.sleep(0.3)  # for the packets themselves, which nobody awaits
            with Subscriber(Mqtt(url=broker.url), ["edged/#"]) as late:
                received.update(late.messages(0.3))

    received: dict[str, bytes] = {}
    run(test)
    assert received == {"edged/test/state/person": b"3", "edged/test/status": b"online"}


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_a_broker_that_knows_only_3_1_1(protocol: str, tmp_path: Path) -> None:
    pytest.importorskip("amqtt")

    async def test(url: str) -> None:
        async with rig(url, tmp_path, protocol=protocol) as one:
            for number in range(1, 21):
                one.emit(event("update", number))
            await one.until(lambda: one.outbox.waiting == 0)

    # In a process of its own: amqtt leaves sockets open, which would be ours.
    command = [sys.executable, "-c", EMBEDDED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as old:
        assert old.stdout
        url = old.stdout.readline().strip()
        with Subscriber(Mqtt(url=url), ["edged/#"]) as subscriber:
            run(lambda: test(url))
            assert sequences(list(subscriber.messages(0.5))) == list(range(1, 21))
        old.communicate("\n")


def test_a_window_smaller_than_ours_is_kept(tmp_path: Path) -> None:
    small = make_broker(tmp_path, "max_inflight_messages 2")

    async def test() -> None:
        async with rig(small.url, tmp_path) as one:
            for topic in "abcdefgh":
                one.publisher.live(one.publisher.topic("state", topic), b"x")
            for number in range(1, 201):
                one.emit(event("update", number))
            await one.until(lambda: one.outbox.waiting == 0)
            assert one.publisher.trouble == ""

    try:
        with Subscriber(Mqtt(url=small.url), ["edged/#"]) as subscriber:
            run(test)
            assert sequences(list(subscriber.messages(0.5))) == list(range(1, 201))
    finally:
        small.stop()


def test_an_event_that_is_too_large_does_not_block_the_others(tmp_path: Path) -> None:
    small = make_broker(tmp_path, "max_packet_size 2000")

    async def test() -> None:
        async with rig(small.url, tmp_path) as one:
            await one.until(lambda: one.publisher.connected)
            large = event("update", 1)
            one.publisher.event(one.outbox.put(large, one.publisher.topic("event", "x"), bytes(5000), 3600))
            one.emit(event("update", 2))
            await one.until(lambda: one.outbox.waiting == 0)
            assert one.publisher.drops == {"too_large": 1}

    try:
        run(test)
    finally:
        small.stop()


def test_a_refusal_is_told_and_tried_again(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("")
    users.chmod(0o600)
    locked = make_broker(tmp_path, f"allow_anonymous false\npassword_file {users}")

    async def test() -> None:
        async with rig(locked.url, tmp_path) as one:
            one.emit(event())
            await one.until(lambda: "refused" in one.publisher.trouble)
            assert one.outbox.waiting == 1

    try:
        run(test)
        with pytest.raises(EdgedError, match="refused"):
            Subscriber(Mqtt(url=locked.url), ["edged/#"])
    finally:
        locked.stop()


def test_a_password_file_that_is_not_there_is_named(broker: Broker, tmp_path: Path) -> None:
    async def test() -> None:
        more = {"username": "me", "password_file": str(tmp_path / "none")}
        async with rig(broker.url, tmp_path, **more) as one:
            await one.until(lambda: str(tmp_path / "none") in one.publisher.trouble)

    run(test)


def test_nobody_there_to_subscribe_at() -> None:
    with pytest.raises(EdgedError, match="can't be reached"):
        Subscriber(Mqtt(url="mqtt://127.0.0.1:9"), ["edged/#"])
