"""What the tests share: real data, a real broker, and where they may write."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

DATA = Path(os.environ.get("EDGED_TEST_DATA", Path(__file__).parents[2] / "shared/data"))
CI = os.environ.get("CI") == "true"


def missing(what: str) -> None:
    """Skips, saying why; on CI everything has to be there."""
    if CI:
        pytest.fail(f"{what} has to be there on CI")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real models and media; see CONTRIBUTING.md."""
    if not (DATA / "models").is_dir():
        missing(f"real data (EDGED_TEST_DATA, looked for in {DATA})")
    return DATA


@dataclass
class Broker:
    """A Mosquitto of a test's own."""

    port: int
    config: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """As the configuration wants it."""
        return f"mqtt://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(10)

    def start(self) -> None:
        """Starts it again on the same port."""
        self.process = _spawn(self.config, self.port)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def mosquitto() -> str:
    """The program, or a skip."""
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        missing("mosquitto")
    return str(program)


def _spawn(config: Path, port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [mosquitto(), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.02)  # there is no event to wait for: another program opens its port
    process.kill()
    raise RuntimeError("mosquitto does not answer")


def make_broker(folder: Path, lines: str = "") -> Broker:
    """A broker with further configuration lines."""
    port = free_port()
    config = folder / f"mosquitto-{port}.conf"
    access = "" if "password_file" in lines else "allow_anonymous true\n"
    config.write_text(f"listener {port} 127.0.0.1\n{access}{lines}\nuser root\n")
    return Broker(port, config, _spawn(config, port))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that anybody may use."""
    one = make_broker(tmp_path)
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's state directory, or reads what lies there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("STATE_DIRECTORY", "EDGED_MODELS", "EDGED_LOG"):
        monkeypatch.delenv(name, raising=False)
