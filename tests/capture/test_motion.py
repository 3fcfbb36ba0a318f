"""What moves and what only seems to: noise, light, compression, masks, and a film of real visits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.capture.device import Frame, Timing
from edged.capture.motion import BLOCK, PIXELS, Motion, _grid
from edged.capture.sources import synthetic
from edged.config.gates import MotionConfig, Polygon
from edged.wire.clock import SECOND_NS

Grey = npt.NDArray[np.float64]
RATES_HZ = [1, 5, 10, 25]


def room(width: int = 768, height: int = 432) -> Grey:
    """A wall, a floor of boards, a window."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    walls: Grey = np.where(y < 0.7, 170 - 40 * y, 90 + 25 * np.sign(np.sin(120 * x)))
    walls[(x > 0.1) & (x < 0.3) & (y > 0.1) & (y < 0.4)] = 230
    return walls


def with_figure(picture: Grey, x: float, y: float = 0.65, level: float = 40) -> Grey:
    """A dark block of 0.08 × 0.4 of the picture with its middle at (x, y)."""
    height, width = picture.shape
    shown: Grey = picture.copy()
    left, top = round((x - 0.04) * width), round((y - 0.2) * height)
    shown[max(0, top) : top + round(0.4 * height), max(0, left) : max(0, left + round(0.08 * width))] = level
    return shown


class Camera:
    """A gate, and what has been shown to it."""

    def __init__(self, rate_hz: float = 10, noise: float = 3, **config: Any) -> None:  # noqa: ANN401
        self.motion = Motion(MotionConfig.model_validate(config))
        self._random = np.random.default_rng(0)
        self._period_ns, self._noise = round(SECOND_NS / rate_hz), noise
        self._stamp_ns = 0

    def see(self, picture: Grey | av.VideoFrame) -> float:
        """The share that moves."""
        if not isinstance(picture, av.VideoFrame):
            noisy = picture + self._random.normal(0, self._noise, picture.shape) if self._noise else picture
            picture = av.VideoFrame.from_ndarray(np.clip(noisy + 0.5, 0, 255).astype(np.uint8), "gray")
        self._stamp_ns += self._period_ns
        share = self.motion.share(picture, self._stamp_ns)
        assert 0 <= share <= 1
        return share

    def watch(self, seconds: float, shown: Callable[[float], Grey]) -> list[bool]:
        """Whether the gate was open for each picture of `shown(seconds since now)`."""
        fired = []
        for index in range(round(seconds * SECOND_NS / self._period_ns)):
            self.see(shown(index * self._period_ns / SECOND_NS))
            fired.append(self.motion.moving)
        return fired

    def still(self, seconds: float, picture: Grey) -> list[bool]:
        """The same for one picture."""
        return self.watch(seconds, lambda _: picture)


