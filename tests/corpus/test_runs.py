"""Runs on disk: each row is in one part of them, wherever it stood."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vernacular.corpus.runs import Part, Runs, write_run

IDS = st.lists(
    st.text("0123456789abcdef", min_size=32, max_size=32) | st.sampled_from(["0" * 32, "8" + "0" * 31, "f" * 32])
)


def _written(folder: Path, runs: list[list[str]]) -> Runs:
    paths = [folder / f"{number:05d}.arrow" for number in range(len(runs))]
    for number, (path, ids) in enumerate(zip(paths, runs, strict=True)):
        rows = {"id": pa.array(ids, pa.string()), "text": pa.array([f"{number} {i}" for i in ids], pa.large_string())}
        write_run(pa.table(rows), path)
    return Runs(paths)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(IDS, min_size=1, max_size=3), st.integers(1, 3000))
def test_every_row_is_in_one_part(tmp_path: Path, ids: list[list[str]], bytes_at_once: int) -> None:
    ids = [["7" * 32], *ids]
    runs = _written(tmp_path, ids)
    parts = runs.parts(bytes_at_once)
    rows = [(part, row) for part in parts for row in runs.read(part, ["text", "id"]).to_pylist()]
    expected = [(i, f"{number} {i}") for number, each in enumerate(ids) for i in each]
    assert sorted((row["id"], row["text"]) for _, row in rows) == sorted(expected)
    assert all(part.low <= row["id"] and (part.high is None or row["id"] < part.high) for part, row in rows)


def test_empty_texts(tmp_path: Path) -> None:
    rows = pa.table(
        {"id": [f"{number:032x}" for number in range(300)], "text": pa.array([""] * 300, pa.large_string())}
    )
    write_run(rows, tmp_path / "0.arrow")
    runs = Runs([tmp_path / "0.arrow"])
    assert runs.read(runs.parts(1 << 30)[0], ["text"])["text"].to_pylist() == [""] * 300


def test_equal_ids_over_several_batches(tmp_path: Path) -> None:
    runs = _written(tmp_path, [["1" * 32] * 200 + ["2" * 32] * 300 + ["3" * 32]])
    bounds = ("1111", "2222", "3333")
    counts = [len(runs.read(Part(low, high), ["id"])) for low, high in zip(bounds, [*bounds[1:], None], strict=True)]
    assert counts == [200, 300, 1]
