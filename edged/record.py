"""A recording: what the sources of a configuration delivered, for `edged replay --recording`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

import typer

from edged import __version__
from edged.config.schema import Config

log = logging.getLogger(__name__)

MANIFEST = "recording.json"
SCHEMA = "edged.recording/1"
SUFFIXES = (".mp4", ".mkv")


def for_recording(config: Config) -> Config:
    """`config` with its sources alone: nothing is analysed or published."""
    return config.model_copy(update={"models": {}, "events": {}, "adapt": (), "mqtt": None})


def prepare(folder: Path, config: Config) -> None:
    """Makes the folder, and notes in it what it is to hold.

    Raises:
        typer.BadParameter: it can't be made, or holds something already.
    """
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise typer.BadParameter(f"{folder} is not empty", param_hint="OUT")
        about = {
            "schema": SCHEMA,
            "version": __version__,
            "device": config.device,
            "started_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "sources": {name: source.modality for name, source in config.sources.items()},
        }
        (folder / MANIFEST).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{folder}: {error.strerror}", param_hint="OUT") from error


def files_of(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """The tape of each source, named after it.

    Raises:
        typer.BadParameter: `folder` is no recording, or holds nothing of a source.
    """
    try:
        about = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{folder} is no recording", param_hint="--recording") from error
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        raise typer.BadParameter(f"{folder / MANIFEST} is not {SCHEMA}", param_hint="--recording")
    tapes = {name: tape_of(folder, name) for name in names}
    for name, tape in tapes.items():
        if tape is None:
            raise typer.BadParameter(f"{folder} holds nothing of '{name}'", param_hint="--recording")
        if tape.with_name(f"{name}-2{tape.suffix}").exists():
            log.warning("'%s' began again while it was recorded: only %s is replayed", name, tape.name)
    return {name: tape for name, tape in tapes.items() if tape}


def tape_of(folder: Path, name: str) -> Path | None:
    """The file of a source; None when there is none."""
    return next((path for suffix in SUFFIXES if (path := folder / (name + suffix)).is_file()), None)


def bytes_of(folder: Path) -> int:
    """What the recording takes on the disk so far."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and not path.is_symlink())
