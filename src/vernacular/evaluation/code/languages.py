"""Languages whose programs can be run: their tools, how they are built, and how the verdict is given."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field

from vernacular.foundation.configuration import Configuration, parse_yaml, validate
from vernacular.foundation.errors import MachineError, unknown_name

PYTHON, GO, RUST = "python", "go", "rust"


class Needs(Configuration):
    """Libraries that the benchmark's own programs use."""

    packages: str = Field(description="Debian's packages of them")
    program: str = Field(description="builds only where they are")


class Libraries(Configuration):
    """Libraries that are built once, for every program of a language."""

    packages: str = Field(description="Debian's packages of their sources")
    sources: Mapping[str, str]
    build: str
    products: str


class Language(Configuration):
    """A language as `languages.yaml` has it."""

    title: str
    tools: Mapping[str, str]
    run: tuple[str, ...]
    stdin: Literal["token", "json"]
    processes: int = Field(gt=0)
    sources: Mapping[str, str] = Field(default_factory=dict)
    given: Mapping[str, str] = Field(default_factory=dict)
    build: str | None = None
    products: str = ""
    needs: Needs | None = None
    home: tuple[str, ...] = Field((), description="a command that prints the folder with the tools' `bin`")
    libraries: Libraries | None = None

    def commands(self) -> dict[str, Path]:
        """Where its tools are.

        Raises:
            MachineError: one is missing.
        """
        found = {name: shutil.which(name) for name in self.tools}
        for name, path in found.items():
            if path is None:
                raise MachineError(
                    f"programs in {self.title} cannot be run: there is no '{name}'",
                    where=f"{self.title} (code execution)",
                    fix=f"install it (Debian: apt-get install {self.tools[name]}), or leave out tasks in {self.title}",
                )
        if self.home:
            done = subprocess.run(self.home, capture_output=True, text=True, check=True, timeout=60)
            return {name: Path(done.stdout.strip()) / "bin" / name for name in self.tools}
        return {name: Path(path).resolve() for name, path in found.items() if path is not None}

    def shown(self) -> list[Path]:
        """Files and folders that the tools need besides the system's."""
        extra = sorted(Path("/etc").glob("java-*")) if "java" in self.tools else []
        return [*{_home(path) for path in self.commands().values()}, *extra]


def _home(tool: Path) -> Path:
    """The folder a tool is installed in: that above its `bin`, where it has one."""
    return tool.parent.parent if tool.parent.name == "bin" else tool.parent


@functools.cache
def languages() -> Mapping[str, Language]:
    """All but Python, by name."""
    document = parse_yaml((files("vernacular.evaluation.code") / "languages.yaml").read_text(encoding="utf-8"))
    return {name: validate(Language, value, document, at=(name,)) for name, value in document.value.items()}


def find_language(name: str) -> Language | None:
    """A language by name; None for Python, whose programs are examined by Python."""
    if name == PYTHON:
        return None
    if name not in languages():
        raise unknown_name("programming language", name, (PYTHON, *languages()), where="code execution")
    return languages()[name]


def harness(name: str) -> bytes:
    """A file of `harness/`, or of `within/`."""
    return (files("vernacular.evaluation.code") / name).read_bytes()
