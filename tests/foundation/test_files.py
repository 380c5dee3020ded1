"""Atomic files: whole at their final name, or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vernacular.foundation.errors import MachineError, UserError, machine_errors
from vernacular.foundation.files import (
    atomic_folder,
    atomic_path,
    files_under,
    read_json,
    read_json_object,
    read_text,
    sha256_json,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "ஒன்று")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "ஒன்று"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder = tmp_path / "weights"
    write_text(folder / "notes.txt", "ஒன்று")
    move = os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise error
        move(source, target)

    with pytest.raises(type(error)), atomic_folder(folder) as new:
        (new / "notes.txt").write_text("இரண்டு", encoding="utf-8")
        monkeypatch.setattr(os, "replace", fail)
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "ஒன்று"
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights"]


def test_the_old_folder_outlives_a_move_back_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    write_text(folder / "notes.txt", "ஒன்று")
    move = os.replace

    def only_away(source: Path, target: Path) -> None:
        if Path(source) != folder:
            raise OSError(errno.EIO, "Input/output error")
        move(source, target)

    with pytest.raises(OSError, match="Input/output"), atomic_folder(folder):
        monkeypatch.setattr(os, "replace", only_away)
    (kept,) = tmp_path.rglob("notes.txt")
    assert kept.read_text(encoding="utf-8") == "ஒன்று"


def test_a_full_disk_names_the_path_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught, machine_errors("writing", tmp_path / "big"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "disk is full" in str(caught.value)
    assert str(tmp_path / "big") in str(caught.value)


def test_other_system_errors_pass_unchanged() -> None:
    with pytest.raises(FileNotFoundError), machine_errors("reading"):
        raise FileNotFoundError(errno.ENOENT, "gone")


def test_malformed_json_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{\n  "a": }\n')
    with pytest.raises(UserError, match=r"a\.json:2:8"):
        read_json(path)


def test_text_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="file not found"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(UserError, match="this is a folder"):
        read_text(tmp_path)
    (tmp_path / "latin.txt").write_bytes("żółw".encode("iso-8859-2"))
    with pytest.raises(UserError, match=r"not valid UTF-8 at byte 0(.|\n)*latin\.txt"):
        read_text(tmp_path / "latin.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_text_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "mine.txt", "a")
    (tmp_path / "mine.txt").chmod(0)
    with pytest.raises(UserError, match=r"may not be read(.|\n)*mine\.txt"):
        read_text(tmp_path / "mine.txt")


@pytest.mark.parametrize(
    ("content", "held"), [("[]", "a list"), ('"ஒன்று"', "a text"), ("null", "null"), ("2", "number")]
)
def test_json_that_is_no_object_is_refused(tmp_path: Path, content: str, held: str) -> None:
    write_text(tmp_path / "config.json", content)
    with pytest.raises(UserError, match=rf"holds .*{held}, not an object(.|\n)*config\.json"):
        read_json_object(tmp_path / "config.json")


def test_hidden_and_unfinished_files_are_not_listed(tmp_path: Path) -> None:
    write_text(tmp_path / "b" / "c.txt", "c")
    write_text(tmp_path / "a.txt", "a")
    (tmp_path / ".a.txt.part").write_text("half")
    assert [str(path.relative_to(tmp_path)) for path in files_under(tmp_path)] == ["a.txt", "b/c.txt"]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), _VALUES, max_size=4))
def test_the_hash_of_a_value_does_not_depend_on_the_order_of_its_keys(value: dict[str, object]) -> None:
    assert sha256_json(value) == sha256_json(dict(reversed(value.items())))


def test_json_survives_the_file(tmp_path: Path) -> None:
    value = {"भाषा": ["हिन्दी", "polski"], "n": 3}
    write_json(tmp_path / "v.json", value)
    assert read_json(tmp_path / "v.json") == value
