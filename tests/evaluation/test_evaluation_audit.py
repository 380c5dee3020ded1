"""Audits of small cards written here, and of the five reference cards in place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vernacular.evaluation.audit.audit import Audit, audit, report
from vernacular.evaluation.audit.cells import read_number
from vernacular.evaluation.audit.markdown import parse_card, split_cells
from vernacular.evaluation.audit.readings import score_tables
from vernacular.foundation.errors import UserError

SHARED_CARDS = Path(__file__).resolve().parents[2].parent / "shared" / "cards"

Write = Callable[..., Path]


@pytest.fixture
def card(tmp_path: Path) -> Write:
    """`card(text, name="README.md")`: a card's file."""

    def write(text: str, name: str = "README.md") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def kinds(found: Audit) -> list[str]:
    return [finding.kind for finding in found.findings]


def messages(found: Audit, kind: str) -> list[str]:
    return [finding.message for finding in found.findings if finding.kind == kind]


# ------------------------------------------------------------------------------------------------- reading tables


@pytest.mark.parametrize(
    ("cell", "value", "bold", "shots"),
    [
        ("0.54", "0.54", False, None),
        ("**62.13**", "62.13", True, None),
        ("__7__", "7", True, None),
        ("<b>1,234.5</b>", "1234.5", True, None),
        ("0.93 (8-shot, CoT)", "0.93", False, 8),
        ("−23.22", "-23.22", False, None),
        ("71.5 %", "71.5", False, None),
    ],
)
def test_a_number_is_read_as_printed(cell: str, value: str, bold: bool, shots: int | None) -> None:
    number = read_number(cell)
    assert number is not None
    assert (str(number.value), number.bold, number.shots) == (value, bold, shots)


@pytest.mark.parametrize("cell", ["-", "TBD", "", "RoPE", "3e-4 to 3e-6", "1.2.3", "9" * 200])
def test_what_is_no_number_is_none(cell: str) -> None:
    assert read_number(cell) is None


def test_bars_inside_of_code_and_after_a_backslash_are_text() -> None:
    assert split_cells(r"| a \| b | `c | d` | **1** |") == ("a | b", "`c | d`", "**1**")


