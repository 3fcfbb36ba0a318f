"""What this device has to work with: its cameras, its microphones, and the engines that run here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import msgspec
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from edged.capture import v4l2
from edged.capture.microphones import Microphone
from edged.perceive import probe

LISTEN_S = 10.0
"""A sound server that does not answer keeps PortAudio for ever."""
SHOWN_SIZES = 6
RAW = "raw sensor: use a pipeline, such as nvarguscamerasrc ! … ! appsink"


@dataclass(frozen=True, slots=True)
class Found:
    """All of it."""

    cameras: list[v4l2.Camera]
    microphones: list[Microphone]
    engines: list[probe.Engine]
    problems: dict[str, str]
    """Why `microphones` or `engines` could not be looked for."""

    def to_json(self) -> str:
        """On one line."""
        return msgspec.json.encode(self).decode()


def find() -> Found:
    """Looks at everything; takes some seconds. What can't be looked at is a problem, not an error."""
    problems = {}
    microphones: list[Microphone] = []
    engines: list[probe.Engine] = []
    try:
        microphones = _microphones()
    except OSError as error:
        problems["microphones"] = str(error)
    try:
        engines = probe.engines()
    except OSError as error:
        problems["engines"] = str(error)
    return Found(v4l2.cameras(), microphones, engines, problems)


def _microphones() -> list[Microphone]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edged.capture.microphones"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LISTEN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"PortAudio gave no answer within {LISTEN_S:g} s") from error
    if done.returncode:
        crashed = f"PortAudio crashed (signal {-done.returncode})"
        raise OSError(crashed if done.returncode < 0 else done.stderr.strip().splitlines()[-1])
    return msgspec.json.decode(done.stdout, type=list[Microphone])


def show(found: Found, console: Console) -> None:
    """As tables, for people."""
    parts: list[RenderableType] = [
        _cameras(found.cameras) if found.cameras else _none("cameras", "no /dev/video* gives pictures"),
        _heard(found.microphones)
        if found.microphones
        else _none("microphones", found.problems.get("microphones", "PortAudio knows of none")),
        _tried(found.engines) if found.engines else _none("engines", found.problems.get("engines", "")),
    ]
    for part in parts:
        console.print(part)
        console.print()


def _none(what: str, reason: str) -> Text:
    return Text(f"no {what}: {reason}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _cameras(cameras: list[v4l2.Camera]) -> Table:
    table = _table("cameras", "device", "name", "format", "sizes at pictures a second")
    for one in cameras:
        names = "\n".join((one.device, *one.links[:1]))
        rows = [(each.fourcc, _sizes(each.sizes)) for each in one.formats] or [("", one.problem)]
        if one.raw:
            rows.append(("", RAW))
        for place, (fourcc, sizes) in enumerate(rows):
            first = not place
            row = (names if first else "", one.name if first else "", fourcc, sizes)
            table.add_row(*map(Text, row), end_section=place == len(rows) - 1)
    return table


def _sizes(sizes: tuple[v4l2.Size, ...]) -> str:
    shown = []
    for one in sizes[:SHOWN_SIZES]:
        span = f" to {one.max_width}×{one.max_height}" if one.max_width != one.width else ""
        rates = "/".join(f"{rate:g}" for rate in one.rates_hz)
        shown.append(f"{one.width}×{one.height}{span}" + (f" at {rates}" if rates else ""))
    more = len(sizes) - SHOWN_SIZES
    return ", ".join(shown) + (f", and {more} more" if more > 0 else "")


def _heard(microphones: list[Microphone]) -> Table:
    table = _table("microphones", "number", "name", "host API", "channels", "rate (Hz)")
    for one in microphones:
        number = f"{one.index} (default)" if one.default else str(one.index)
        table.add_row(*map(Text, (number, one.name, one.api, str(one.channels), f"{one.rate_hz:g}")))
    return table


def _tried(engines: list[probe.Engine]) -> Table:
    versions = {one.version for one in engines}
    table = _table(
        f"engines (ONNX Runtime {', '.join(sorted(versions))})", "provider", "works", "on, or why not"
    )
    for one in engines:
        table.add_row(*map(Text, (one.provider, "yes" if one.works else "no", one.device or one.reason)))
    return table
