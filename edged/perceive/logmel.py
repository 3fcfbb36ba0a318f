"""The log-mel front end of YAMNet and its kin.

As in the reference (tensorflow/models, research/audioset/yamnet): 16 kHz, windows of 25 ms each 10 ms,
periodic Hann, magnitude of an FFT of 512, 64 triangular HTK mel bands from 125 to 7500 Hz, log(x + 0.001).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edged.wire.pool import Samples
from edged.wire.views import SAMPLE_RATE_HZ

FRAMES, BANDS = 96, 64
WINDOW, HOP, FFT = 400, 160, 512
PATCH_SAMPLES = WINDOW + (FRAMES - 1) * HOP
"""15,600: 0.975 s."""
LOW_HZ, HIGH_HZ = 125.0, 7500.0
OFFSET = np.float32(0.001)


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(1127 * np.log1p(np.asarray(hertz) / 700), np.float64)


def _filters() -> Samples:
    low, high = _mel([LOW_HZ, HIGH_HZ])
    edges = np.linspace(low, high, BANDS + 2)
    bins = _mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE_HZ / FFT)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0  # the reference leaves out the constant part
    return np.asarray(weights, np.float32)


_FILTERS = _filters()
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def log_mel(samples: Samples, out: Samples) -> None:
    """Writes the log-mel spectrum of `samples` ([15600], −1 to 1) into `out` ([96, 64])."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    magnitudes = np.abs(np.fft.rfft(windows * _HANN, FFT)).astype(np.float32)
    np.matmul(magnitudes, _FILTERS, out=out)
    np.add(out, OFFSET, out=out)
    np.log(out, out=out)
