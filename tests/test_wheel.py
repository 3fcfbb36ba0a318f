"""Installed from a wheel, outside the checkout, everything is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.process.edged import ROOT


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`edged` in a virtual environment that has the wheel, and borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "borrowed.pth").write_text(ours + "\n")
    return folder / "venv/bin/python"


def edged(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the installed command, from a folder that is not the checkout."""
    return subprocess.run(
        [program, "-m", "edged", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": ""},
        timeout=60,
        check=False,
    )


def test_it_is_the_wheel_and_not_the_checkout(program: Path, tmp_path: Path) -> None:
    code = "import edged, edged.perceive.cards as c; print(edged.__file__, c.shipped('models'))"
    done = subprocess.run([program, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert str(ROOT) not in done.stdout
    assert done.stdout.count(str(program.parents[1])) == 2


def test_configurations_cards_and_schemas_travel_along(program: Path, tmp_path: Path) -> None:
    (configs,) = program.parents[1].glob("lib/python*/site-packages/edged/shipped/configs")
    for file in sorted(configs.glob("*.yaml")):
        done = edged(program, "check", str(file), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert {one.name for one in configs.iterdir()} == {one.name for one in (ROOT / "configs").iterdir()}
    assert json.loads(edged(program, "check", "--event-schema", cwd=tmp_path).stdout)["title"]


def test_the_demo_runs_from_the_wheel(program: Path, tmp_path: Path) -> None:
    done = edged(program, "demo", "--seconds", "7", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "movement" in done.stdout
    assert "somebody_talks" in done.stdout
