"""Fixtures for every room: the real command line, crews of processes, and the sample texts beside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before any library reads them. One thread each: the tests run side by side, and sums come out the same every time.
os.environ.update(
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    WANDB_MODE="offline",
    DO_NOT_TRACK="1",
    MPLBACKEND="agg",
)

import pytest

if TYPE_CHECKING:
    from crew import Crew
    from object_store import ObjectStore

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

RunCli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of sample texts beside the repository; the test is skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the sample texts in ../shared/data, which are not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """`run_cli("plan", recipe, code=0)`: the real command line in its own process.

    Arguments: the words; `code`, the expected exit code (None: any); `cwd`, `stdin`, `timeout` in seconds; `env`,
    variables to add. Returns the completed process with `stdout` and `stderr` as text.
    """

    def run(
        *words: str | Path,
        code: int | None = 0,
        cwd: Path | None = None,
        stdin: str = "",
        timeout: float = 240,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "vernacular.cli.main", *map(str, words)],
            cwd=cwd,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **(env or {})},
            check=False,
        )
        if code is not None and done.returncode != code:
            shown = " ".join(map(str, words))
            pytest.fail(
                f"`vernacular {shown}` exited with {done.returncode}, not {code}:\n{done.stdout}\n{done.stderr}"
            )
        return done

    return run


@pytest.fixture(scope="session")
def hire() -> Iterator[Callable[[int], Crew]]:
    """`hire(4)`: a crew of four; a fresh one where a failed test has ended the last."""
    from crew import Crew

    crews: dict[int, Crew] = {}

    def crew_of(size: int) -> Crew:
        if size not in crews or not all(process.is_alive() for process in crews[size].processes):
            crews[size] = Crew(size)
        return crews[size]

    yield crew_of
    for crew in crews.values():
        crew.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[ObjectStore]:
    """S3 over HTTP, in a thread of this process."""
    pytest.importorskip("s3fs", reason="needs s3fs: pip install 'vernacular[s3]'")
    pytest.importorskip("moto", reason="needs moto, which the dev extra installs")
    from object_store import ObjectStore

    store = ObjectStore()
    yield store
    store.stop()


@pytest.fixture
def object_store(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """It, with an empty bucket, and found by this process and those that it starts."""
    import s3fs

    s3.clear()
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield s3
    s3fs.S3FileSystem.clear_instance_cache()
