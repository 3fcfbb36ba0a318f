"""Cameras through OpenCV: USB (V4L2), and CSI or others by a GStreamer pipeline.

OpenCV's `read()` can wedge for good, whatever time-outs one sets. So a thread does all that touches the
device, and nobody waits for that thread.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import re
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from edged.capture import v4l2
from edged.capture.device import TICK_S, Bytes, Frame, Sampler, Timing
from edged.config.source import Source
from edged.errors import SourceError
from edged.wire.clock import now_ns

log = logging.getLogger(__name__)

MAX_FAILED_READS = 5
"""So many in a row, and the camera has gone."""
PAUSE_S = 0.1
"""Between two failed reads."""
CLOSE_S = 0.3
"""So long `close` waits for the thread."""
SPARE = 2.0
"""So many times the wanted pictures are decoded: whoever chooses among them has a grid of his own."""

PROPERTIES = {"width": "CAP_PROP_FRAME_WIDTH", "height": "CAP_PROP_FRAME_HEIGHT", "fps": "CAP_PROP_FPS"}
"""Settings and OpenCV's names for them."""

NO_OPENCV = (
    "OpenCV can't be imported ({}): pip install 'edged[camera]'; on a Jetson take JetPack's, which a virtual "
    "environment sees when it is made with `python -m venv --system-site-packages`"
)
NO_GSTREAMER = (
    "this OpenCV ({}) was built without GStreamer, as all wheels of pip are: take the system's (JetPack's, "
    "or Debian's python3-opencv) in a virtual environment made with `python -m venv "
    "--system-site-packages`, and `pip uninstall opencv-python opencv-python-headless`, which hides it"
)


