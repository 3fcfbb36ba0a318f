"""A fixed pool of slots in a memfd: one writer owns the free list, each reader holds leases.

A slot goes free → writing → lent to some readers → free when the last of them has released it. The
writer dying leaves a reader's mapping intact (the memory lives as long as a map of it does); its
successor makes a new memfd under a new generation, so nothing that was reused is ever read.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edged.wire.records import Descriptor, Layout, Modality, Release, View

HEADER_BYTES = 64
"""At the head of a slot: the sequence of what it holds, 0 while it is written; a cache line wide."""
ALIGN_BYTES = 64
MAX_POOL_BYTES = 1 << 31

Array = npt.NDArray[Any]
Samples = npt.NDArray[np.float32]


class PoolError(Exception):
    """A slot was used against the rules: a defect, or a peer that lies."""


class StaleSlotError(PoolError):
    """The slot no longer holds what its descriptor says."""


def layout(
    source: str,
    modality: Modality,
    generation: int,
    slots: int,
    views: Mapping[str, tuple[tuple[int, ...], npt.DTypeLike]],
) -> Layout:
    """Cuts a slot into `views` (name → shape and dtype), each aligned to a cache line."""
    offset, cut = HEADER_BYTES, []
    for name, (shape, dtype) in views.items():
        kind = np.dtype(dtype)
        cut.append(View(name, shape, "uint8" if kind == np.uint8 else "float32", offset))
        size = int(np.prod(shape)) * kind.itemsize
        offset += -(-size // ALIGN_BYTES) * ALIGN_BYTES
    if slots * offset > MAX_POOL_BYTES:
        raise PoolError(f"a pool of {slots} × {offset} bytes is over the limit of {MAX_POOL_BYTES}")
    return Layout(source, modality, generation, slots, offset, tuple(cut))


def _arrays(memory: mmap.mmap, form: Layout) -> list[dict[str, Array]]:
    return [
        {
            view.name: np.frombuffer(
                memory,
                dtype=view.dtype,
                count=int(np.prod(view.shape)),
                offset=slot * form.slot_bytes + view.offset_bytes,
            ).reshape(view.shape)
            for view in form.views
        }
        for slot in range(form.slots)
    ]


class Pool:
    """The writing side."""

    def __init__(self, form: Layout) -> None:
        self.layout = form
        self.fd = os.memfd_create(f"edged:{form.source}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, form.slots * form.slot_bytes)
        # Readers may trust the size: a map can't be cut off under them (SIGBUS).
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._memory = mmap.mmap(self.fd, form.slots * form.slot_bytes)
        self._views = _arrays(self._memory, form)
        self._free = deque(range(form.slots))
        self._holders: dict[int, set[object]] = {}
        self._sequences: dict[int, int] = {}

    def views(self, slot: int) -> dict[str, Array]:
        """The slot's arrays, to write into between `acquire` and `lend`."""
        return self._views[slot]

    @property
    def free(self) -> int:
        """How many slots could be acquired now."""
        return len(self._free)

    def acquire(self) -> int | None:
        """A free slot to write into, or None: all are lent."""
        if not self._free:
            return None
        slot = self._free.popleft()
        self._stamp(slot, 0)
        return slot

    def abandon(self, slot: int) -> None:
        """Gives back an acquired slot that was not lent."""
        if slot in self._holders or slot in self._free:
            raise PoolError(f"slot {slot} of {self.layout.source} was not acquired")
        self._free.append(slot)

    def lend(self, slot: int, sequence: int, readers: Iterable[object]) -> None:
        """The slot is written; `readers` hold it from now on. `sequence` counts from 1."""
        holders = set(readers)
        if slot in self._holders or slot in self._free or not holders or sequence < 1:
            raise PoolError(f"slot {slot} of {self.layout.source} can't be lent")
        self._stamp(slot, sequence)
        self._sequences[slot] = sequence
        self._holders[slot] = holders

    def release(self, reader: object, credit: Release) -> None:
        """Takes back `reader`'s lease.

        Raises:
            PoolError: that reader does not hold that slot with that sequence.
        """
        holders = self._holders.get(credit.slot, set())
        if (
            credit.generation != self.layout.generation
            or reader not in holders
            or self._sequences[credit.slot] != credit.sequence
        ):
            raise PoolError(f"{credit} releases what is not held")
        self._return(reader, credit.slot)

    def forget(self, reader: object) -> None:
        """Takes back all that `reader` held: it is dead, and reads nothing any more."""
        for slot in [slot for slot, holders in self._holders.items() if reader in holders]:
            self._return(reader, slot)

    def close(self) -> None:
        """Drops the memory; readers keep theirs until they close."""
        self._views.clear()
        os.close(self.fd)
        # The map itself goes with the last array that points into it.

    def _return(self, reader: object, slot: int) -> None:
        holders = self._holders[slot]
        holders.remove(reader)
        if not holders:
            del self._holders[slot], self._sequences[slot]
            self._free.append(slot)

    def _stamp(self, slot: int, sequence: int) -> None:
        struct.pack_into("<Q", self._memory, slot * self.layout.slot_bytes, sequence)


class PoolReader:
    """The reading side: a read-only map of a writer's memfd. Takes over `fd`."""

    def __init__(self, form: Layout, fd: int) -> None:
        try:
            size = form.slots * form.slot_bytes
            if os.fstat(fd).st_size < size or not 0 < size <= MAX_POOL_BYTES:
                raise PoolError(f"the pool of {form.source} is smaller than its layout")
            self.layout = form
            self._memory = mmap.mmap(fd, size, prot=mmap.PROT_READ)
            self._views = _arrays(self._memory, form)
        finally:
            os.close(fd)

    def views(self, descriptor: Descriptor) -> dict[str, Array]:
        """The arrays that `descriptor` points at, read-only; valid until the slot is released.

        Raises:
            StaleSlotError: the slot holds something else.
        """
        if descriptor.generation != self.layout.generation or not 0 <= descriptor.slot < self.layout.slots:
            raise StaleSlotError(f"{descriptor.source}: generation {descriptor.generation} is gone")
        (held,) = struct.unpack_from("<Q", self._memory, descriptor.slot * self.layout.slot_bytes)
        if held != descriptor.sequence:
            raise StaleSlotError(f"{descriptor.source}: slot holds {held}, not {descriptor.sequence}")
        return self._views[descriptor.slot]


class Lender(Protocol):
    """Where a lease came from, and where its credit goes."""

    def give_back(self, descriptor: Descriptor) -> None:
        """Sends the credit."""


class Lease:
    """A reader's hold on a slot, shared by those in its process who need it.

    A context manager; the one who got the lease is its first holder, `share` adds one. When the last
    has released, the credit goes back to the writer.
    """

    def __init__(self, lender: Lender, descriptor: Descriptor, arrays: dict[str, Array]) -> None:
        self.descriptor = descriptor
        self._lender = lender
        self._arrays = arrays
        self._holds = 1

    def view(self, name: str) -> Array:
        """The named view of the slot, read-only.

        Raises:
            PoolError: the lease was released.
        """
        if not self._holds:
            raise PoolError(f"{self.descriptor.source}: read after release")
        return self._arrays[name]

    def share(self) -> Lease:
        """One more holder, who releases too."""
        if not self._holds:
            raise PoolError(f"{self.descriptor.source}: shared after release")
        self._holds += 1
        return self

    def release(self) -> None:
        """One holder less.

        Raises:
            PoolError: all holders had released already.
        """
        if not self._holds:
            raise PoolError(f"{self.descriptor.source}: released twice")
        self._holds -= 1
        if not self._holds:
            self._lender.give_back(self.descriptor)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
