"""What the motion gate costs a picture, and what it finds and does not find.

CPU time is the thread's own (`time.thread_time`) for `Motion.share` on decoded pictures of 768 × 432,
scaling included. Still: one picture of the empty room as yuv420p, with sensor noise (σ = 5 grey levels)
that is another in each. Moving: a person walks through the film, as its decoder gives it. Each round runs
both in turn on gates that know the scene; the figure is the median over the rounds of a round's mean.

`still_quiet_share`: of pictures with such noise, those on which the gate stays closed, at 5, 10 and 25
pictures a second. `person_found_share` and `empty_fired_share`: of the film's pictures during visits, and
of those without anybody, those on which it is open; the second around each visit counts for neither.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from edged.capture.device import plane
from edged.capture.motion import Motion
from edged.config.gates import MotionConfig
from edged.wire.clock import SECOND_NS
from tools.bench.measure import Unmeasurable, interleaved, median, need
from tools.bench.report import Goal

GOALS = (
    Goal("cpu_ms_still", at_most=0.20),
    Goal("cpu_ms_moving", at_most=0.20),
    Goal("still_quiet_share", at_least=0.995),
    Goal("person_found_share", at_least=0.95),
    Goal("empty_fired_share", at_most=0.15),
)

FILM = "video/one-by-one-person"
SIZE = (768, 432)
RATE_HZ = 10
"""Of the film."""
WALK_S = (0.0, 12.0)
"""The room, empty until a person walks in at 6.4 s and stays; measured is what comes after that."""
NOISE = 5.0
NOISY, QUIET_S = 100, 40
AROUND_S = 1.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the film, and whether somebody is there; None shortly before and after."""

    picture: av.VideoFrame
    stamp_ns: int
    person: bool | None


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` rounds of still and moving pictures, and one look at the whole film."""
    begin, found, fired = _watch(data)
    walk = [shown for shown in begin if shown.stamp_ns >= WALK_S[0] * SECOND_NS]
    came = next((index for index, shown in enumerate(walk) if shown.person), None)
    if came is None:
        raise Unmeasurable(f"nobody comes in the first {WALK_S[1]:g} s of {data / FILM}.mp4")
    noisy = _noisy(walk[0].picture)
    rounds = interleaved(pairs, lambda: _still_ms(noisy), lambda: _moving_ms(walk, came))
    costs = list(rounds)
    return {
        "cpu_ms_still": median(still for still, _ in costs),
        "cpu_ms_moving": median(moving for _, moving in costs),
        "still_quiet_share": _quiet_share(noisy),
        "person_found_share": found,
        "empty_fired_share": fired,
    }


def _watch(data: Path) -> tuple[list[Shown], float, float]:
    """The film's begin, and the shares of its pictures with and without a person on which it fired."""
    film, truth = data / f"{FILM}.mp4", data / f"{FILM}.json"
    need(film, truth)
    visits = json.loads(truth.read_text("utf-8"))["visits_s"]
    begin, motion = [], Motion(MotionConfig())
    fired: dict[bool | None, list[bool]] = {True: [], False: [], None: []}
    with av.open(str(film)) as container:
        for frame in container.decode(video=0):
            if (frame.width, frame.height) != SIZE:
                raise Unmeasurable(f"{film} has pictures of {frame.width} × {frame.height}")
            at_s = float(frame.time or 0.0)
            shown = Shown(frame, round(at_s * SECOND_NS), _person(visits, at_s))
            if at_s < WALK_S[1]:
                begin.append(shown)
            motion.share(frame, shown.stamp_ns)
            fired[shown.person].append(motion.moving)
    return begin, float(np.mean(fired[True])), float(np.mean(fired[False]))


def _person(visits: Sequence[tuple[float, float]], at_s: float) -> bool | None:
    if any(start <= at_s <= end for start, end in visits):
        return True
    return None if any(a - AROUND_S <= at_s <= b + AROUND_S for a, b in visits) else False


def _noisy(picture: av.VideoFrame) -> list[av.VideoFrame]:
    random = np.random.default_rng(0)
    room = plane(picture, 0).astype(np.float32)
    pictures = []
    for _ in range(NOISY):
        still = picture.reformat(format="yuv420p")
        copy = av.VideoFrame(*SIZE, "yuv420p")
        noise = random.normal(0, NOISE, room.shape)
        plane(copy, 0)[:] = np.clip(room + noise + 0.5, 0, 255)
        for index in (1, 2):
            plane(copy, index)[:] = plane(still, index)
        pictures.append(copy)
    return pictures


def _still_ms(noisy: list[av.VideoFrame]) -> float:
    motion = Motion(MotionConfig())
    for index in range(10):
        motion.share(noisy[index], index * SECOND_NS // RATE_HZ)
    begin = time.thread_time()
    for index in range(10, len(noisy)):
        motion.share(noisy[index], index * SECOND_NS // RATE_HZ)
    return (time.thread_time() - begin) * 1e3 / (len(noisy) - 10)


def _moving_ms(walk: list[Shown], came: int) -> float:
    motion = Motion(MotionConfig())
    for shown in walk[:came]:
        motion.share(shown.picture, shown.stamp_ns)
    begin = time.thread_time()
    for shown in walk[came:]:
        motion.share(shown.picture, shown.stamp_ns)
    return (time.thread_time() - begin) * 1e3 / (len(walk) - came)


def _quiet_share(noisy: list[av.VideoFrame]) -> float:
    quiet = []
    for rate_hz in (5, 10, 25):
        motion = Motion(MotionConfig())
        for index in range(QUIET_S * rate_hz):
            motion.share(noisy[index % len(noisy)], index * SECOND_NS // rate_hz)
            quiet.append(not motion.moving)
    return float(np.mean(quiet))
