"""What was accepted is there after any end; what was acknowledged is gone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edged.errors import EdgedError
from edged.publish.outbox import FILE, Message, Outbox
from edged.wire.event import SCHEMA, Event, EvidenceItem, Phase, new_traceparent, new_ulid

HOUR_S = 3600


def event(phase: Phase = "start", sequence: int = 1, identity: str | None = None) -> Event:
    """Some event."""
    at = "2026-01-01T00:00:00.000000Z"
    seen = EvidenceItem("cam", "video", "person", 0.9, (0.1, 0.1, 0.2, 0.9), None, None, at)
    return Event(
        schema=SCHEMA,
        id=identity or new_ulid(0),
        device="test",
        type="person",
        phase=phase,
        sequence=sequence,
        started_at=at,
        updated_at=at,
        ended_at=at if phase == "end" else None,
        score=0.9,
        evidence=(seen,),
        clip=None,
        rates={"cam": 5},
        latency_ms=None,
        traceparent=new_traceparent(),
    )


def put(outbox: Outbox, one: Event, expiry_s: int = HOUR_S) -> Message:
    """Accepts an event."""
    return outbox.put(one, "edged/test/event/person", one.to_json(), expiry_s)


def read(outbox: Outbox, after: int = 0, limit: int = 1000) -> list[Message]:
    """What lies there; the call also waits for all writes before it."""
    got: list[list[Message]] = []
    done = threading.Event()

    def deliver(rows: list[Message]) -> None:
        got.append(rows)
        done.set()

    outbox.read(after, limit, deliver)
    assert done.wait(10)
    return got[0]


def test_messages_survive_a_restart_in_order(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    sent = [put(outbox, event()) for _ in range(50)]
    outbox.close()
    again = Outbox(tmp_path)
    assert again.waiting == 50
    assert read(again) == sent
    assert read(again, after=sent[39].key, limit=5) == sent[40:45]
    assert put(again, event()).key > sent[-1].key
    again.close()


def test_what_is_acknowledged_is_gone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    sent = [put(outbox, event()) for _ in range(10)]
    read(outbox)  # committed
    for one in sent[:4]:
        outbox.done(one.key)
    late = put(outbox, event())
    outbox.done(late.key)  # before its own commit: never written, or deleted at once
    assert read(outbox) == sent[4:]
    assert outbox.waiting == 6
    outbox.close()


def test_open_events_are_kept_until_their_end(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    first, second = event(), event()
    for one in (first, second, event("update", 2, first.id), event("end", 2, second.id)):
        put(outbox, one)
    outbox.close()
    again = Outbox(tmp_path)
    assert [(one.id, one.sequence) for one in again.left_open] == [(first.id, 2)]
    again.close()


def test_expired_messages_are_dropped_and_counted(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, event(), expiry_s=-1)
    kept = put(outbox, event())
    assert read(outbox) == [kept]
    assert outbox.drops["expired"] == 1
    assert outbox.waiting == 1
    outbox.close()


def test_every_commit_is_durable(tmp_path: Path) -> None:
    """kill -9 can't tell FULL from NORMAL, so the settings themselves are looked at."""
    outbox = Outbox(tmp_path)
    assert outbox._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    outbox.close()


CRASH = """
import sys, os, signal
from pathlib import Path
from tests.publish.test_outbox import event, put, read
from edged.publish.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
for count in range(200):
    sent = put(outbox, event())
read(outbox)
print(sent.key, flush=True)
for _ in range(100_000):
    put(outbox, event())
"""


def test_what_was_accepted_survives_a_kill(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", CRASH, str(tmp_path)], stdout=subprocess.PIPE, cwd=root, text=True
    ) as child:
        assert child.stdout
        accepted = int(child.stdout.readline())
        child.kill()
    outbox = Outbox(tmp_path)
    keys = [one.key for one in read(outbox, limit=200_000)]
    assert keys[:accepted] == list(range(1, accepted + 1))
    assert keys == list(range(1, len(keys) + 1)), "a prefix, without holes"
    outbox.close()


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "state")
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o077 == 0
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    outbox.close()


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(EdgedError, match=FILE):
        Outbox(tmp_path)


def test_a_file_of_a_newer_edged_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(EdgedError, match="newer edged"):
        Outbox(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgedError, match="can't be used"):
        Outbox(tmp_path / "file" / "state")


def test_commits_grow_with_the_load(tmp_path: Path) -> None:
    """Ten thousand events take a small part of the time that ten thousand commits would."""
    outbox = Outbox(tmp_path)
    begin = time.monotonic()
    put(outbox, event())
    read(outbox)
    one_s = time.monotonic() - begin
    events = [event() for _ in range(10_000)]
    begin = time.monotonic()
    for one in events:
        put(outbox, one)
    read(outbox, limit=1)
    assert time.monotonic() - begin < 10_000 * one_s
    outbox.close()
