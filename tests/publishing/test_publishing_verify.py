"""A card that is not true to its records is found out, and the place is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet
import pytest

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json, write_json
from vernacular.publishing.verify import Verification, verify


def edit(release: Path, pattern: str, replacement: str) -> int:
    """Replace the first match in the card; returns its line."""
    card = (release / "README.md").read_text(encoding="utf-8")
    match = re.search(pattern, card, flags=re.MULTILINE)
    assert match, pattern
    edited = card[: match.start()] + match.expand(replacement) + card[match.end() :]
    (release / "README.md").write_text(edited, encoding="utf-8")
    return card[: match.start(1)].count("\n") + 1


def places(found: Verification) -> list[str]:
    return [problem.where for problem in found.problems]


def test_a_fresh_release_is_true(released: Path) -> None:
    found = verify(released)
    assert found.passed, found.problems
    assert found.numbers > 200
    assert found.scores == len(read_json(released / "records/evaluation/scores.json")["scores"])
    assert found.edited == ()


@pytest.mark.parametrize(
    ("pattern", "replacement", "says", "source"),
    [
        (r"^(\| `endings_choice_hi` \| Hindi \| acc\\_norm \| 0 \| 0\.6)67", r"\g<1>77", "0.677", "/value"),
        (r"^(      value: 0\.6)667", r"\g<1>767", "0.6767", "/value"),
        (r"^(\| Polish \| 5\.)344", r"\g<1>144", "5.144", "/value"),
        (r"^(\| Layers \| )2", r"\g<1>3", "3", "num_layers"),
        (r"^(\| Final loss \| 1\.93)2", r"\g<1>1", "1.931", "final_loss"),
        (r"^(\| Hindi \| train \| )3", r"\g<1>9", "9", "documents"),
    ],
    ids=["table", "front matter", "bits per byte", "architecture", "training", "data"],
)
def test_a_changed_digit_is_named_with_its_line_and_record(release, pattern, replacement, says, source) -> None:
    line = edit(release, pattern, replacement)
    (problem,) = verify(release).problems
    assert problem.where == f"README.md:{line}"
    assert f"it says {says}; the record says" in problem.message
    assert source in problem.message


def test_words_may_be_edited(release: Path) -> None:
    line = edit(release, r"^(It was never|- It was never trained\.)$", "- It has never seen a text.")
    found = verify(release)
    assert found.passed
    assert found.edited == (f"README.md:{line}",)


def test_a_claim_of_ones_own_is_named(release: Path) -> None:
    line = edit(release, r"^(## Limitations)$", "It beats GPT-4 with 99.9%.\n\n\\1")
    (problem,) = verify(release).problems
    assert problem.where == f"README.md:{line}"
    assert "no record has these numbers" in problem.message


def test_a_result_left_out_is_named(release: Path) -> None:
    edit(release, r"^(\| `endings_answer_pl`.*\n)", "")
    (problem,) = verify(release).problems
    assert "a line is gone" in problem.message
    assert "endings_answer_pl" in problem.message


def test_a_changed_request_is_found_in_file_and_score(release: Path) -> None:
    path = release / "records/evaluation/records/endings_choice_pl.parquet"
    table = pyarrow.parquet.read_table(path)
    place = table.schema.get_field_index("log_probability")
    values = [
        0.0 if row["is_target"] else row["log_probability"]
        for row in table.select(["is_target", "log_probability"]).to_pylist()
    ]
    changed = table.set_column(place, table.schema.field(place), pyarrow.array(values, pyarrow.float64()))
    pyarrow.parquet.write_table(changed, path)
    found = verify(release)
    assert "records/evaluation/records/endings_choice_pl.parquet" in places(found)
    assert any("endings_choice_pl, acc, value is 0.0; the records give 1.0" in p.message for p in found.problems)


def test_a_changed_score_is_found_against_its_requests(release: Path) -> None:
    path = release / "records/evaluation/scores.json"
    scores = read_json(path)
    scores["scores"][0]["value"] = 0.5
    write_json(path, scores)
    found = verify(release)
    assert "records/evaluation/scores.json#/scores/0/value" in places(found)
    assert any(where.startswith("README.md:") for where in places(found))


def test_other_weights_are_found(release: Path) -> None:
    config = read_json(release / "config.json")
    config["rope_theta"] = config["rope_parameters"]["rope_theta"] = 9999.0
    write_json(release / "config.json", config)
    found = verify(release)
    assert "config.json" in places(found)
    (release / "model.safetensors").unlink()
    assert "model.safetensors" in places(verify(release))


def test_a_changed_ledger_is_found(release: Path) -> None:
    numbers = read_json(release / "numbers.json")
    numbers[0]["value"] += 1
    write_json(release / "numbers.json", numbers)
    assert places(verify(release)) == ["numbers.json"]


def test_another_versions_card_names_the_version(release: Path) -> None:
    card = read_json(release / "records/card.json")
    write_json(release / "records/card.json", {**card, "template_sha256": "0" * 64, "version": "9.9"})
    with pytest.raises(UserError, match=r"vernacular 9\.9 with another template"):
        verify(release)


def test_a_folder_that_is_no_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a release"):
        verify(tmp_path)


def test_a_release_without_scores_is_refused(release: Path) -> None:
    (release / "records/evaluation/scores.json").unlink()
    with pytest.raises(UserError, match="no scores, no card"):
        verify(release)


def test_the_command_line_says_so_and_exits_accordingly(release: Path, run_cli) -> None:
    assert "true: " in run_cli("verify", release).stdout
    line = edit(release, r"^(\| Layers \| )2", r"\g<1>3")
    assert f"README.md:{line}: it says 3; the record says 2" in run_cli("verify", release, code=2).stdout
    assert json.loads(run_cli("verify", release, "--json", code=2).stdout)["passed"] is False
