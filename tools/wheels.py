"""Whether every dependency can be installed from wheels on all platforms, by pip's dry run.

usage: python -m tools.wheels DIST    (the folder that holds edged's wheel; see `make wheels`)

pip judges environment markers by the Python that runs it; the wheels' own tags and required Python
versions it judges for the platform asked for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TARGETS = (
    ("aarch64", "3.10"),
    ("aarch64", "3.12"),
    ("x86_64", "3.10"),
    ("x86_64", "3.11"),
    ("x86_64", "3.12"),
    ("x86_64", "3.13"),
)
GLIBC = ("2014", "_2_17", "_2_27", "_2_28", "_2_31", "_2_34", "_2_35")
"""manylinux up to Ubuntu 22.04, which JetPack 6 is based on."""
EXTRAS = "camera,cpu,demo"
"""Those that users of every platform install; a Jetson leaves out `cpu`."""


def resolve(wheel: Path, machine: str, version: str) -> tuple[bool, str]:
    """Whether pip finds wheels for all that edged needs there, and what it says."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--target", folder]
        command += ["--python-version", version, "--implementation", "cp"]
        command += [part for glibc in GLIBC for part in ("--platform", f"manylinux{glibc}_{machine}")]
        done = subprocess.run(
            [*command, f"{wheel}[{EXTRAS}]"], capture_output=True, text=True, check=False, timeout=600
        )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return done.returncode == 0, "; ".join(errors)


def main() -> int:
    """Prints a line a platform; 1 when one lacks something."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    wheels = sorted(Path(sys.argv[1]).glob("edged-*.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        print(f"no wheel of edged in {sys.argv[1]}: make wheel", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda target: resolve(wheels[-1], *target), TARGETS))
    for (machine, version), (found, errors) in zip(TARGETS, answers, strict=True):
        print(f"{machine:8} Python {version:5} {'all wheels' if found else 'MISSING: ' + errors}")
    return 0 if all(found for found, _ in answers) else 1


if __name__ == "__main__":
    sys.exit(main())
