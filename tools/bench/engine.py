"""The original model alone: what every overhead and share is measured against."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.bench.measure import Unmeasurable, need

# Before the import: since about 1.30 the Linux wheels report to their maker unless told not to.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


class PlainSession:
    """ONNX Runtime as it comes, but with one thread, and not spinning; numpy in, numpy out."""

    def __init__(self, weights: Path) -> None:
        need(weights)
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise Unmeasurable("ONNX Runtime is not installed: pip install 'edged[bench]'") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        self._session: Any = ort.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run_ns(self, picture: npt.NDArray[np.float32]) -> int:
        """How long one run takes; `picture` is [1, 3, height, width]."""
        began_ns = time.monotonic_ns()
        self._session.run(None, {self._input: picture})
        return time.monotonic_ns() - began_ns