def encoded(pictures: Iterable[Grey], crf: int) -> list[av.VideoFrame]:
    """Through H.264 with a key frame every second, and back."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=10, options={"crf": str(crf), "g": "10", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 768, 432, "yuv420p"
        for picture in pictures:
            grey = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), "gray")
            target.mux(stream.encode(grey.reformat(format="yuv420p")))
        target.mux(stream.encode())
    file.seek(0)
    with av.open(file) as source:
        return list(source.decode(video=0))


@pytest.mark.parametrize("noise", [5, 15])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_sensor_noise_is_no_motion(noise: float, rate_hz: float) -> None:
    fired = Camera(rate_hz, noise).still(100 / rate_hz, room())
    assert not any(fired)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_walk_is_found_from_the_first_picture_to_the_last(rate_hz: float) -> None:
    camera, empty = Camera(rate_hz), room()
    assert not any(camera.still(4, empty))
    walk = camera.watch(8, lambda at: with_figure(empty, 0.1 + 0.1 * at))
    assert all(walk)
    assert not any(camera.still(4, empty)), "nothing is left behind"


def test_the_share_is_that_of_the_picture() -> None:
    camera, empty = Camera(noise=0), room()
    camera.see(empty)
    assert camera.see(with_figure(empty, 0.5)) == pytest.approx(0.08 * 0.4, rel=0.1)


@pytest.mark.parametrize("rate_hz", [2, 10])
def test_who_stands_still_is_found_for_a_while_and_leaves_nothing_behind(rate_hz: float) -> None:
    camera, empty = Camera(rate_hz, settle_s=12), room()
    camera.still(3, empty)
    assert all(camera.watch(2, lambda at: with_figure(empty, 0.1 + 0.2 * at)))
    assert all(camera.still(11, with_figure(empty, 0.5))), "stands"
    assert not camera.still(5, with_figure(empty, 0.5))[-1], "is part of the room now"
    assert all(camera.watch(2, lambda at: with_figure(empty, 0.51 + 0.2 * (at + 0.5))))
    assert not any(camera.still(3, empty)), "where they stood, the room is known"


def test_a_chair_that_was_moved_settles() -> None:
    camera, empty = Camera(5, settle_s=5), room()
    camera.still(2, empty)
    fired = camera.still(8, with_figure(empty, 0.7))
    assert fired == sorted(fired, reverse=True)
    assert sum(fired) / 5 == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_light_that_changes_within_ten_seconds_is_no_motion(rate_hz: float, factor: float) -> None:
    camera, empty = Camera(rate_hz), room() * 0.7
    camera.still(3, empty)
    fired = camera.watch(13, lambda at: empty * (1 + (factor - 1) * min(1.0, at / 10)))
    assert not any(fired)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_shade_that_creeps_over_a_side_is_no_motion(rate_hz: float) -> None:
    camera, empty = Camera(rate_hz), room()
    shade = np.linspace(0.6, 1, empty.shape[1])
    camera.still(3, empty)
    assert not any(camera.watch(23, lambda at: empty * (1 + (shade - 1) * min(1.0, at / 20))))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("factor", [0.2, 0.5, 0.8, 1.4])
def test_a_switched_light_is_learned_at_once(rate_hz: float, factor: float) -> None:
    camera, empty = Camera(rate_hz), room() * 0.7
    camera.still(3, empty)
    assert sum(camera.still(6, empty * factor)) <= 2
    assert sum(camera.still(6, empty)) <= 2
    assert all(camera.watch(3, lambda at: with_figure(empty, 0.3 + 0.1 * at))), "and nothing is forgotten"


def test_a_lamp_that_lights_the_room_from_a_side_is_learned_at_once() -> None:
    camera, empty = Camera(), room() * 0.8
    lamp = 60 * np.linspace(1, 0.4, empty.shape[1])
    camera.still(3, empty)
    assert sum(camera.still(5, empty + lamp)) <= 3
    assert sum(camera.still(5, empty)) <= 3


def test_half_of_the_picture_settles_sooner_than_a_person() -> None:
    camera, empty = Camera(), room()
    blind = np.where(np.arange(empty.shape[1]) < 0.4 * empty.shape[1], 0.4, 1)
    camera.still(3, empty)
    assert 5 < sum(camera.still(30, empty * blind)) / 10 < 15


def test_a_light_that_changes_behind_a_person_does_not_hide_them() -> None:
    camera, empty = Camera(), room() * 0.8
    camera.still(3, empty)
    fired = camera.watch(5, lambda at: with_figure(empty, 0.5, level=60) * (1 - 0.06 * at))
    assert all(fired)
    assert not any(camera.still(5, empty * 0.7))


def test_what_changes_everywhere_again_and_again_is_motion() -> None:
    camera, random = Camera(noise=0), np.random.default_rng(1)
    scenes = [
        np.kron(random.integers(0, 255, (27, 48)), np.ones((16, 16))).astype(np.float64) for _ in range(40)
    ]
    fired = [camera.see(scene) > 0.3 for scene in scenes]
    assert sum(fired) > 25


@pytest.mark.parametrize(("before", "after"), [(18, 35), (35, 18)])
@pytest.mark.parametrize("noise", [0, 4])
def test_another_compression_is_no_motion(before: int, after: int, noise: float) -> None:
    camera, empty, random = Camera(), room(), np.random.default_rng(2)
    for crf in (before, after):
        for picture in encoded((empty + random.normal(0, noise, empty.shape) for _ in range(40)), crf):
            camera.see(picture)
            assert not camera.motion.moving


def test_leaves_in_the_wind_are_learned() -> None:
    camera, scene, random = Camera(), room(), np.random.default_rng(3)
    region = (slice(40, 200), slice(500, 700))

    def windy(_: float) -> Grey:
        shown: Grey = scene.copy()
        shown[region] += np.kron(random.choice([-30, 0, 0, 30], (10, 10)), np.ones((16, 20)))
        return shown

    begin = camera.watch(10, windy)
    later = camera.watch(60, windy)[-200:]
    assert np.mean(begin) > 0.5
    assert np.mean(later) < 0.1


LEFT: Polygon = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def test_inside_a_mask_nothing_moves() -> None:
    empty = room()
    masked, plain = Camera(mask=[LEFT]), Camera()
    for camera in (masked, plain):
        camera.still(3, empty)
    inside = [masked.see(with_figure(empty, 0.1 + 0.03 * step)) for step in range(11)]
    assert inside == [0.0] * 11
    outside = [masked.see(with_figure(empty, 0.56 + 0.03 * step)) for step in range(11)]
    twice = [plain.see(with_figure(empty, 0.56 + 0.03 * step)) for step in range(11)]
    assert outside == pytest.approx([2 * share for share in twice], rel=0.05), "of half the picture"
    assert not any(masked.still(3, empty))


def test_light_behind_a_mask_does_not_matter() -> None:
    camera, empty = Camera(mask=[LEFT]), room() * 0.7
    lit = empty * np.where(np.arange(768) < 384, 1.6, 1)
    camera.still(3, empty)
    assert not any(camera.still(3, lit))
    assert all(camera.watch(3, lambda at: with_figure(lit, 0.6 + 0.1 * at)))


def test_a_mask_that_leaves_less_than_a_pixel_is_no_failure() -> None:
    camera = Camera(mask=[((0, 0), (1, 0), (1, 1), (0.005, 1), (0.005, 0.005), (0, 0.005))])
    assert camera.still(1, room(64, 64)) == [False] * 10


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (2, 3), (5, 300), (64, 64), (432, 768), (320, 180), (3840, 2160), (4000, 6)],
)
def test_pictures_of_any_size(width: int, height: int) -> None:
    camera = Camera(noise=2)
    assert not any(camera.still(1, np.full((height, width), 90.0)))
    changed = np.full((height, width), 90.0)
    changed[:, : (width + 2) // 3] = 250
    if width >= 64:
        assert camera.see(changed) == pytest.approx(1 / 3, abs=0.05)
    else:
        camera.see(changed)


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_the_grid_has_whole_blocks_and_keeps_the_shape(width: int, height: int) -> None:
    across, down = _grid(width, height)
    assert across % BLOCK == down % BLOCK == 0
    if min(width, height) >= 256 and 0.2 < width / height < 5:
        assert across * down == pytest.approx(PIXELS, rel=0.1)
        assert across / down == pytest.approx(width / height, rel=0.1)


def test_another_size_in_mid_stream_begins_anew() -> None:
    camera = Camera()
    camera.still(2, room())
    assert all(camera.still(1, with_figure(room(), 0.5)))
    assert not any(camera.still(2, with_figure(room(432, 768), 0.5)))
    assert all(camera.still(1, room(432, 768)))


@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuvj422p", "nv12", "rgb24", "bgra", "yuv420p10le", "gray16le"]
)
def test_any_pixel_format(pixels: str) -> None:
    camera, empty = Camera(), room(320, 180)
    pictures = [empty] * 5 + [with_figure(empty, 0.5)] * 3
    shares = []
    for picture in pictures:
        grey = av.VideoFrame.from_ndarray(picture.astype(np.uint8), "gray")
        shares.append(camera.see(grey.reformat(format=pixels)))
    assert shares[:5] == [0.0] * 5
    assert shares[5:] == pytest.approx([0.032] * 3, rel=0.2)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-(10**10), 10**10)), min_size=2, max_size=30))
def test_no_order_of_stamps_and_pictures_upsets_it(seen: list[tuple[int, int]]) -> None:
    motion, stamp_ns = Motion(MotionConfig(settle_s=1)), 0
    shown = [room(96, 64), with_figure(room(96, 64), 0.5), np.zeros((64, 96)), np.full((64, 96), 255.0)]
    for which, later_ns in seen:
        stamp_ns += later_ns
        share = motion.share(av.VideoFrame.from_ndarray(shown[which].astype(np.uint8), "gray"), stamp_ns)
        assert 0 <= share <= 1
        assert not motion.moving or share > 0


def test_the_gate_closes_lower_than_it_opens() -> None:
    camera, empty = Camera(noise=0, min_share=0.04), room()
    camera.see(empty)

    def bar(share: float) -> Grey:
        shown: Grey = empty.copy()
        shown[:, : round(768 * share)] = 20
        return shown

    shares_and_open = [(0.03, False), (0.06, True), (0.03, True), (0.012, False), (0.03, False)]
    for share, is_open in shares_and_open:
        assert camera.see(bar(share)) == pytest.approx(share, abs=0.005)
        assert camera.motion.moving == is_open


@pytest.mark.parametrize("rate_hz", [2, 10])
def test_the_figure_of_the_synthetic_scene(rate_hz: float) -> None:
    config = synthetic.Config.model_validate({"kind": "synthetic", "seconds": 20.0, "rate_hz": rate_hz})
    motion = Motion(MotionConfig())
    for item in synthetic.open({"cam": config}, Timing(replay=True, paced=False)).read():
        assert isinstance(item, Frame)
        share, phase = motion.share(item.picture, item.stamp_ns), item.stamp_ns / SECOND_NS % 10
        if 1 <= phase < 6:
            assert share > 0.01
        else:
            assert share == 0


@pytest.mark.parametrize("every", [1, 2, 10])
def test_visits_of_a_film(data: Path, every: int) -> None:
    truth = json.loads((data / "video/one-by-one-person.json").read_text("utf-8"))["visits_s"]
    motion, inside, outside = Motion(MotionConfig()), [], []
    with av.open(str(data / "video/one-by-one-person.mp4")) as film:
        for index, frame in enumerate(film.decode(video=0)):
            if index % every:
                continue
            at_s = float(frame.time or 0)
            motion.share(frame, round(at_s * SECOND_NS))
            if any(start <= at_s <= end for start, end in truth):
                inside.append(motion.moving)
            elif not any(start - 1 <= at_s <= end + 1 for start, end in truth):
                outside.append(motion.moving)
    assert np.mean(inside) >= 0.95
    assert np.mean(outside) <= 0.15


def test_a_film_with_cuts(data: Path) -> None:
    motion, moving = Motion(MotionConfig()), []
    with av.open(str(data / "video/nasa_13013.mp4")) as film:
        for frame in film.decode(video=0):
            share = motion.share(frame, round(float(frame.time or 0) * SECOND_NS))
            assert 0 <= share <= 1
            moving.append(motion.moving)
    assert np.mean(moving) > 0.5
