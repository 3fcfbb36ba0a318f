"""What each further source costs: 1, 2, 4, 8 and 16 films at 5 Hz in one daemon, in real time.

Each source is a file of its own, of 768×432 and 10 pictures a second, in its own process as a camera is,
its frames are gated by motion and fused into events; no model runs. `cpu_ms_per_s_N` is the CPU time of
all processes for each second and source, `mib_per_source` the memory (proportional set size, PSS) that
each of 16 adds to the daemon with one, and `linear_ratio` the cost per source of 16 against that of 1.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from functools import partial
from pathlib import Path

from tools.bench.measure import Unmeasurable, interleaved, median, need
from tools.bench.processes import daemon, write_config
from tools.bench.report import Goal

GOALS = (Goal("linear_ratio", at_most=1.15),)

FILM = "video/one-by-one-person.mp4"
COUNTS = (1, 2, 4, 8, 16)
START_S, WATCH_S = 6.0, 8.0


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` rounds over all counts."""
    need(data / FILM)
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as scratch:
        sides = [partial(_watched, count, data / FILM, Path(scratch)) for count in COUNTS]
        rounds = list(interleaved(pairs, *sides))
    costs = {count: median(one[n][0] for one in rounds) for n, count in enumerate(COUNTS)}
    memory = {count: median(one[n][1] for one in rounds) for n, count in enumerate(COUNTS)}
    last, first = COUNTS[-1], COUNTS[0]
    return {
        "linear_ratio": median(one[-1][0] / one[0][0] for one in rounds),
        **{f"cpu_ms_per_s_{count}": cost for count, cost in costs.items()},
        "mib_per_source": (memory[last] - memory[first]) / (last - first),
        "mib_with_one": memory[first],
    }


def _watched(count: int, film: Path, scratch: Path) -> tuple[float, float]:
    """Milliseconds of CPU a second and source, and MiB of all processes."""
    sources, events = {}, {}
    for number in range(count):
        link = scratch / f"{number}.mp4"  # one URL each, so one process each
        if not link.exists():
            link.symlink_to(film)
        name = f"cam{number}"
        sources[name] = {"kind": "stream", "url": str(link), "rate_hz": 5, "loop": True}
        events[f"moving{number}"] = {"video": {"source": name, "label": "motion", "min_score": 0.01}}
    config = write_config(scratch, "sources", {"sources": sources, "events": events})
    with daemon(config) as process:
        time.sleep(START_S)  # starts are not counted
        begin_ns, begin_cpu_ns = time.monotonic_ns(), _cpu_ns(family := _family(process.pid))
        time.sleep(WATCH_S)  # the time that is measured
        spent_ns, lasted_ns = _cpu_ns(family) - begin_cpu_ns, time.monotonic_ns() - begin_ns
        if _family(process.pid) != family or len(family) != count + 1:
            raise Unmeasurable(f"{len(family) - 1} of {count} capture processes run")
        memory = sum(map(_pss_bytes, family))
    return spent_ns / lasted_ns * 1e3 / count, memory / (1 << 20)


def _family(pid: int) -> list[int]:
    """The process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [pid, *sorted(map(int, children))]


def _cpu_ns(pids: list[int]) -> int:
    spent = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            spent += time.clock_gettime_ns((~pid << 3) | 2)
    return spent


def _pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise Unmeasurable(f"process {pid} does not say how much memory it has")
