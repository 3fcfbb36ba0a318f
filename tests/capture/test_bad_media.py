"""Films that are damaged, odd or enormous, each read in a process that may not crash, hang or swell."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.http_stub import Answer, http_stub
from tests.servers.media import excerpt, flash_and_beep, mutated, odd_films, picture_only

ROOT = Path(__file__).parents[2]
FILE_S = 10.0
"""A film of two seconds takes a tenth of a second; a machine may be busy."""
PEAK_BYTES = 600 << 20
PROCESSES = 2


@dataclass(frozen=True)
class Outcome:
    """How a film ended."""

    end: str
    """`ended`; `refused` with a SourceError; `raised` with anything else; `crashed`; `hung`."""
    reason: str = ""
    items: int = 0
    peak_bytes: int = 0
    open_files: int = 0
    threads: int = 0


def read_all(films: Iterable[Path | str], folder: Path) -> dict[str, Outcome]:
    """Reads the films in some processes at once."""
    queue = [str(film) for film in films]
    with ThreadPoolExecutor(PROCESSES) as pool:
        parts = [queue[number::PROCESSES] for number in range(PROCESSES)]
        found = pool.map(_read_some, parts, [folder / f"log-{number}" for number in range(PROCESSES)])
    outcomes = {film: outcome for some in found for film, outcome in some.items()}
    assert outcomes.keys() == set(queue)
    return outcomes


def _read_some(films: list[str], log: Path) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    while rest := [film for film in films if film not in outcomes]:
        with log.open("ab") as file:
            child = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "tests.capture.reader", *rest],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        try:
            found = _listen(child)
            assert found, f"it did not start: {log.read_text()[-2000:]}"
            outcomes |= found
        finally:
            child.kill()
            child.wait()
            assert child.stdout
            child.stdout.close()
    return outcomes


def _listen(child: subprocess.Popen[bytes]) -> dict[str, Outcome]:
    """What the child says of its films; the last may be one at which it crashed or hung."""
    assert child.stdout
    outcomes: dict[str, Outcome] = {}
    at = ""
    pending = b""
    deadline = time.monotonic() + 2 * FILE_S
    while True:
        ready, _, _ = select.select([child.stdout], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return outcomes | ({at: Outcome("hung")} if at else {})
        part = os.read(child.stdout.fileno(), 65_536)
        if not part:
            code = child.wait(FILE_S)
            return outcomes | ({at: Outcome("crashed", f"exit code {code}")} if at else {})
        *lines, pending = (pending + part).split(b"\n")
        for line in lines:
            said = json.loads(line)
            deadline = time.monotonic() + FILE_S
            if begins := said.pop("begins", ""):
                at = begins
            else:
                at = ""
                film = said.pop("name")
                outcomes[film] = Outcome(**said)


def check(outcomes: dict[str, Outcome]) -> None:
    """An orderly end or a named reason, in bounded memory, with nothing left open."""
    faults = [
        f"{film}: {outcome}"
        for film, outcome in outcomes.items()
        if outcome.end not in ("ended", "refused")
        or outcome.peak_bytes > PEAK_BYTES
        or (outcome.end == "refused" and not _named(outcome.reason, film))
    ]
    assert not faults, "\n".join(faults)
    files = sorted(outcome.open_files for outcome in outcomes.values())
    assert files[-1] - files[0] <= 1, "nothing is left open"
    assert {outcome.threads for outcome in outcomes.values()} == {1}, "nothing is left running"


def _named(reason: str, film: str) -> bool:
    """The message names the film, and says something of it."""
    return film in reason and len(reason.replace(film, "").strip(" :;")) > 5


def _damage(film: Path, count: int, seed: int, folder: Path) -> list[Path]:
    found = []
    for name, content in mutated(film, count, seed):
        found.append(folder / name)
        found[-1].write_bytes(content)
    return found


@pytest.mark.timeout(180)
def test_damaged_real_films_end_in_order(data: Path, tmp_path: Path) -> None:
    films: list[Path] = []
    for number, (name, kind) in enumerate(
        (name, kind) for name in ("nasa_13013", "one-by-one-person") for kind in ("mp4", "mkv", "ts")
    ):
        whole = excerpt(data / f"video/{name}.mp4", tmp_path / f"{name}-{kind}.{kind}", 2)
        films += _damage(whole, 90 if kind == "mp4" else 72, number, tmp_path)
    assert len(films) >= 200
    outcomes = read_all(films, tmp_path)
    check(outcomes)
    ends = [outcome.end for outcome in outcomes.values()]
    assert ends.count("ended") > len(films) // 3, "most damage is passed over"
    assert ends.count("refused") > 10
    assert sum(outcome.items > 0 for outcome in outcomes.values()) > len(films) // 2


def test_damaged_films_of_other_kinds_end_in_order(tmp_path: Path) -> None:
    wholes = [
        flash_and_beep(tmp_path / "beep.mp4"),
        flash_and_beep(tmp_path / "beep.flv"),
        picture_only(tmp_path / "mpeg4.avi", "mpeg4"),
        picture_only(tmp_path / "mjpeg.avi", "mjpeg"),
    ]
    films = [one for number, film in enumerate(wholes) for one in _damage(film, 18, number, tmp_path)]
    check(read_all(films, tmp_path))


def test_damaged_live_streams_end_in_order(tmp_path: Path) -> None:
    wholes = [
        excerpt(flash_and_beep(tmp_path / "whole.mp4"), tmp_path / "live.ts", 4),
        flash_and_beep(tmp_path / "live.flv"),
        flash_and_beep(tmp_path / "live.mp4"),
    ]
    with http_stub() as stub:
        for number, film in enumerate(wholes):
            for name, content in mutated(film, 27, number):
                stub.answers[f"/{name}"] = Answer(content, length=len(content))
        outcomes = read_all([stub.url(path) for path in stub.answers], tmp_path)
    check(outcomes)
    assert {outcome.end for outcome in outcomes.values()} == {"refused"}, "what is live has no orderly end"


def test_odd_films_end_in_order(tmp_path: Path) -> None:
    films = odd_films(tmp_path)
    outcomes = read_all(films.values(), tmp_path)
    check(outcomes)
    ends = {name: outcomes[str(film)] for name, film in films.items()}
    for name, outcome in ends.items():
        if name.startswith(("huge", "vast")):
            assert outcome.end == "refused", (name, outcome)
        else:
            assert outcome.end == "ended", (name, outcome)
            assert outcome.items > 0, name


@pytest.mark.parametrize("content", [b"", b"\0" * 1_000_000, b"\xff" * 1_000_000, b"G" * 188 * 1000])
def test_no_film_at_all(content: bytes, tmp_path: Path) -> None:
    film = tmp_path / "a.mp4"
    film.write_bytes(content)
    outcomes = read_all([film], tmp_path)
    check(outcomes)
    assert outcomes[str(film)].items == 0
    assert outcomes[str(film)].end == "refused"
