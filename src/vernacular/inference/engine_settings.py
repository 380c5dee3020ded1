"""What an engine may be told; apart from the engine, so that --help can show it without loading torch."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from vernacular.foundation.configuration import Configuration

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class EngineSettings(Configuration):
    """How much an engine takes on at once."""

    cache_bytes: int | None = Field(
        None,
        gt=0,
        description="memory for keys and values, e.g. 500MiB or 4GiB (default: half of what is free; on a CPU 2 GiB "
        "at most)",
    )
    tokens_per_step: int | None = Field(
        None, gt=0, description="most tokens in one forward pass (default: 512 on a CPU, 8192 on a GPU)"
    )
    most_rows: int = Field(256, gt=0, description="most answers that are written at once; others wait")
    recorded: bool | None = Field(
        None,
        description="whether decoding is compiled, recorded as CUDA graphs and replayed (default: on a GPU, yes; "
        "a CPU has none)",
    )

    @field_validator("cache_bytes", mode="before")
    @classmethod
    def _with_unit(cls, value: object) -> object:
        written = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(KiB|MiB|GiB)", value) if isinstance(value, str) else None
        return value if written is None else int(float(written[1]) * _UNITS[written[2]])
