"""Cameras through OpenCV: films in their place, pipelines, and a stand-in for V4L2's drivers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from edged.capture.device import Frame, Timing
from edged.capture.sources import camera
from edged.config.load import load
from edged.errors import ConfigError, SourceError
from edged.wire.clock import now_ns
from tests.capture.v4l2_stub import Stub, make
from tests.conftest import missing

LIVE = Timing(replay=False, paced=False)
PIPELINE = (
    "videotestsrc num-buffers=30 pattern=white ! video/x-raw,width=320,height=240,framerate=30/1 "
    "! videoconvert ! video/x-raw,format={} ! appsink"
)


def config(**settings: Any) -> camera.Config:  # noqa: ANN401 - a test's own
    return camera.Config.model_validate({"kind": "camera", **settings})


def opencv() -> Any:  # noqa: ANN401 - it may be missing
    """OpenCV, or a skip."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        import cv2
    except ImportError:
        missing("OpenCV (pip install 'edged[camera]')")
    return cv2


def has_gstreamer() -> bool:
    return bool(re.search(r"GStreamer:\s+YES", opencv().getBuildInformation()))


def film(path: Path, pictures: int) -> Path:
    """Each picture is four grey levels brighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for count in range(pictures):
            frame = av.VideoFrame.from_ndarray(np.full((120, 160, 3), 4 * count, np.uint8), "rgb24")
            frame.pts, frame.time_base = count, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def opened(path: Path, *names: str) -> camera.Camera:
    """A film in the place of a camera."""
    opencv()
    return camera.open_target(
        camera.Target(str(path), "CAP_FFMPEG"), dict.fromkeys(names or ("cam",), config(device=0)), LIVE
    )


def shade(frame: Frame) -> float:
    return float(frame.picture.to_ndarray(format="gray").mean())


def reader(path: Path) -> threading.Thread:
    """The thread that reads `path`; the test may wait for its end, the main loop does not."""
    return next(one for one in threading.enumerate() if str(path) in one.name)


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    """Cameras of the kernel's, as OpenCV sees them."""
    opencv()
    return make(tmp_path)


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({}, "either 'device' or 'pipeline'", id="neither"),
        pytest.param({"device": 0, "pipeline": "a ! appsink"}, "either 'device' or 'pipeline'", id="both"),
        pytest.param({"device": "video0"}, "is a number", id="no path"),
        pytest.param({"device": -1}, "is a number", id="negative"),
        pytest.param({"device": True}, "is a number", id="a truth"),
        pytest.param({"pipeline": "videotestsrc ! autovideosink"}, "ends in appsink", id="no appsink"),
        pytest.param(
            {"pipeline": "a ! appsink", "fps": 30}, "'fps' has to be said in", id="pipeline and fps"
        ),
        pytest.param({"device": 0, "width": 640}, "go together", id="width alone"),
        pytest.param({"device": 0, "fourcc": "mjpeg"}, "fourcc", id="no fourcc"),
        pytest.param({"device": 0, "modality": "audio"}, "a camera has no sound", id="audio"),
        pytest.param({"device": 0, "node": "/dev/video1"}, "node", id="not by its inner name"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "device"),
    [
        ({"device": 2}, "/dev/video2"),
        ({"device": "/dev/v4l/by-id/usb-a-index0", "width": 640, "height": 480, "fps": 15}, None),
        ({"pipeline": "videotestsrc ! appsink drop=true"}, "videotestsrc ! appsink drop=true"),
    ],
)
def test_settings_survive_the_way_to_another_process(settings: dict[str, Any], device: str | None) -> None:
    one = config(**settings)
    assert camera.Config.model_validate_json(one.model_dump_json()) == one
    assert one.device == (device or settings["device"])