def _node(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return f"/dev/video{value}"
    if value is None or (isinstance(value, str) and value.startswith("/") and "\0" not in value):
        return value
    raise PydanticCustomError("camera", "a camera is a number (0) or a path (/dev/video0, /dev/v4l/by-id/…)")


def _pipeline(value: object) -> object:
    if isinstance(value, str) and not re.search(r"\bappsink\b", value):
        raise PydanticCustomError("pipeline", "a pipeline ends in appsink, where its pictures are taken")
    return value


def _video_only(value: object) -> object:
    if value == "audio":
        raise PydanticCustomError("camera", "a camera has no sound; its microphone is a source of kind mic")
    return value


class Config(Source):
    """A camera at this device."""

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["camera"]
    modality: Annotated[Literal["video"], BeforeValidator(_video_only)] = "video"
    """A camera gives pictures only."""
    node: Annotated[
        str | None,
        BeforeValidator(_node, json_schema_input_type=Annotated[int, Field(ge=0)] | str | None),
    ] = Field(None, alias="device")
    """Its number (0 is /dev/video0) or its path; those in /dev/v4l/by-id stay the same at any port."""
    pipeline: Annotated[str | None, Field(max_length=4096), BeforeValidator(_pipeline)] = None
    """Instead of a device: a GStreamer pipeline that ends in appsink and gives BGR or GRAY8."""
    width: Annotated[int, Field(ge=16, le=16_384)] | None = None
    """Pixels; together with `height`. The camera takes the nearest that it can."""
    height: Annotated[int, Field(ge=16, le=16_384)] | None = None
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Pictures a second that the camera takes; `rate_hz` is how many of them are analysed."""
    fourcc: Annotated[str, Field(pattern=r"^[A-Z0-9 ]{4}$")] | None = None
    """The pixel format, MJPG say; `edged devices` names what the camera has."""

    @property
    def device(self) -> str:
        """The path, or the pipeline."""
        return self.node or self.pipeline or ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.node is None) == (self.pipeline is None):
            raise PydanticCustomError("camera", "a camera needs either 'device' or 'pipeline'")
        if (self.width is None) != (self.height is None):
            raise PydanticCustomError("camera", "'width' and 'height' go together")
        if self.pipeline is not None:
            for key in ("width", "height", "fps", "fourcc"):
                if getattr(self, key) is not None:
                    raise PydanticCustomError("camera", f"'{key}' has to be said in the pipeline itself")
        return self


@dataclass(frozen=True, slots=True)
class Target:
    """What OpenCV opens, and by which of its backends."""

    address: str
    backend: Literal["CAP_V4L2", "CAP_GSTREAMER", "CAP_FFMPEG"]
    """The last opens films: no configuration leads there, but tests do."""

    @property
    def name(self) -> str:
        """For messages. A pipeline may hold a password, so that no more than its first word is told."""
        if self.backend == "CAP_GSTREAMER":
            return f"pipeline '{self.address.split()[0]} …'"
        return self.address


def open(sources: Mapping[str, Config], timing: Timing) -> Camera:  # noqa: A001
    """Begins to open the camera that all `sources` share; what fails later, `read` tells.

    Raises:
        SourceError: OpenCV or the device is missing, or may not be opened, or the sources disagree.
    """
    config = next(iter(sources.values()))
    target = Target(config.device, "CAP_GSTREAMER" if config.pipeline else "CAP_V4L2")
    return open_target(target, sources, timing)


def open_target(target: Target, sources: Mapping[str, Config], _: Timing) -> Camera:
    """As `open`, whatever the configuration names as the device."""
    config = next(iter(sources.values()))
    for key in ("width", "height", "fps", "fourcc"):
        if any(getattr(one, key) != getattr(config, key) for one in sources.values()):
            raise SourceError(f"{target.name}: its sources contradict each other in '{key}'", permanent=True)
    if any(thread.name == _thread_name(target) for thread in threading.enumerate()):
        raise SourceError(
            f"{target.name}: a read of it has not come back since it was closed; only a new process helps",
            stuck=True,
        )
    _import_opencv(target)
    if target.backend == "CAP_V4L2":
        _check_node(target.address)
    return Camera(target, tuple(sources), config)


def _thread_name(target: Target) -> str:
    return f"camera {target.address}"


def _import_opencv(target: Target) -> None:
    # OpenCV's warnings name neither the source nor what to do.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        import cv2
    except ImportError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"{target.name}: {NO_OPENCV.format(reason)}"
        if "numpy" in str(error):  # JetPack 6's was built for numpy 1
            message += "; an OpenCV that was built for numpy 1 needs `pip install 'numpy<2'`"
        raise SourceError(message, permanent=True) from error
    built = cv2.getBuildInformation()
    if target.backend == "CAP_GSTREAMER" and not re.search(r"GStreamer:\s+YES", built):
        raise SourceError(f"{target.name}: {NO_GSTREAMER.format(cv2.__file__)}", permanent=True)


def _check_node(path: str) -> None:
    """What OpenCV would fail at without a reason."""
    node = Path(path)
    try:
        v4l2.camera(node)
    except v4l2.NoCameraError as error:
        raise SourceError(f"{path}: {error}{_others(path)}") from error
    except FileNotFoundError as error:
        raise SourceError(f"{path}: there is no such device{_others(path)}") from error
    except PermissionError as error:
        raise SourceError(
            f"{path}: no permission: `sudo usermod -aG {_group(node)} USER`, then log in again; in a service "
            f"SupplementaryGroups={_group(node)}"
        ) from error
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise SourceError(_busy(path)) from error
        raise SourceError(f"{path}: can't be opened: {error.strerror}") from error


def _others(path: str) -> str:
    there = [one.device for one in v4l2.cameras() if one.device != path]
    return f"; there is {', '.join(there)}" if there else "; no camera is there"


def _busy(path: str) -> str:
    return (
        f"{path}: is busy: another program reads it (`fuser -v {path}` names it), or another source of this "
        "configuration that names it differently"
    )


def _group(node: Path) -> str:
    try:
        return grp.getgrgid(node.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "video"


class Camera:
    """A camera, and the thread that reads it."""

    def __init__(self, target: Target, sources: tuple[str, ...], config: Config) -> None:
        self.missing: dict[str, str] = {}
        self.lost: Counter[str] = Counter()
        self._target = target
        self._sources = sources
        self._config = config
        self._wanted_hz: float | None = None
        self._newest: deque[tuple[int, Bytes]] = deque(maxlen=1)
        """Stamp and pixels: a newer picture pushes out the older one."""
        self._news = threading.Event()
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        # A daemon thread: one that never comes back must not keep the process.
        self._thread = threading.Thread(target=self._run, name=_thread_name(target), daemon=True)
        self._thread.start()

    def want(self, rates_hz: Mapping[str, float]) -> None:
        """Pictures far above the highest rate are taken from the camera, but not decoded."""
        self._wanted_hz = max(rates_hz.values(), default=0.0)

    def read(self) -> Iterator[Frame | None]:
        """The newest picture for each source; those that nobody was in time for are lost.

        Raises:
            SourceError: it can't be opened, or gives no more pictures.
        """
        import av

        while True:
            woken = self._news.wait(TICK_S)
            self._news.clear()  # before looking: what comes from now on rings again
            try:
                stamp_ns, pixels = self._newest.popleft()
            except IndexError:
                if self._failure:
                    raise self._failure from None
                if self._stop.is_set():
                    return
                if not woken:
                    yield None
                continue
            picture = av.VideoFrame.from_numpy_buffer(pixels, "bgr24" if pixels.ndim == 3 else "gray")
            for name in self._sources:
                yield Frame(name, stamp_ns, picture)

    def close(self) -> None:
        """Tells the thread to give the camera back; one that is wedged is left alone."""
        self._stop.set()
        self._news.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.warning("%s: a read has not come back; the device stays open", self._target.name)

    # From here on in the thread.

    def _run(self) -> None:
        import cv2

        try:
            capture = self._open()
            try:
                self._deliver(capture)
            finally:
                capture.release()
        except SourceError as error:
            self._failure = error
        except cv2.error as error:
            self._failure = SourceError(f"{self._target.name}: OpenCV failed: {_first_line(error)}")
        except BaseException as error:  # the main loop will raise it
            self._failure = error
            raise
        finally:
            self._news.set()

    def _open(self) -> Any:  # noqa: ANN401 - OpenCV's types are not there without it
        import cv2

        target, config = self._target, self._config
        capture = cv2.VideoCapture()
        if not capture.open(target.address, getattr(cv2, target.backend)):
            raise SourceError(self._why_not())
        if config.fourcc:
            wanted = int.from_bytes(config.fourcc.encode("ascii"), "little")
            capture.set(cv2.CAP_PROP_FOURCC, wanted)
            found = int(capture.get(cv2.CAP_PROP_FOURCC))
            if found != wanted:
                capture.release()
                letters = found.to_bytes(4, "little", signed=found < 0).decode("latin-1").strip("\0 ")
                raise SourceError(
                    f"{target.name}: refuses the format {config.fourcc} and stays at {letters or 'none'}; "
                    "`edged devices` names what it has",
                    permanent=True,
                )
        settings = {key: value for key in PROPERTIES if (value := getattr(config, key)) is not None}
        for key, value in settings.items():
            capture.set(getattr(cv2, PROPERTIES[key]), value)
        for key, value in settings.items():  # when all are set: one may change another
            given = capture.get(getattr(cv2, PROPERTIES[key]))
            if abs(given - value) > 0.01 * value:
                log.warning("%s: %s is %g instead of %g", target.name, key, given, value)
        return capture

    def _why_not(self) -> str:
        target = self._target
        if target.backend == "CAP_V4L2":
            try:
                if v4l2.busy(Path(target.address)):
                    return _busy(target.address)
            except (OSError, v4l2.NoCameraError):
                return f"{target.name}: was unplugged"
            return f"{target.name}: OpenCV can't open it; OPENCV_LOG_LEVEL=WARNING tells more"
        return (
            f"{target.name}: can't be opened: try it with gst-launch-1.0 (fakesink in the place of appsink); "
            "OPENCV_LOG_LEVEL=WARNING tells more"
        )

    def _deliver(self, capture: Any) -> None:  # noqa: ANN401
        import cv2

        failed = 0
        height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        sampler, rate_hz = Sampler(1.0), 0.0
        while not self._stop.is_set():
            grabbed = capture.grab()
            stamp_ns = now_ns()
            if grabbed and (wanted_hz := self._wanted_hz):
                if wanted_hz != rate_hz:
                    rate_hz = wanted_hz
                    sampler.at(SPARE * rate_hz)
                if not sampler.take(stamp_ns):
                    continue
            pixels = self._decoded(capture) if grabbed else None
            if pixels is not None:
                failed = 0
                self._check(pixels, height)
                if self._newest:
                    self.lost["behind"] += 1
                self._newest.append((stamp_ns, pixels))
                self._news.set()
                continue
            failed += 1
            if self._gone():
                raise SourceError(f"{self._target.name}: was unplugged")
            if failed >= MAX_FAILED_READS:
                raise SourceError(f"{self._target.name}: gives no more pictures ({failed} failed reads)")
            self._stop.wait(PAUSE_S)

    def _decoded(self, capture: Any) -> Bytes | None:  # noqa: ANN401
        import cv2

        try:
            got, pixels = capture.retrieve()
        except cv2.error:  # JPEG of no length
            got, pixels = False, None
        if not got or pixels is None or not pixels.size:
            self.lost["damaged"] += 1
            return None
        whole: Bytes = pixels
        return whole

    def _check(self, pixels: Bytes, height: int) -> None:
        # NV12 and the like come as one plane of more rows, JPEG as a single one.
        grey = pixels.ndim == 2 and pixels.shape[0] == height
        if pixels.dtype == "uint8" and (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)):
            return
        raise SourceError(
            f"{self._target.name}: gives {pixels.dtype} {list(pixels.shape)}, but BGR or GRAY8 is wanted; "
            "in a pipeline: … ! videoconvert ! video/x-raw,format=BGR ! appsink",
            permanent=True,
        )

    def _gone(self) -> bool:
        return self._target.backend == "CAP_V4L2" and not Path(self._target.address).exists()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
