"""Tokenizers measured side by side: figures by hand, cuts inside clusters found, wrong files refused by name."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vernacular.foundation.errors import UserError
from vernacular.tokens.comparison import compare_tokenizers, read_lines

LINES = {"hi": ["नदी के किनारे बच्चे", "हिन्दी में लिखना"], "en": ["children by the river", "to write in Hindi"]}


@pytest.fixture
def without_marks(tokenizer_folder: Path, tmp_path: Path) -> Path:
    """The same tokenizer, but for a split whose words are letters without their marks."""
    folder = tmp_path / "letters-only"
    shutil.copytree(tokenizer_folder, folder)
    description = json.loads((folder / "tokenizer.json").read_text())
    split = description["pre_tokenizer"]["pretokenizers"][0]
    split["pattern"]["Regex"] = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"
    (folder / "tokenizer.json").write_text(json.dumps(description))
    return folder


def test_figures_are_those_counted_by_hand(tokenizer_folder: Path, tokenizer: Any) -> None:
    comparison = compare_tokenizers([tokenizer_folder], LINES, reference="en", rare_below=2)
    hindi, english = comparison.fits
    tokens = sum(len(tokenizer.encode(line)) for line in LINES["hi"])
    assert (hindi.language, hindi.scripts, hindi.tokens) == ("hi", ("Deva",), tokens)
    assert hindi.tokens_per_word == pytest.approx(tokens / 7, abs=1e-4)
    assert hindi.bytes_per_token == pytest.approx(sum(len(line.encode()) for line in LINES["hi"]) / tokens, abs=1e-4)
    assert hindi.parity == pytest.approx(tokens / english.tokens, abs=1e-4)
    assert english.parity == 1
    used = {token for lines in LINES.values() for line in lines for token in tokenizer.encode(line)}
    (use,) = comparison.uses
    assert use.unused == tokenizer.vocab_size - len(tokenizer.control_tokens) - len(used)
    assert use.unused < use.rare <= tokenizer.vocab_size


def test_a_cut_between_a_mark_and_its_base_is_counted(tokenizer_folder: Path, without_marks: Path) -> None:
    fits = compare_tokenizers([tokenizer_folder, without_marks], LINES).fits
    cut = {(fit.tokenizer, fit.language): fit.graphemes_cut for fit in fits}
    ours, theirs = dict.fromkeys(fit.tokenizer for fit in fits)
    assert cut[ours, "hi"] == cut[ours, "en"] == cut[theirs, "en"] == 0
    assert cut[theirs, "hi"] >= 8
    assert all(fit.parity is None for fit in fits)


def test_the_command_writes_tables_and_a_plot(
    run_cli: Any, tokenizer_folder: Path, without_marks: Path, tmp_path: Path
) -> None:
    (tmp_path / "hi.txt").write_text("\n".join(LINES["hi"]) + "\n", encoding="utf-8")
    with gzip.open(tmp_path / "en.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(LINES["en"]) + "\n")
    texts = ("--text", f"hi={tmp_path / 'hi.txt'}", "--text", f"en={tmp_path / 'en.txt.gz'}", "--reference", "en")
    out = tmp_path / "out"
    done = run_cli("compare-tokenizers", tokenizer_folder, without_marks, *texts, "-o", out)
    assert "## Tokens for a token of the reference" in done.stdout
    assert done.stdout == (out / "comparison.md").read_text()
    assert len(json.loads((out / "comparison.json").read_text())["fits"]) == 4
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_files_that_are_no_translations_line_by_line_are_refused(tmp_path: Path) -> None:
    for name, text in {"hi": "एक\nदो\n", "en": "one\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    paths = {"hi": tmp_path / "hi", "en": tmp_path / "en"}
    assert {language: len(lines) for language, lines in read_lines(paths, None).items()} == {"hi": 2, "en": 1}
    with pytest.raises(UserError, match="'hi' has 2 and the reference 'en' 1"):
        read_lines(paths, "en")
    with pytest.raises(UserError, match="unknown reference 'hindi'"):
        read_lines(paths, "hindi")


@pytest.mark.parametrize(
    ("name", "content"), [("broken.txt", b"\xff\xfe"), ("cut.gz", b"\x1f\x8b\x08"), ("no.gz", b"x")]
)
def test_files_that_are_no_text_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="not a text file") as refused:
        read_lines({"hi": tmp_path / name}, None)
    assert refused.value.where == str(tmp_path / name)


def test_words_that_name_no_text_and_a_tokenizer_given_twice_are_refused(
    run_cli: Any, tokenizer_folder: Path, tmp_path: Path
) -> None:
    assert (
        "'hindi.txt' names no language"
        in run_cli("compare-tokenizers", tokenizer_folder, "--text", "hindi.txt", code=2).stderr
    )
    with pytest.raises(UserError, match="given twice"):
        compare_tokenizers([tokenizer_folder, tokenizer_folder], LINES)
