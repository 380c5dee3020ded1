"""The C kernels: sources, arguments, and the library that the machine's own compiler makes of them on first use."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch  # noqa: F401  its OpenMP runtime is loaded first, and shared by what is loaded here

from vernacular.foundation.native import FLAGS, Arguments, NativeLibrary

SOURCES = (
    *("panel.c", "tiles.c", "pack.c", "linear.c", "experts.c", "attention.c", "pages.c", "rows.c"),
    *("block.c", "scores.c"),
    *("training_product.c", "training_attention.c", "training_attention_gradient.c"),
    "cross_entropy.c",
)
HEADERS = ("vectors.h", "panel.h", "tiles.h", "linear.h", "pages.h", "numbers.h", "training_attention.h")

_WORD, _POINTER, _REAL, _INT = ctypes.c_long, ctypes.c_void_p, ctypes.c_float, ctypes.c_int
_SIGNATURES: dict[str, Arguments] = {
    "pack": (_WORD, _WORD, _WORD, _POINTER, _WORD, _POINTER, _INT),
    "linear": (_POINTER, _INT, _REAL, _POINTER, _WORD, _WORD, _POINTER, _WORD, _WORD, _POINTER, _INT),
    "block": (_POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    "experts": (
        *(_WORD, _WORD, _WORD, _POINTER, _POINTER, _WORD, _WORD, _POINTER, _POINTER, _WORD, _WORD),
        *(_WORD, _POINTER, _POINTER, _POINTER, _WORD, _WORD, _POINTER, _INT),
    ),
    "attend": (
        *(_INT, _POINTER, _WORD, _POINTER, _POINTER, _WORD, _POINTER, _WORD, _POINTER, _POINTER),
        *(_WORD, _WORD, _WORD, _WORD, _REAL, _WORD, _POINTER, _POINTER, _INT),
    ),
    "training_attention": (
        *(_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
        *(_WORD, _WORD, _WORD, _WORD, _WORD, _REAL, _POINTER, _POINTER, _INT),
    ),
    "training_attention_gradient": (
        *(_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
        *(_WORD, _WORD, _WORD, _WORD, _WORD, _REAL, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    ),
    "norm_rows": (*(_INT, _INT, _INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _WORD, _WORD, _REAL, _INT),),
    "norm_rows_gradient": (
        *(_INT, _INT, _INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _WORD, _WORD, _INT),
    ),
    "rotate_rows": (
        *(_INT, _INT, _POINTER, _WORD, _POINTER, _WORD, _POINTER, _POINTER, _REAL, _WORD, _WORD, _WORD, _INT),
    ),
    "gate_rows": (_INT, _POINTER, _POINTER, _WORD, _POINTER, _POINTER, _WORD, _WORD, _INT),
    "gate_rows_gradient": (
        *(_INT, _POINTER, _POINTER, _WORD, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _WORD, _WORD, _INT),
    ),
    "add_rows": (_INT, _INT, _POINTER, _POINTER, _REAL, _POINTER, _WORD, _INT),
    "sum_rows": (_INT, _POINTER, _POINTER, _WORD, _POINTER, _WORD, _WORD, _INT),
    "cross_entropy": (
        *(_INT, _INT, _POINTER, _POINTER, _POINTER, _REAL, _POINTER, _POINTER, _POINTER, _WORD, _WORD, _INT),
    ),
    "score_rows": (_INT, _POINTER, _POINTER, _POINTER, _WORD, _WORD, _INT),
    "score_product": (
        *(_POINTER, _REAL, _POINTER, _WORD, _WORD, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    ),
    "write_pages": (
        *(_INT, _POINTER, _WORD, _POINTER, _WORD, _POINTER, _POINTER, _WORD, _POINTER, _POINTER),
        *(_WORD, _WORD, _WORD, _INT),
    ),
}


LIBRARY = NativeLibrary(
    name="kernels",
    title="CPU kernels",
    folder=Path(__file__).parent,
    sources=SOURCES,
    signatures=_SIGNATURES,
    headers=HEADERS,
    flags=(*FLAGS, "-fopenmp"),
    otherwise=", or choose PyTorch's own kernels with `--kernels torch`, in a recipe `kernels: torch`",
)


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels. Raises `MachineError` where they cannot be compiled."""
    return LIBRARY.load()
