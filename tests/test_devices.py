"""`edged devices`: what is there, and what is missing, without an error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from edged.capture.microphones import NO_PORTAUDIO, Microphone
from edged.capture.v4l2 import Camera, Format, Size
from edged.devices import Found, show
from edged.perceive.probe import Engine
from tests.process.edged import Json, edged
from tests.servers.pulse import pulse

WITHOUT_PORTAUDIO = """
import ctypes.util
found = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name == "portaudio" else found(name)
"""


def devices(*arguments: str, **environment: str) -> str:
    """What the command prints; it never fails."""
    done = subprocess.run(
        [sys.executable, "-m", "edged", "devices", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_json_is_one_object_on_one_line() -> None:
    (line,) = devices("--json").splitlines()
    found: Json = json.loads(line)
    assert set(found) == {"cameras", "microphones", "engines", "problems"}
    assert {"provider": "CPUExecutionProvider", "works": True}.items() <= found["engines"][-1].items()


def test_the_table_names_each_sort() -> None:
    shown = devices()
    for what in ("cameras", "microphones", "CPUExecutionProvider"):
        assert what in shown


def test_a_microphone_is_found() -> None:
    with pulse(rate_hz=48_000) as sound:
        found = json.loads(devices("--json", **sound.env))["microphones"]
    assert [one for one in found if one["default"]]
    assert all(one["channels"] > 0 and one["rate_hz"] > 0 and one["api"] == "ALSA" for one in found)


def test_a_sound_server_that_hangs_is_a_problem_only() -> None:
    with pulse() as sound:
        sound.freeze()
        try:
            found = json.loads(devices("--json", **sound.env))
        finally:
            sound.thaw()
    assert found["microphones"] or "PortAudio" in found["problems"]["microphones"]
    assert found["engines"]


def test_without_portaudio_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_PORTAUDIO)
    found = json.loads(devices("--json", PYTHONPATH=str(tmp_path)))
    assert found["problems"] == {"microphones": NO_PORTAUDIO}
    assert "apt install libportaudio2" in devices(PYTHONPATH=str(tmp_path))


def test_without_onnx_runtime_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')\n"
    )
    found = json.loads(devices("--json", PYTHONPATH=str(tmp_path)))
    assert "pip install 'edged[cpu]'" in found["problems"]["engines"]
    assert found["engines"] == []


def table(found: Found) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_cameras_with_their_formats() -> None:
    sizes = tuple(Size(side * 2, side, side * 2, side, (15.0, 30.0)) for side in range(100, 900, 100))
    webcam = Camera(
        "/dev/video0",
        "Cam [red]",
        "uvcvideo",
        "usb-1",
        ("/dev/v4l/by-id/usb-Cam-video-index0",),
        (Format("MJPG", "Motion-JPEG", sizes), Format("YUYV", "YUYV 4:2:2", (Size(32, 24, 640, 480, ()),))),
    )
    sensor = Camera("/dev/video2", "imx219", "tegra-video", "", (), (Format("RG10", "10-bit Bayer", ()),))
    closed = Camera("/dev/video4", "", "", "", (), (), "Permission denied")
    shown = table(Found([webcam, sensor, closed], [], [], {}))
    for what in (
        "/dev/v4l/by-id/usb-Cam-video-index0",
        "Cam [red]",
        "200×100 at 15/30",
        "and 2 more",
        "32×24 to 640×480",
        "nvarguscamerasrc",
        "Permission denied",
    ):
        assert what in shown


def test_microphones_and_engines() -> None:
    microphones = [Microphone(3, "USB [hw:1,0]", "ALSA", 2, 44_100.0, default=True)]
    engines = [
        Engine("CUDAExecutionProvider", "1.32.0", "", works=False, reason="libcublasLt.so.12: cannot open"),
        Engine("CPUExecutionProvider", "1.32.0", "Cortex", works=True),
    ]
    shown = table(Found([], microphones, engines, {}))
    for what in ("3 (default)", "USB [hw:1,0]", "44100", "1.32.0", "no     libcublasLt", "yes    Cortex"):
        assert what in shown


def test_help_names_it() -> None:
    assert "devices" in edged("--help").stdout