def test_a_mistake_has_its_place_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "edged.yaml"
    file.write_text("sources:\n  cam:\n    kind: camera\n    device: video0\n    modality: audio\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert [(one.line, one.column) for one in caught.value.problems] == [(4, 13), (5, 15)]


# What is read, with a film in the place of a camera.


def test_every_source_gets_the_picture(tmp_path: Path) -> None:
    device = opened(film(tmp_path / "a.mp4", 20), "left", "right")
    begin_ns = now_ns()
    first, second = (item for item, _ in zip(filter(None, device.read()), range(2), strict=False))
    device.close()
    assert isinstance(first, Frame)
    assert (first.source, second.source) == ("left", "right")
    assert first.stamp_ns == second.stamp_ns
    assert (first.picture.width, first.picture.height, first.picture.format.name) == (160, 120, "bgr24")
    assert abs(first.stamp_ns - begin_ns) < 30_000_000_000


def test_a_slow_main_loop_loses_the_older_pictures(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 40)
    device = opened(path)
    reader(path).join(30)
    items = device.read()
    newest = next(items)
    assert isinstance(newest, Frame)
    assert abs(shade(newest) - 4 * 39) < 2
    assert device.lost["behind"] == 39
    with pytest.raises(SourceError, match=rf"^{path}: gives no more pictures"):
        next(items)
    device.close()


def test_stamps_are_of_the_moment_and_rise(tmp_path: Path) -> None:
    device = opened(film(tmp_path / "a.mp4", 60))
    stamps: list[int] = []
    with pytest.raises(SourceError, match="gives no more pictures") as caught:
        stamps.extend(item.stamp_ns for item in device.read() if item)
    device.close()
    assert stamps == sorted(set(stamps))
    assert not caught.value.permanent


def test_sources_of_one_camera_must_agree() -> None:
    sources = {"a": config(device=0), "b": config(device=0, width=640, height=480)}
    with pytest.raises(
        SourceError, match="/dev/video0: its sources contradict each other in 'width'"
    ) as caught:
        camera.open(sources, LIVE)
    assert caught.value.permanent


# What can't be opened.


def test_no_such_camera() -> None:
    opencv()
    with pytest.raises(SourceError, match=r"^/dev/video999: there is no such device; ") as caught:
        camera.open({"cam": config(device=999)}, LIVE)
    assert not caught.value.permanent, "it may be plugged in"


def test_a_file_is_no_camera(tmp_path: Path) -> None:
    opencv()
    path = film(tmp_path / "a.mp4", 1)
    with pytest.raises(SourceError, match=rf"^{path}: it is no video device"):
        camera.open({"cam": config(device=str(path))}, LIVE)


def test_without_opencv_it_says_how_to_get_it() -> None:
    """A process that can't see the packages of the environment but those that are needed."""
    program = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'cv2': raise ModuleNotFoundError(\"No module named 'cv2'\")\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from edged.capture.device import Timing\n"
        "from edged.capture.sources import camera\n"
        "source = camera.Config.model_validate({'kind': 'camera', 'device': 0})\n"
        "camera.open({'cam': source}, Timing(replay=False, paced=False))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("edged.errors.SourceError: /dev/video0: OpenCV can't be imported")
    assert "pip install 'edged[camera]'" in last
    assert "--system-site-packages" in last


def test_without_gstreamer_a_pipeline_is_refused_with_a_way_out() -> None:
    if has_gstreamer():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match=r"^pipeline 'videotestsrc …': .* without GStreamer") as caught:
        camera.open({"cam": config(pipeline=PIPELINE.format("BGR"))}, LIVE)
    assert "--system-site-packages" in str(caught.value)
    assert caught.value.permanent


# Pipelines.


@pytest.fixture
def _gstreamer() -> None:
    if not has_gstreamer():
        pytest.skip("this OpenCV was built without GStreamer; that of Debian (python3-opencv) has it")


@pytest.mark.usefixtures("_gstreamer")
@pytest.mark.parametrize(("form", "seen"), [("BGR", "bgr24"), ("GRAY8", "gray")])
def test_a_pipeline_gives_its_pictures_and_ends(form: str, seen: str) -> None:
    device = camera.open({"cam": config(pipeline=PIPELINE.format(form))}, LIVE)
    frames: list[Frame] = []
    with pytest.raises(SourceError, match=r"^pipeline 'videotestsrc …': gives no more pictures"):
        frames.extend(item for item in device.read() if isinstance(item, Frame))
    device.close()
    assert frames
    assert len(frames) + device.lost["behind"] == 30
    assert {(one.picture.width, one.picture.height) for one in frames} == {(320, 240)}
    assert {one.picture.format.name for one in frames} == {seen}
    assert shade(frames[-1]) > 230


@pytest.mark.usefixtures("_gstreamer")
def test_a_pipeline_in_another_format_says_what_is_wanted() -> None:
    device = camera.open({"cam": config(pipeline=PIPELINE.format("NV12"))}, LIVE)
    with pytest.raises(SourceError, match="BGR or GRAY8 is wanted") as caught:
        list(device.read())
    device.close()
    assert caught.value.permanent


@pytest.mark.usefixtures("_gstreamer")
def test_a_pipeline_that_is_none_and_tells_no_secret() -> None:
    device = camera.open({"cam": config(pipeline="nosuchsrc key=secret ! appsink")}, LIVE)
    with pytest.raises(SourceError, match=r"^pipeline 'nosuchsrc …': can't be opened") as caught:
        list(device.read())
    device.close()
    assert "secret" not in str(caught.value)


# V4L2, as OpenCV itself reads it.


def test_pictures_of_a_v4l2_camera(stub: Stub) -> None:
    told = stub.read({"device": str(stub.node(0))})
    assert told["error"] == ""
    assert told["size"] == [640, 480]
    assert told["stamps"] == sorted(set(told["stamps"]))
    assert told["shades"] == sorted(told["shades"]), "the stand-in's pictures grow brighter"
    assert told["close_s"] < 1


def test_by_its_lasting_name(stub: Stub) -> None:
    link = stub.dev / "v4l/by-id/usb-Stub_Camera-video-index0"
    assert stub.read({"device": str(link)}, pictures=2)["size"] == [640, 480]


def test_size_rate_and_format_are_set(stub: Stub) -> None:
    told = stub.read(
        {"device": str(stub.node(0)), "width": 320, "height": 240, "fps": 15, "fourcc": "YUYV"}, pictures=5
    )
    assert told["size"] == [320, 240]
    assert told["log"] == "", "no word of settings that were not taken"
    assert np.diff(told["stamps"]).mean() > 50_000_000, "30 a second would be 33 ms"


def test_motion_jpeg_is_decoded(stub: Stub) -> None:
    told = stub.read({"device": str(stub.node(0)), "fourcc": "MJPG"}, pictures=3)
    assert told["size"] == [640, 480]
    assert told["shades"][0] == pytest.approx(200, abs=3)


def test_empty_pictures_are_passed_over_until_there_are_too_many(stub: Stub) -> None:
    """OpenCV raises an error of its own then. JPEG that is damaged it gives as black or as half a picture."""
    (stub.dev / "frame.jpg").write_bytes(b"")
    told = stub.read({"device": str(stub.node(0)), "fourcc": "MJPG"})
    assert "gives no more pictures (5 failed reads)" in told["error"]
    assert told["lost"]["damaged"] == 5


def test_another_size_than_asked_for_is_told(stub: Stub) -> None:
    told = stub.read({"device": str(stub.node(0)), "width": 1920, "height": 1080}, pictures=2)
    assert told["size"] == [640, 480]
    assert "width is 640 instead of 1920" in told["log"]


def test_a_format_that_it_has_not_is_refused(stub: Stub) -> None:
    told = stub.read({"device": str(stub.node(0)), "fourcc": "NV12"})
    assert told["error"].startswith(f"{stub.node(0)}: refuses the format NV12 and stays at YUYV")
    assert told["permanent"]


def test_a_node_for_metadata_is_named_as_such(stub: Stub) -> None:
    told = stub.read({"device": str(stub.node(1))})
    assert "it gives no pictures" in told["error"]


def test_one_that_another_program_reads_is_busy(stub: Stub) -> None:
    stub.fault("busy")
    told = stub.read({"device": str(stub.node(0))})
    assert told["error"].startswith(f"{stub.node(0)}: is busy")


def test_one_that_is_unplugged_fails_and_may_come_back(stub: Stub) -> None:
    told = stub.read({"device": str(stub.node(0))}, pictures=5, fault="gone")
    assert len(told["stamps"]) >= 5
    assert re.search("unplugged|gives no more pictures", told["error"])
    assert not told["permanent"]


def test_a_read_that_never_comes_back_holds_nobody_up(stub: Stub) -> None:
    """The main loop goes on, `close` returns, and so does the process; only that camera is lost to it."""
    told = stub.read({"device": str(stub.node(0))}, pictures=5, fault="wedged")
    assert told["nothing"] > 5
    assert told["close_s"] < 1
    assert "a read of it has not come back" in told["error"]


def test_what_nobody_wants_is_not_decoded(stub: Stub) -> None:
    told = stub.read({"device": str(stub.node(0))}, pictures=8, want_hz=2)
    assert told["seconds"] > 1, "at 30 a second eight take 0.3 s"
