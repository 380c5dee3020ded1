"""The C kernels, compiled once per machine by its own compiler and loaded into the process.

What is compiled depends on the processor (`-march=native`), so nothing compiled is shipped: the first use takes a few
seconds, every later one finds the library in `$XDG_CACHE_HOME/vernacular/kernels`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch  # noqa: F401  its OpenMP runtime is loaded first, and shared by what is loaded here

from vernacular.foundation.errors import MachineError
from vernacular.foundation.files import atomic_path

SOURCES = (
    *("panel.c", "pack.c", "linear.c", "experts.c", "attention.c", "rows.c"),
    *("training_product.c", "training_attention.c", "training_attention_gradient.c"),
    "cross_entropy.c",
)
HEADERS = ("vectors.h", "panel.h", "numbers.h", "training_attention.h")
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC", "-lm")
_HERE = Path(__file__).parent
_OTHERWISE = "or choose PyTorch's own kernels with `--kernels torch`, in a recipe `kernels: torch`"

_WORD, _POINTER, _REAL, _INT = ctypes.c_long, ctypes.c_void_p, ctypes.c_float, ctypes.c_int
_MATRIX = (_WORD, _WORD, _WORD, _WORD, _WORD, _POINTER, _POINTER)  # format, N, K, units, group, panels, scales
_SIGNATURES: dict[str, tuple[type[ctypes._SimpleCData[Any]], ...]] = {
    "pack": (_WORD, _WORD, _WORD, _POINTER, _WORD, _WORD, _POINTER, _INT),
    "linear": (*_MATRIX, _POINTER, _WORD, _WORD, _POINTER, _POINTER, _INT),
    "experts": (
        *(_WORD, _WORD, _WORD, _POINTER, _POINTER, _WORD, _WORD, _POINTER, _POINTER, _WORD, _WORD),
        *(_WORD, _POINTER, _POINTER, _POINTER, _WORD, _WORD, _POINTER, _INT),
    ),
    "attend": (
        *(_INT, _POINTER, _WORD, _POINTER, _POINTER, _POINTER, _WORD, _POINTER, _POINTER),
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
    "write_pages": (
        *(_INT, _POINTER, _WORD, _POINTER, _WORD, _POINTER, _POINTER, _POINTER, _WORD, _WORD, _WORD, _INT),
    ),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels. Raises `MachineError` where they cannot be compiled."""
    return load(compiled())


def load(path: Path) -> ctypes.CDLL:
    """Load a compiled library and declare its functions' arguments."""
    loaded = ctypes.CDLL(str(path))
    for name, arguments in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, ctypes.c_int
    return loaded


def compiled(flags: tuple[str, ...] = FLAGS) -> Path:
    """The library's path; compiles it where this compiler has not yet compiled these sources for this processor."""
    compiler = find_compiler()
    path = cache_folder() / f"{_key(compiler, flags)}.so"
    if not path.exists():
        _make_writable(path.parent)
        with atomic_path(path) as temporary:
            _compile(compiler, flags, temporary)
    return path


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vernacular" / "kernels"


def _make_writable(folder: Path) -> None:
    reason = "permission denied"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    if not os.access(folder, os.W_OK):
        raise MachineError(
            f"the compiled CPU kernels cannot be kept: {reason}",
            where=folder,
            fix=f"make the folder writable, set XDG_CACHE_HOME to one that is, {_OTHERWISE}",
        )


def find_compiler() -> Path:
    """`$CC`, or the first of cc, gcc and clang on the path."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return Path(found)
    raise MachineError(
        "the CPU kernels are compiled on first use, and there is no C compiler",
        fix=f"install gcc or clang with OpenMP, {_OTHERWISE}",
    )


def _compile(compiler: Path, flags: tuple[str, ...], out: Path) -> None:
    command = [str(compiler), *(str(_HERE / source) for source in SOURCES), "-o", str(out), *flags]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        errors = [line for line in finished.stderr.splitlines() if "error" in line] or ["no message"]
        raise MachineError(
            f"the CPU kernels do not compile: {errors[0]}",
            where=compiler,
            fix=f"install gcc 11 or clang 14, or a later one, with OpenMP, {_OTHERWISE}",
        )


def _key(compiler: Path, flags: tuple[str, ...]) -> str:
    """Names what the library is made of: sources, flags, compiler, processor."""
    resolved = compiler.resolve()
    state = resolved.stat()  # a compiler's version without starting it: the file changes when it does
    digest = hashlib.sha256(repr((flags, str(resolved), state.st_size, state.st_mtime_ns, _processor())).encode())
    for name in SOURCES + HEADERS:
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """What `-march=native` looks at: the machine and its instruction sets."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join([platform.machine(), platform.processor(), *sorted(set(features))])
