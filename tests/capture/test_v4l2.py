"""What the kernel's interface says of cameras, by a stand-in that was compiled against its header."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from edged.capture import v4l2
from tests.capture.v4l2_stub import Stub, make

LIST = """
import sys, msgspec
from pathlib import Path
from edged.capture import v4l2
print(msgspec.json.encode(v4l2.cameras(Path(sys.argv[1]))).decode())
"""
BUSY = """
import sys
from pathlib import Path
from edged.capture import v4l2
print(v4l2.busy(Path(sys.argv[1])))
"""


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    """Four nodes; a fault may be switched on."""
    return make(tmp_path)


def listed(stub: Stub) -> list[v4l2.Camera]:
    done = stub.run("-c", LIST, str(stub.dev))
    return msgspec.json.decode(done.stdout, type=list[v4l2.Camera])


def test_the_codes_are_those_of_the_kernel() -> None:
    """As gcc computes them from linux/videodev2.h on x86-64 and aarch64: with the size in them, too."""
    codes = (v4l2.QUERYCAP, v4l2.ENUM_FMT, v4l2.REQBUFS, v4l2.ENUM_FRAMESIZES, v4l2.ENUM_FRAMEINTERVALS)
    assert codes == (0x80685600, 0xC0405602, 0xC0145608, 0xC02C564A, 0xC034564B)


def test_formats_with_their_sizes_and_rates(stub: Stub) -> None:
    first = listed(stub)[0]
    assert (first.device, first.name, first.driver) == (str(stub.node(0)), "Stub Camera 0", "stub")
    assert first.bus == "platform:stub"
    assert [(one.fourcc, one.description) for one in first.formats] == [
        ("MJPG", "Motion-JPEG"),
        ("YUYV", "YUYV 4:2:2"),
    ]
    rates = (14.985, 29.97)
    for one in first.formats:
        assert one.sizes == (v4l2.Size(640, 480, 640, 480, rates), v4l2.Size(320, 240, 320, 240, rates))
    assert not first.raw


def test_what_scales_has_a_span_of_sizes_and_rates(stub: Stub) -> None:
    scaling = listed(stub)[1]
    assert scaling.formats[0].sizes == (v4l2.Size(32, 24, 1920, 1080, (5.0, 60.0)),)


def test_a_node_for_metadata_is_no_camera_and_a_sensor_is_raw(stub: Stub) -> None:
    found = listed(stub)
    assert [one.device for one in found] == [str(stub.node(number)) for number in (0, 2, 3)]
    assert [one.raw for one in found] == [False, False, True]
    assert found[2].formats[0].fourcc == "RG10"


def test_names_that_stay_the_same(stub: Stub) -> None:
    found = listed(stub)
    assert found[0].links == (str(stub.dev / "v4l/by-id/usb-Stub_Camera-video-index0"),)
    assert found[1].links == ()


def test_whether_another_program_reads(stub: Stub) -> None:
    assert stub.run("-c", BUSY, str(stub.node(0))).stdout == "False\n"
    stub.fault("busy")
    assert stub.run("-c", BUSY, str(stub.node(0))).stdout == "True\n"


def test_one_that_fails_says_why_and_hides_no_other(stub: Stub) -> None:
    stub.fault("gone")
    assert {one.problem for one in listed(stub)} == {"No such device"}


def test_plain_files_are_no_cameras(tmp_path: Path) -> None:
    (tmp_path / "video0").write_text("no device")
    (tmp_path / "videos").write_text("no node")
    assert v4l2.cameras(tmp_path) == []
    assert [one.name for one in v4l2.nodes(tmp_path)] == ["video0"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_without_permission_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "video0").touch(mode=0)
    assert [one.problem for one in v4l2.cameras(tmp_path)] == ["Permission denied"]


def test_nodes_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        (tmp_path / f"video{number}").touch()
    assert [one.name for one in v4l2.nodes(tmp_path)] == ["video0", "video2", "video10"]
