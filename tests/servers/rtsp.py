"""An RTSP camera: GStreamer's server in a process that can be killed, frozen and started again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_port, missing

PYTHON = "/usr/bin/python3"
"""PyGObject comes with Debian (`python3-gi`), not with a virtual environment."""
SCRIPT = Path(__file__).with_name("gst_rtsp.py")


class Camera:
    """Serves a film with picture and sound, from its beginning to each client, over TCP and UDP."""

    def __init__(self, film: Path, *, login: str = "", digest: bool = False) -> None:
        """`login` is `user:password`; without it anybody may watch."""
        self.port = free_port()
        self._film = film
        self._options = [*(["--login", login] if login else []), *(["--digest"] if digest else [])]
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Without user and password."""
        return f"rtsp://127.0.0.1:{self.port}/film"

    def url_for(self, login: str) -> str:
        """With user and password."""
        return self.url.replace("//", f"//{login}@")

    def start(self) -> None:
        """Returns when it listens: for the first time, or again on the same port."""
        if not Path(PYTHON).exists():
            missing(PYTHON)
        # Looking through all plugins takes a second; the film's folder remembers what was found.
        environment = os.environ | {"GST_REGISTRY": str(self._film.with_name("gst-registry"))}
        self._process = subprocess.Popen(
            [PYTHON, SCRIPT, self._film, str(self.port), *self._options],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout
        if self._process.stdout.readline().strip() != "listening":
            why = self._process.communicate()[1].strip()
            self._process = None
            missing(f"an RTSP server ({why})")

    def kill(self) -> None:
        """As when its plug is pulled, except that its connections are reset."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """Connections stay, and nothing comes any more."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Goes on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def camera(film: Path, *, login: str = "", digest: bool = False) -> Iterator[Camera]:
    """A camera that listens, and is gone at the end."""
    one = Camera(film, login=login, digest=digest)
    one.start()
    try:
        yield one
    finally:
        one.kill()
