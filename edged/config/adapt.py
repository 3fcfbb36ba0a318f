"""What an event, or motion and sound themselves, set going: higher rates, clips, snapshots."""

from __future__ import annotations

from typing import Annotated

from pydantic import ByteSize, Field, model_validator
from pydantic_core import PydanticCustomError

from edged.config.fields import LocalPath, Name, Size, Strict

LONGEST_S = 3600.0


class Record(Strict):
    """How much a clip holds."""

    before_s: Annotated[float, Field(ge=0, le=120)] = 5.0
    """Before it began; so much lies in memory all the time, as it came from the camera."""
    after_s: Annotated[float, Field(ge=0, le=LONGEST_S)] = 5.0
    """After it ended."""
    max_s: Annotated[float, Field(ge=1, le=LONGEST_S)] = 300.0
    """A clip gets no longer than this after what it is of began."""


class AdaptRule(Strict):
    """One rule. While what is named by `when` goes on, and for a time after it, sources run at their
    active rates; a clip or a snapshot is taken of it.
    """

    when: Name
    """An event; or `motion` or `sound` on `source` itself."""
    source: Name | None = None
    """Where there is `motion` or `sound`."""
    raises: Annotated[tuple[Name, ...], Field(alias="raise")] = ()
    """The sources that are to run at their active rates."""
    for_s: Annotated[float, Field(ge=1, le=LONGEST_S)] = 10.0
    """How long they do so after it was over."""
    record: Record | None = None
    """Take a clip of these sources, and of those of the event."""
    snapshot: bool = False
    """Take a picture of these sources, and of those of the event, when it begins."""

    @model_validator(mode="after")
    def _does_something(self) -> AdaptRule:
        if not self.raises and not self.record and not self.snapshot:
            raise PydanticCustomError(
                "idle_rule", "the rule does nothing: name 'raise', 'record' or 'snapshot'"
            )
        return self


class Clips(Strict):
    """Where clips and snapshots lie, and for how long."""

    dir: LocalPath | None = None
    """By default `clips` in the state directory."""
    max_bytes: Size = ByteSize(10 << 30)
    """Of all clips and snapshots; the oldest goes first."""
    max_age_s: Annotated[float, Field(ge=60, le=315_360_000)] = 1_209_600.0
    """Older ones go, too: two weeks."""
    ring_bytes: Size = ByteSize(64 << 20)
    """Memory of one device for what lies before a clip; where that is too little, a clip begins later."""
