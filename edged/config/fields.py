"""The parts that configuration models are made of, shared by the schema and the drop-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from edged.wire.records import Modality


class Strict(BaseModel):
    """Unknown keys are errors, nothing changes later; in files nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME)]
"""Safe in a topic, a file name and a process name."""

Score = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Hertz = Annotated[float, Field(gt=0, le=240)]


def _beside_the_file(path: str, info: ValidationInfo) -> str:
    """A relative path counts from the configuration's directory, not from where one happens to be."""
    if "\0" in path:
        raise ValueError("a path can't hold a NUL character")
    folder = (info.context or {}).get("folder")
    return str(Path(folder, path).absolute()) if folder else path


LocalPath = Annotated[str, Field(min_length=1), AfterValidator(_beside_the_file)]


class Source(Strict):
    """What every kind of source has."""

    modality: Modality = "video"
    """What of the device is read: its picture or its sound. A source has one."""
    rate_hz: Hertz = 5.0
    """How often the source is analysed: frames, or windows of sound, a second."""
    slots: Annotated[int, Field(ge=2, le=256)] | None = None
    """Slots of the shared memory pool; by default 8 for video and 64 (six seconds) for sound."""

    @property
    def device(self) -> str:
        """What is opened; sources of one kind and device share a process and a clock."""
        raise NotImplementedError

    @property
    def finite(self) -> bool:
        """Whether the source comes to an end by itself, so that it can be replayed."""
        return False

    @property
    def pool_slots(self) -> int:
        """Slots of the pool, the default resolved."""
        return self.slots or (8 if self.modality == "video" else 64)
