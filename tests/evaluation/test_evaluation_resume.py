"""Killed in the middle and gone on with: the record equals an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from vernacular.evaluation.answer_file import ANSWERS, AnswerFile
from vernacular.evaluation.answers import RememberingModel
from vernacular.evaluation.command import Places, evaluate_weights
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.foundation.errors import UserError
from vernacular.models.language_model import Sampling

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import FakeModel
from vernacular.evaluation import answers
from vernacular.evaluation.command import Places, evaluate_weights
from vernacular.evaluation.configuration import EvaluateConfiguration

answers._FIRST_CHUNK = 5
asked = 0

def score(context, continuation):
    global asked
    asked += 1
    if asked > 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return -0.25 * len(continuation) - 0.5

places = Places("w", Path({out!r}), tasks=Path({tasks!r}))
evaluate_weights(EvaluateConfiguration(), places, lambda folder: FakeModel(score=score))
"""


def test_killed_and_resumed_equals_undisturbed(tasks: Path, fake_model, tmp_path: Path) -> None:
    def load(_: Path):
        return fake_model(score=lambda context, continuation: -0.25 * len(continuation) - 0.5)

    def places(name: str) -> Places:
        return Places("w", tmp_path / name, tasks=tasks)

    evaluate_weights(EvaluateConfiguration(), places("undisturbed"), load)
    script = SCRIPT.format(tests=str(ROOT / "tests/evaluation"), out=str(tmp_path / "killed"), tasks=str(tasks))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, timeout=240, check=False)
    assert killed.returncode == -signal.SIGKILL
    kept = (tmp_path / "killed" / ANSWERS).read_bytes().count(b"\n")
    assert kept in (6, 10)  # Six answers to the other task came first, or two chunks of five of this one.
    with pytest.raises(UserError, match="holds an unfinished evaluation"):
        evaluate_weights(EvaluateConfiguration(), places("killed"), load)
    with pytest.raises(UserError, match="asked for differently"):
        evaluate_weights(EvaluateConfiguration(limit=2), places("killed"), load, resume=True)
    evaluate_weights(EvaluateConfiguration(), places("killed"), load, resume=True)
    for name in ("scores.json", "scores.md", "records/run.json", "records/capitals_choice.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name
    assert not (tmp_path / "killed" / ANSWERS).exists()
    seconds = pyarrow.parquet.read_table(tmp_path / "killed/logs/seconds.parquet").to_pylist()
    assert len(seconds) == 30
    assert all(row["seconds"] >= 0 for row in seconds)


def test_what_was_answered_is_not_asked_again(fake_model, tmp_path: Path) -> None:
    model = fake_model(answer=lambda prompt: prompt.upper())
    sampling = Sampling(max_new_tokens=4, log_probabilities=0)
    for expected in (3, 3):  # The second time from the file alone.
        file = AnswerFile(tmp_path / "answers.jsonl")
        remembering = RememberingModel(model, file)
        pairs = [("गाँव", "पास"), ("wieś", "blisko"), ("गाँव", "पास")]
        assert [one.log_probability for one in remembering.loglikelihood(pairs)] == [-1.0] * 3
        (generation,) = remembering.complete(["tak"], [sampling])
        assert generation.text == "TAK"
        file.close()
        assert len(model.prompts) == expected
    file = AnswerFile(tmp_path / "answers.jsonl")
    RememberingModel(model, file).complete(["tak"], [sampling.model_copy(update={"seed": 1})])
    RememberingModel(fake_model(template=True), file).loglikelihood([("wieś", "blisko")])
    file.close()
    assert len(file) == 5  # Another seed and another template are other questions.


def test_a_line_cut_off_is_dropped_and_an_altered_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path)
    file.add({"a": [1.0, True], "b": [2.0, False]}, 0.5)
    file.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    file = AnswerFile(path)
    assert (file.get("a"), file.get("b")) == (([1.0, True], 0.5, False), None)
    file.add({"b": [2.0, False]}, 0.5)
    file.close()
    assert path.read_bytes() == whole
    path.write_bytes(whole.replace(b"1.0", b"3.0"))
    with pytest.raises(UserError, match="does not match its checksum") as caught:
        AnswerFile(path)
    assert str(caught.value.where).endswith("answers.jsonl:1")


def test_data_from_a_folder_and_a_missing_set(make_task, fake_model, tmp_path: Path) -> None:
    from vernacular.evaluation.evaluation import evaluate

    items = [{"question": "?", "choices": ["tak", "nie"], "label": 0}]
    changes = {"dataset_path": "owner/pytania", "dataset_name": "pl", "dataset_kwargs": None}
    folder = make_task(items, **changes)
    with pytest.raises(UserError, match=r"'owner/pytania/pl' is not a file beside it") as caught:
        evaluate(EvaluateConfiguration(), fake_model(), folder, None, tmp_path / "out")
    assert "owner/pytania/pl/SPLIT.jsonl" in str(caught.value.fix)
    place = tmp_path / "data/owner/pytania/pl"
    place.mkdir(parents=True)
    (folder / "one.jsonl").rename(place / "test.jsonl")
    summary = evaluate(EvaluateConfiguration(), fake_model(), folder, None, tmp_path / "out", data=tmp_path / "data")
    assert summary["scores"][0]["n"] == 1


def test_examples_from_the_scored_split_are_refused(make_task, fake_model, tmp_path: Path) -> None:
    from vernacular.evaluation.evaluation import evaluate

    folder = make_task([{"question": f"{n}?", "choices": ["a", "b"], "label": 0} for n in range(4)])
    with pytest.raises(UserError, match="would come from the questions that are scored"):
        evaluate(EvaluateConfiguration(num_fewshot=1), fake_model(), folder, None, tmp_path / "out")


@pytest.mark.slow
def test_what_is_refused_at_once_leaves_no_evaluation(tasks: Path, tmp_path: Path, run_cli) -> None:
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        refused = run_cli("evaluate", tmp_path / "empty", "--tasks", tasks, "-o", tmp_path / "out", code=2).stderr
        assert "the folder has no config.json" in refused
        assert not (tmp_path / "out").exists()
    wrong = run_cli("evaluate", tmp_path / "empty", "--limit", "few", "-o", tmp_path / "out", code=2).stderr
    assert wrong.startswith("error: a whole number is needed, not 'few'\n  where: --limit\n")


def test_the_verb_scores_a_weights_folder(tasks: Path, tmp_path: Path, run_cli) -> None:
    from tests.tiny import make_tokenizer, make_weights

    weights = make_weights(tmp_path / "model", make_tokenizer(tmp_path / "tokenizer"), max_positions=256)
    words = ("evaluate", weights, "--tasks", tasks, "-o", tmp_path / "out", "--template", "never", "--limit", "3")
    assert "capitals_choice" in run_cli(*words).stderr
    assert "holds a finished evaluation" in run_cli(*words, code=2).stderr
    run_cli(*words, "--resume")
