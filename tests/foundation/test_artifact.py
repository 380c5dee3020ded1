"""The artifact: written last, checksummed, refused when damaged."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from vernacular.foundation.artifact import (
    Input,
    check_outputs,
    check_sizes,
    is_finished,
    read_artifact,
    write_artifact,
)
from vernacular.foundation.errors import UserError


def finish(folder: Path, **changes: object) -> None:
    settings = {
        "stage": "corpus",
        "do": "curate",
        "fingerprint": "f" * 64,
        "configuration": {"language": "हिन्दी"},
        "inputs": {"documents": Input("raw", "d" * 64)},
        "summary": {"documents": 3},
        "started": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "seconds": 1.5,
    }
    write_artifact(folder, **{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "zażółć.txt").write_text("gęślą jaźń", encoding="utf-8")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "times.txt").write_text("1.0")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step").write_text("…")
    (tmp_path / "unfinished.json").write_text("{}")
    return tmp_path


def test_what_is_written_is_read_back(folder: Path) -> None:
    assert not is_finished(folder)
    finish(folder)
    artifact = read_artifact(folder)
    assert artifact.configuration == {"language": "हिन्दी"}
    assert artifact.inputs == {"documents": Input("raw", "d" * 64)}
    assert set(artifact.outputs) == {"documents/zażółć.txt", "logs/times.txt"}
    assert artifact.outputs["documents/zażółć.txt"].bytes == len("gęślą jaźń".encode())
    assert not (folder / "unfinished.json").exists()
    check_outputs(folder, artifact)


def test_the_digest_follows_the_content_but_not_the_logs(folder: Path) -> None:
    finish(folder)
    first = read_artifact(folder).digest
    (folder / "logs" / "times.txt").write_text("2.0")
    finish(folder, seconds=9.0, fingerprint="a" * 64)
    assert read_artifact(folder).digest == first
    (folder / "documents" / "zażółć.txt").write_text("gęślą jaźn", encoding="utf-8")
    finish(folder)
    assert read_artifact(folder).digest != first


def test_an_unfinished_folder_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="not finished"):
        read_artifact(folder)
    with pytest.raises(UserError, match="does not exist"):
        read_artifact(folder / "nowhere")


def test_a_truncated_output_is_named_with_its_checksum(folder: Path) -> None:
    finish(folder)
    artifact = read_artifact(folder)
    path = folder / "documents" / "zażółć.txt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=artifact.outputs["documents/zażółć.txt"].sha256):
        check_sizes(folder, artifact)


def test_an_altered_output_is_named_with_both_checksums(folder: Path) -> None:
    finish(folder)
    artifact = read_artifact(folder)
    path = folder / "documents" / "zażółć.txt"
    path.write_bytes(path.read_bytes().replace(b"g", b"G", 1))
    check_sizes(folder, artifact)
    with pytest.raises(UserError, match="was altered") as caught:
        check_outputs(folder, artifact)
    assert artifact.outputs["documents/zażółć.txt"].sha256 in str(caught.value)


def test_a_missing_output_is_named(folder: Path) -> None:
    finish(folder)
    (folder / "documents" / "zażółć.txt").unlink()
    with pytest.raises(UserError, match="is missing"):
        check_sizes(folder, read_artifact(folder))


def test_a_record_that_is_none_is_refused(folder: Path) -> None:
    (folder / "artifact.json").write_text('{"format": 1, "inputs": {}, "outputs": {}}')
    with pytest.raises(UserError, match="not an artifact's record"):
        read_artifact(folder)
