"""Cameras without hardware: `v4l2_stub.c` compiled, its nodes, and a program that reads one of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.conftest import missing

SOURCE = Path(__file__).with_name("v4l2_stub.c")
HEADER = Path("/usr/include/linux/videodev2.h")
NODE_BYTES = 4 * 640 * 480 * 2


@dataclass(frozen=True)
class Stub:
    """A folder with nodes, and what makes cameras of them."""

    dev: Path
    library: Path

    def node(self, number: int) -> Path:
        """A camera's."""
        return self.dev / f"video{number}"

    def fault(self, name: str) -> None:
        """Switches a fault on: `busy`, `gone` or `wedged`."""
        (self.dev / name).touch()

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A Python program that sees the cameras."""
        return subprocess.run(
            [_loader(), "--preload", str(self.library), sys.executable, *arguments],
            env=os.environ | {"V4L2_STUB": str(self.dev)},
            cwd=SOURCE.parents[2],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
        )

    def read(
        self, settings: dict[str, Any], *, pictures: int = 10, want_hz: float = 0, fault: str = ""
    ) -> dict[str, Any]:
        """What a process tells that reads a camera, with a fault after so many pictures if one is named."""
        told = {"settings": settings, "pictures": pictures, "want_hz": want_hz, "dev": str(self.dev)}
        done = self.run("-m", "tests.capture.v4l2_stub", json.dumps(told | {"fault": fault}), check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found | {"log": done.stderr}


def _loader() -> str:
    """The dynamic loader of this Python, which can put a library before all others (ld.so(8), glibc 2.30)."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        path = line.split()[-1]
        if Path(path).name.startswith("ld-"):
            return path
    missing("glibc's dynamic loader")
    raise AssertionError


def make(folder: Path) -> Stub:
    """Compiles it, or skips."""
    if not shutil.which("gcc") or not HEADER.exists():
        missing("gcc with linux/videodev2.h (Debian: gcc libc6-dev)")
    library, dev = folder / "stub.so", folder / "dev"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)], check=True
    )
    dev.mkdir()
    for number in range(4):
        with (dev / f"video{number}").open("wb") as file:
            file.truncate(NODE_BYTES)
    (dev / "v4l/by-id").mkdir(parents=True)
    (dev / "v4l/by-id/usb-Stub_Camera-video-index0").symlink_to("../../video0")
    with av.open(str(dev / "frame.jpg"), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", 25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        grey = av.VideoFrame.from_ndarray(np.full((480, 640, 3), 200, np.uint8), "rgb24")
        container.mux(stream.encode(grey.reformat(format="yuvj420p")))
        container.mux(stream.encode(None))
    return Stub(dev, library)


def main() -> None:
    """Reads the camera that the argument describes; prints what came, and how it ended."""
    import logging
    import time

    from edged.capture.device import Timing
    from edged.capture.sources import camera
    from edged.errors import SourceError

    logging.basicConfig()
    told = json.loads(sys.argv[1])
    config = camera.Config.model_validate({"kind": "camera", **told["settings"]})
    found: dict[str, Any] = {"stamps": [], "shades": [], "size": None, "nothing": 0, "error": ""}
    begin = time.monotonic()
    try:
        device = camera.open({"cam": config}, Timing(replay=False, paced=False))
        if told["want_hz"]:
            device.want({"cam": told["want_hz"]})
        try:
            for item in device.read():
                if item is None:
                    found["nothing"] += 1
                    if told["fault"] == "wedged" and found["stamps"] and found["nothing"] > 5:
                        break
                    continue
                found["stamps"].append(item.stamp_ns)
                found["shades"].append(float(item.picture.to_ndarray(format="gray").mean()))
                found["size"] = [item.picture.width, item.picture.height]
                if len(found["stamps"]) == told["pictures"]:
                    if not told["fault"]:
                        break
                    Path(told["dev"], told["fault"]).touch()
        finally:
            found["seconds"] = time.monotonic() - begin
            begin = time.monotonic()
            device.close()
            found["close_s"] = time.monotonic() - begin
            found["lost"] = dict(device.lost)
        if told["fault"] == "wedged":
            camera.open({"cam": config}, Timing(replay=False, paced=False))
    except SourceError as error:
        found |= {"error": str(error), "permanent": error.permanent}
    print(json.dumps(found))  # noqa: T201 - the test reads this


if __name__ == "__main__":
    main()
