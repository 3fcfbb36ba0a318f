"""The outbox: an event is accepted when it is on disk, and leaves when the broker has it.

SQLite in WAL mode with synchronous=FULL. One thread owns the database; each commit takes whatever is
waiting (natural group commit: under load commits grow, at rest nothing waits for a timer). Publishing
runs beside the commit: what the broker acknowledges before its commit began is never written.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edged.errors import EdgedError
from edged.wire.event import Event

log = logging.getLogger(__name__)

FILE = "outbox.sqlite"
VERSION = 1
RETRY_S = 1.0
_TABLES = """
CREATE TABLE IF NOT EXISTS message (
    key INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS open_event (id TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One event on its way. Keys grow; messages are delivered in their order."""

    key: int
    topic: str
    payload: bytes
    expires_at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class _Put:
    message: Message
    event: Event


@dataclass(frozen=True, slots=True)
class _Done:
    key: int


@dataclass(frozen=True, slots=True)
class _Read:
    after: int
    limit: int
    deliver: Callable[[list[Message]], None]


_Operation = _Put | _Done | _Read | None


class Outbox:
    """The file, and the thread that writes it."""

    def __init__(self, directory: Path) -> None:
        """Raises EdgedError when the file can't be used."""
        self.path = directory / FILE
        self._queue: queue.SimpleQueue[_Operation] = queue.SimpleQueue()
        self.drops: Counter[str] = Counter()
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = _connect(self.path)
            row = self._database.execute("SELECT coalesce(max(key), 0), count(*) FROM message").fetchone()
            payloads = self._database.execute("SELECT payload FROM open_event ORDER BY id").fetchall()
        except (sqlite3.Error, OSError) as error:
            busy = "locked" in str(error)
            why = "another edged uses it" if busy else f"{error}"
            raise EdgedError(f"the outbox {self.path} can't be used: {why}") from error
        self.last_key: int = row[0]
        self.waiting: int = row[1]
        """Messages that the broker has not acknowledged."""
        self.left_open = [Event.from_json(payload) for (payload,) in payloads]
        """Events that a daemon before this one did not live to end."""
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="outbox")
        self._thread.start()

    def put(self, event: Event, topic: str, payload: bytes, expiry_s: int) -> Message:
        """Accepts an event; returns at once, and the next commit takes it."""
        self.last_key += 1
        self.waiting += 1
        message = Message(self.last_key, topic, payload, int(time.time()) + expiry_s)
        self._queue.put(_Put(message, event))
        return message

    def done(self, key: int) -> None:
        """The broker has it."""
        self.waiting -= 1
        self._queue.put(_Done(key))

    def read(self, after: int, limit: int, deliver: Callable[[list[Message]], None]) -> None:
        """Calls `deliver`, from the outbox's thread, with the oldest messages after key `after`.

        It sees everything that was put, and nothing that was done, before this call.
        """
        self._queue.put(_Read(after, limit, deliver))

    def close(self) -> None:
        """Commits what waits, and ends."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            ending = batch[-1] is None or None in batch
            self._work([operation for operation in batch if operation is not None], ending=ending)
        self._database.close()

    def _work(self, batch: list[_Put | _Done | _Read], *, ending: bool) -> None:
        """Commits the run of writes before each read, then reads."""
        writes: list[_Put | _Done] = []
        for operation in batch:
            if isinstance(operation, _Read):
                self._commit(writes, ending=ending)
                writes = []
                operation.deliver(self._select(operation.after, operation.limit))
            else:
                writes.append(operation)
        self._commit(writes, ending=ending)

    def _commit(self, writes: list[_Put | _Done], *, ending: bool) -> None:
        if not writes:
            return
        done = {one.key for one in writes if isinstance(one, _Done)}
        puts = [one for one in writes if isinstance(one, _Put)]
        fresh = {one.message.key for one in puts}
        rows = [
            (m.key, m.topic, m.payload, m.expires_at) for m in (p.message for p in puts) if m.key not in done
        ]
        while True:
            try:
                with self._database:
                    self._database.execute("BEGIN")
                    self._database.executemany("INSERT INTO message VALUES (?, ?, ?, ?)", rows)
                    self._database.executemany(
                        "DELETE FROM message WHERE key = ?", [(key,) for key in done - fresh]
                    )
                    for one in puts:
                        self._note_open(one.event, one.message.payload)
            except sqlite3.Error as error:
                # A full disk, say. The events are in memory and on their way meanwhile.
                if not self._failed:
                    log.error("the outbox %s can't be written: %s", self.path, error)
                self._failed = True
                if ending:
                    return
                time.sleep(RETRY_S)  # in its own thread: a full disk tells nobody when it has room again
            else:
                if self._failed:
                    log.info("the outbox is written again")
                self._failed = False
                return

    def _note_open(self, event: Event, payload: bytes) -> None:
        if event.phase == "end":
            self._database.execute("DELETE FROM open_event WHERE id = ?", (event.id,))
        else:
            self._database.execute("INSERT OR REPLACE INTO open_event VALUES (?, ?)", (event.id, payload))

    def _select(self, after: int, limit: int) -> list[Message]:
        now = int(time.time())
        try:
            with self._database:
                expired = self._database.execute("DELETE FROM message WHERE expires_at < ?", (now,)).rowcount
            rows = self._database.execute(
                "SELECT key, topic, payload, expires_at FROM message WHERE key > ? ORDER BY key LIMIT ?",
                (after, limit),
            ).fetchall()
        except sqlite3.Error as error:
            log.error("the outbox %s can't be read: %s", self.path, error)
            return []
        if expired > 0:
            self.drops["expired"] += expired
            self.waiting -= expired
        return [Message(*row) for row in rows]


def _connect(path: Path) -> sqlite3.Connection:
    # Created for the owner alone: events say who was where.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    database = sqlite3.connect(path, timeout=0.5, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise EdgedError(f"the outbox {path} was written by a newer edged (version {version}, not {VERSION})")
    database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    return database
