"""The records that processes exchange: small, frozen, MessagePack on SEQPACKET sockets.

Pixels and samples never travel in a record; they lie in a pool, and a `Descriptor` says where.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Modality = Literal["video", "audio"]
State = Literal["starting", "running", "stalled", "reconnecting", "failed", "ended"]


class Record(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The parent of all records; the type's name travels as the tag."""


class View(Record, frozen=True):
    """One array inside a slot, as its consumers asked for it."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]
    offset_bytes: int


class Layout(Record, frozen=True):
    """How a pool's memory is cut; the memfd travels beside it."""

    source: str
    modality: Modality
    generation: int
    """Counts the openings of a source; nothing of an earlier one is ever read."""
    slots: int
    slot_bytes: int
    views: tuple[View, ...]


class Descriptor(Record, frozen=True):
    """A filled slot, lent to one consumer until it sends a `Release`."""

    source: str
    generation: int
    slot: int
    sequence: int
    """Counts what the source delivered, drops included: a gap is a loss."""
    stamp_ns: int
    """When the frame was taken, or the first sample of the chunk; in a replay the media time."""
    duration_ns: int
    """Of a chunk; for a frame the time to the next one at the present rate."""
    captured_ns: int
    """Monotonic: when the picture, or the last sample, was there. Deadlines count from here."""
    queued_ns: int
    """Monotonic: when the slot was lent."""
    due: bool
    """Whether a model that runs at the source's rate is to run now (sound comes in smaller chunks)."""
    motion: float | None
    """Share of changed pixels, 0–1."""
    level_dbfs: float | None
    picture: tuple[int, int] | None
    """Width and height before scaling, in pixels."""


class Release(Record, frozen=True):
    """The credit: a consumer hands a slot back."""

    source: str
    generation: int
    slot: int
    sequence: int


class EndOfSource(Record, frozen=True):
    """After this the source delivers nothing more (the end of a file)."""

    source: str
    model: str = ""


class Detection(Record, frozen=True):
    """One thing seen or heard."""

    label: str
    score: float
    """0–1."""
    box: tuple[float, float, float, float] | None = None
    """x1, y1, x2, y2 as shares of the picture's width and height."""


class Trace(Record, frozen=True):
    """When a request passed each stage; monotonic nanoseconds."""

    captured_ns: int
    queued_ns: int
    prepare_ns: int
    """When preparation began; the time before it was spent waiting."""
    prepared_ns: int
    inferred_ns: int
    decoded_ns: int


class Observations(Record, frozen=True):
    """All that one run of a model saw in one frame or window; empty when it saw nothing."""

    source: str
    model: str
    """Empty for what capture itself measures: motion and level."""
    modality: Modality
    stamp_ns: int
    """The frame's stamp, or the middle of the window."""
    span_ns: int
    """Length of the window; 0 for a frame."""
    detections: tuple[Detection, ...]
    trace: Trace


class Setup(Record, frozen=True):
    """The first record a worker gets: what it is to do, as JSON of the role's own config."""

    config: bytes


class Attach(Record, frozen=True):
    """A feed's socket travels beside this: to capture the writing end, to perceive the reading end."""

    capture: str


class Ready(Record, frozen=True):
    """A worker is set up and at work."""


class Stop(Record, frozen=True):
    """End in order."""


class SourceState(Record, frozen=True):
    """A source's state has changed."""

    source: str
    state: State
    reason: str = ""


class Raise(Record, frozen=True):
    """A source is to run at its active rates until then (monotonic; 0: no longer)."""

    source: str
    until_ns: int


class RateState(Record, frozen=True):
    """A source's rates have changed."""

    source: str
    rate_hz: float
    sample_rate_hz: int
    cause: str
    """`idle`; or what raised them: `motion`, `sound`, `asked`."""


class RecordClip(Record, frozen=True):
    """Write what lies between the stamps into a clip; said again with the same name, extend it."""

    clip: str
    """Its path below the folder of clips, without a suffix."""
    sources: tuple[str, ...]
    from_ns: int
    until_ns: int
    event: str
    """The id of the event that asks for it."""


class TakeSnapshot(Record, frozen=True):
    """Write the newest picture of a source as JPEG."""

    snapshot: str
    """Its path below the folder of clips, without a suffix."""
    source: str
    event: str


class Recorded(Record, frozen=True):
    """A clip or a snapshot was written, or could not be."""

    path: str
    """Below the folder of clips, with its suffix."""
    sources: tuple[str, ...]
    written: bool
    reason: str = ""


class ModelState(Record, frozen=True):
    """A model was loaded, or can't be."""

    model: str
    running: bool
    reason: str = ""


class Counts(Record, frozen=True):
    """What a worker did since it started: frames, chunks, inferences and drops by reason."""

    source: str
    delivered: int
    drops: dict[str, int]
    recorded: dict[str, int] = {}
    """Of capture: clips and snapshots of the source's device, written, failed, and gone."""


class Beat(Record, frozen=True):
    """A worker's main loop went round: it is not stuck."""


Message = (
    Layout
    | Descriptor
    | Release
    | EndOfSource
    | Observations
    | Setup
    | Attach
    | Ready
    | Stop
    | SourceState
    | Raise
    | RateState
    | RecordClip
    | TakeSnapshot
    | Recorded
    | ModelState
    | Counts
    | Beat
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The record as MessagePack."""
    return _encoder.encode(message)


def decode(packet: bytes) -> Message:
    """The record in `packet`.

    Raises:
        msgspec.ValidationError: it is none of ours.
    """
    return _decoder.decode(packet)