SHAPES = {
    "pipes": "| Task | Mewa-1B | Rybitwa |\n|---|:--|--:|\n| piqa | 0.70 | **0.60** |",
    "no outer pipes": "Task | Mewa-1B | Rybitwa\n--- | --- | ---\npiqa | 0.70 | **0.60**",
    "after prose": "Wyniki:\n| Task | Mewa-1B | Rybitwa |\n|---|---|---|\n| piqa | 0.70 | **0.60** |\nKoniec.",
    "turned": "| Model | piqa |\n|---|---|\n| Mewa-1B | 0.70 |\n| Rybitwa | **0.60** |",
    "html": "<table>\n<tr><th>Task</th><th>Mewa-1B</th><th>Rybitwa</th></tr>\n"
    "<tr><td>piqa</td><td>0.70</td><td><b>0.60</b></td></tr>\n</table>",
    "sections": "| Model | pl |\n|---|---|\n| **PIQA** | |\n| Mewa-1B | 0.70 |\n| Rybitwa | **0.60** |",
    "quoted": "> | Task | Mewa-1B | Rybitwa |\n> |---|---|---|\n> | piqa | 0.70 | **0.60** |",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_bold_on_the_wrong_side_in_every_shape_of_table(shape: str, card: Write) -> None:
    found = audit([card(f"# Mewa-1B\n\n{SHAPES[shape]}\n")])
    assert found.numbers == 2
    (message,) = messages(found, "bold")
    assert "bold stands at 0.60 (Rybitwa), but the best is 0.70 (Mewa-1B)" in message


def test_a_whole_card_in_the_cells_of_a_table_is_unwrapped(card: Write) -> None:
    lines = ["---", "license: mit", "---", "# Mewa-1B", "", *SHAPES["pipes"].splitlines(), "", "Koniec."]
    found = audit([card("| --- |\n" + "".join(f"| | {line} |\n" for line in lines[1:]))])
    assert found.numbers == 2
    assert kinds(found) == ["bold"]


def test_tables_of_other_things_are_left_out() -> None:
    table = "| Setting | Value |\n|---|---|\n| Learning rate | 0.1 |\n| Batch | 4 |\n"
    text = f"# M\n\n{table}\n```\n| piqa | 1 |\n|---|---|\n```\n"
    assert score_tables(parse_card(text, Path("card.md"))) == []


# --------------------------------------------------------------------------------------------------- each check


def test_perplexity_is_better_when_it_is_lower(card: Write) -> None:
    text = "# A\n\n| Model | Perplexity |\n|---|---|\n| A | **9.5** |\n| B | 12.0 |\n"
    assert audit([card(text)]).passed
    text = "# A\n\n| Model | Perplexity |\n|---|---|\n| A | 9.5 |\n| B | **12.0** |\n"
    assert "lower is better" in messages(audit([card(text)]), "bold")[0]


def test_bold_that_only_marks_the_cards_own_column_is_not_judged(card: Write) -> None:
    text = "# A\n\n| Task | A | B |\n|---|---|---|\n| piqa | **0.70** | 0.60 |\n| copa | **0.70** | 0.80 |\n"
    assert audit([card(text)]).passed


def test_an_average_that_does_not_follow(card: Write) -> None:
    rows = "| Zadanie | A | B |\n|---|---|---|\n| piqa | 0.70 | 0.60 |\n| copa | 0.80 | 0.90 |\n"
    assert audit([card(f"# A\n\n{rows}| średnia | 0.75 | 0.75 |\n")]).passed
    (message,) = messages(audit([card(f"# A\n\n{rows}| średnia | 0.79 | 0.75 |\n")]), "average")
    assert message.startswith("A: the average is printed as 0.79; its 2 numbers give: plain mean 0.75")


def test_an_average_above_chance_follows_by_its_own_rule(card: Write) -> None:
    # piqa and copa have chance 0.5: (0.70 - 0.5) / 0.5 = 0.4, (0.80 - 0.5) / 0.5 = 0.6, on the mean 0.5.
    text = "# A\n\n| Task | A |\n|---|---|\n| piqa | 0.70 |\n| copa | 0.80 |\n| Average | 0.50 |\n"
    assert audit([card(text)]).passed


def test_an_average_by_another_rule_is_said_not_to_be_checked(card: Write) -> None:
    table = "| Model | Average | PIQA | COPA |\n|---|---|---|---|\n| A | 12.0 | 70.0 | 80.0 |\n"
    text = f"# A\n\nThe average is normalised.\n\n{table}"
    found = audit([card(text)])
    assert found.passed
    assert "line 3 says they are no plain means" in found.unchecked[0].message


TALLY = "| Task | Mewa | Rybitwa |\n|---|---|---|\n| piqa | 0.7 | 0.6 |\n| copa | 0.7 | 0.8 |\n| boolq | 0.9 | 0.8 |\n"


@pytest.mark.parametrize(
    "sentence",
    [
        "Better than Rybitwa on {} out of 3 tasks.",
        "Mewa wygrywa w {} z 3 zadań.",
        "मेवा 3 में से {} कार्यों में आगे है।",
        "Besser in {} von 3 Aufgaben.",
        "It is top-1 on {} (out of 3) tasks.",
    ],
)
def test_counts_of_wins_are_counted_again(sentence: str, card: Write) -> None:
    assert audit([card(f"# Mewa\n\n{sentence.format(2)}\n\n{TALLY}")]).passed
    found = audit([card(f"# Mewa\n\n{sentence.format(3)}\n\n{TALLY}")])
    assert kinds(found) == ["claim"]
    assert found.findings[0].line == 3


def test_level_scores_may_be_counted_as_won_or_not(card: Write) -> None:
    level = TALLY.replace("0.9 | 0.8", "0.8 | 0.8")
    for count, passed in ((1, True), (2, True), (3, False)):
        assert audit([card(f"# Mewa\n\nAhead on {count} of 3 benchmarks.\n\n{level}")]).passed is passed


def test_a_claimed_best_is_looked_up(card: Write) -> None:
    found = audit([card(f"# Mewa\n\nIt has the best result in the COPA task.\n\n{TALLY}")])
    assert messages(found, "claim") == ["'the best score in COPA': the table's best is Rybitwa with 0.8"]


def test_one_model_with_two_values_across_cards(card: Write) -> None:
    one = card("# A\n\n| Task | A |\n|---|---|\n| piqa | 0.700 |\n| copa | 0.81 |\n", "one.md")
    two = card("# B\n\n| Task | A | B |\n|---|---|---|\n| piqa | 70.0 | 71.0 |\n| copa | 85.0 | 80.0 |\n", "two.md")
    found = audit([one, two])
    assert messages(found, "disagreement") == ["A, copa: 0.81 at one.md:6 but 85.0 at two.md:6"]


def test_values_of_other_settings_do_not_contradict(card: Write) -> None:
    text = "# A\n\n| Task | A |\n|---|---|\n| GSM8K (0-shot) - EM | 0.20 |\n| GSM8K (8-shot) - EM | 0.35 |\n"
    assert audit([card(text)]).passed


@pytest.mark.parametrize(
    ("front", "body", "messages_"),
    [
        ("apache-2.0", "License: MIT", ["the licence is mit here, but apache-2.0 at line 2"]),
        ("apache-2.0", "Licencja: Apache 2.0 (także komercyjnie)", []),
        ("mit", "## लाइसेंस\n\nCC BY-SA 4.0", ["the licence is cc-by-sa-4.0 here, but mit at line 2"]),
        ("mit", "## License\n\nTBD", ["the licence is left open here; mit at line 2"]),
        ("mit", "The data have permissive licences such as Apache 2.0.", []),
    ],
)
def test_licences(front: str, body: str, messages_: list[str], card: Write) -> None:
    assert messages(audit([card(f"---\nlicense: {front}\n---\n# A\n\n{body}\n")]), "licence") == messages_


INDEX = """---
model-index:
- name: mewa-2b
  results:
  - dataset: {name: MMLU, type: x}
    metrics: [{name: pass@1, type: pass@1, value: 41.0, veriefied: false}]
  - dataset: {name: HumanEval, type: x}
    metrics: [{name: pass@1, type: pass@1, value: 9.0}]
---
# Mewa-1B
"""


def test_a_model_index_is_held_against_the_title_and_the_metrics(card: Write) -> None:
    found = audit([card(INDEX)])
    assert sorted(kinds(found)) == ["index", "index", "metric"]
    assert messages(found, "metric") == ["the model index calls 2 of 2 metrics pass@1; 1 of them cannot be: MMLU"]
    assert "'verified' is meant?" in "".join(messages(found, "index"))


def test_pretrained_columns_and_tuned_notes(card: Write) -> None:
    text = (
        "# Mewa\n\n## Scores\n\n| Task | Mewa (PT) | B (PT) |\n|---|---|---|\n| piqa | 0.70 | 0.60 |\n\n> All are {}.\n"
    )
    assert kinds(audit([card(text.format("post-SFT"))])) == ["stage"]
    assert audit([card(text.format("zero-shot"))]).passed


def test_scores_at_and_below_chance(card: Write) -> None:
    text = (
        "# A\n\n| Task | A | B |\n|---|---|---|\n| piqa | 0.51 | 0.10 |\n| wic | 0.70 | 0.50 |\n| mbpp | 0.0 | 0.2 |\n"
    )
    found = audit([card(text)])
    assert sorted(kinds(found)) == ["chance", "chance", "zero"]
    assert "A, piqa: 0.51 is no better than chance (0.5 ± 0.023 on 1,838 items)" in messages(found, "chance")


SIZES = """# Mewa-{0}

A model of {0} parameters.

- Layers: 2
- Hidden size: 1,000
- Attention heads: 10
- Key-value heads: 5
- Intermediate size: 4000
- Activation: {1}
- Vocabulary size: 10000
- Tied embeddings: yes
"""


@pytest.mark.parametrize(
    ("size", "activation", "passed"),
    # Layers: 2 * (2*1000*1000 + 2*1000*500 + m*1000*4000 + 2000) + 1000; embeddings 10 million.
    [("40M", "SwiGLU", True), ("32M", "GELU", True), ("40M", "GELU", False), ("4B", "SwiGLU", False)],
)
def test_the_parameters_are_counted(size: str, activation: str, passed: bool, card: Write) -> None:
    found = audit([card(SIZES.format(size, activation))])
    assert found.passed is passed
    assert kinds(found) == ([] if passed else ["parameters"])


def test_what_cannot_be_counted_says_what_is_missing(card: Write) -> None:
    text = SIZES.format("40M", "SwiGLU")
    found = audit([card(text.replace("- Vocabulary size: 10000\n", ""))])
    assert found.passed
    assert "the layers have 30,005,000" in found.unchecked[0].message
    found = audit([card(text.replace("- Activation: SwiGLU\n", ""))])
    assert "not stated are activation" in found.unchecked[0].message


def test_a_measure_stated_twice(card: Write) -> None:
    found = audit([card(SIZES.format("40M", "SwiGLU") + "- Layers: 3\n")])
    assert messages(found, "architecture") == ["the num layers is stated twice: 2 and 3"]


@pytest.mark.parametrize("release", ["2024-01-31", "styczeń 2024", "Jan 31, 2024", "जनवरी 2024"])
def test_a_release_before_the_end_of_the_training(release: str, card: Write) -> None:
    text = f"# A\n\nTrained between Dec 2024 and Jan 2025.\n\n| Model | Release Date |\n|---|---|\n| A | {release} |\n"
    (message,) = messages(audit([card(text)]), "date")
    assert "trained until Jan 2025 (line 3)" in message


def test_code_that_cannot_run_as_printed(card: Write) -> None:
    first = 'import torch\ndevice = "auto"\nx = torch.ones(1).to(device)'
    text = f"# A\n\n```python\n{first}\n```\n\n```python\nprint(x, gone)\n```\n"
    found = audit([card(text)])
    assert [(finding.kind, finding.line) for finding in found.findings] == [("code", 6), ("code", 10)]
    assert "'gone'" in found.findings[1].message


# ---------------------------------------------------------------------------------------------- untrusted files


@pytest.mark.parametrize(
    "text",
    [
        "---\na: &a [1]\nb: [*a, *a]\n---\n# A\n",
        "---\n" + "[" * 500 + "\n---\n# A\n",
        "---\nlicense: [unclosed\n---\n# A\n",
    ],
)
def test_front_matter_that_is_a_trap_or_broken_is_a_finding(text: str, card: Write) -> None:
    assert kinds(audit([card(text)])) == ["front-matter"]


@pytest.mark.parametrize(
    "text",
    [
        "| a " * 20_000 + "\n" + "|---" * 20_000 + "\n",
        "# A\n\n" + "1 out of " * 50_000 + "\n",
        "# A\n\n" + "[" * 100_000 + "\n",
        "# A\n\n```python\nx = " + "(" * 5_000 + ")" * 5_000 + "\n```\n",
        "# A\n\n```python\nx = " + "-" * 49_000 + "1\n```\n",
        "# A\n\n```python\nx = " + "+".join("1" * 20_000) + "\n```\n",
        "<!--" * 20_000 + "\n",
        "| a |\n" * 50_000,
        "<table>" * 20_000,
    ],
)
@pytest.mark.timeout(20)
def test_files_made_to_be_slow_or_to_crash_are_read(text: str, card: Write) -> None:
    audit([card(text)])


def test_control_characters_are_shown_and_not_obeyed(card: Write) -> None:
    found = audit([card("# A\n\n| Task | A | \x1b[31mB |\n|---|---|---|\n| piqa | 0.7 | **0.6** |\n")])
    assert "\x1b" not in report(found)
    assert "\\x1b[31mB" in report(found)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not valid UTF-8"):
        audit([tmp_path / "a.md"])
    with pytest.raises(UserError, match="no such file"):
        audit([tmp_path / "b.md"])


# ------------------------------------------------------------------------------------------ the five, and the verb


@pytest.fixture(scope="module")
def five() -> Audit:
    if not SHARED_CARDS.is_dir():
        pytest.skip("needs the reference cards in ../shared/cards, which are not here")
    return audit(sorted(SHARED_CARDS.glob("*.md")))


@pytest.mark.parametrize(
    ("card_name", "kind", "words"),
    [
        ("param-1-2.9b-instruct", "licence", "mit here, but apache-2.0"),
        ("param-1-2.9b-instruct", "stage", "post-SFT"),
        ("param-1-2.9b-instruct", "chance", "wic: 49.5"),
        *[
            ("krutrim-1-7b", "bold", f"{row}: bold stands at")
            for row in ("boolq", "jeopardy", "logiqa", "mathqa", "piqa")
        ],
        ("krutrim-1-7b", "bold", "simplearithmetic: bold stands at 0.077"),
        ("krutrim-1-7b", "claim", "is ahead of Llama2Chat-7B on 9, level on 0, behind on 7"),
        ("krutrim-1-7b", "claim", "gives 0.54501 and 0.54476"),
        ("krutrim-1-7b", "code", "'device'"),
        ("krutrim-1-7b", "licence", "left open"),
        ("krutrim-2-12b", "disagreement", "indic_sentiment: 0.955 (mean of 8 languages)"),
        ("krutrim-2-12b", "disagreement", "indic_copa: 0.87375"),
        ("krutrim-2-12b", "disagreement", "indic_qa: 0.66875"),
        ("krutrim-2-12b", "zero", "Krutrim-1-7B, humaneval"),
        ("krutrim-2-12b", "date", "released 2024-01-31, but trained until Jan 2025"),
        ("krutrim-2-12b", "architecture", "5,120 and 14,336"),
        ("granite-3.0-1b-a400m-instruct", "metric", "23 of 23 metrics pass@1; 19 of them cannot be"),
        ("granite-3.0-1b-a400m-instruct", "index", "names 'granite-3.0-2b-instruct'"),
        ("granite-3.0-1b-a400m-instruct", "code", "the device 'auto'"),
        ("bielik-7b-v0.1", "bold", "the best is 69.39 (internlm/internlm2-7b)"),
    ],
)
def test_the_five_cards_known_faults_are_found(five: Audit, card_name: str, kind: str, words: str) -> None:
    found = [one.message for one in five.findings if Path(one.file).stem == card_name and one.kind == kind]
    assert any(words in message for message in found), found


def test_the_five_cards_sound_statements_are_not_findings(five: Audit) -> None:
    bold = [one.message for one in five.findings if one.kind == "bold"]
    assert len(bold) == 7
    assert not [one for one in five.findings if "5 (out of 7)" in one.message or "RAG Reader" in one.message]
    assert not [one for one in five.findings if one.kind in ("parameters", "average")]


def test_the_verb_prints_and_exits_with_1_when_it_finds_something(card: Write, run_cli) -> None:
    good, bad = card(f"# Mewa\n\n{TALLY}", "good.md"), card(f"# Mewa\n\n{SHAPES['pipes']}", "bad.md")
    assert "nothing found; 6 numbers" in run_cli("audit-card", good).stdout
    assert "[bold] piqa" in run_cli("audit-card", bad, code=1).stdout
    found = json.loads(run_cli("audit-card", good, bad, "--json", code=1).stdout)
    assert found["passed"] is False
    assert [one["line"] for one in found["findings"] if one["kind"] == "bold"] == [5]
    assert "no such file" in run_cli("audit-card", "gone.md", code=2).stderr


def test_columns_beside_the_scores_are_no_models_and_an_index_by_language_is_no_disagreement(card: Write) -> None:
    index = "".join(
        f"  - dataset: {{name: rzeki, config: {language}}}\n    metrics:\n"
        f"    - {{type: acc, value: {acc}}}\n    - {{type: acc_norm, value: {norm}}}\n"
        for language, acc, norm in (("pl", 0.5, 0.6), ("hi", 0.7, 0.8))
    )
    head = (
        "| task | language | metric | shots | value | ± standard error | 95% interval | chance | n | unread answers |"
    )
    rows = "| rzeki | Polish | acc | 0 | 0.500 | 0.000 | 0.4 to 0.6 | 0.250 | 200 | 0 (0.0%) |\n" * 2
    text = f"---\nmodel-index:\n- name: Mewa\n  results:\n{index}---\n# Mewa\n\n{head}\n{'|---' * 10}|\n{rows}"
    assert audit([card(text)]).findings == ()
