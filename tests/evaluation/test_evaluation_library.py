"""The library: benchmarks as data, sets in several forms, and rules worked by hand."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import lm_eval.tasks
import pytest

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.library.benchmark import LibraryTask, library, read_benchmark
from vernacular.evaluation.library.expressions import compiled, evaluated
from vernacular.evaluation.library.placing import place
from vernacular.evaluation.library.readers import READERS, reader_of
from vernacular.evaluation.library.texts import text_tasks
from vernacular.evaluation.metrics.registry import has_metric
from vernacular.evaluation.scores import Score, read_scores, rescore
from vernacular.evaluation.suites.report import headline_table, suite_report
from vernacular.evaluation.suites.selection import Selection, Wanted, select, select_by_name
from vernacular.evaluation.suites.suite import read_suite, suites
from vernacular.foundation.errors import UserError

TWO_FORMS = """
about: a set in two forms
each: {pl: {word: Odpowiedź}, hi: {word: उत्तर}}
data:
  quiz_${key}:
    hub: someone/quiz
    config: ${key}
    fields: {question: q, choices: "[a, b]", right: "'ab'.index(answer)"}
    forms:
    - note: only a part
      splits:
        test:
          file: quiz/${key}.tsv
          reader: rows
          fields: {question: first, choices: "[second, third]", right: "0"}
tasks:
  quiz_${key}:
    language: ${key}
    config:
      output_type: multiple_choice
      test_split: test
      doc_to_text: "{{question}}\\n${word}:"
      doc_to_choice: choices
      doc_to_target: right
      metric_list: [{metric: acc}]
    metrics: [foundry_acc]
