"""`edged record`, and the replay of what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest
import typer

from edged.config.load import read, validate
from edged.config.schema import Config
from edged.record import files_of, prepare

CONFIG = """
sources:
  cam: {kind: synthetic, rate_hz: 5, period_s: 4, figure_s: [1, 2], voice_s: [1, 2], alarm_s: [3, 3]}
  mic: {kind: synthetic, modality: audio, period_s: 4, figure_s: [1, 2], voice_s: [1, 2], alarm_s: [3, 3]}
events:
  spoken:
    audio: {source: mic, label: sound}
"""


def edged(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command."""
    command = [sys.executable, "-m", "edged", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_recording_can_be_replayed(tmp_path: Path) -> None:
    config, out = tmp_path / "c.yaml", tmp_path / "out"
    config.write_text(CONFIG)
    done = edged("record", config, out, "--seconds", 8)
    assert done.returncode == 0, done.stderr
    for name in ("cam", "mic"):
        with av.open(str(out / f"{name}.mp4")) as container:
            stamps = [float(p.pts * p.time_base) for p in container.demux() if p.size and p.pts is not None]
        assert 0 <= stamps[0] < 7, "they count from the beginning of the recording"
        assert 3 < stamps[-1] < 9
    replays = [edged("replay", config, "--recording", out, "--json") for _ in range(2)]
    assert [one.returncode for one in replays] == [0, 0], replays[0].stderr
    events = [json.loads(line) for line in replays[0].stdout.splitlines()]
    assert "spoken" in [event["type"] for event in events]
    keys = ("type", "phase", "started_at", "score")
    again = [json.loads(line) for line in replays[1].stdout.splitlines()]
    assert [[one[key] for key in keys] for one in events] == [[one[key] for key in keys] for one in again]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG)
    config = validate(read(file), Config, tmp_path)
    with pytest.raises(typer.BadParameter, match="not empty"):
        prepare(tmp_path, config)
    with pytest.raises(typer.BadParameter, match=r"Not a directory|File exists"):
        prepare(file, config)
    with pytest.raises(typer.BadParameter, match="no recording"):
        files_of(tmp_path, ["cam"])
    prepare(tmp_path / "out", config)
    with pytest.raises(typer.BadParameter, match="holds nothing of 'cam'"):
        files_of(tmp_path / "out", ["cam"])
