"""C of our own: compiled once per machine by its own compiler, kept, and loaded into the process.

What is compiled depends on the processor (`-march=native`), so nothing compiled is shipped: the first use takes some
seconds, every later one finds the library in `$XDG_CACHE_HOME/vernacular/NAME`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vernacular.foundation.errors import MachineError
from vernacular.foundation.files import atomic_path

if TYPE_CHECKING:
    import numpy as np

FLAGS = ("-O3", "-march=native", "-std=gnu11", "-ffp-contract=fast", "-shared", "-fPIC", "-lm")

Arguments = tuple[Any, ...]
"""A C function's arguments, as ctypes names their types."""


@dataclass(frozen=True)
class NativeLibrary:
    """A shared library made of C sources.

    Attributes:
        name: the folder it is kept in.
        title: what the sources are, in the plural, in errors.
        folder: where the sources and headers lie.
        sources: files that are compiled.
        signatures: arguments of each function; all return an int.
        headers: files that they include.
        flags: of the compiler.
        otherwise: what can be done where nothing can be compiled, as the end of a sentence (", or …"); may be empty.
    """

    name: str
    title: str
    folder: Path
    sources: tuple[str, ...]
    signatures: Mapping[str, Arguments]
    headers: tuple[str, ...] = ()
    flags: tuple[str, ...] = FLAGS
    otherwise: str = ""

    def load(self, path: Path | None = None) -> ctypes.CDLL:
        """Load the library, or another compiled one, and declare its functions' arguments.

        Raises:
            MachineError: it cannot be compiled, or not be kept.
        """
        loaded = ctypes.CDLL(str(path or self.compiled()))
        for name, arguments in self.signatures.items():
            function = getattr(loaded, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
        return loaded

    def compiled(self, flags: tuple[str, ...] | None = None) -> Path:
        """The library's path; compiles where this compiler has not yet compiled these sources for this processor."""
        flags = self.flags if flags is None else flags
        compiler = self._find_compiler()
        path = cache_folder() / self.name / f"{self._key(compiler, flags)}.so"
        if not path.exists():
            self._make_writable(path.parent)
            with atomic_path(path) as temporary:
                self._compile(compiler, flags, temporary)
        return path

    def _find_compiler(self) -> Path:
        found = find_compiler()
        if found is None:
            raise MachineError(
                f"the {self.title} are compiled on first use, and there is no C compiler",
                fix=f"install gcc or clang{self.otherwise}",
            )
        return found

    def _make_writable(self, folder: Path) -> None:
        reason = "permission denied"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        if not os.access(folder, os.W_OK):
            raise MachineError(
                f"the compiled {self.title} cannot be kept: {reason}",
                where=folder,
                fix=f"make the folder writable, set XDG_CACHE_HOME to one that is{self.otherwise}",
            )

    def _compile(self, compiler: Path, flags: tuple[str, ...], out: Path) -> None:
        command = [str(compiler), *(str(self.folder / source) for source in self.sources), "-o", str(out), *flags]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            errors = [line for line in finished.stderr.splitlines() if "error" in line] or ["no message"]
            raise MachineError(
                f"the {self.title} do not compile: {errors[0]}",
                where=compiler,
                fix=f"install gcc 11 or clang 14, or a later one, with OpenMP{self.otherwise}",
            )

    def _key(self, compiler: Path, flags: tuple[str, ...]) -> str:
        """Names what the library is made of: sources, flags, compiler, processor."""
        resolved = compiler.resolve()
        state = resolved.stat()  # a compiler's version without starting it: the file changes when it does
        made_of = (flags, str(resolved), state.st_size, state.st_mtime_ns, _processor())
        digest = hashlib.sha256(repr(made_of).encode())
        for name in self.sources + self.headers:
            digest.update((self.folder / name).read_bytes())
        return digest.hexdigest()[:32]


def address(array: np.ndarray) -> int:
    """Of an array's memory, as a C function takes it."""
    return array.ctypes.data


def cache_folder() -> Path:
    """Where compiled libraries are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vernacular"


def find_compiler() -> Path | None:
    """`$CC`, or the first of cc, gcc and clang on the path; None where there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return Path(found)
    return None


def _processor() -> str:
    """What `-march=native` looks at: the machine and its instruction sets."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join([platform.machine(), platform.processor(), *sorted(set(features))])