"""


@pytest.fixture
def quiz() -> LibraryTask:
    return {task.name: task for task in read_benchmark("quiz.yaml", TWO_FORMS)}["quiz_hi"]


def write_lines(path: Path, *records: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


def run(entry: LibraryTask, model: object, folder: Path, data: Path, shots: int | None = 0) -> dict[str, Score]:
    selection = Selection((Wanted(entry, shots),), {})
    evaluate(EvaluateConfiguration(), model, None, None, folder, data=data, selection=selection)  # type: ignore[arg-type]
    return {score.metric: score for score in rescore(folder)}


# ---------------------------------------------------------------------------------------------- what it is made of


def test_an_expression_gives_values_of_any_type_and_names_what_is_missing() -> None:
    record = {"gold": 1, "choices": ["tak", "nie"], "text": "Pytanie: ile?"}
    made = evaluated(
        {"letter": "letters(choices)[gold]", "list": "listed(choices)", "bare": "text | after('Pytanie: ')"}, record
    )
    assert made == {"letter": "B", "list": "A. tak\nB. nie", "bare": "ile?"}
    assert evaluated({"start": "shared_start(choices)"}, {"choices": ["बड़ा घर", "बड़ा घोड़ा"]}) == {"start": "बड़ा"}
    with pytest.raises(ValueError, match="question: there is no such field"):
        evaluated({"x": "question"}, record)
    with pytest.raises(ValueError, match="does not start with"):
        evaluated({"x": "text | after('Q: ')"}, record)
    with pytest.raises(UserError, match="not an expression"):
        compiled("text |")
    with pytest.raises(ValueError, match="no such field"):
        evaluated({"x": "''.__class__"}, record)


@pytest.mark.parametrize(
    ("name", "reader", "text", "records"),
    [
        ("a.jsonl", None, '{"a": "क"}\n\n{"a": "ख"}\n', [{"a": "क"}, {"a": "ख"}]),
        ("a.json", None, '[{"a": 1}]', [{"a": 1}]),
        ("a.json", "examples", '{"examples": [{"input": "x"}]}', [{"input": "x"}]),
        ("a.csv", None, 'q,a\n"ile, i ile?",trzy\n', [{"q": "ile, i ile?", "a": "trzy"}]),
        ("a.tsv", "rows", 'powiedział "tak"\t3\n', [{"first": 'powiedział "tak"', "second": "3"}]),
        ("a.txt", "labelled", "2 Bardzo miło .\n", [{"label": "2", "text": "Bardzo miło ."}]),
        ("a.txt", "texts", "kto?\n\nco?\n", [{"text": "kto?"}, {"text": "co?"}]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_form_is_read(tmp_path, name, reader, text, records, packed) -> None:
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert list(reader_of(path, reader)(path)) == records


def test_squad_gives_a_question_with_its_paragraph(tmp_path) -> None:
    answers = [{"text": "w piekarni", "answer_start": 9}]
    paragraph = {"context": "Chleb jest w piekarni.", "qas": [{"id": "1", "question": "Gdzie?", "answers": answers}]}
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}), encoding="utf-8")
    (record,) = READERS["squad"](tmp_path / "a.json")
    assert (record["context"], record["answers"]["text"]) == ("Chleb jest w piekarni.", ["w piekarni"])


def test_a_broken_line_is_named(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": \n', encoding="utf-8")
    with pytest.raises(UserError) as caught:
        list(reader_of(tmp_path / "a.jsonl", None)(tmp_path / "a.jsonl"))
    assert str(caught.value.where).endswith("a.jsonl:2")


# ------------------------------------------------------------------------------------------------- where a set is


def test_a_set_in_the_hubs_form_goes_before_its_own_and_both_give_the_same_fields(tmp_path, quiz) -> None:
    (tmp_path / "quiz").mkdir()
    (tmp_path / "quiz" / "hi.tsv").write_text("कितने?\tदो\tतीन\n", encoding="utf-8")
    own = place(quiz, tmp_path)
    assert own.note == "only a part"
    write_lines(tmp_path / "someone/quiz/hi/test.jsonl.gz", {"q": "कितने?", "a": "दो", "b": "तीन", "answer": "a"})
    hubs = place(quiz, tmp_path)
    assert hubs.note == ""
    assert own.splits == hubs.splits == {"test": [{"question": "कितने?", "choices": ["दो", "तीन"], "right": 0}]}
    assert set(hubs.files) == {"someone/quiz/hi/test.jsonl.gz"}


def test_a_missing_set_names_both_ways(tmp_path, quiz) -> None:
    with pytest.raises(UserError, match="the data of 'quiz_hi' is not there") as caught:
        place(quiz, tmp_path)
    assert "someone/quiz/hi/SPLIT.jsonl" in str(caught.value.fix)
    assert "quiz/hi.tsv" in str(caught.value.fix)
    assert "leave --data out" in str(caught.value.fix)


def test_without_a_folder_the_hub_is_asked_and_a_refusal_names_both_ways(monkeypatch, quiz) -> None:
    import datasets

    asked = []

    def give(path: str, name: str | None) -> dict[str, list[dict[str, str]]]:
        asked.append((path, name))
        return {"test": [{"q": "कितने?", "a": "दो", "b": "तीन", "answer": "b"}]}

    monkeypatch.setattr(datasets, "load_dataset", give)
    assert place(quiz, None).splits["test"][0]["right"] == 1
    assert asked == [("someone/quiz", "hi")]

    def refuse(path: str, name: str | None) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match="did not come from the Hugging Face Hub") as caught:
        place(quiz, None)
    assert "someone/quiz/hi/SPLIT.jsonl" in str(caught.value.fix)


def test_a_set_in_another_form_than_it_should_have_is_refused_by_name(tmp_path, quiz) -> None:
    write_lines(tmp_path / "someone/quiz/hi/test.jsonl", {"question": "कितने?"})
    with pytest.raises(UserError, match="the data of 'quiz_hi' is not in the form it should have: question: q: "):
        place(quiz, tmp_path)


# ------------------------------------------------------------------------------------------------------ the tasks


def test_words_of_a_language_stand_in_its_prompt(tmp_path, quiz, fake_model) -> None:
    write_lines(tmp_path / "someone/quiz/hi/test.jsonl", {"q": "कितने?", "a": "दो", "b": "तीन", "answer": "a"})
    model = fake_model()
    score = run(quiz, model, tmp_path / "out", tmp_path)["acc"]
    assert (score.language, score.n) == ("hi", 1)
    assert model.prompts[0] == "कितने?\nउत्तर:"


def test_the_lowest_mean_loss_by_hand(tmp_path, quiz, fake_model) -> None:
    """Four tokens at -1 each beat one at -2, though their sum is lower: llm-foundry's rule against the plain one."""
    write_lines(tmp_path / "someone/quiz/hi/test.jsonl", {"q": "?", "a": "एक दो तीन चार", "b": "एक", "answer": "a"})
    model = fake_model(score=lambda _, continuation: -4.0 if "चार" in continuation else -2.0)
    scores = run(quiz, model, tmp_path / "out", tmp_path)
    assert (scores["foundry_acc"].value, scores["acc"].value) == (1.0, 0.0)


def test_a_back_end_that_does_not_count_tokens_is_refused_for_it(tmp_path, quiz, fake_model, monkeypatch) -> None:
    from vernacular.models.language_model import Likelihood

    write_lines(tmp_path / "someone/quiz/hi/test.jsonl", {"q": "?", "a": "एक", "b": "दो", "answer": "a"})
    model = fake_model()
    monkeypatch.setattr(model, "loglikelihood", lambda pairs, report=None: [Likelihood(-1.0, False)] * len(pairs))
    with pytest.raises(UserError, match="does not say how many tokens"):
        run(quiz, model, tmp_path / "out", tmp_path)


