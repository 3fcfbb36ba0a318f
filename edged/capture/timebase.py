"""The clock of a live device, fitted to the monotonic one.

A device's stamps run on a clock of its own, which is faster or slower by some parts per million, and what
they belong to arrives late, by a delay that jitters. The least delays show the clock: the line that lies
under all of them, closest to their middle, has its slope and offset (S. B. Moon, P. Skelly, D. Towsley,
"Estimation and removal of clock skew from network delay measurements", INFOCOM 1999).
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from edged.wire.clock import SECOND_NS

BUCKET_NS = SECOND_NS
BUCKETS = 120
"""The fit looks back for two minutes, at the least delay of each second."""
SLOPE_AFTER_NS = 30 * SECOND_NS
"""Over a shorter time the jitter is larger than any drift."""
MAX_SLOPE = 1e-3
"""No clock is off by more than a thousand parts per million."""
JUMP_NS = 2 * SECOND_NS
"""Stamps that disagree with the arrival by more have jumped, or stood still."""
LATE_NS = 3 * SECOND_NS
"""Late for so long is not jitter: the device's clock stood still."""
SETTLED_NS = 30 * SECOND_NS
WRAP_NS = (1 << 33) * SECOND_NS // 90_000
"""Stamps of MPEG have 33 bits and 90 kHz: they begin anew after 26.5 hours."""


class _Line:
    """The least delay (arrival less media time) over the time of arrival."""

    def __init__(self, arrived_ns: int, delay_ns: int, slack_ns: int) -> None:
        self._earliest_ns = delay_ns - slack_ns
        self._epoch_ns = self._bucket_ns = arrived_ns
        self._least: deque[tuple[int, int]] = deque(maxlen=BUCKETS)
        self._now = (0, delay_ns)
        self._slope, self._offset_ns = 0.0, float(delay_ns)

    def add(self, arrived_ns: int, delay_ns: int) -> None:
        at_ns = arrived_ns - self._epoch_ns
        delay_ns = max(delay_ns, self._earliest_ns - round(MAX_SLOPE * at_ns))
        if arrived_ns - self._bucket_ns >= BUCKET_NS:
            self._least.append(self._now)
            self._bucket_ns, self._now = arrived_ns, (at_ns, delay_ns)
            self._fit()
        elif delay_ns < self._now[1]:
            self._now = (at_ns, delay_ns)
        self._offset_ns = min(self._offset_ns, delay_ns - self._slope * at_ns)

    def at(self, arrived_ns: int) -> int:
        """The least delay then."""
        return round(self._offset_ns + self._slope * (arrived_ns - self._epoch_ns))

    def _fit(self) -> None:
        points = self._least
        if points[-1][0] - points[0][0] >= SLOPE_AFTER_NS:
            middle_ns = (points[0][0] + points[-1][0]) / 2
            hull: list[tuple[int, int]] = []
            for point in points:
                while len(hull) > 1 and _under(point, hull[-2], hull[-1]):
                    hull.pop()
                hull.append(point)
            left, right = next((a, b) for a, b in pairwise(hull) if a[0] <= middle_ns <= b[0])
            slope = (right[1] - left[1]) / (right[0] - left[0])
            self._slope = max(-MAX_SLOPE, min(MAX_SLOPE, slope))
        self._offset_ns = min(delay_ns - self._slope * at_ns for at_ns, delay_ns in points)


