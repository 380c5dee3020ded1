"""Tasks that cannot be run, or whose numbers could not be proved, are refused by name."""

from __future__ import annotations

import pytest
import yaml

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.foundation.errors import UserError

ITEMS = [{"question": "कितने?", "choices": ["एक", "दो"], "label": 1}]


def refuse(folder, model, out, message, **settings) -> UserError:
    with pytest.raises(UserError, match=message) as caught:
        evaluate(EvaluateConfiguration(**settings), model, folder, None, out)
    assert not (out / "scores.json").exists()
    return caught.value


def test_an_empty_task_is_refused(make_task, fake_model, tmp_path) -> None:
    error = refuse(make_task([]), fake_model(), tmp_path / "out", "no items")
    assert "one.jsonl" in str(error.where)


def test_a_broken_line_is_named(make_task, fake_model, tmp_path) -> None:
    folder = make_task(ITEMS * 2)
    with open(folder / "one.jsonl", "a", encoding="utf-8") as file:
        file.write('{"question": "half\n')
    error = refuse(folder, fake_model(), tmp_path / "out", "not valid JSON")
    assert str(error.where).endswith("one.jsonl:3")


def test_a_missing_data_file_is_named(make_task, fake_model, tmp_path) -> None:
    folder = make_task(ITEMS)
    (folder / "one.jsonl").unlink()
    refuse(folder, fake_model(), tmp_path / "out", "'one.jsonl' is missing")


def test_an_answer_that_is_no_choice_is_named(make_task, fake_model, tmp_path) -> None:
    folder = make_task([*ITEMS, {"question": "?", "choices": ["a", "b"], "label": 7}])
    refuse(folder, fake_model(), tmp_path / "out", "'one' fails: item 1: the right answer .7. is not among its 2")


def test_a_template_that_fails_is_named(make_task, fake_model, tmp_path) -> None:
    refuse(make_task(ITEMS, doc_to_text="{{ question.no.such }}"), fake_model(), tmp_path / "out", "'one' fails")


def test_a_metric_that_no_record_proves_is_refused(make_task, fake_model, tmp_path) -> None:
    error = refuse(
        make_task(ITEMS, metric_list=[{"metric": "acc_nrom"}]), fake_model(), tmp_path / "out", "unknown metric"
    )
    assert "did you mean 'acc_norm'" in str(error)


def test_data_from_elsewhere_is_refused(make_task, fake_model, tmp_path) -> None:
    folder = make_task(ITEMS, dataset_path="hellaswag", dataset_kwargs=None)
    refuse(folder, fake_model(), tmp_path / "out", "not a file beside it")


def test_code_is_refused_until_it_is_trusted(make_task, fake_model, tmp_path) -> None:
    folder = make_task(ITEMS)
    (folder / "own.py").write_text("def text(doc):\n    return doc['question'] + '!'\n")
    config = yaml.safe_load((folder / "one.yaml").read_text(encoding="utf-8"))
    del config["doc_to_text"]
    text = yaml.safe_dump(config, allow_unicode=True) + "doc_to_text: !function own.text\n"
    (folder / "one.yaml").write_text(text, encoding="utf-8")
    error = refuse(folder, fake_model(), tmp_path / "out", "its own Python code")
    assert ".yaml:" in str(error.where)
    model = fake_model()
    evaluate(EvaluateConfiguration(task_code=True), model, folder, None, tmp_path / "trusted")
    assert "कितने?!" in model.prompts


def test_code_hidden_in_an_included_file_is_refused(make_task, fake_model, tmp_path) -> None:
    folder = make_task(ITEMS, include="base.yml")
    (folder / "base.yml").write_text("process_docs: !function own.text\n")
    refuse(folder, fake_model(), tmp_path / "out", "its own Python code")


def test_two_tasks_of_one_name_are_refused(make_task, fake_model, tmp_path) -> None:
    folder = make_task(ITEMS)
    (folder / "copy.yaml").write_bytes((folder / "one.yaml").read_bytes())
    refuse(folder, fake_model(), tmp_path / "out", "two tasks are called 'one'")


def test_an_unknown_task_is_answered_with_the_nearest(tasks, fake_model, tmp_path) -> None:
    error = refuse(tasks, fake_model(), tmp_path / "out", "unknown task", only=("capitals_choise",))
    assert "did you mean 'capitals_choice'" in str(error)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"until": ["\n"], "num_beams": 4}, "unknown key of generation_kwargs 'num_beams'"),
        ({"until": ["\n"], "do_sample": False, "temperature": 0.5}, "contradict"),
        ({"until": ["\n"], "do_sample": True}, "without a temperature"),
        ({"until": ["\n"], "max_gen_toks": 0}, "above 0"),
    ],
)
def test_settings_of_generation_that_mean_nothing_here_are_refused(
    kwargs, message, make_task, fake_model, tmp_path
) -> None:
    folder = make_task(
        ITEMS,
        output_type="generate_until",
        doc_to_choice=None,
        doc_to_target="दो",
        metric_list=[{"metric": "exact_match"}],
        generation_kwargs=kwargs,
    )
    refuse(folder, fake_model(), tmp_path / "out", message)


def test_a_folder_without_tasks_is_refused(fake_model, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", fake_model(), tmp_path / "out", "no task here")
