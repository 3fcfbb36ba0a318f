"""The event's form, which subscribers rely on."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edged.wire.event import (
    SCHEMA,
    Event,
    EvidenceItem,
    json_schema,
    latency_ms,
    new_traceparent,
    new_ulid,
)
from edged.wire.records import Trace

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
VALIDATOR = Draft202012Validator(json_schema())

EVENT = Event(
    schema=SCHEMA,
    id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
    device="porch",
    type="person_speaking",
    phase="end",
    sequence=3,
    started_at="2026-11-05T10:00:00.000000Z",
    updated_at="2026-11-05T10:00:02.500000Z",
    ended_at="2026-11-05T10:00:02.500000Z",
    score=0.93,
    evidence=(
        EvidenceItem("cam", "video", "person", 0.88, (0, 0.1, 0.5, 1), None, None, "2026-11-05T10:00:01Z"),
        EvidenceItem(
            "mic",
            "audio",
            "speech",
            0.97,
            None,
            None,
            ("2026-11-05T10:00:01Z", "2026-11-05T10:00:02Z"),
            "2026-11-05T10:00:01.5Z",
        ),
    ),
    clip=None,
    rates={"cam": 15, "mic": 2},
    latency_ms=latency_ms(Trace(0, 1, 2, 3, 4, 5), 6),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def unix_ms(ulid: str) -> int:
    """The time in a ULID, by the specification."""
    number = 0
    for sign in ulid[:10]:
        number = number * 32 + CROCKFORD.index(sign)
    return number


@given(st.integers(0, (1 << 48) - 1))
def test_a_ulid_holds_its_time(moment_ms: int) -> None:
    ulid = new_ulid(moment_ms)
    assert re.fullmatch(f"[0-7][{CROCKFORD}]{{25}}", ulid)
    assert unix_ms(ulid) == moment_ms


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 48) - 1))
def test_ulids_sort_by_their_time(one_ms: int, other_ms: int) -> None:
    one, other = new_ulid(one_ms), new_ulid(other_ms)
    if one_ms != other_ms:
        assert (one < other) == (one_ms < other_ms)
    else:
        assert one != other


def test_a_known_time() -> None:
    """The specification's own example."""
    assert new_ulid(1_469_922_850_259)[:10] == "01ARZ3NDEK"


def test_a_ulid_s_chance_is_80_bits_wide() -> None:
    ulids = [new_ulid(0)[10:] for _ in range(400)]
    assert len(set(ulids)) == 400
    for place in range(16):
        assert len({ulid[place] for ulid in ulids}) == 32, "every sign comes up in every place"


def test_a_traceparent_s_form() -> None:
    parents = {new_traceparent() for _ in range(100)}
    assert len(parents) == 100
    for parent in parents:
        assert re.fullmatch("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01", parent)


def test_json_and_back() -> None:
    assert Event.from_json(EVENT.to_json()) == EVENT


names = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=20)
numbers = st.floats(0, 1)
times = st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds") + "Z")
items = st.builds(
    EvidenceItem,
    names,
    st.sampled_from(["video", "audio"]),
    st.text(),
    numbers,
    st.none() | st.tuples(numbers, numbers, numbers, numbers),
    st.none() | st.integers(0, 1 << 40),
    st.none() | st.tuples(times, times),
    times,
)


@given(
    st.lists(items, max_size=3).map(tuple),
    st.dictionaries(names, st.floats(0.1, 240)),
    st.none() | st.dictionaries(names, st.floats(0, 1e6)),
    st.none() | times,
    st.none() | st.text(),
)
def test_any_event_survives_json(
    evidence: tuple[EvidenceItem, ...],
    rates: dict[str, float],
    latency: dict[str, float] | None,
    ended_at: str | None,
    clip: str | None,
) -> None:
    event = msgspec.structs.replace(
        EVENT, evidence=evidence, rates=rates, latency_ms=latency, ended_at=ended_at, clip=clip
    )
    assert Event.from_json(event.to_json()) == event
    assert Event.from_json(json.dumps(json.loads(event.to_json())).encode()) == event


def test_the_schema_is_one_and_holds_for_an_event() -> None:
    Draft202012Validator.check_schema(json_schema())
    VALIDATOR.validate(json.loads(EVENT.to_json()))
    assert list(json.loads(EVENT.to_json())) == json_schema()["required"], "in the order of the design"
    item = json.loads(EVENT.to_json())["evidence"][0]
    assert list(item) == json_schema()["$defs"]["evidence"]["required"]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "edged.event/2"},
        {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAU"[:-1]},
        {"id": "81ARZ3NDEKTSV4RRFFQ69G5FAV"},
        {"device": "Porch"},
        {"phase": "over"},
        {"sequence": 0},
        {"started_at": "2026-11-05 10:00:00"},
        {"started_at": "2026-11-05T10:00:00+01:00"},
        {"ended_at": None},
        {"phase": "update"},
        {"score": 1.1},
        {"evidence": []},
        {"rates": {"cam": 0}},
        {"latency_ms": {"total": 1}},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_the_schema_refuses(change: dict[str, object]) -> None:
    assert not VALIDATOR.is_valid(json.loads(EVENT.to_json()) | change)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"{}", b'{"schema": 1}', EVENT.to_json()[:-2], b"\xff", b"null"]
)
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        Event.from_json(payload)


def test_latency_by_stage() -> None:
    trace = Trace(1_000_000, 2_500_000, 3_000_000, 7_000_000, 20_000_000, 20_250_000)
    assert latency_ms(trace, 20_350_000) == {
        "capture": 1.5,
        "queue": 0.5,
        "prepare": 4.0,
        "infer": 13.0,
        "decode": 0.25,
        "fuse": 0.1,
        "total": 19.35,
    }
