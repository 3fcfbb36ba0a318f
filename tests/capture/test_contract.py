"""What every kind of source promises, whatever it opens: `edged.capture.device.Device`."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from edged.capture.device import Device, Encoded, Frame, Item, Sound, Timing
from edged.capture.sources import camera, stream, synthetic
from edged.errors import SourceError
from tests.conftest import missing
from tests.servers.http_stub import Answer, http_stub
from tests.servers.media import flash_and_beep

LIVE = Timing(replay=False, paced=False)
SEVERAL = 60
"""Items that are looked at; no more than any of the devices here has."""
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Kind:
    """How to open a device of a kind, in a folder of the test's own."""

    names: tuple[str, ...]
    """The sources that are asked for."""
    works: Callable[[Path], Device]
    fails: Callable[[Path], Device]
    """One that can't be opened or read; the message names `culprit`."""
    culprit: str
    quiet: Callable[[Path], Any] | None = None
    """A context in which nothing comes; None where the kind has always something."""


def _stream(url: object, **more: object) -> Device:
    settings = {"kind": "stream", "url": str(url), **more}
    return stream.open(
        {
            "cam": stream.Config.model_validate(settings),
            "mic": stream.Config.model_validate(settings | {"modality": "audio"}),
        },
        LIVE,
    )


