"""Each benchmark runs, and says what it measured in one form; how fast it was is no matter here."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing, mosquitto
from tools.bench.__main__ import NAMES

ROOT = Path(__file__).parents[2]
BROKER = {"throughput", "latency", "start", "io"}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=390, check=False)


@pytest.mark.parametrize(
    "name",
    [
        "dispatch",
        "start",
        *(
            pytest.param(name, marks=[pytest.mark.long, pytest.mark.timeout(400)])
            for name in NAMES
            if name not in ("dispatch", "start")
        ),
    ],
)
def test_a_benchmark_says_what_it_measured(name: str, data: Path) -> None:
    if name in BROKER:
        mosquitto()
    if name == "throughput" and importlib.util.find_spec("cv2") is None:
        missing("OpenCV")
    done = bench(name, "--json", "--pairs", "1", "--data", str(data))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found) == {"name", "machine", "figures", "goals"}
    assert found["name"] == name
    assert {"cpu", "cores", "python", "onnxruntime", "av"} < set(found["machine"])
    assert 0 <= found["machine"]["steal_share"] <= 1
    assert 0 <= found["machine"]["others_share"] <= 1
    for figure, value in found["figures"].items():
        assert math.isfinite(value), figure
        # An overhead is a difference of two measured times: in one noisy round it may be anything.
        assert value > 0 or figure.startswith("overhead_"), figure
    assert found["goals"]
    for figure, goal in found["goals"].items():
        assert figure in found["figures"]
        assert set(goal) in ({"at_most", "met"}, {"at_least", "met"})
        assert isinstance(goal["met"], bool)


def test_the_table_says_what_is_met(data: Path) -> None:
    mosquitto()
    done = bench("start", "--pairs", "1", "--data", str(data))
    assert done.returncode == 0, done.stderr
    assert "ready_s" in done.stdout
    assert "met" in done.stdout
    assert "steal_share" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_is_a_failure_with_a_reason(name: str, tmp_path: Path) -> None:
    done = bench(name, "--json", "--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{name} can't be measured" in done.stderr
    assert "--data" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["speed"], ["start", "--pairs", "0"], ["start", "--fast"]])
def test_usage(arguments: list[str]) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage" in done.stderr
