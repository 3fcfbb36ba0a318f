"""A SEQPACKET socket that carries records, and file descriptors beside them."""

from __future__ import annotations

import contextlib
import os
import select
import socket

from edged.wire.records import Message, decode, encode

MAX_PACKET_BYTES = 1 << 17
MAX_FDS = 4


class Closed(ConnectionError):
    """The other side is gone."""


class Channel:
    """One end of a socket pair between two processes. Not thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_PACKET_BYTES * 2)
        return cls(ends[0]), cls(ends[1])

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """Takes over an inherited or received descriptor."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """For select and asyncio."""
        return self._socket.fileno()

    def send(self, message: Message, fds: tuple[int, ...] = (), *, timeout_s: float = 0.0) -> bool:
        """Sends, waiting at most `timeout_s` for room; False when there was none.

        Raises:
            Closed: the other side is gone.
            ValueError: the record is larger than a packet may be.
        """
        packet = encode(message)
        if len(packet) > MAX_PACKET_BYTES:
            raise ValueError(f"{type(message).__name__} has {len(packet)} of {MAX_PACKET_BYTES} bytes")
        while True:
            try:
                if fds:
                    socket.send_fds(self._socket, [packet], fds)
                else:
                    self._socket.send(packet)
                return True
            except BlockingIOError:
                if not _ready(self._socket, select.POLLOUT, timeout_s):
                    return False
            except OSError as error:
                raise Closed(str(error)) from error

    def receive(self) -> tuple[Message, tuple[int, ...]] | None:
        """The next record with its descriptors, or None when none is waiting.

        Raises:
            Closed: the other side is gone.
        """
        try:
            packet, fds, flags, _ = socket.recv_fds(self._socket, MAX_PACKET_BYTES, MAX_FDS)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Closed(str(error)) from error
        if not packet or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for fd in fds:
                os.close(fd)
            raise Closed("end of stream" if not packet else "a packet was cut")
        return decode(packet), tuple(fds)

    def wait(self, timeout_s: float | None) -> bool:
        """Waits for a record; False when none came in time."""
        return _ready(self._socket, select.POLLIN, timeout_s)

    def close(self) -> None:
        """Closes this end; what the other side still reads ends with `Closed`."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _ready(sock: socket.socket, events: int, timeout_s: float | None) -> bool:
    poller = select.poll()  # unlike select(), not bound to descriptors under 1024
    poller.register(sock, events)
    return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))
