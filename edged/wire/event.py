"""The event as subscribers get it; `event.schema.json` beside this file is the contract."""

from __future__ import annotations

import json
import secrets
from importlib import resources
from typing import Any, Literal

import msgspec

from edged.wire.records import Modality, Trace

SCHEMA = "edged.event/1"
Phase = Literal["start", "update", "end"]

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class EvidenceItem(msgspec.Struct, frozen=True, omit_defaults=False):
    """The strongest observation of one modality."""

    source: str
    modality: Modality
    label: str
    score: float
    box: tuple[float, float, float, float] | None
    track: int | None
    span: tuple[str, str] | None
    at: str


class Event(msgspec.Struct, frozen=True):
    """One phase of one event."""

    schema: str
    id: str
    device: str
    type: str
    phase: Phase
    sequence: int
    started_at: str
    updated_at: str
    ended_at: str | None
    score: float
    evidence: tuple[EvidenceItem, ...]
    clip: str | None
    rates: dict[str, float]
    latency_ms: dict[str, float] | None
    traceparent: str

    def to_json(self) -> bytes:
        """As published."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, payload: bytes) -> Event:
        """Raises msgspec.MsgspecError when `payload` is no event."""
        return msgspec.json.decode(payload, type=cls)


def json_schema() -> dict[str, Any]:
    """The contract with subscribers."""
    text = resources.files("edged.wire").joinpath("event.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def new_ulid(unix_ms: int) -> str:
    """A ULID (github.com/ulid/spec): 48 bits of time and 80 of chance, sortable as text."""
    number = (unix_ms & ((1 << 48) - 1)) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def new_traceparent() -> str:
    """A W3C trace context of a new, sampled trace."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def latency_ms(trace: Trace, fused_ns: int) -> dict[str, float]:
    """By stage, from the last sample's or the picture's being there to the event's being made."""
    stages = {
        "capture": trace.queued_ns - trace.captured_ns,
        "queue": trace.prepare_ns - trace.queued_ns,
        "prepare": trace.prepared_ns - trace.prepare_ns,
        "infer": trace.inferred_ns - trace.prepared_ns,
        "decode": trace.decoded_ns - trace.inferred_ns,
        "fuse": fused_ns - trace.decoded_ns,
        "total": fused_ns - trace.captured_ns,
    }
    return {stage: round(spent / 1e6, 3) for stage, spent in stages.items()}