def test_examples_from_the_scored_split_are_refused_unless_the_task_says_so(tmp_path, quiz, fake_model) -> None:
    write_lines(
        tmp_path / "someone/quiz/hi/test.jsonl", *[{"q": f"{n}?", "a": "दो", "b": "तीन", "answer": "a"} for n in "कखग"]
    )
    with pytest.raises(UserError, match="would come from the questions that are scored"):
        run(quiz, fake_model(), tmp_path / "out", tmp_path, shots=1)
    said = quiz._replace(task=quiz.task.model_copy(update={"config": {**quiz.task.config, "fewshot_split": "test"}}))
    model = fake_model()
    assert run(said, model, tmp_path / "said", tmp_path, shots=1)["acc"].num_fewshot == 1
    assert all(prompt.count("उत्तर:") == 2 for prompt in model.prompts)


# ----------------------------------------------------------------------------------------------------- the suites


def test_every_task_is_sound() -> None:
    upstream = Path(lm_eval.tasks.__file__).parent
    for name, entry in library().items():
        assert entry.task.upstream is None or (upstream / entry.task.upstream).is_file(), name
        assert entry.task.language, name
        assert entry.data.hub or entry.data.forms, name
        expressions = [*(entry.data.fields or {}).values()]
        for form in entry.data.forms:
            for part in form.splits.values():
                expressions += [*(part.fields or {}).values(), *([part.each] if part.each else [])]
        for expression in expressions:
            compiled(expression)
        kind = entry.task.config.get("output_type")
        for metric in entry.task.metrics:
            assert kind is None or has_metric(kind, metric if isinstance(metric, str) else metric["metric"]), name


def test_a_suite_names_all_that_it_lacks_and_runs_the_rest_when_told(tmp_path) -> None:
    suite = read_suite("krutrim-1")
    write_lines(tmp_path / "copa_mosaic/copa.jsonl", {"query": "It rained, so", "choices": ["a", "b"], "gold": 0})
    with pytest.raises(UserError, match="its data is not there: foundry_arc_easy") as caught:
        select(suite, tmp_path)
    assert "--only-available" in str(caught.value.fix)
    chosen = select(suite, tmp_path, only_available=True)
    assert [wanted.entry.name for wanted in chosen.tasks] == ["foundry_copa"]
    assert chosen.left_out["foundry_arc_easy"] == "its data is not there"
    with pytest.raises(UserError, match="looks into the folder"):
        select(suite, None, only_available=True)
    with pytest.raises(UserError, match="its data is not there: foundry_piqa"):
        select(suite, tmp_path, only=["foundry_piqa"])
    with pytest.raises(UserError, match="did you mean 'foundry_copa'"):
        select(suite, tmp_path, only=["foundry_cpoa"])


def test_tasks_of_the_library_by_name(tmp_path) -> None:
    write_lines(tmp_path / "ifeval_multilingual/ja_input_data.jsonl", {})
    assert [wanted.entry.name for wanted in select_by_name(["m_ifeval_ja"], tmp_path).tasks] == ["m_ifeval_ja"]
    with pytest.raises(UserError, match="the data of 'm_ifeval_en' is not there") as caught:
        select_by_name(["m_ifeval_*"], tmp_path)
    assert "ifeval_multilingual/en_input_data.jsonl" in str(caught.value.fix)
    with pytest.raises(UserError, match="did you mean 'm_ifeval_ja'"):
        select_by_name(["m_ifeval_jp"], tmp_path)


def test_a_headline_is_not_computed_from_a_part_or_from_other_data(tmp_path, fake_model) -> None:
    pairs = {"query": "It rained, so", "choices": ["she got wet", "she stayed dry"], "gold": 0}
    write_lines(tmp_path / "copa_mosaic/copa.jsonl", *[pairs] * 3)
    suite = read_suite("krutrim-1")
    selection = select(suite, tmp_path, only_available=True)
    settings = EvaluateConfiguration(limit=2)
    evaluate(settings, fake_model(), None, None, tmp_path / "out", data=tmp_path, selection=selection)
    report = suite_report(suite, tmp_path / "out")
    assert report["shares"] == {"copa": 1.0}
    assert all(headline["value"] is None for headline in report["headlines"])
    assert report["incomplete"]["piqa"] == "without foundry_piqa: its data is not there"
    assert "copa" not in report["incomplete"]
    assert report["notes"] == ["at most 2 items of each task were scored"]
    printed = headline_table(report)
    assert "krutrim-1, average: not computed: arc, bigbench, boolq" in printed
    assert "krutrim-1, piqa is not whole" in printed