def _under(point: tuple[int, int], first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether `second` lies on or above the line from `first` to `point`."""
    return (second[1] - first[1]) * (point[0] - first[0]) >= (point[1] - first[1]) * (second[0] - first[0])


class _Epoch:
    """Between two jumps. The tracks of one container share its first track's line: what was taken
    together keeps its distance, however each track is interleaved and delayed. Where the tracks' own
    clocks drift apart, their delays do, too: once it is settled how much later one comes than the other,
    a change of that is taken back.
    """

    def __init__(self, track: int, arrived_ns: int, delay_ns: int, slack_ns: int) -> None:
        self._first, self._begun_ns, self._slack_ns = track, arrived_ns, slack_ns
        self._lines = {track: _Line(arrived_ns, delay_ns, slack_ns)}
        self._later_ns: dict[int, list[int]] = {}

    def delay_ns(self, track: int, arrived_ns: int, delay_ns: int) -> int:
        if (line := self._lines.get(track)) is None:
            line = self._lines[track] = _Line(arrived_ns, delay_ns, self._slack_ns)
        line.add(arrived_ns, delay_ns)
        shared_ns = self._lines[self._first].at(arrived_ns)
        if track == self._first:
            return shared_ns
        later = self._later_ns.setdefault(track, [0, 0])
        if arrived_ns - self._begun_ns < SETTLED_NS:
            later[0] += line.at(arrived_ns) - shared_ns
            later[1] += 1
            return shared_ns
        return line.at(arrived_ns) - later[0] // later[1] if later[1] else shared_ns

    def fits(self, arrived_ns: int, delay_ns: int) -> bool:
        return abs(delay_ns - self._lines[self._first].at(arrived_ns)) < JUMP_NS


class _Track:
    def __init__(self, epoch: _Epoch, media_ns: int, arrived_ns: int) -> None:
        self.epoch = epoch
        self.media_ns, self.arrived_ns = media_ns, arrived_ns
        self.wraps_ns = 0
        self.late_since_ns: int | None = None


class TimeBase:
    """Turns the media times of one device's tracks into stamps."""

    def __init__(self, slack_ns: int = SECOND_NS) -> None:
        """The first packets may have been late by `slack_ns`; what comes still earlier was sent faster
        than real time.
        """
        self._slack_ns = slack_ns
        self._tracks: dict[int, _Track] = {}
        self._newest: _Epoch | None = None

    def prime(self, track: int, media_ns: int, arrived_ns: int) -> None:
        """Of what came first, and is to be stamped later: how late it was."""
        if track not in self._tracks:
            epoch = self._join(track, media_ns, arrived_ns)
            self._tracks[track] = _Track(epoch, media_ns, arrived_ns)
        self._tracks[track].epoch.delay_ns(track, arrived_ns, arrived_ns - media_ns)

    def stamp_ns(self, track: int, media_ns: int, arrived_ns: int) -> int:
        """When what has the media time `media_ns` was taken, given that it arrived at `arrived_ns`
        (monotonic). A stamp that lies in the future was sent faster than real time, or the first
        packet after a jump was late: it is to wait.
        """
        state = self._tracks.get(track)
        if state is None:
            epoch = self._join(track, media_ns, arrived_ns)
            state = self._tracks[track] = _Track(epoch, media_ns, arrived_ns)
        media_ns += state.wraps_ns
        if abs(media_ns - state.media_ns + WRAP_NS) < 10 * SECOND_NS:
            state.wraps_ns += WRAP_NS
            media_ns += WRAP_NS
        step_ns = media_ns - state.media_ns
        if abs(step_ns) > JUMP_NS and abs(step_ns - (arrived_ns - state.arrived_ns)) > JUMP_NS:
            state.epoch, state.late_since_ns = self._join(track, media_ns, arrived_ns), None
        state.media_ns, state.arrived_ns = media_ns, arrived_ns
        delay_ns = state.epoch.delay_ns(track, arrived_ns, arrived_ns - media_ns)
        if arrived_ns - media_ns - delay_ns < JUMP_NS:
            state.late_since_ns = None
        elif state.late_since_ns is None:
            state.late_since_ns = arrived_ns
        elif arrived_ns - state.late_since_ns > LATE_NS:
            state.epoch, state.late_since_ns = self._join(track, media_ns, arrived_ns), None
            delay_ns = state.epoch.delay_ns(track, arrived_ns, arrived_ns - media_ns)
        return media_ns + delay_ns

    def _join(self, track: int, media_ns: int, arrived_ns: int) -> _Epoch:
        """The epoch that another track has begun, where this one fits into it; or a new one."""
        delay_ns = arrived_ns - media_ns
        if self._newest is None or not self._newest.fits(arrived_ns, delay_ns):
            self._newest = _Epoch(track, arrived_ns, delay_ns, self._slack_ns)
        return self._newest