@contextmanager
def _stalled_stream(folder: Path) -> Iterator[Device]:
    film = flash_and_beep(folder / "a.ts").read_bytes()
    with http_stub() as server:
        server.answers["/a.ts"] = Answer(film, stall_after=len(film) * 3 // 4)
        device = _stream(server.url("/a.ts"))
        try:
            yield device
        finally:
            device.close()


def _synthetic(_: Path, **more: object) -> Device:
    settings = {"kind": "synthetic", "seconds": 20, **more}
    return synthetic.open(
        {
            "cam": synthetic.Config.model_validate(settings),
            "mic": synthetic.Config.model_validate(settings | {"modality": "audio"}),
        },
        LIVE,
    )


def _need_opencv() -> None:
    if importlib.util.find_spec("cv2") is None:
        missing("OpenCV (pip install 'edged[camera]')")


def _camera(target: camera.Target) -> Device:
    _need_opencv()
    config = camera.Config.model_validate({"kind": "camera", "device": 0})
    return camera.open_target(target, {"cam": config, "other": config}, LIVE)


def _no_camera(_: Path) -> Device:
    _need_opencv()
    return camera.open({"cam": camera.Config.model_validate({"kind": "camera", "device": 998})}, LIVE)


@contextmanager
def _wedged_camera(folder: Path) -> Iterator[Device]:
    """OpenCV waits in the kernel for a film whose writer says nothing, and does not come back."""
    path = folder / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    device = _camera(camera.Target(str(path), "CAP_FFMPEG"))
    try:
        yield device
    finally:
        device.close()
        os.close(writer)  # and the thread ends


KINDS = {
    "stream": Kind(
        ("cam", "mic"),
        lambda folder: _stream(flash_and_beep(folder / "a.mp4")),
        lambda folder: _stream(folder / "none.mp4"),
        "none.mp4",
        _stalled_stream,
    ),
    "synthetic": Kind(
        ("cam", "mic"),
        _synthetic,
        lambda folder: _synthetic(folder, figure_image=__file__),
        Path(__file__).name,
    ),
    "camera": Kind(
        ("cam", "other"),
        lambda folder: _camera(camera.Target(str(_long_film(folder)), "CAP_FFMPEG")),
        _no_camera,
        "/dev/video998",
        _wedged_camera,
    ),
    # A further kind is one more entry: a microphone has `mic` alone, and a frozen PulseAudio for `quiet`.
}


def _long_film(folder: Path) -> Path:
    """Long enough that a main loop that leaves out pictures still gets several."""
    return flash_and_beep(folder / "long.mp4", seconds=40)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each of them."""
    return KINDS[request.param]


def several(device: Device, count: int = SEVERAL) -> list[Item]:
    """The first items, without the pauses; fewer when it ends, or fails, before."""
    found: list[Item] = []
    begin = time.monotonic()
    with suppress(SourceError):
        for item in device.read():
            if item is not None:
                found.append(item)
            if len(found) == count or time.monotonic() - begin > PATIENCE_S:
                break
    return found


def names_of(item: Item) -> tuple[str, ...]:
    return item.sources if isinstance(item, Encoded) else (item.source,)


def test_items_are_of_the_sources_that_were_asked_for(kind: Kind, tmp_path: Path) -> None:
    with closing(kind.works(tmp_path)) as device:
        assert set(device.missing) <= set(kind.names)
        assert isinstance(device.lost, Counter)
        seen = {name for item in several(device) for name in names_of(item)}
    assert seen == set(kind.names) - set(device.missing)


def test_items_are_what_they_say(kind: Kind, tmp_path: Path) -> None:
    with closing(kind.works(tmp_path)) as device:
        for item in several(device):
            if isinstance(item, Frame):
                assert item.picture.width > 0
                assert item.picture.reformat(width=16, height=16, format="gray").planes
            elif isinstance(item, Sound):
                assert item.samples.ndim == 1
                assert item.samples.dtype == np.float32
                assert len(item.samples) > 0
                assert np.abs(item.samples).max() <= 1.5
                assert 8_000 <= item.rate_hz <= 192_000
            else:
                assert isinstance(item.packet, av.Packet)
                assert item.packet.size


def test_stamps_of_a_source_never_run_backwards(kind: Kind, tmp_path: Path) -> None:
    stamps: dict[tuple[str, type], list[int]] = defaultdict(list)
    with closing(kind.works(tmp_path)) as device:
        for item in several(device):
            for name in names_of(item):
                # Packets are in the order of decoding.
                if not isinstance(item, Encoded):
                    stamps[name, type(item)].append(item.stamp_ns)
    assert stamps
    for some in stamps.values():
        assert some == sorted(set(some))


def test_nothing_is_said_to_be_nothing(kind: Kind, tmp_path: Path) -> None:
    """Whatever the device does: the main loop gets its turn."""
    if not kind.quiet:
        pytest.skip("it has always something")
    with kind.quiet(tmp_path) as device:
        nothing = 0
        begin = time.monotonic()
        with suppress(SourceError):  # a device may lose its patience, but not before it said "nothing"
            for item in device.read():
                nothing = nothing + 1 if item is None else 0
                if nothing == 3 or time.monotonic() - begin > PATIENCE_S:
                    break
        assert nothing == 3
        begin = time.monotonic()
        device.close()
        assert time.monotonic() - begin < 2


def test_what_can_not_be_read_is_a_source_error_with_its_name(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=re.escape(kind.culprit)):
        several_or_raise(kind.fails(tmp_path))


def several_or_raise(device: Device) -> None:
    with closing(device):
        for _ in itertools.islice(device.read(), SEVERAL):
            pass


def test_closing_twice_is_closing_once(kind: Kind, tmp_path: Path) -> None:
    device = kind.works(tmp_path)
    several(device, 3)
    device.close()
    device.close()


def test_it_can_be_closed_before_anything_is_read(kind: Kind, tmp_path: Path) -> None:
    device = kind.works(tmp_path)
    device.close()
    device.close()


def test_it_can_be_opened_again(kind: Kind, tmp_path: Path) -> None:
    for _ in range(2):
        with closing(kind.works(tmp_path)) as device:
            assert several(device, 3)


def test_rates_may_be_wanted_at_any_time(kind: Kind, tmp_path: Path) -> None:
    device = kind.works(tmp_path)
    device.want({"cam": 2.0})
    rates = itertools.cycle([0.5, 30.0, 7.3])
    seen = 0
    begin = time.monotonic()
    with suppress(SourceError):
        for item in device.read():
            seen += item is not None
            device.want({"cam": next(rates)})
            if seen == SEVERAL or time.monotonic() - begin > PATIENCE_S:
                break
    device.want({})
    device.close()
    device.want({"cam": 1.0})
    assert seen
