"""Near-duplicates planted at known Jaccard similarities: how many are found, and what else is."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from corpus_runs import run_of
from vernacular.corpus.configuration import Engine, NearDuplicates
from vernacular.corpus.deduplication import find_distinct, near_duplicates
from vernacular.corpus.document import document_id
from vernacular.corpus.runs import Runs, write_run
from vernacular.corpus.shingles import Shingles
from vernacular.foundation.ledger import Ledger

LETTERS = {
    "hi": ("कखगघचछजझटठडढणतथदधनपफबभमयरलवशसह", ["", "ा", "ि", "ी", "ु", "े", "ो", "ं", "्य"]),
    "ta": ("கஙசஞடணதநபமயரலவழளறன", ["", "ா", "ி", "ீ", "ு", "ெ", "ை", "ோ", "்"]),
    "th": ("กขคงจชซญดตถทธนบปผฝพฟมยรลวศสหอ", ["", "ะ", "า", "ิ", "ี", "ุ", "ู", "่"]),
    "pl": ("bcćdfghjklłmnńprsśtwzźż", ["a", "ą", "e", "ę", "i", "o", "ó", "u", "y"]),
    "en": ("bcdfghjklmnpqrstvwxyz", ["a", "e", "i", "o", "u", "ea", "oo"]),
}
DOCUMENTS, PAIRS = 600, 300
UNIT = {"th": "grapheme"}


def word(language: str, generator: random.Random) -> str:
    consonants, vowels = LETTERS[language]
    return "".join(generator.choice(consonants) + generator.choice(vowels) for _ in range(generator.randint(2, 4)))


def changed(words: list[str], number: int, language: str, generator: random.Random) -> list[str]:
    copy = words.copy()
    for place in generator.sample(range(len(words)), number):
        copy[place] = word(language, generator)
    return copy


@pytest.mark.parametrize("language", LETTERS)
def test_recall_and_precision(language: str, tmp_path: Path) -> None:
    generator = random.Random(language)
    settings = NearDuplicates(unit=UNIT.get(language, "word"))
    # A word changed costs a shingle per word in it, and there are as many shingles as words, or as graphemes.
    space, most = ("", 10) if language == "th" else (" ", 25)
    documents = [[word(language, generator) for _ in range(generator.randint(100, 300))] for _ in range(DOCUMENTS)]
    copies = [
        changed(words, generator.randint(1, len(words) // most), language, generator) for words in documents[:PAIRS]
    ]
    texts = [space.join(words) for words in documents + copies]
    shingles = Shingles.of(pa.array(texts, pa.large_string()), settings).distinct()
    numbers = list(range(PAIRS)), [DOCUMENTS + number for number in range(PAIRS)]
    known = shingles.jaccard(*(pa.array(side).to_numpy() for side in numbers))
    assert 60 < (known >= settings.threshold).sum() < PAIRS - 60, "there are pairs on both sides of the threshold"

    ledger, engine = Ledger.open(tmp_path, {}), Engine(workers=1)
    write_run(run_of(texts, settings), ledger.part("runs") / "0.arrow")
    runs = Runs(sorted(ledger.part("runs").iterdir()))
    parts = runs.parts(1 << 30)
    distinct = find_distinct(runs, parts, settings, ledger.part("bands"), engine)
    found = near_duplicates(runs, parts, distinct, settings, ledger, engine)
    place = {document_id(text): number for number, text in enumerate(texts)}
    at = [place[each.decode()] for each in distinct.ids]
    pairs = {frozenset((at[gone], at[kept])) for gone, kept in zip(found.removed, found.kept, strict=True)}

    similar = {frozenset(pair) for pair, value in zip(zip(*numbers, strict=True), known, strict=True) if value >= 0.8}
    assert len(pairs & similar) >= 0.98 * len(similar)
    assert len(pairs & similar) >= 0.999 * len(pairs)
