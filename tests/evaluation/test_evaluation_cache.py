"""Answers of earlier evaluations: found by what decides them, shown, bounded, and refused where they were altered."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet
import pytest

from vernacular.evaluation.answer_cache import AnswerCache
from vernacular.evaluation.answer_file import AnswerFile
from vernacular.evaluation.command import Places, evaluate_weights
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.foundation.errors import UserError

IDENTITY = {"weights": "w" * 64, "dtype": "float32"}
SETTINGS = EvaluateConfiguration(only=("capitals_choice",))


def kept(cache: AnswerCache, identity: dict[str, str], key: str, folder: Path) -> None:
    file = AnswerFile(folder / "answers.jsonl")
    file.add({key: [0.5, True]}, 0.25)
    file.close()
    cache.keep(identity, [file.path])


def test_a_second_evaluation_asks_nothing_and_says_so(
    tasks: Path, fake_model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, model = AnswerCache(tmp_path / "cache"), fake_model()

    def run(name: str, cache: AnswerCache | None, settings: EvaluateConfiguration = SETTINGS) -> tuple[int, int]:
        model.prompts.clear()
        places = Places("w", tmp_path / name, tasks=tasks)
        summary = evaluate_weights(settings, places, lambda _: model, cache=cache)
        assert not list((tmp_path / name).glob("answers*"))
        return len(model.prompts), summary["cached"]

    assert run("first", cache, SETTINGS.model_copy(update={"limit": 2})) == (8, 0)
    assert run("more", cache) == (16, 8)
    assert run("again", cache) == (0, 24)
    assert f"24 of 24 answers were there from earlier evaluations ({tmp_path / 'cache'})" in capsys.readouterr().err
    assert run("anew", None) == (24, 0)
    for name in ("scores.json", "records/run.json", "records/capitals_choice.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "anew" / name).read_bytes()
    logged = [
        pyarrow.parquet.read_table(tmp_path / name / "logs/seconds.parquet")["cached"].to_pylist()
        for name in ("more", "anew")
    ]
    assert logged == [[True] * 8 + [False] * 16, [False] * 24]
    model.template = True  # Another identity.
    assert run("another", cache, SETTINGS.model_copy(update={"template": "never"})) == (24, 0)


def test_an_altered_answer_is_refused(tasks: Path, fake_model, tmp_path: Path) -> None:
    cache, model = AnswerCache(tmp_path / "cache"), fake_model()
    evaluate_weights(SETTINGS, Places("w", tmp_path / "first", tasks=tasks), lambda _: model, cache=cache)
    (path,) = cache.files(model.identity)
    path.write_bytes(path.read_bytes().replace(b"-1.0", b"-0.1", 1))
    with pytest.raises(UserError, match="does not match its checksum") as caught:
        evaluate_weights(SETTINGS, Places("w", tmp_path / "next", tasks=tasks), lambda _: model, cache=cache)
    assert str(caught.value.where) == f"{path}:1"


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache", most_bytes=400)
    for number in range(3):
        kept(cache, {**IDENTITY, "weights": str(number)}, "k" * 64, tmp_path)
        for path in cache.files({**IDENTITY, "weights": str(number)}):
            os.utime(path, (number, number))
    os.utime(cache.files({**IDENTITY, "weights": "0"})[0], (9, 9))
    kept(cache, IDENTITY, "k" * 64, tmp_path)
    left = [name for name in "012" if list(cache.files({**IDENTITY, "weights": name}))]
    assert left == ["0", "2"]
    assert cache.files(IDENTITY)
    assert sum(path.stat().st_size for path in cache.folder.glob("*/*")) <= 400
    assert len(list(cache.folder.iterdir())) == 3


def test_a_line_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    writer = AnswerFile(tmp_path / "writer.jsonl")
    writer.add({"a": [1.0]}, 0.5)
    half = writer.path.read_bytes()[:-9]
    writer.close()
    other = tmp_path / "other.jsonl"
    other.write_bytes(half)
    reader = AnswerFile(tmp_path / "reader.jsonl")
    reader.take_in(other)
    assert reader.get("a") is None
    other.write_bytes(writer.path.read_bytes())
    reader.take_in(other)
    assert reader.get("a") == ([1.0], 0.5, False)
    reader.close()
