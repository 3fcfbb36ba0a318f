"""Engines are said to work because they did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from edged.perceive import probe


def test_the_model_is_valid_onnx() -> None:
    model = onnx.load_from_string(probe.model())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]


def test_every_provider_of_the_wheel_is_tried() -> None:
    found = {one.provider: one for one in probe.engines()}
    assert list(found) == ort.get_available_providers()
    cpu = found["CPUExecutionProvider"]
    assert cpu.works
    assert cpu.device
    assert cpu.version == ort.__version__
    for one in found.values():
        assert one.works != bool(one.reason)


def test_what_leaves_the_work_to_the_cpu_does_not_work() -> None:
    """ONNX Runtime itself would compute on the CPU and say nothing."""
    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("the wheel has no provider that takes part in nothing")
    with pytest.raises(Exception, match="fallback to CPU EP has been explicitly disabled"):
        probe.run("AzureExecutionProvider")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_not_there_does_not_work() -> None:
    with pytest.raises(RuntimeError, match="could not be loaded"):
        probe.run("NoneSuchExecutionProvider")


def test_one_that_hangs_is_given_up() -> None:
    with pytest.raises(OSError, match=r"gave no answer within 0\.001 s"):
        probe.engines(timeout_s=0.001)


def test_one_that_crashes_is_told(tmp_path: Path) -> None:
    """An ONNX Runtime that ends its process while it is loaded, as broken drivers do."""
    (tmp_path / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert reason(tmp_path) == "crashed (signal 11)"


def test_without_onnx_runtime_it_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')\n"
    )
    assert reason(tmp_path) == probe.NO_ONNX_RUNTIME


def test_one_that_can_not_be_imported_is_not_missing(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libcudart.so.12: cannot open')\n")
    assert "can not be imported: libcudart.so.12" in reason(tmp_path)


def reason(folder: Path) -> str:
    """Why a process finds no engines whose first place for modules is `folder`."""
    program = "from edged.perceive import probe\ntry: probe.engines()\nexcept OSError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_which_library_is_missing_is_told() -> None:
    said = (
        "[E:onnxruntime] FAIL : Failed to load library /x/libonnxruntime_providers_cuda.so with error: "
        "libcublasLt.so.13: cannot open shared object file: No such file or directory\n\n"
        "could not be loaded\n"
    )
    done = subprocess.CompletedProcess([], 1, "", said)
    assert probe._reason(done).startswith("could not be loaded: libcublasLt.so.13: cannot open shared")


def test_nothing_is_reported_or_written(tmp_path: Path) -> None:
    home = tmp_path / "empty"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "edged.perceive.probe", "CPUExecutionProvider"],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)
    assert list(home.iterdir()) == []
