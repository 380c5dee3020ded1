"""The CPU kernels are compiled once, kept, and refused with a remedy where they cannot be."""

from __future__ import annotations

import os
import platform
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vernacular.foundation.errors import MachineError
from vernacular.foundation.native import NativeLibrary, find_compiler
from vernacular.kernels.build import LIBRARY

USE = """
import torch
from vernacular.kernels import build
from vernacular.kernels.linear import PackedLinear
flags = tuple("-O0" if flag == "-O3" else flag for flag in build.LIBRARY.flags)  # sooner
library = build.LIBRARY.load(build.LIBRARY.compiled(flags))
build.library = lambda: library
print(PackedLinear(torch.ones(2, 4), "float32")(torch.ones(1, 4)).tolist())
"""


def counting_compiler(folder: Path) -> Path:
    """A compiler that notes each call and lets the real one do the work."""
    compiler = folder / "counting-cc"
    compiler.write_text(f'#!/bin/sh\necho called >> "{folder}/calls"\nexec "{find_compiler()}" "$@"\n')
    compiler.chmod(0o755)
    return compiler


def start(cache: Path, **environment: str) -> subprocess.Popen[str]:
    settings = os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(
        [sys.executable, "-c", USE], env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def answer(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out.strip()


def test_two_processes_at_once_then_a_third_that_finds_it(tmp_path: Path) -> None:
    compiler = counting_compiler(tmp_path)
    cache = tmp_path / "cache"
    both = [start(cache, CC=str(compiler)) for _ in range(2)]
    assert [answer(process) for process in both] == ["[[4.0, 4.0]]"] * 2
    calls = (tmp_path / "calls").read_text().count("called")
    assert 1 <= calls <= 2
    assert answer(start(cache, CC=str(compiler))) == "[[4.0, 4.0]]"
    assert (tmp_path / "calls").read_text().count("called") == calls
    assert [path.suffix for path in (cache / "vernacular" / "kernels").iterdir()] == [".so"]


def test_other_flags_or_another_compiler_make_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(NativeLibrary, "_compile", lambda self, compiler, flags, out: out.write_bytes(b"library"))
    first = LIBRARY.compiled()
    assert first.parent == tmp_path / "cache" / "vernacular" / "kernels"
    assert LIBRARY.compiled() == first
    assert LIBRARY.compiled((*LIBRARY.flags, "-g")) != first
    monkeypatch.setenv("CC", str(counting_compiler(tmp_path)))
    assert LIBRARY.compiled() != first


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(MachineError) as caught:
        LIBRARY.compiled()
    assert "no C compiler" in caught.value.message
    assert "install gcc or clang" in str(caught.value.fix) and "--kernels torch" in str(caught.value.fix)


def test_with_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "old-cc"
    compiler.write_text("#!/bin/sh\necho \"cc: error: unrecognized option '-march=native'\" >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MachineError, match="unrecognized option") as caught:
        LIBRARY.compiled()
    assert caught.value.where == str(compiler) and "--kernels torch" in str(caught.value.fix)
    assert not list((tmp_path / "cache").rglob("*.so*"))


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    with pytest.raises(MachineError) as caught:
        LIBRARY.compiled()
    assert "cannot be kept: not a directory" in caught.value.message
    assert "XDG_CACHE_HOME" in str(caught.value.fix) and "--kernels torch" in str(caught.value.fix)

    if os.geteuid() != 0:  # root writes anywhere
        folder.unlink()
        folder.mkdir()
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(MachineError, match="cannot be kept: permission denied"):
            LIBRARY.compiled()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names instruction sets of x86-64")
@pytest.mark.parametrize("march", ["x86-64", "x86-64-v3"])
def test_the_tests_hold_on_lesser_processors(march: str, tmp_path: Path) -> None:
    flags = tuple(f"-march={march}" if flag.startswith("-march") else flag for flag in LIBRARY.flags)
    script = f"""
import pytest, sys
from pathlib import Path
from vernacular.kernels import build
flags = {flags!r}
library = build.LIBRARY.load(build.LIBRARY.compiled(flags))
build.library = lambda: library
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""
    rooms = [str(Path(__file__).with_name(f"test_kernels_{noun}.py")) for noun in ("linear", "attention", "scores")]
    settings = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", script, *rooms], env=settings, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-1000:]
