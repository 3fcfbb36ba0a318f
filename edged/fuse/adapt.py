"""What follows from events, motion and sound: sources are raised, clips and snapshots are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edged.config.adapt import AdaptRule, Record
from edged.config.schema import Config
from edged.wire.clock import SECOND_NS, WallClock
from edged.wire.records import Raise, RecordClip, TakeSnapshot

Wish = Raise | RecordClip | TakeSnapshot
MARGIN_NS = 2 * SECOND_NS
"""What goes on is asked for again each second, and so is wanted a little longer each time."""


@dataclass(slots=True)
class _Clip:
    name: str
    from_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class _Going:
    """What a rule waits for has begun."""

    rule: AdaptRule
    sources: tuple[str, ...]
    id: str
    began_ns: int


class Adapt:
    """The rules' state. What it returns is to be sent to the capture processes."""

    def __init__(self, config: Config, devices: Mapping[str, str], clock: WallClock) -> None:
        """`devices`: the name of each source's device; one device writes one clip at a time."""
        self._config, self._devices, self._clock = config, devices, clock
        self._going: dict[tuple[int, str], _Going] = {}
        self._clips: dict[str, _Clip] = {}
        self._of_event: dict[str, str] = {}

    def begins(self, what: str, where: tuple[str, ...], id: str, began_ns: int, now_ns: int) -> list[Wish]:  # noqa: A002
        """An event began, or `motion` or `sound` at one source."""
        wishes: list[Wish] = []
        for number, rule in enumerate(self._config.adapt):
            if rule.when != what or (rule.source and rule.source not in where):
                continue
            sources = tuple(dict.fromkeys((*where, *rule.raises)))
            going = self._going[number, id] = _Going(rule, sources, id, began_ns)
            wishes += self._wanted(going, now_ns, MARGIN_NS)
            if rule.snapshot:
                for source in sources:
                    if self._config.sources[source].modality == "video":
                        name = self._name(self._devices[source], began_ns, f"{id}-{source}")
                        wishes.append(TakeSnapshot(name, source, id))
        return wishes

    def ends(self, id: str, now_ns: int) -> list[Wish]:  # noqa: A002
        """What has this id is over."""
        over = [key for key in self._going if key[1] == id]
        wishes = [wish for key in over for wish in self._wanted(self._going.pop(key), now_ns, 0)]
        self._of_event.pop(id, None)
        return wishes

    def goes_on(self, now_ns: int) -> list[Wish]:
        """What is still wanted; asked for about once a second."""
        return [wish for going in self._going.values() for wish in self._wanted(going, now_ns, MARGIN_NS)]

    def clip_of(self, id: str) -> str | None:  # noqa: A002
        """The clip that was asked for on behalf of an event."""
        return self._of_event.get(id)

    def _wanted(self, going: _Going, now_ns: int, margin_ns: int) -> Iterator[Wish]:
        until_ns = now_ns + margin_ns + round(going.rule.for_s * SECOND_NS)
        for source in going.rule.raises:
            yield Raise(source, until_ns)
        if going.rule.record:
            for device in dict.fromkeys(self._devices[source] for source in going.sources):
                yield from self._recorded(going, going.rule.record, device, now_ns, margin_ns)

    def _recorded(
        self, going: _Going, record: Record, device: str, now_ns: int, margin_ns: int
    ) -> Iterator[RecordClip]:
        before_ns, after_ns, max_ns = (
            round(seconds * SECOND_NS) for seconds in (record.before_s, record.after_s, record.max_s)
        )
        last_ns = going.began_ns + max_ns
        if now_ns > last_ns:
            return
        from_ns = going.began_ns - before_ns
        clip = self._clips.get(device)
        # What overlaps is one clip, but a busy street is not one for all day.
        if clip is None or from_ns > clip.until_ns or now_ns > clip.from_ns + before_ns + max_ns:
            from_ns = max(from_ns, clip.until_ns) if clip else from_ns
            clip = self._clips[device] = _Clip(
                self._name(device, max(going.began_ns, from_ns), going.id), from_ns, from_ns
            )
        until_ns = min(now_ns + margin_ns + after_ns, last_ns)
        clip.from_ns, clip.until_ns = min(clip.from_ns, from_ns), max(clip.until_ns, until_ns)
        self._of_event.setdefault(going.id, clip.name)
        sources = tuple(source for source, other in self._devices.items() if other == device)
        yield RecordClip(clip.name, sources, clip.from_ns, clip.until_ns, going.id)

    def _name(self, device: str, began_ns: int, id: str) -> str:  # noqa: A002
        moment = self._clock.rfc3339(began_ns)
        return f"{device}/{moment[:10]}/{moment[11:19].replace(':', '')}-{id}"
