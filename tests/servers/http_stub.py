"""An HTTP server that sends films at their own speed, and misbehaves when asked to."""

from __future__ import annotations

import base64
import contextlib
import re
import select
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import av

Timed = tuple[float, bytes]
"""What is sent, and when: seconds after the beginning of the answer."""
PIECE = 16_384


@dataclass(frozen=True)
class Answer:
    """What a GET brings."""

    body: bytes | tuple[Timed, ...] = b""
    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    length: int | None = None
    """What `Content-Length` says, true or not; without it the end of the connection is the end."""
    endless_headers: bool = False
    """The headers never come to an end."""
    raw: bytes | None = None
    """Sent instead of an HTTP answer; may be nothing at all."""
    login: str = ""
    """`user:password`; whoever does not say so gets a 401."""
    bytes_per_s: float = 0.0
    """Trickles; 0: as fast as the client takes it, or at the body's own times."""
    stall_after: int | None = None
    """After so many bytes of the body nothing comes any more, and the connection stays."""
    reset_after: int | None = None
    """After so many bytes of the body the connection is reset."""

    def part(self, first: int) -> Answer:
        """The rest of a file from byte `first`; films that are truly there are read from the middle, too."""
        if not self.status.startswith("200") or not isinstance(self.body, bytes):
            return self
        if self.length != len(self.body):
            return self
        place = f"Content-Range: bytes {first}-{self.length - 1}/{self.length}"
        rest = self.body[first:]
        return replace(
            self, body=rest, length=len(rest), status="206 Partial Content", headers=(*self.headers, place)
        )

    def pieces(self) -> Iterator[Timed]:
        """The body, cut and timed."""
        if isinstance(self.body, tuple):
            yield from self.body
            return
        step = max(1, int(self.bytes_per_s / 20)) if self.bytes_per_s else PIECE
        for at in range(0, len(self.body), step):
            yield at / self.bytes_per_s if self.bytes_per_s else 0.0, self.body[at : at + step]


UNAUTHORIZED = Answer(
    status="401 Unauthorized", headers=('WWW-Authenticate: Basic realm="camera"',), length=0
)


def redirect(to: str) -> Answer:
    """A 302."""
    return Answer(status="302 Found", headers=(f"Location: {to}",), length=0)


def live_ts(film: Path) -> tuple[Timed, ...]:
    """The film as MPEG-TS, each packet at its own time."""
    sent: list[Timed] = []
    with (
        _Sink() as sink,
        av.open(str(film)) as source,
        av.open(sink, "w", format="mpegts", options={"flush_packets": "1"}) as target,
    ):
        outputs = {
            stream.index: target.add_stream_from_template(stream)
            for stream in (*source.streams.video, *source.streams.audio)
        }
        for packet in source.demux():
            if packet.dts is None:
                continue
            at_s = float(packet.dts * packet.time_base)
            packet.stream = outputs[packet.stream.index]
            target.mux(packet)
            sent.append((at_s, sink.take()))
    return tuple(sent)


def live_mjpeg(film: Path, fps: int = 10) -> Answer:
    """What many cameras send: JPEG pictures in `multipart/x-mixed-replace`, without stamps."""
    sent: list[Timed] = []
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    with av.open(str(film)) as source:
        stream = source.streams.video[0]
        encoder.width, encoder.height = stream.width, stream.height
        encoder.pix_fmt, encoder.time_base = "yuvj420p", 1 / stream.average_rate
        for frame in source.decode(stream):
            if frame.time >= len(sent) / fps:
                (packet,) = encoder.encode(frame.reformat(format="yuvj420p"))
                head = f"--edge\r\nContent-Type: image/jpeg\r\nContent-Length: {packet.size}\r\n\r\n"
                sent.append((len(sent) / fps, head.encode() + bytes(packet) + b"\r\n"))
    return Answer(tuple(sent), headers=("Content-Type: multipart/x-mixed-replace; boundary=edge",))


class _Sink(BytesIO):
    """What a muxer wrote since the last time."""

    def take(self) -> bytes:
        data = self.getvalue()
        self.seek(0)
        self.truncate()
        return data


class Stub:
    """Answers each path as `answers` says at the moment of the request."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: Counter[str] = Counter()
        self._flows = threading.Event()
        self._flows.set()
        self._closing = threading.Event()
        stub = self

        class Handler(socketserver.BaseRequestHandler):
            request: socket.socket

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the client has gone
                    stub._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            block_on_close = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def url(self, path: str) -> str:
        """Where a path is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def freeze(self) -> None:
        """Nothing is sent any more, on no connection."""
        self._flows.clear()

    def thaw(self) -> None:
        """Goes on."""
        self._flows.set()

    def close(self) -> None:
        """Breaks all connections off."""
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, client: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            part = client.recv(4096)
            if not part:
                return
            request += part
        path = request.split()[1].decode()
        self.requests[path] += 1
        answer = self.answers.get(path, Answer(status="404 Not Found", length=0))
        if answer.login and _authorization(answer.login) not in request:
            answer = Answer(
                status="401 Unauthorized", headers=('WWW-Authenticate: Basic realm="r"',), length=0
            )
        wanted = re.search(rb"Range: bytes=(\d+)-", request)
        if wanted:
            answer = answer.part(int(wanted[1]))
        if answer.raw is not None:
            client.sendall(answer.raw)
            return
        lines = [f"HTTP/1.1 {answer.status}", "Connection: close", *answer.headers]
        if answer.length is not None:
            lines.append(f"Content-Length: {answer.length}")
        head = "\r\n".join([*lines, ""]).encode()
        client.sendall(head)
        count = 0
        while answer.endless_headers and self._waited(client, time.monotonic()):
            client.sendall(f"X-Header-{count}: {'x' * 1000}\r\n".encode())
            count += 1
        client.sendall(b"\r\n")
        self._send(client, answer)

    def _send(self, client: socket.socket, answer: Answer) -> None:
        begin = time.monotonic()
        sent = 0
        limit = answer.stall_after if answer.stall_after is not None else answer.reset_after
        for at_s, piece in answer.pieces():
            if not self._waited(client, begin + at_s):
                return
            if limit is not None and sent + len(piece) >= limit:
                client.sendall(piece[: limit - sent])
                break
            client.sendall(piece)
            sent += len(piece)
        if answer.reset_after is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif answer.stall_after is not None:
            while self._waited(client, time.monotonic() + 0.1):
                pass

    def _waited(self, client: socket.socket, until: float) -> bool:
        """False when the client has gone, or the stub is closed."""
        while not self._closing.is_set():
            left = until - time.monotonic()
            if left <= 0 and self._flows.is_set():
                return True
            readable, _, _ = select.select([client], [], [], min(0.1, max(0.01, left)))
            if readable and not client.recv(4096):
                return False
        return False


def _authorization(login: str) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(login.encode())


@contextmanager
def http_stub() -> Iterator[Stub]:
    """A stub that is closed at the end."""
    stub = Stub()
    try:
        yield stub
    finally:
        stub.close()
