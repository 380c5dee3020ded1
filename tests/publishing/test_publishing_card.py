"""A release: its card is made from the records, in a form that hubs and people read, and its example runs."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vernacular.corpus.configuration import Decontamination
from vernacular.corpus.decontamination.contamination import STANDINGS, TaskContamination, write_contamination
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.items import read_benchmarks
from vernacular.evaluation.scores import read_scores
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json, write_json
from vernacular.inference.model import load
from vernacular.models.language_model import Generation
from vernacular.publishing.card import publish
from vernacular.publishing.configuration import PublishConfiguration
from vernacular.publishing.verify import verify


def card_of(release: Path) -> str:
    return (release / "README.md").read_text(encoding="utf-8")


def section(card: str, title: str) -> list[str]:
    _, _, rest = card.partition(f"\n## {title}\n")
    return re.split(r"\n## ", rest)[0].split("\n")


def test_a_hub_reads_the_front_matter(released: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard.load(released / "README.md").data
    assert data.license == "apache-2.0"
    assert data.language[:2] == ["hi", "pl"]
    assert data.pipeline_tag == "text-generation"
    found = {
        (result.dataset_type, result.dataset_config, result.metric_type): result.metric_value
        for result in data.eval_results
    }
    for score in read_scores(released / "records/evaluation")["scores"]:
        if score["metric"] != "bits_per_grapheme":
            value = found[score["task"], score["language"], score["metric"]]
            assert value == pytest.approx(score["value"], abs=5e-5)
    assert not any(result.verified for result in data.eval_results)


def test_every_row_of_a_table_has_as_many_cells_as_its_head(released: Path) -> None:
    lines = card_of(released).split("\n")
    heads = 0
    for line, rule in itertools.pairwise(lines):
        if line.startswith("|") and re.fullmatch(r"\|(:?-+:?\|)+", rule):
            heads += 1
            start = lines.index(rule, lines.index(line))
            for row in lines[start:]:
                if not row.startswith("|"):
                    break
                assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"(?<!\\)\|", line)), row
    assert heads >= 8


def test_every_number_of_the_evaluation_is_in_the_ledger(released: Path) -> None:
    lines = card_of(released).split("\n")
    entries = read_json(released / "numbers.json")
    printed: dict[int, list[str]] = {}
    for entry in entries:
        assert entry["printed"] in lines[entry["line"] - 1]
        printed.setdefault(entry["line"], []).append(entry["printed"])
    start = lines.index("## Evaluation")
    checked = 0
    for number, line in enumerate(lines[start:], start=start + 1):
        if line.startswith("## ") and line != "## Evaluation":
            break
        if line.startswith("|") and "interval" not in line and "---" not in line:
            numbers = re.findall(r"\d[\d.,]*%?", re.sub(r"`[^`]*`", "", line))
            assert sorted(numbers) == sorted(printed[number])
            checked += len(numbers)
    assert checked > 80


def test_a_number_leads_to_its_record(released: Path) -> None:
    entry = next(entry for entry in read_json(released / "numbers.json") if "/scores/0/value" in entry["source"])
    name, _, pointer = entry["source"].partition("#/")
    value: Any = json.loads((released / name).read_text(encoding="utf-8"))
    for part in pointer.split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    assert value == entry["value"]


def test_the_tables_hold_what_the_stages_recorded(released: Path) -> None:
    training = "\n".join(section(card_of(released), "Training"))
    assert "| Learning rate | 0.002 → 0.0002 (cosine) |" in training
    assert "| Optimiser | muon |" in training
    assert "| Tokens seen | 1,228,800 |" in training
    assert "| Time | 1 min 23 s |" in training
    data = "\n".join(section(card_of(released), "Training data"))
    assert "| `near_duplicate` | 2 | 16 B |" in data
    assert "| Hindi | train | 3 |" in data
    assert "read 23 documents (1.73 kB), kept 20 and removed 3; 0 could not be read" in data
    assert "it removed 95.1% of the noise" in data
    assert "| Layers | 2 |" in "\n".join(section(card_of(released), "Model architecture"))


def test_unread_answers_and_contaminated_items_stand_beside_the_scores(
    made: Path, ancestry: list[tuple[str, Path]], words: dict[str, Any], tmp_path: Path, monkeypatch
) -> None:
    lm = load(made / "instruct")
    answers = itertools.cycle(["", "tak", "nie"])
    monkeypatch.setattr(lm, "complete", lambda texts, _, report: [Generation(next(answers), (), "end") for _ in texts])
    (benchmark,) = read_benchmarks(Decontamination(tasks=("t",), only=("endings_answer_pl",)), [made / "tasks"])
    standings = {standing: [] for standing in STANDINGS}
    for item in benchmark.items:
        standings["contaminated" if item.number % 3 == 0 else "removed"].append((item.number, item.hash))
    known = {benchmark.name: TaskContamination(benchmark.data_hash, standings)}
    write_contamination(tmp_path / "contamination.json", known)
    settings = EvaluateConfiguration(only=("*_pl",))
    evaluate(
        settings,
        lm,
        made / "tasks",
        None,
        tmp_path / "scores",
        instruct=True,
        contamination=tmp_path / "contamination.json",
    )
    publish(PublishConfiguration(**words), made / "instruct", tmp_path / "scores", ancestry, tmp_path / "release")
    shown = section(card_of(tmp_path / "release"), "Evaluation")
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in shown if "|" in line
    }
    assert rows["`endings_answer_pl`"][-2:] == ["12", "4 (33.3%)"]
    assert rows["`endings_answer_pl` (contaminated items)"][-2:] == ["4", "4 (100.0%)"]
    assert rows["`endings_answer_pl` (clean items)"][-2:] == ["8", "0 (0.0%)"]
    assert rows["`endings_choice_pl`"][-1] == "–"
    warned = [line for line in shown if line.startswith("**Warning:**")]
    assert len(warned) == 1
    assert "4 of 12 answers to `endings_answer_pl` could not be read (33.3%)" in warned[0]
    assert verify(tmp_path / "release").passed


def test_foreign_text_cannot_break_out(released: Path) -> None:
    card = card_of(released)
    assert "\n# Pebble 0.1 \\| \\*tiny\\* \\<b\\>\n" in card
    assert '- name: "Pebble 0.1 | *tiny* <b>"' in card


def test_no_folder_of_the_machine_is_published(released: Path, made: Path) -> None:
    for path in released.rglob("*"):
        if path.suffix in {".json", ".md", ".jsonl"} and path.name != "tokenizer.json":
            text = path.read_text(encoding="utf-8")
            assert "/srv/secret" not in text, path
            assert str(made) not in text, path
    assert "stories" in (released / "records/stages/corpus.json").read_text(encoding="utf-8")


def test_the_release_is_a_weights_folder(released: Path) -> None:
    from vernacular.models.weights import weights_hash

    identity = read_scores(released / "records/evaluation")["model"]
    assert weights_hash(released) == identity["weights"]
    assert (released / "tokenizer.json").is_file()
    assert (released / "chat_template.jinja").is_file()


def test_the_usage_example_runs_as_it_stands(released: Path, repository: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", card_of(released), flags=re.DOTALL)
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-c", "\nprint('=====')\n".join(blocks)],
        cwd=released,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(repository / "src"),
            "HF_HUB_OFFLINE": "1",
            "PYTHONUTF8": "1",
        },
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs, _, ours = done.stdout.partition("=====\n")
    assert theirs == ours  # Greedy answers of the published implementation and of ours are one.
    assert theirs.strip()


def test_publishing_twice_gives_the_same_bytes(made, ancestry, words, released, tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # A glyph that the font lacks would be a warning.
        publish(PublishConfiguration(**words), made / "instruct", made / "scores", ancestry, tmp_path / "again")
    for name in ("README.md", "numbers.json", "plots/scores.png", "plots/training-base.png", "plots/bits-per-byte.png"):
        assert (tmp_path / "again" / name).read_bytes() == (released / name).read_bytes(), name


def test_no_scores_no_card(made, ancestry, words, tmp_path) -> None:
    with pytest.raises(UserError, match="no scores, no card"):
        publish(PublishConfiguration(**words), made / "instruct", tmp_path, ancestry, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_of_other_weights_are_refused(made, ancestry, words, tmp_path) -> None:
    with pytest.raises(UserError, match="belong to other weights"):
        publish(PublishConfiguration(**words), made / "base", made / "scores", ancestry, tmp_path / "out")


def test_scores_that_their_records_deny_are_refused(made, ancestry, words, tmp_path) -> None:
    import shutil

    shutil.copytree(made / "scores", tmp_path / "scores")
    scores = read_json(tmp_path / "scores/scores.json")
    scores["scores"][0]["value"] = 0.99
    write_json(tmp_path / "scores/scores.json", scores)
    with pytest.raises(UserError, match="not what their records say"):
        publish(PublishConfiguration(**words), made / "instruct", tmp_path / "scores", ancestry, tmp_path / "out")


def test_weights_without_any_ancestry_say_so(made, words, tmp_path) -> None:
    words["repository"] = "example/pebble"
    words["licence"] = "Pebble Community Licence"
    publish(PublishConfiguration(**words), made / "instruct", made / "scores", [], tmp_path / "out")
    card = card_of(tmp_path / "out")
    assert "no record of the training data" in card
    assert "no record of the training." in card
    assert 'name = "example/pebble"' in card
    assert 'license: "other"\nlicense_name: "Pebble Community Licence"' in card


def test_a_merged_models_card_says_of_what_and_how(made, ancestry, words, artifact, tmp_path) -> None:
    merged = tmp_path / "merged"
    shutil.copytree(made / "instruct", merged, ignore=shutil.ignore_patterns("artifact.json", "logs"))
    settings = {"method": "ties", "density": 0.25, "scale": None, "position": None}
    models = [
        {"name": "instruct", "share": 2.0, "distance": 0.0312},
        {"name": "/srv/maya/stories", "share": 1.0, "distance": 0.0655},
    ]
    artifact(merged, "merge", settings, {"models": models, "learned_to_answer": True})
    release = tmp_path / "release"
    publish(PublishConfiguration(**words), merged, made / "scores", [*ancestry, ("merged", merged)], release)
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "Stage `merged` made one model of several, by `ties`, density 0.25:\n\n| model | share |" in card
    assert "|---|---:|---:|\n| `instruct` | 2 | 0.0312 |\n| `stories` | 1 | 0.0655 |\n\n" in card
    assert "maya" not in card


def test_a_base_models_card_continues_text(made, ancestry, words, tmp_path) -> None:
    from vernacular.evaluation.configuration import EvaluateConfiguration
    from vernacular.evaluation.evaluation import evaluate
    from vernacular.inference.model import load

    settings = EvaluateConfiguration(resamples=100)
    evaluate(settings, load(made / "base"), None, made / "corpus", tmp_path / "scores", instruct=False)
    publish(PublishConfiguration(**words), made / "base", tmp_path / "scores", ancestry[:4], tmp_path / "out")
    card = card_of(tmp_path / "out")
    assert "base model, continues text" in card
    assert 'print(lm.generate("गाँव के पास एक", max_new_tokens=64))' in card
    assert "conversational" not in card
    assert "### Bits per byte of held-out text" in card
    assert not (tmp_path / "out/plots/scores.png").exists()


def test_the_card_says_on_which_side_of_chance_a_score_lies(released: Path) -> None:
    for line in section(card_of(released), "Evaluation"):
        if line.startswith("| `endings_choice"):
            cells = [cell.strip() for cell in line.split("|")]
            low, high = map(float, cells[7].split(" to "))
            chance = float(cells[8])
            assert cells[9] == ("yes" if low > chance else "below" if high < chance else "no")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": " "}, "title is empty"),
        ({"title": "two\nlines"}, "several lines"),
        ({"limitations": ""}, "limitations is empty"),
        ({"languages": ["Hindi"]}, "not an ISO 639 code"),
        ({"languages": []}, "languages is empty"),
    ],
)
def test_words_that_help_nobody_are_refused(change, message, words) -> None:
    with pytest.raises(ValidationError, match=message):
        PublishConfiguration(**{**words, **change})


def test_a_language_without_an_example_asks_for_one(made, words, tmp_path) -> None:
    words["languages"] = ("mai",)
    with pytest.raises(UserError, match="no example is known for mai"):
        publish(PublishConfiguration(**words), made / "instruct", made / "scores", [], tmp_path / "out")
    words["example"] = "मिथिला कतय अछि?"
    publish(PublishConfiguration(**words), made / "instruct", made / "scores", [], tmp_path / "out")
    assert "मिथिला कतय अछि?" in card_of(tmp_path / "out")
    assert "Maithili (`mai`)" in card_of(tmp_path / "out")
