"""What a worker is told at its start: sent once, as JSON inside a `Setup` record."""

from __future__ import annotations

import msgspec

from edged.wire.views import PictureView


class CaptureSetup(msgspec.Struct, frozen=True):
    """One device or URL, and the sources that read it."""

    name: str
    kind: str
    sources: dict[str, msgspec.Raw]
    """The configuration of each, as JSON of the kind's own model."""
    views: dict[str, tuple[PictureView, ...]]
    """The pictures that models want of each source of video."""
    heard: tuple[str, ...]
    """The sources of sound that models listen to."""
    generation: int
    replay: bool
    """Stamps are positions in the recording."""
    start_ns: int
    """Where in a recording to begin: what a worker that died had read already is not read again."""
    paced: bool
    """Files run at their own speed; otherwise every frame waits for its reader."""
    record: RecordSetup | None = None
    """None: nothing is recorded."""


class RecordSetup(msgspec.Struct, frozen=True):
    """What a capture process may record."""

    folder: str
    """For clips and snapshots; in a recording for replay, the recording's own."""
    tape: bool
    """Everything is recorded from the beginning to the end, for a replay."""
    clips: bool
    """Clips are made, not only snapshots."""
    start_ns: int
    """The stamp at which the recording begins."""
    before_s: float
    """So much lies in the ring of encoded packets."""
    ring_bytes: int
    max_bytes: int
    """Of all clips and snapshots in the folder."""
    max_age_s: float


class ModelSetup(msgspec.Struct, frozen=True):
    """One model."""

    card: str
    sources: tuple[str, ...]
    priority: str
    budget_ms: float | None
    threads: int


class PerceiveSetup(msgspec.Struct, frozen=True):
    """The models of one process."""

    models: dict[str, ModelSetup]
    models_dirs: tuple[str, ...]
    newest: tuple[str, ...]
    """The sources of which only the newest frame counts; of the others every one."""
