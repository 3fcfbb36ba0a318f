"""ONNX Runtime without telemetry and spinning, on buffers that are allocated once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edged.errors import ModelError
from edged.perceive.engines.onnxrt import OnnxEngine

SHAPES: tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]] = (
    {"input": (1, 576), "state": (2, 1, 128), "sr": ()},
    {"output": (1, 1), "stateN": (2, 1, 128)},
)

SESSION = """
import json, os, sys, time
from pathlib import Path
from edged.perceive.engines.onnxrt import OnnxEngine

def threads():
    return len(os.listdir("/proc/self/task"))

early = "onnxruntime" in sys.modules
told = os.environ.get("ORT_DISABLE_TELEMETRY")
before = threads()
engine = OnnxEngine(Path(sys.argv[1]), int(sys.argv[2]), *json.loads(sys.argv[3]))
engine.run()
wall_s, cpu_s = time.monotonic(), time.process_time()
for _ in range(50):
    engine.run()
    time.sleep(0.01)  # the pause between two frames, in which nothing is to be done
share = (time.process_time() - cpu_s) / (time.monotonic() - wall_s)
print(json.dumps({"early": early, "told": told, "more_threads": threads() - before, "cpu_share": share}))
"""


def run_session(data: Path, home: Path, threads: int) -> dict[str, Any]:
    """What a process of its own tells of an engine; it knows no other settings than ours."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SESSION,
            str(data / "models/silero_vad_16k_op15.onnx"),
            str(threads),
            json.dumps(SHAPES),
        ],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_is_reported_written_or_spun(data: Path, tmp_path: Path, threads: int) -> None:
    """With its defaults ONNX Runtime 1.32 leaves a device's id in the home, runs one thread more, and
    spins on whole cores between the frames.
    """
    home = tmp_path / "home"
    home.mkdir()
    told = run_session(data, home, threads)
    assert told["told"] == "1"
    assert not told["early"], "ONNX Runtime must not be imported before it is told"
    assert told["more_threads"] == threads - 1, "the caller's own thread works too"
    assert told["cpu_share"] < 0.5
    assert list(home.iterdir()) == []


@pytest.fixture
def picker(tmp_path: Path) -> OnnxEngine:
    """Gives the place-th of ten, twenty, thirty; other places make the run fail."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["values", "place"], ["value"])],
        "picker",
        [helper.make_tensor_value_info("place", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [1])],
        [helper.make_tensor("values", TensorProto.FLOAT, [3], [10, 20, 30])],
    )
    path = tmp_path / "picker.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return OnnxEngine(path, 1, {"place": (1,)}, {"value": (1,)})


def test_a_run_that_fails_is_a_model_error(picker: OnnxEngine) -> None:
    picker.inputs["place"][0] = 7
    with pytest.raises(
        ModelError, match=r"^picker\.onnx: inference failed: .*indices element out of"
    ) as caught:
        picker.run()
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__


def test_it_goes_on_after_a_failure(picker: OnnxEngine) -> None:
    picker.inputs["place"][0] = 7
    with pytest.raises(ModelError):
        picker.run()
    picker.inputs["place"][0] = 2
    picker.run()
    assert picker.outputs["value"][0] == 30


def test_buffers_are_allocated_once(picker: OnnxEngine) -> None:
    buffers = {**picker.inputs, **picker.outputs}
    addresses = {name: array.ctypes.data for name, array in buffers.items()}
    for place in (0, 1, 2, 1):
        picker.inputs["place"][0] = place
        picker.run()
        assert picker.outputs["value"][0] == (place + 1) * 10
    after = {**picker.inputs, **picker.outputs}
    assert all(after[name] is array for name, array in buffers.items())
    assert {name: array.ctypes.data for name, array in after.items()} == addresses


def test_an_input_can_lie_elsewhere_and_come_back(picker: OnnxEngine) -> None:
    elsewhere = np.array([1], np.int64)
    elsewhere.flags.writeable = False
    picker.bind("place", elsewhere)
    picker.run()
    assert picker.outputs["value"][0] == 20
    picker.bind("place", picker.inputs["place"])
    picker.run()
    assert picker.outputs["value"][0] == 10


def test_a_closed_engine_leaves_its_outputs_readable(picker: OnnxEngine) -> None:
    picker.run()
    value = picker.outputs["value"]
    picker.close()
    assert value[0] == 10


def test_sides_that_the_file_leaves_open_are_the_card_s(data: Path) -> None:
    """yunet takes pictures of any size: the card says which."""
    shapes = {"input": (1, 3, 64, 96)}
    found = onnx.load(str(data / "models/yunet_n_dynamic.onnx")).graph
    assert [one.name for one in found.input] == ["input"]
    names = [one.name for one in found.output]
    with pytest.raises(ModelError, match=r"yunet_n_dynamic\.onnx: output '.*' is .*; the card says"):
        OnnxEngine(data / "models/yunet_n_dynamic.onnx", 1, shapes, dict.fromkeys(names, (1,)))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: ONNX Runtime can't load it"):
        OnnxEngine(tmp_path / "gone.onnx", 1, {}, {})


def test_a_type_that_is_not_supported(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])],
        "doubles",
        [helper.make_tensor_value_info("a", TensorProto.DOUBLE, [1])],
        [helper.make_tensor_value_info("b", TensorProto.DOUBLE, [1])],
    )
    path = tmp_path / "doubles.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    with pytest.raises(ModelError, match=r"doubles\.onnx: input 'a' is tensor\(double\) \[1\]"):
        OnnxEngine(path, 1, {"a": (1,)}, {"b": (1,)})
