"""Which engines work here, by a real run.

ONNX Runtime names the execution providers that its wheel was compiled with, not those that work: a
library may be missing, or the driver too old. So each runs a model of one node, in a process of its own,
since a broken driver may crash or hang.

Run as a program: without an argument it prints the providers' names, with a name what came of its run.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

TIMEOUT_S = 120.0
"""TensorRT may take most of a minute to begin with."""
NO_ONNX_RUNTIME = "ONNX Runtime is missing: pip install 'edged[cpu]' (on a Jetson it comes with JetPack)"
CPU = "CPUExecutionProvider"
ON_NVIDIA = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
SIDE = 2


@dataclass(frozen=True, slots=True)
class Engine:
    """An execution provider of ONNX Runtime, and what came of its run."""

    provider: str
    version: str
    """ONNX Runtime's."""
    device: str
    """What it ran on, as far as that can be told."""
    works: bool
    reason: str = ""
    """Why it does not."""


def engines(timeout_s: float = TIMEOUT_S) -> list[Engine]:
    """Every provider of the installed ONNX Runtime, tried for `timeout_s` at most.

    Raises:
        OSError: ONNX Runtime is missing, or can't be imported.
    """
    done = _child((), timeout_s)
    if isinstance(done, str) or done.returncode:
        raise OSError(done if isinstance(done, str) else _reason(done))
    version, *providers = msgspec.json.decode(_answer(done), type=list[str])
    return [_tried(provider, version, timeout_s) for provider in providers]


def _tried(provider: str, version: str, timeout_s: float) -> Engine:
    done = _child((provider,), timeout_s)
    if isinstance(done, str):
        return Engine(provider, version, "", False, done)
    if done.returncode:
        return Engine(provider, version, "", False, _reason(done))
    return Engine(provider, version, msgspec.json.decode(_answer(done), type=str), True)


def _child(arguments: tuple[str, ...], timeout_s: float) -> subprocess.CompletedProcess[str] | str:
    """The child when it has ended; else why it had to be ended."""
    try:
        return subprocess.run(
            [sys.executable, "-m", "edged.perceive.probe", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"gave no answer within {timeout_s:g} s"


def _answer(done: subprocess.CompletedProcess[str]) -> str:
    """The last line, too: ONNX Runtime itself prints."""
    return done.stdout.strip().splitlines()[-1]


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that the child wrote, and which library could not be loaded, if ONNX Runtime said so."""
    if done.returncode < 0:
        return f"crashed (signal {-done.returncode})"
    lines = done.stderr.strip().splitlines()
    library = re.search(r"Failed to load library .+ with error: (.+)", done.stderr)
    return (lines[-1] if lines else f"exit code {done.returncode}") + (f": {library[1]}" if library else "")


def main() -> int:
    """See the module."""
    # Before the import: since about 1.30 the Linux wheels report to their maker unless told not to.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime as ort
    except ImportError as error:
        found = isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime"
        sys.stderr.write(f"{NO_ONNX_RUNTIME if found else f'ONNX Runtime can not be imported: {error}'}\n")
        return 1
    ort.set_default_logger_severity(3)
    answer: str | list[str] = [ort.__version__, *ort.get_available_providers()]
    if len(sys.argv) > 1:
        try:
            run(sys.argv[1])
        except Exception as error:  # noqa: BLE001 - whatever it is, this process is there to tell it
            sys.stderr.write(f"\n{_line(error)}\n")
            return 1
        answer = device_name(sys.argv[1])
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    return 0


def run(provider: str) -> None:
    """Multiplies two matrices with this provider, and with no other.

    Raises:
        RuntimeError: it was not used, or its result is wrong; ONNX Runtime has errors of its own, too.
    """
    import onnxruntime as ort

    session = ort.InferenceSession(model(), providers=[provider])
    if provider not in session.get_providers():
        raise RuntimeError("could not be loaded")
    if provider != CPU:
        # Otherwise a provider that can't do this leaves the work to the CPU in silence.
        options = ort.SessionOptions()
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        session = ort.InferenceSession(model(), options, providers=[provider])
    x = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE) + 1
    (y,) = session.run(None, {"x": x})
    if not np.allclose(y, x @ x, rtol=1e-2):  # some compute in 16 bits
        raise RuntimeError(f"gave a wrong result: {y.tolist()} for {(x @ x).tolist()}")


def model() -> bytes:
    """y = x · x for a float32 matrix of 2 × 2, as ONNX: a message of Protocol Buffers, written by hand
    so that no package is needed. The numbers are those of the fields in onnx.proto.
    """
    side = _field(1, _field(1, SIDE))  # shape.dim.dim_value
    matrix = _field(1, _field(1, 1) + _field(2, side + side))  # tensor_type: elem_type FLOAT, shape
    node = _field(1, "x") + _field(1, "x") + _field(2, "y") + _field(4, "MatMul")
    graph = (
        _field(1, node)
        + _field(2, "probe")  # a name is asked for
        + _field(11, _field(1, "x") + _field(2, matrix))  # input
        + _field(12, _field(1, "y") + _field(2, matrix))  # output
    )
    opset = _field(1, "") + _field(2, 13)  # the operators of ONNX itself
    return _field(1, 8) + _field(7, graph) + _field(8, opset)  # ir_version, graph, opset_import


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field on the wire: its number and kind, then a number, or the length of what follows.

    One byte each holds what is below 128, which is all that is needed here.
    """
    if isinstance(value, int):
        return bytes((number << 3, value))
    payload = value.encode() if isinstance(value, str) else value
    return bytes((number << 3 | 2, len(payload))) + payload


def device_name(provider: str) -> str:
    """What the provider runs on; empty where there is no telling."""
    if provider == CPU:
        return _cpu()
    if provider in ON_NVIDIA:
        return _gpu()
    return ""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    board = Path("/proc/device-tree/model")  # ARM names the board, not the processor
    if board.exists():
        return board.read_text(encoding="utf-8").strip("\0\n")
    return platform.machine()


def _gpu() -> str:
    """The first one's name, from the driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    number, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(number), 0):
        return ""
    return "" if cuda.cuDeviceGetName(name, len(name), number) else name.value.decode("utf-8", "replace")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "fallback to CPU EP has been explicitly disabled" in text:
        return "took no part of the model (ONNX Runtime would have left it to the CPU)"
    return text[:300] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
