"""A judge grades: by the published rules, through real servers that fail, stall and talk nonsense."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from misbehaving import BROKEN, STALL, FakeServer, Reply, sends
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.judge.prompts import comparing, grading, prompts, read_choice, read_grade, rules
from vernacular.evaluation.library.benchmark import library
from vernacular.evaluation.library.placing import place
from vernacular.evaluation.scores import read_scores, rescore
from vernacular.evaluation.suites.selection import Selection, Wanted
from vernacular.foundation.errors import MachineError, UserError
from vernacular.inference.backends.judging import ServerJudge

SETS = Path(__file__).parents[3] / "shared" / "data" / "eval"

QUESTIONS = [
    {"question_id": 1, "category": "writing", "turns": ["Napisz wiersz o rzece.", "Skróć go."]},
    {"question_id": 2, "category": "math", "turns": ["Ile to 2+2?", "A razy trzy?"]},
    {"question_id": 3, "category": "stem", "turns": ["Co to jest foton?", "A elektron?"]},
]
REFERENCES = [{"question_id": 2, "category": "", "turns": ["Cztery.", "Dwanaście."]}]


class ScriptedJudge:
    """Says what a function of its messages makes it say."""

    def __init__(self, say: Callable[[str], str], tokens: int | None = 100) -> None:
        self.say = say
        self.tokens = tokens
        self.asked: list[Sequence[Mapping[str, Any]]] = []
        self.settings: list[tuple[float, int, int]] = []

    @property
    def identity(self) -> Mapping[str, str]:
        return {"model": "scripted", "url": "nowhere"}

    def ask(self, messages: Any, *, temperature: float, max_tokens: int, seed: int) -> tuple[str, int | None]:
        self.asked.append(messages)
        self.settings.append((temperature, max_tokens, seed))
        return self.say(messages[1]["content"]), self.tokens


@pytest.fixture
def task(tmp_path: Path) -> Path:
    import yaml

    folder = tmp_path / "task"
    folder.mkdir()
    for name, rows in (("questions", QUESTIONS), ("references", REFERENCES)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = {
        "task": "bench_pl",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "questions.jsonl", "reference": "references.jsonl"}},
        "output_type": "generate_until",
        "test_split": "test",
        "training_split": "reference",
        "doc_to_text": "{{turns[0]}}",
        "doc_to_target": "",
        "metadata": {"version": 1, "language": "pl", "judge": {}},
    }
    (folder / "bench_pl.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer()
    yield made
    made.stop()


@pytest.fixture
def judged(task, fake_model, tmp_path):
    """`judged(judge, **settings)`: the folder of an evaluation, whose model repeats the last words of its prompt."""

    def run(judge: Any, name: str = "out", answer: Callable[[str], str] | None = None, **settings: Any) -> Path:
        model = fake_model(answer=answer or (lambda prompt: f"Odpowiedź {len(prompt)}"), template=True)
        configuration = EvaluateConfiguration(template="always", **settings)
        answers = tmp_path / f"{name}.jsonl"
        evaluate(configuration, model, task, None, tmp_path / name, judge=judge, answers=answers)
        return tmp_path / name

    return run


def values(folder: Path) -> dict[str, float]:
    return {score["metric"]: score["value"] for score in read_scores(folder)["scores"]}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(path).to_pylist()


def says(text: str, tokens: int = 50) -> Reply:
    usage = {"prompt_tokens": 1, "total_tokens": tokens}
    return sends(
        {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}], "usage": usage}
    )


def patient(server: FakeServer, **settings: Any) -> ServerJudge:
    return ServerJudge(server.url, "sędzia", wait=lambda seconds: None, **{"seconds": 3, "retries": 2, **settings})


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Dobrze. [[7]]", 7.0),
        ("Rating: [[8.5]] of [[10]]", 10.0),
        ("[6]", 6.0),
        ("[[11]]", None),
        ("[[0]]", None),
        ("7/10", None),
        ("[[siedem]]", None),
        ("", None),
    ],
)
def test_grades_are_read_by_the_published_form_and_bounds(text: str, grade: float | None) -> None:
    assert read_grade(text) == grade


@pytest.mark.parametrize(
    ("text", "choice"), [("A lepszy: [[A]]", "A"), ("[[B]] … [[C]]", "C"), ("A", None), ("[[D]]", None)]
)
def test_choices_are_read_by_the_published_form(text: str, choice: str | None) -> None:
    assert read_choice(text) == choice


def test_a_judge_sees_the_conversation_and_a_reference_where_the_category_has_one(judged) -> None:
    judge = ScriptedJudge(lambda text: "[[10]]" if "Dwanaście" in text else "[[4]]")
    folder = judged(judge)
    # Grades: writing 4 4, math 4 (its first turn has the first reference alone) 10, stem 4 4.
    assert values(folder) == {"judge": pytest.approx(5.0), "judge_turn_1": 4.0, "judge_turn_2": pytest.approx(6.0)}
    assert len(judge.asked) == 6
    assert {temperature for temperature, _, _ in judge.settings} == {0.0}
    maths = next(messages for messages in judge.asked if "A razy trzy?" in messages[1]["content"])
    assert prompts("pl").with_reference in maths[0]["content"] and prompts("pl").second_turn in maths[0]["content"]
    poem = next(messages for messages in judge.asked if "wiersz" in messages[1]["content"])
    assert prompts("pl").with_reference not in poem[0]["content"] and "Cztery" not in poem[1]["content"]
    (first, second) = rows_of(folder / "records/bench_pl.parquet")[2:4]
    assert first["target"] == ["Cztery."] and first["response"] in second["prompt"]
    assert json.loads(rows_of(folder / "records/bench_pl.parquet")[0]["settings"])["temperature"] == 0.7
    assert [score.value for score in rescore(folder)] == list(values(folder).values())


def test_runs_are_averaged_and_their_agreement_is_told(judged) -> None:
    grades = iter([1, 3] * 12)
    judge = ScriptedJudge(lambda text: f"[[{next(grades)}]]")
    found = values(judged(judge, judge_runs=2))
    assert found["judge"] == pytest.approx(2.0) and 0 <= found["judge_agreement"] <= 1
    assert found["judge_spread"] >= 0 and len(judge.asked) == 12
    same = values(judged(ScriptedJudge(lambda text: "[[5]]"), "same", judge_runs=3))
    assert (same["judge"], same["judge_agreement"], same["judge_spread"]) == (5.0, 1.0, 0.0)


def test_pairs_are_asked_in_both_orders_and_a_biased_judge_is_told_from_a_fair_one(judged) -> None:
    other = judged(ScriptedJudge(lambda text: "[[5]]"), "other", answer=lambda prompt: "słabo")
    words = prompts("pl").labels

    def fair(text: str) -> str:
        if f"{words['assistant']} A" not in text:
            return "[[5]]"
        first = text.index("słabo") > text.index("dobrze")
        return "[[A]]" if first else "[[B]]"

    def biased(text: str) -> str:
        return "[[A]]" if f"{words['assistant']} A" in text else "[[5]]"

    good = {"answer": lambda prompt: "dobrze", "judge_against": other}
    found = values(judged(ScriptedJudge(fair), "fair", **good))
    assert (found["win_rate"], found["order_consistency"], found["first_preferred"]) == (1.0, 1.0, 0.5)
    found = values(judged(ScriptedJudge(biased), "biased", **good))
    assert (found["win_rate"], found["order_consistency"], found["first_preferred"]) == (0.5, 0.0, 1.0)
    with pytest.raises(UserError, match="lacks 3 of the 3 conversations"):
        renamed = [{**row, "item_hash": "x"} for row in rows_of(other / "records/bench_pl.parquet")]
        table = pyarrow.Table.from_pylist(
            renamed, schema=pyarrow.parquet.read_schema(other / "records/bench_pl.parquet")
        )
        pyarrow.parquet.write_table(table, other / "records/bench_pl.parquet")
        judged(ScriptedJudge(fair), "unlike", **good)


def test_nonsense_is_asked_again_and_then_counted_never_scored(judged) -> None:
    answers = {"foton": 0}

    def say(text: str) -> str:
        if "elektron" in text:
            return "Nie wiem."
        if "foton" in text:
            answers["foton"] += 1
            return "[[9]]" if answers["foton"] == 2 else "bez oceny"
        return "[[6]]"

    judge = ScriptedJudge(say)
    folder = judged(judge, judge_missing=0.2)
    # The third conversation lacks a grade: it counts nowhere, and is said to be unread.
    assert values(folder)["judge"] == 6.0
    (score,) = [score for score in read_scores(folder)["scores"] if score["metric"] == "judge"]
    assert (score["parse_failures"], score["n"]) == (1, 3)
    verdicts = rows_of(folder / "records/judgements/bench_pl.parquet")
    assert [(row["verdict"], row["attempts"], row["problem"]) for row in verdicts if row["item"] == 2] == [
        ("9.0", 2, ""),
        (None, 3, "unreadable"),
    ]
    assert {temperature for temperature, _, _ in judge.settings} == {0.0, rules().retry_temperature}
    with pytest.raises(MachineError, match=re.escape("verdicts are missing: 0 no answer, 1 unreadable; 0 of 6 may be")):
        judged(ScriptedJudge(say), "strict")


def test_a_server_that_fails_stalls_and_breaks_off_is_asked_again(judged, server) -> None:
    unwell = [
        sends({"error": "busy"}, 503),
        BROKEN,
        STALL,
        sends({"error": {"message": "slow down"}}, 429, retry_after="1"),
    ]
    server.replies.clear()
    server.replies.extend([*unwell, says("[[7]]")])
    folder = judged(patient(server, retries=4))
    assert values(folder)["judge"] == 7.0
    assert {row["problem"] for row in rows_of(folder / "records/judgements/bench_pl.parquet")} == {""}
    assert len(server.asked) == 6 + len(unwell)


def test_a_server_that_gives_no_answer_gives_no_score(judged, server, tmp_path) -> None:
    server.replies.clear()
    server.replies.append(sends({"error": "overloaded"}, 500))
    with pytest.raises(MachineError, match="verdicts are missing: 1 no answer, 0 unreadable"):
        judged(patient(server))
    assert not (tmp_path / "out/scores.json").exists()
    server.replies.clear()
    server.replies.append(says("[[3]]"))
    assert values(judged(patient(server)))["judge"] == 3.0


def test_a_refusal_of_the_key_ends_it_and_the_key_is_shown_nowhere(judged, server, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("JUDGE_KEY", "tajne-123")
    server.replies.clear()
    server.replies.append(sends({"error": {"message": "bad key tajne-123"}}, 401))
    with pytest.raises(UserError, match="status 401") as caught:
        judged(patient(server, key_from="JUDGE_KEY"))
    assert "tajne" not in str(caught.value) and server.headers[0]["authorization"] == "Bearer tajne-123"
    server.replies.clear()
    server.replies.append(says("[[8]]"))
    judged(patient(server, key_from="JUDGE_KEY"))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5 and not any(b"tajne" in path.read_bytes() for path in written)


def test_what_was_said_is_kept_and_the_budget_holds(judged, server) -> None:
    server.replies.clear()
    server.replies.append(says("[[5]]", tokens=1000))
    with pytest.raises(UserError, match="6,000 tokens do not suffice"):
        judged(patient(server), judge_tokens=6000)
    assert 2 <= len(server.asked) < 6  # Each question may take its own length and the longest answer.
    folder = judged(patient(server), judge_tokens=100_000)
    assert values(folder)["judge"] == 5.0 and len(server.asked) == 6
    judged(patient(server), judge_tokens=1)
    assert len(server.asked) == 6


def test_tokens_are_guessed_where_the_server_does_not_tell(judged) -> None:
    with pytest.raises(UserError, match="7,000 tokens do not suffice"):
        judged(ScriptedJudge(lambda text: "[[5]]" + "x" * 10_000, tokens=None), judge_tokens=7000)


def test_a_killed_run_goes_on_and_its_record_is_that_of_an_undisturbed_one(judged) -> None:
    calls = iter(range(100))

    def dying(text: str) -> str:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return f"[[{len(text) % 9 + 1}]]"

    with pytest.raises(KeyboardInterrupt):
        judged(ScriptedJudge(dying), "cut")
    steady = ScriptedJudge(lambda text: f"[[{len(text) % 9 + 1}]]")
    cut = judged(steady, "cut")
    whole = judged(ScriptedJudge(lambda text: f"[[{len(text) % 9 + 1}]]"), "whole")
    assert len(steady.asked) < 6
    for name in ("records/bench_pl.parquet", "records/judgements/bench_pl.parquet"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_without_a_judge_a_template_or_words_it_is_refused(task, fake_model, tmp_path, judged) -> None:
    with pytest.raises(UserError, match="bench_pl: answers are graded by a judge, and there is none"):
        judged(None)
    with pytest.raises(UserError, match="asked without its chat template"):
        judge = ScriptedJudge(lambda text: "[[5]]")
        evaluate(EvaluateConfiguration(), fake_model(), task, None, tmp_path / "base", judge=judge)
    with pytest.raises(UserError, match="no words for a judge in the language 'tlh'"):
        prompts("tlh")


def test_every_language_has_the_same_parts_and_the_forms_that_are_read() -> None:
    folder = Path(__file__).parents[2] / "src/vernacular/evaluation/judge/prompts"
    names = [path.stem for path in folder.glob("*.yaml")]
    assert {"en", "de", "es", "fr", "it", "pl", "hi"} <= set(names)
    for name in names:
        words = prompts(name)
        assert set(words.labels) == {"question", "answer", "reference", "assistant"}
        assert read_grade(words.grade) == 4.0 and all(f"[[{letter}]]" in words.compare for letter in "ABC")
        system, user = grading(words, ["p", "q"], ["r", "s"], ["t"])
        assert words.second_turn in system["content"] and user["content"].count("\n\n") == 4
        assert "r" in comparing(words, ["p"], (["r"], ["s"]), [])[1]["content"]


@pytest.mark.parametrize("name", ["mt_bench", "mt_bench_de", "mt_bench_es", "mt_bench_fr", "mt_bench_it"])
def test_the_published_questions_are_judged(name: str, fake_model, tmp_path) -> None:
    if not SETS.exists():
        pytest.skip(f"needs {SETS}")
    questions = place(library()[name], SETS).splits["test"]
    assert len(questions) == 80
    judge = ScriptedJudge(lambda text: "[[7]]")
    selection = Selection((Wanted(library()[name], None),), {})
    model = fake_model(answer=lambda prompt: "ja", template=True)
    configuration = EvaluateConfiguration(template="always", limit=None if name == "mt_bench" else 42)
    evaluate(configuration, model, None, None, tmp_path / "out", data=SETS, selection=selection, judge=judge)
    expected = 160 if name == "mt_bench" else 84
    assert len(judge.asked) == expected and values(tmp_path / "out")["judge"] == 7.0
    with_reference = sum(prompts(library()[name].task.language).with_reference in m[0]["content"] for m in judge.asked)
    assert name != "mt_bench" or with_reference == 60