def test_what_stands_in_for_a_set_is_said_and_counts_for_nothing(tmp_path, fake_model) -> None:
    lines = [f"{label} Zabieg numer {number} ." for number, label in enumerate("0123" * 5)]
    for split in ("train", "test"):
        (tmp_path / "polish_wccrs_medicine").mkdir(exist_ok=True)
        (tmp_path / f"polish_wccrs_medicine/{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    suite = read_suite("open-pl-llm-leaderboard")
    selection = select(suite, tmp_path, only_available=True)
    model = fake_model(answer=lambda prompt: " C, bo")
    evaluate(EvaluateConfiguration(), model, None, None, tmp_path / "out", data=tmp_path, selection=selection)
    report = suite_report(suite, tmp_path / "out")
    assert report["shares"]["polemo2_in_g"] == 0.25  # C is the letter of "positive", label 2.
    assert "other data stood in" in report["incomplete"]["polemo2_in_g"]
    assert "polemo2_in_g" in report["headlines"][0]["missing"]
    facts = read_scores(tmp_path / "out")["tasks"]["polemo2_in_g"]
    assert facts["data"]["stands_in"]
    assert facts["num_fewshot"] == 5


def test_bits_of_any_text_by_hand(tmp_path, fake_model) -> None:
    (tmp_path / "hi.txt").write_text("पानी", encoding="utf-8")
    write_lines(tmp_path / "pl.jsonl.gz", {"text": "żyto", "id": 1}, {"text": "je"})
    entries = text_tasks([tmp_path / "hi.txt", tmp_path / "pl.jsonl.gz"])
    selection = Selection(tuple(Wanted(entry, None) for entry in entries), {})
    model = fake_model(score=lambda _, text: -6 * math.log(2) * len(text.encode()))
    evaluate(EvaluateConfiguration(), model, None, None, tmp_path / "out", selection=selection)
    scores = {(score.task, score.metric): score.value for score in rescore(tmp_path / "out")}
    assert scores["text_hi", "bits_per_byte"] == scores["text_pl", "bits_per_byte"] == pytest.approx(6)
    assert scores["text_hi", "bits_per_grapheme"] == pytest.approx(6 * 12 / 2)  # पा, नी
    assert scores["text_pl", "bits_per_grapheme"] == pytest.approx(6 * 7 / 6)
    with pytest.raises(UserError, match="no such file"):
        text_tasks([tmp_path / "no.txt"])
    with pytest.raises(UserError, match=r"read from \.txt and \.jsonl"):
        text_tasks([tmp_path / "out" / "scores.json"])


def test_programs_and_judges_are_left_out_where_there_is_leave_for_neither(tmp_path) -> None:
    write_lines(tmp_path / "mt_bench/question.jsonl", {})
    write_lines(tmp_path / "mt_bench/reference_answer_gpt-4.jsonl", {})
    write_lines(tmp_path / "mbpp/mbpp.jsonl", {})
    write_lines(tmp_path / "hellaswag_1k/hellaswag_val_1000.jsonl", {})
    suite = read_suite("granite-3.0")
    chosen = select(suite, tmp_path, only_available=True, code=False, judge=False)
    assert [wanted.entry.name for wanted in chosen.tasks] == ["hellaswag"]
    assert "--allow-code-execution" in chosen.left_out["mbpp"]
    assert "--judge" in chosen.left_out["mt_bench"]
    allowed = select(suite, tmp_path, only_available=True)
    assert {"mbpp", "mt_bench"} <= {wanted.entry.name for wanted in allowed.tasks}


@pytest.mark.parametrize("name", suites())
def test_no_task_is_in_two_benchmarks_of_a_suite(name) -> None:
    suite = read_suite(name)
    for task in library():
        assert sum(member.has(task) for member in suite.members) <= 1, task


@pytest.mark.parametrize("name", suites())
def test_the_tasks_of_a_benchmark_have_its_metric(name) -> None:
    for member in read_suite(name).members:
        for entry in filter(lambda entry: member.has(entry.name), library().values()):
            listed = [*entry.task.config.get("metric_list", ()), *entry.task.metrics]
            names = {one if isinstance(one, str) else one["metric"] for one in listed}
            # A task that lists none has upstream's.
            assert not names or member.metric in names or member.metric.startswith("pass@"), entry.name
