"""`python -m tools.bench NAME [--json] [--pairs N] [--data DIR]`.

Exit codes: 0 when it measured, whether the goals were met or not; 1 when it could not; 2 for usage.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

from edged.errors import EdgedError
from tools.bench import ROOT
from tools.bench.measure import Machine, Unmeasurable
from tools.bench.report import Report

NAMES = ("dispatch", "throughput", "latency", "start", "capture", "motion", "idle", "sources", "io")


def main() -> int:
    """Runs one benchmark and prints what it measured."""
    parser = argparse.ArgumentParser("python -m tools.bench", description="Measures edged on this machine.")
    parser.add_argument("name", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--pairs", type=_count, default=7, help="interleaved rounds, at least 1 (default 7)")
    data = os.environ.get("EDGED_TEST_DATA", str(ROOT.parent / "shared/data"))
    parser.add_argument("--data", type=Path, default=Path(data), help="the real data (default %(default)s)")
    wanted = parser.parse_args()
    # As Ctrl-C does: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bench = importlib.import_module(f"tools.bench.{wanted.name}")
    machine = Machine()
    try:
        figures = bench.measure(wanted.pairs, wanted.data.absolute())
    except (Unmeasurable, EdgedError) as error:
        print(f"{wanted.name} can't be measured: {error}", file=sys.stderr)
        return 1
    report = Report(wanted.name, machine.as_it_was(), figures, bench.GOALS)
    if wanted.json:
        print(report.to_json())
    else:
        report.show()
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
