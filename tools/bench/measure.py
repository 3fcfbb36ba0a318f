"""How the benchmarks measure: interleaved rounds, medians, and what the machine was like meanwhile."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_TICKS_HZ = os.sysconf("SC_CLK_TCK")


class Unmeasurable(Exception):
    """Something that the measurement needs is missing or failed; the message says what."""


def interleaved(rounds: int, *sides: Callable[[], T]) -> Iterator[tuple[T, ...]]:
    """Each round runs every side once, in an order that turns round from one to the next: what else
    the machine does meanwhile, and its drift, meets all sides alike.
    """
    for number in range(rounds):
        order = list(range(len(sides)))
        got = {side: sides[side]() for side in (order[::-1] if number % 2 else order)}
        yield tuple(got[side] for side in order)


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` (0–1) of `values` do not exceed, interpolated."""
    return float(np.quantile(np.fromiter(values, np.float64), share))


def need(*paths: Path) -> None:
    """Raises Unmeasurable when one of the files is missing."""
    for path in paths:
        if not path.is_file():
            raise Unmeasurable(f"{path} is missing; name the folder of real data by --data")


class Machine:
    """What was measured on; made when measuring begins."""

    def __init__(self) -> None:
        self._before, self._own_before = _cpu_times(), _own_time()

    def as_it_was(self) -> dict[str, str | int | float]:
        """The machine and its versions. Of all CPU time since the beginning (/proc/stat), `steal_share`
        is what the host gave to other machines, `others_share` what other processes than the
        benchmark's took: much of either, and the figures say little.
        """
        spent = [after - before for before, after in zip(self._before, _cpu_times(), strict=True)]
        idle, steal = spent[3] + spent[4], spent[7]
        others = sum(spent) - idle - steal - (_own_time() - self._own_before)
        return {
            "cpu": _cpu_model(),
            "cores": os.cpu_count() or 0,
            "python": platform.python_version(),
            "onnxruntime": _version("onnxruntime", "onnxruntime-gpu"),
            "av": _version("av"),
            "steal_share": round(steal / max(1, sum(spent)), 4),
            "others_share": round(max(0.0, others) / max(1, sum(spent)), 4),
        }


def _cpu_times() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal of all cores, in ticks (proc(5))."""
    first = Path("/proc/stat").read_text("ascii").splitlines()[0]
    return [int(ticks) for ticks in first.split()[1:9]]


def _own_time() -> float:
    """CPU time of this process and of all that it started and that have ended, in ticks."""
    times = os.times()
    return (times.user + times.system + times.children_user + times.children_system) * _TICKS_HZ


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()  # ARM has no such line


def _version(*names: str) -> str:
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"
