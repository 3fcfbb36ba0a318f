"""ONNX Runtime on the CPU: buffers are allocated and bound once, and nothing is sent anywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edged.errors import ModelError
from edged.wire.pool import Array

# Before the import: since about 1.30 the Linux wheels report to their maker unless told not to.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

Shape = tuple[int, ...]

_DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}


class OnnxEngine:
    """A session with its input and output buffers."""

    def __init__(
        self, path: Path, threads: int, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
    ) -> None:
        """`inputs` and `outputs` are the card's: name → shape, which the file has to agree with.

        Raises:
            ModelError: ONNX Runtime is missing, or the file is damaged or another than the card says.
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise ModelError(
                "ONNX Runtime is not installed: pip install 'edged[cpu]' (on a Jetson it comes with JetPack)"
            ) from error
        ort.set_default_logger_severity(3)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads took 177 % of two cores where 7.7 % do, and made everything slower.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own have no common parent but this
            raise ModelError(f"{path}: ONNX Runtime can't load it: {_first_line(error)}") from error
        self._path = path
        self.inputs: dict[str, Array] = {}
        """Write here before `run`."""
        self.outputs: dict[str, Array] = {}
        """Read here after `run`, until the next."""
        self._binding = self._session.io_binding()
        declared = {"input": self._session.get_inputs(), "output": self._session.get_outputs()}
        for name, array in self._arrays("input", declared["input"], inputs).items():
            self.inputs[name] = array
            self.bind(name, array)
        for name, array in self._arrays("output", declared["output"], outputs).items():
            self.outputs[name] = array
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def bind(self, name: str, array: Array) -> None:
        """Reads the input from `array` from now on: a view of a slot, say, without a copy.

        `array` is contiguous, of the input's shape and dtype, and outlives the next `run`.
        """
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Runs on what the inputs hold.

        Raises:
            ModelError: the session failed.
        """
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # as above
            raise ModelError(f"{self._path.name}: inference failed: {_first_line(error)}") from error

    def close(self) -> None:
        """Frees the session."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        del self._binding, self._session

    def _arrays(self, what: str, declared: list[object], wanted: Mapping[str, Shape]) -> dict[str, Array]:
        names = [str(getattr(one, "name")) for one in declared]  # noqa: B009 - the binding has no types
        if set(names) != set(wanted):
            raise ModelError(
                f"{self._path}: its {what}s are {', '.join(names)}; the card says {', '.join(wanted)}"
            )
        arrays = {}
        for name, one in zip(names, declared, strict=True):
            shape, kind = list(getattr(one, "shape")), str(getattr(one, "type"))  # noqa: B009
            fits = len(shape) == len(wanted[name]) and all(
                not isinstance(side, int) or side == want
                for side, want in zip(shape, wanted[name], strict=True)
            )
            if not fits or kind not in _DTYPES:
                raise ModelError(
                    f"{self._path}: {what} '{name}' is {kind} {shape}; the card says {list(wanted[name])}"
                )
            arrays[name] = np.zeros(wanted[name], _DTYPES[kind])
        return arrays


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
