"""What a benchmark found, as a table for people or as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that one figure is to keep."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None

    def met(self, figures: dict[str, float]) -> bool:
        """Whether the measured figure keeps it."""
        value = figures[self.figure]
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )

    def __str__(self) -> str:
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one benchmark."""

    name: str
    machine: dict[str, str | int | float]
    figures: dict[str, float]
    """The unit is in the name: `_ms`, `_s`, `_hz`; shares and ratios have none."""
    goals: tuple[Goal, ...]

    def to_json(self) -> str:
        """One object on one line."""
        goals: dict[str, dict[str, Any]] = {}
        for goal in self.goals:
            bounds = {"at_most": goal.at_most, "at_least": goal.at_least}
            goals[goal.figure] = {name: bound for name, bound in bounds.items() if bound is not None}
            goals[goal.figure]["met"] = goal.met(self.figures)
        figures = {name: round(value, 4) for name, value in self.figures.items()}
        found = {"name": self.name, "machine": self.machine, "figures": figures, "goals": goals}
        return json.dumps(found, allow_nan=False)

    def show(self) -> None:
        """A table on standard output."""
        goals = {goal.figure: goal for goal in self.goals}
        table = Table("figure", title=self.name, title_justify="left")
        table.add_column("measured", justify="right")
        table.add_column("goal", justify="right")
        table.add_column("")
        for name, value in self.figures.items():
            goal = goals.get(name)
            verdict = "" if goal is None else "met" if goal.met(self.figures) else "not met"
            table.add_row(name, f"{value:.4g}", str(goal or ""), verdict)
        console = Console()
        console.print(table)
        console.print(", ".join(f"{what} {value}" for what, value in self.machine.items()), highlight=False)
