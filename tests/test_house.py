"""The rules of the house that a test can hold. Limits only ever get tighter."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "vernacular"

MOST_LINES_PER_FILE = 450
MOST_LINES_PER_FUNCTION = 80
MOST_BYTES_PER_FILE = 1 << 20

# A recipe's configurations, which `plan` and editors read, load nothing that works on data;
# `import vernacular` and `vernacular --help` load less still.
HEAVY_FOR_CONFIGURATION = {"torch", "pyarrow", "daft", "transformers", "datasets", "lm_eval", "tokenizers", "scipy"}
HEAVY = HEAVY_FOR_CONFIGURATION | {"numpy", "pydantic", "yaml"}

FOLDER_OF_A_MACHINE = re.compile(r"(?<![\w.~-])/(?:root|work|home/(?!someone\b)\w+|Users/\w+|mnt/\w+|opt/\w+)\b")
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".json", ".jsonl", ".jinja", ".cfg", ""}

PYTHON_FILES = sorted(path for folder in ("src", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def tracked_files() -> list[Path]:
    """What git holds, or would hold after `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("needs a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after a fresh interpreter has run `code`."""
    script = f"import sys\n{code}\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.splitlines()[-1].split())


def test_files_are_short() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON_FILES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_PER_FILE} == {}


def test_functions_are_short() -> None:
    too_long = {
        f"{relative(path)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in PYTHON_FILES
        for node in functions(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > MOST_LINES_PER_FUNCTION
    }
    assert too_long == {}


def test_nothing_is_called_utils() -> None:
    vague = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert [relative(path) for path in PACKAGE.rglob("*") if path.stem in vague] == []


def test_init_files_hold_only_a_docstring() -> None:
    for path in PACKAGE.glob("*/**/__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1, f"{relative(path)} holds more than a docstring"
        assert isinstance(body[0], ast.Expr), f"{relative(path)} holds no docstring"


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = []
    for path in tracked_files():
        if path.suffix not in TEXT_SUFFIXES or path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if FOLDER_OF_A_MACHINE.search(line):
                found.append(f"{relative(path)}:{number}: {line.strip()}")
    assert found == []


def test_no_file_is_large() -> None:
    sizes = {relative(path): path.stat().st_size for path in tracked_files()}
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES_PER_FILE} == {}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import vernacular") & HEAVY == set()


def test_help_loads_nothing_heavy() -> None:
    code = "from vernacular.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    assert loaded_by(code) & HEAVY == set()


def test_importing_the_package_loads_a_part_of_the_standard_library_at_most() -> None:
    # A stand-in for its cost in seconds, which a loaded machine cannot measure; benchmarks/ holds the seconds.
    added = loaded_by("import vernacular") - loaded_by("pass") - {"vernacular"}
    assert added - sys.stdlib_module_names == set()
    assert len(added) < 30


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/configuration.py")), ids=lambda path: path.parent.name)
def test_configurations_load_nothing_heavy(path: Path) -> None:
    assert loaded_by(f"import vernacular.{path.parent.name}.configuration") & HEAVY_FOR_CONFIGURATION == set()


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_valid(path: Path) -> None:
    from vernacular.foundation.configuration import read_yaml
    from vernacular.lifecycle.recipe import load_recipe

    asked_for = [key for key, value in read_yaml(path).value.get("parameters", {}).items() if value is None]
    load_recipe(path, [f"{key}={ROOT / 'docs'}" for key in asked_for])


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=240)
    (wheel,) = tmp_path.glob("vernacular-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {relative(path).removeprefix("src/") for path in tracked_files() if PACKAGE in path.parents}
    assert wanted - held == set()
    assert "vernacular/py.typed" in held
