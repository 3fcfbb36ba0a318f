"""What can go wrong and be told to a person: each error says what, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


class EdgedError(Exception):
    """A failure at run time with a message for a person; the command line exits with 1."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a file that a person wrote."""

    file: str
    line: int
    """Counted from 1."""
    column: int
    """Counted from 1."""
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigError(EdgedError):
    """A configuration or a model card that can't be used; the command line exits with 2."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class SourceError(EdgedError):
    """A source that can't be opened or read."""

    def __init__(self, message: str, *, permanent: bool = False, stuck: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        """Trying again without a change by a person would not help."""
        self.stuck = stuck
        """The device hangs in a call that can't be broken off: only a new process helps."""


class ModelError(EdgedError):
    """A model that can't be loaded or run."""
