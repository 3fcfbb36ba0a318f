"""The parts that configuration models are made of, shared by the schema and the drop-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import Self


class Strict(BaseModel):
    """Unknown keys are errors, nothing changes later; in files nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def _at_least_a_mib(size: ByteSize) -> ByteSize:
    if size < 1 << 20:
        raise ValueError("at least 1 MiB; write '10 GiB', or the number of bytes")
    return size


NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME)]
"""Safe in a topic, a file name and a process name."""

Score = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Size = Annotated[ByteSize, AfterValidator(_at_least_a_mib)]
"""Bytes: `1048576`, or `10 GiB`."""
Hertz = Annotated[float, Field(gt=0, le=240)]


def _beside_the_file(path: str, info: ValidationInfo) -> str:
    """A relative path counts from the configuration's directory, not from where one happens to be."""
    if "\0" in path:
        raise ValueError("a path can't hold a NUL character")
    folder = (info.context or {}).get("folder")
    return str(Path(folder, path).absolute()) if folder else path


LocalPath = Annotated[str, Field(min_length=1), AfterValidator(_beside_the_file)]


class Rate(Strict):
    """A rate while nothing happens, and while something does."""

    idle: Hertz
    active: Hertz

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.active < self.idle:
            raise PydanticCustomError("rate", "the active rate can't be below the idle one")
        return self


OpusRate = Literal[8_000, 12_000, 16_000, 24_000, 48_000]
"""Samples a second that Opus knows, in which clips keep the sound of a microphone."""


class SampleRate(Rate):
    """Samples a second while nothing happens, and while something does."""

    idle: OpusRate
    active: OpusRate


def _either(value: object) -> object:
    return value if isinstance(value, dict | Rate) else {"idle": value, "active": value}


Rates = Annotated[Rate, BeforeValidator(_either, json_schema_input_type=Hertz | Rate)]
"""`5`, or `{idle: 1, active: 10}`."""
SampleRates = Annotated[SampleRate, BeforeValidator(_either, json_schema_input_type=OpusRate | SampleRate)]
