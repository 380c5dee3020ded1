"""Thresholds fitted to a reference, and identification fitted to sentences, by the command line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vernacular.corpus.configuration import Source
from vernacular.corpus.families import read_thresholds, rules_of
from vernacular.corpus.fitting import fit_thresholds
from vernacular.corpus.romanised import RomanisedModel

SENTENCE = {
    "pl": "rzeka płynie przez las a dzieci bawią się nad wodą i śpiewają bo lato jest ciepłe w tym roku",
    "hi": "नदी जंगल से बहती है और बच्चे पानी के पास खेलते हैं क्योंकि इस साल गर्मी बहुत है",
}
WORDS = {language: sentence.split() for language, sentence in SENTENCE.items()}


def sentences(language: str, count: int, length: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    end = "।" if language == "hi" else "."
    return [" ".join(rng.choice(WORDS[language], length)) + end for _ in range(count)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "good.jsonl"
    rows = [
        {"text": "\n".join(sentences(language, 5 + number % 7, 10 + number % 5, number)), "lang": language}
        for language in WORDS
        for number in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_bounds_lie_at_the_percentile_and_a_recipe_takes_them(reference: Path, tmp_path: Path) -> None:
    source = Source(path=str(reference), language_field="lang")
    fitted = fit_thresholds(source, ["gopher_quality", "fineweb"], 5, 0.0, 50, tmp_path)
    for each in fitted:
        outside = each.values < each.bound * 0.999 if each.rule.is_minimum else each.values > each.bound * 1.001
        assert outside.mean() <= 0.05, each.rule.key
    thresholds = read_thresholds(tmp_path / "thresholds.yaml")
    rule = next(rule for rule in rules_of("gopher_quality") if rule.name == "too_few_words")
    bound = next(each.bound for each in fitted if each.rule == rule and each.language == "pl")
    assert thresholds.limits(rule, ["pl", "de"], ["Latn", "Latn"]).tolist() == [bound, 50]
    written = yaml.safe_load((tmp_path / "thresholds.yaml").read_text(encoding="utf-8"))
    assert written["documents"] == {"hi": 60, "pl": 60} and written["percentile"] == 5


def test_the_verb_writes_a_page_with_pictures(reference: Path, tmp_path: Path, run_cli: Any) -> None:
    words = ["fit-thresholds", str(reference), "--language-field", "lang", "--families", "c4", "-o", str(tmp_path)]
    finished = run_cli(*words)
    assert "8 bounds for 2 languages" in finished.stdout
    page = (tmp_path / "histograms.html").read_text(encoding="utf-8")
    assert 'src="pl.png"' in page and "c4.few_sentences" in page
    assert (tmp_path / "hi.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--families", "gopher"], "did you mean 'gopher_quality'"),
        (["--percentile", "50"], "below 50"),
        (["--margin", "1"], "below 1"),
        (["--least", "61"], "no language has 61 documents"),
    ],
)
def test_what_makes_no_sense_is_refused(
    reference: Path, tmp_path: Path, run_cli: Any, words: list[str], message: str
) -> None:
    given = ["fit-thresholds", str(reference), "--language-field", "lang", "-o", str(tmp_path), *words]
    finished = run_cli(*given, code=2)
    assert message in finished.stderr


def test_identification_is_fitted_to_sentences(tmp_path: Path, run_cli: Any) -> None:
    given = []
    for language in WORDS:
        path = tmp_path / f"{language}.txt.gz"
        path.write_bytes(gzip.compress("\n".join(sentences(language, 80, 12)).encode()))
        given.append(f"{language}={path}")
    finished = run_cli("fit-languages", *given, "-o", str(tmp_path / "out"))
    assert "| hi | 40 | 100.0% |" in finished.stdout and "| hi-Latn | 40 |" in finished.stdout
    calibration = yaml.safe_load((tmp_path / "out" / "calibration.yaml").read_text(encoding="utf-8"))
    assert calibration["temperature"] > 0 and set(calibration["shifts"]) == {"hi", "pl"}
    assert "hi" in RomanisedModel.read((tmp_path / "out" / "romanised.safetensors").read_bytes()).languages


def test_one_language_cannot_be_told_from_itself(tmp_path: Path, run_cli: Any) -> None:
    (tmp_path / "pl.txt").write_text("Ala ma kota.\nUla ma psa.\n", encoding="utf-8")
    finished = run_cli("fit-languages", f"pl={tmp_path / 'pl.txt'}", "-o", str(tmp_path / "out"), code=2)
    assert "two languages at least" in finished.stderr
