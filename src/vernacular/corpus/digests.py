"""The SHA-256 of many texts at once (digests.c): `hashlib` takes them one by one, for twice the time."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from vernacular.foundation.native import NativeLibrary, address

_DIGEST_BYTES = 32
_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_long


@cache
def _native() -> ctypes.CDLL:
    return NativeLibrary(
        name="digests",
        title="functions for digests",
        folder=Path(__file__).parent,
        sources=("digests.c",),
        signatures={"sha256_texts": (_POINTER, _POINTER, _NUMBER, _POINTER)},
    ).load()


def text_digests(texts: pa.Array) -> np.ndarray:
    """uint8 [D, 32]: the SHA-256 of each text (large_string [D], no nulls)."""
    digests = np.empty((len(texts), _DIGEST_BYTES), dtype=np.uint8)
    if len(texts):
        _, offsets, data = texts.buffers()
        content = np.frombuffer(data or b"\0", dtype=np.uint8)
        bounds = np.frombuffer(offsets, dtype=np.int64)[texts.offset :]
        _native().sha256_texts(address(content), address(bounds), len(texts), address(digests))
    return digests
