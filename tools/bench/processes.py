"""The processes beside a benchmark: a broker and a daemon, ended with the block that they are for."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.bench import ROOT
from tools.bench.measure import Unmeasurable

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[str]:
    """A real broker on a free port, as it is by default; its URL."""
    program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if program is None:
        raise Unmeasurable("mosquitto is not installed (Debian: apt install mosquitto)")
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest none\n", encoding="utf-8")
    process = subprocess.Popen([program, "-c", str(config)], stdin=subprocess.DEVNULL)
    try:
        _until_it_listens(port)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        _end(process)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`edged run CONFIG`. When the block fails to measure, the end of the daemon's log says more."""
    log = config.with_suffix(".log")
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "edged", "run", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=ROOT,
        )
    try:
        yield process
    except Unmeasurable as error:
        tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-5:])
        raise Unmeasurable(f"{error}\n{tail}") from error
    finally:
        _end(process)


def said_by(module: str, *arguments: str, timeout_s: float) -> Any:  # noqa: ANN401
    """The JSON that `python -m MODULE ARGUMENT...` prints before it ends by itself."""
    command = [sys.executable, "-m", module, *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, cwd=ROOT, text=True
    )
    try:
        out, log = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise Unmeasurable(f"{module} takes more than {timeout_s:.0f} s") from error
    finally:
        _end(process)
    if process.returncode:
        raise Unmeasurable(f"{module} failed: {log.strip()[-2000:]}")
    return json.loads(out)


def write_config(folder: Path, name: str, config: dict[str, Any]) -> Path:
    """The configuration as a file (JSON is YAML), with its own state directory."""
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(config | {"state_dir": str(folder / name)}), encoding="utf-8")
    return path


def _until_it_listens(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)  # there is no event to wait for: another program opens its port
    raise Unmeasurable("mosquitto does not answer")


def _end(process: subprocess.Popen[Any]) -> None:
    """Asks first: a daemon that is killed leaves its scratch folder behind."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
