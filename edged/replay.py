"""Files in the place of a configuration's sources, and how far a replay has come."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from edged.config.schema import Config
from edged.config.source import Source


def with_files(config: Config, overrides: list[str]) -> Config:
    """`config` with each NAME=FILE of `overrides` as the source NAME and those that share its URL.

    Raises:
        typer.BadParameter: there is no such source, or one of them never ends.
    """
    from edged.capture.sources.stream import Config as Stream

    sources: dict[str, Source] = dict(config.sources)
    named: set[str] = set()
    for override in overrides:
        name, equals, file = override.partition("=")
        if not equals or not file:
            raise typer.BadParameter(f"'{override}' does not read NAME=FILE", param_hint="--source")
        if name not in sources:
            known = ", ".join(sources)
            raise typer.BadParameter(f"there is no source '{name}'; there is {known}", param_hint="--source")
        before = config.sources[name]
        for other, source in config.sources.items():
            shares = source.device == before.device and type(source) is type(before)
            if other == name or (shares and other not in named):
                sources[other] = Stream(
                    kind="stream",
                    url=str(Path(file).absolute()),
                    **{key: getattr(source, key) for key in Source.model_fields},
                )
        named.add(name)
    for name, source in sources.items():
        if not source.finite:
            message = f"source '{name}' has no end; give it a file by --source {name}=FILE"
            raise typer.BadParameter(message, param_hint="--source")
    return config.model_copy(update={"sources": sources})


class Progress:
    """A bar on standard error, where that is a terminal. A context manager."""

    def __init__(self, config: Config, *, shown: bool) -> None:
        self._total_s = _length_s(config) if shown else None
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True, disable=not shown)
        self._task = self._bar.add_task("replay", total=self._total_s)

    def at(self, position_s: float) -> None:
        """The newest stamp."""
        self._bar.update(self._task, completed=position_s, description=f"replay {position_s:.0f} s")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _length_s(config: Config) -> float | None:
    """The longest file's length, where the containers tell."""
    import av

    lengths = []
    for source in config.sources.values():
        if Path(source.device).is_file():
            try:
                with av.open(f"file:{source.device}", options={"protocol_whitelist": "file"}) as container:
                    lengths.append((container.duration or 0) / av.time_base)
            except (av.FFmpegError, OSError):
                continue
        elif seconds := getattr(source, "seconds", None):
            lengths.append(seconds)
    return max(lengths, default=0) or None
