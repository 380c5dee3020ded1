"""Fitting identification to labelled sentences: calibration, the classifier of romanised text, and an examination."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from vernacular.corpus.calibration import Calibration, fit
from vernacular.corpus.configuration import Identification, Source
from vernacular.corpus.identification import dominant_scripts, identify, raw_scores
from vernacular.corpus.languages import canonical_language
from vernacular.corpus.reading import read_texts
from vernacular.corpus.romanisation import romanise, romanised_languages
from vernacular.corpus.romanised import RomanisedModel
from vernacular.corpus.romanised_training import train_romanised
from vernacular.corpus.sources import find_files
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path

_AT_ONCE = 4096
# Of running text, shorter lines are headings and numbers.
_SHORTEST = 30
_SEED = 0


@dataclass(frozen=True)
class Sentence:
    """A labelled sentence; those of even places in their file are learnt from, the others examined."""

    language: str
    text: str
    examined: bool


@dataclass(frozen=True)
class Examined:
    """What identification said of a language's sentences that it did not learn from.

    Attributes:
        language: of the sentences; "hi-Latn" for such that were written in Latin letters by rule.
        sentences: how many.
        right: share of them.
        undecided: share of them.
        taken_for: the commonest wrong answers.
    """

    language: str
    sentences: int
    right: float
    undecided: float
    taken_for: list[tuple[str, int]]


def read_sentences(given: Sequence[str], language_field: str) -> list[Sentence]:
    """Read `LANGUAGE=FILE` (a sentence a line) and JSON Lines files (each longer line of their texts is one).

    Raises:
        UserError: a file cannot be read.
    """
    sentences: list[Sentence] = []
    for each in given:
        language, equals, path = each.partition("=")
        if equals:
            source = Source(path=path, format="text", split="line", language=language)
        else:
            source = Source(path=each, format="jsonl", language_field=language_field)
        place, shortest = 0, 1 if equals else _SHORTEST
        for text, stated in read_texts(find_files((source,)).files):
            for line in (line for line in map(str.strip, text.split("\n")) if len(line) >= shortest):
                sentences.append(Sentence(canonical_language(stated), line, examined=place % 2 == 1))
                place += 1
    return sentences


def fit_languages(sentences: Sequence[Sentence], out: Path) -> list[Examined]:
    """Fit both parts, write them into `out`, and examine what is in use now on the sentences set aside.

    Raises:
        UserError: there is nothing to learn from.
    """
    learnt = [each for each in sentences if not each.examined]
    if len({each.language for each in learnt}) < 2:
        found = ", ".join(sorted({each.language for each in learnt})) or "none"
        raise UserError(
            f"sentences of two languages at least are needed to tell them apart, and there are only: {found}",
            where="LANGUAGE=FILE",
            fix="give a file of sentences for each, as hi=hindi.txt pl=polish.txt",
        )
    out.mkdir(parents=True, exist_ok=True)
    scores = [raw_scores(texts, Identification()) for texts in _arrays(learnt)]
    fitted = fit(np.concatenate([each for each, _ in scores]), scores[0][1], [each.language for each in learnt])
    _write_calibration(fitted, out / "calibration.yaml")
    _write_romanised(learnt, out / "romanised.safetensors")
    return examine([each for each in sentences if each.examined])


def examine(sentences: Sequence[Sentence]) -> list[Examined]:
    """What identification, as installed, says of each language; of those with a table of letters, romanised too."""
    rng = random.Random(_SEED)
    romanised = [
        Sentence(f"{each.language}-Latn", romanise(each.text, each.language, rng), True)
        for each in sentences
        if each.language in romanised_languages()
    ]
    everything = [*sentences, *romanised]
    answers: list[str] = []
    for texts in _arrays(everything):
        answers += identify(texts, [None] * len(texts), Identification(), frozenset()).languages
    given: dict[str, Counter[str]] = {}
    for each, answer in zip(everything, answers, strict=True):
        # Names of places and firms in romanised news may well be English.
        answer = answer.removesuffix("+en") if "-Latn" in each.language else answer
        given.setdefault(each.language, Counter())[answer] += 1
    return [_examined(language, counts) for language, counts in sorted(given.items())]


def examination_table(examined: Sequence[Examined]) -> str:
    """A Markdown table of an examination, with the means over all sentences."""
    rows = ["| language | sentences | right | undecided | most taken for |", "|---|---|---|---|---|"]
    for each in examined:
        wrong = ", ".join(f"{language} {number}" for language, number in each.taken_for)
        rows.append(f"| {each.language} | {each.sentences:,} | {each.right:.1%} | {each.undecided:.1%} | {wrong} |")
    for name, chosen in (("own script", False), ("in Latin letters", True)):
        mine = [each for each in examined if each.language.endswith("-Latn") == chosen]
        total = sum(each.sentences for each in mine)
        if total:
            right, undecided = (
                sum(getattr(e, key) * e.sentences for e in mine) / total for key in ("right", "undecided")
            )
            rows.append(f"| **{name}** | {total:,} | {right:.1%} | {undecided:.1%} | |")
    return "\n".join(rows)


def _examined(language: str, counts: Counter[str]) -> Examined:
    total = counts.total()
    wrong = Counter({name: number for name, number in counts.items() if name not in (language, "und")})
    return Examined(language, total, counts[language] / total, counts["und"] / total, wrong.most_common(3))


def _arrays(sentences: Sequence[Sentence]) -> Iterator[pa.Array]:
    for start in range(0, len(sentences), _AT_ONCE):
        yield pa.array([each.text for each in sentences[start : start + _AT_ONCE]], pa.large_string())


def _write_calibration(fitted: Calibration, path: Path) -> None:
    value = {
        "temperature": fitted.temperature,
        "otherwise": fitted.otherwise,
        "shifts": fitted.shifts,
        "thresholds": fitted.thresholds,
    }
    head = "# Figures of corpus/calibration.py, made by `vernacular fit-languages` (docs/identification.md).\n"
    with atomic_path(path) as temporary:
        temporary.write_text(head + yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _write_romanised(learnt: Sequence[Sentence], path: Path) -> None:
    """Train on what can be romanised and on what is in Latin letters already."""
    codes = [code for texts in _arrays(learnt) for code in dominant_scripts(texts)[0]]
    usable = [
        (each.language, each.text)
        for each, code in zip(learnt, codes, strict=True)
        if each.language in romanised_languages() or code == "Latn"
    ]
    model: RomanisedModel = train_romanised(usable, _SEED)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.bytes())
