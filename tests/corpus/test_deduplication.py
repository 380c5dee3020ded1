"""Duplicates: what counts as one, which one stays, and that order and partitions do not matter."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vernacular.corpus.configuration import Heldout, NearDuplicates
from vernacular.corpus.deduplication import exact_duplicates, near_duplicates, rows_per_band
from vernacular.corpus.document import document_id
from vernacular.corpus.engine import daft
from vernacular.corpus.heldout import choose_heldout
from vernacular.corpus.shingles import jaccard, shingle_matrix, shingle_texts

SETTINGS = NearDuplicates()
WORDS = {
    "pl": "kot pies dom rzeka las góra droga chleb woda słońce księżyc zima lato ojciec matka książka okno stół",
    "hi": "बिल्ली कुत्ता घर नदी जंगल पहाड़ रास्ता रोटी पानी सूरज चाँद सर्दी गर्मी पिता माता किताब खिड़की मेज़",
    "ta": "பூனை நாய் வீடு ஆறு காடு மலை வழி ரொட்டி தண்ணீர் சூரியன் நிலா குளிர் கோடை தந்தை தாய் புத்தகம்",
    "zh": "猫 狗 家 河 林 山 路 面 水 日 月 冬 夏 父 母 书 窗 桌 天 地 人",
}


def text_of(language: str, seed: int, length: int = 60) -> str:
    generator = random.Random(f"{language}{seed}")
    return ("" if language == "zh" else " ").join(generator.choices(WORDS[language].split(), k=length))


def removed(texts: list[str], folder: Path, files: int = 1, settings: NearDuplicates = SETTINGS) -> dict[str, str]:
    """The texts removed as near-duplicates, with the detail."""
    array = pa.array(texts, pa.large_string())
    frame = daft.from_pydict(
        {
            "row": list(range(len(texts))),
            "id": [document_id(text) for text in texts],
            "length": [len(text) for text in texts],
            "provenance": texts,
            "text": array,
            "shingles": shingle_texts(array),
        }
    )
    signature = daft.functions.minhash(
        frame["shingles"], num_hashes=settings.hashes, ngram_size=settings.shingle, seed=1
    )
    frame = frame.with_column("signature", signature).exclude("shingles")
    for part in range(files):
        frame.where(frame["row"] % files == part).write_parquet(str(folder)).collect()
    found = near_duplicates(folder, np.arange(len(texts)), settings)
    return {texts[duplicate.row]: duplicate.detail for duplicate in found}


@pytest.mark.parametrize("language", WORDS)
def test_the_longest_of_similar_texts_stays(language: str, tmp_path: Path) -> None:
    originals = [text_of(language, seed) for seed in range(20)]
    copies = [text[: -len(WORDS[language].split()[0]) - 1].rstrip() for text in originals[:5]]
    gone = removed(originals + copies, tmp_path)
    assert set(gone) == set(copies)
    for copy, original in zip(copies, originals, strict=False):
        assert gone[copy].endswith(f"to {original}")


def test_case_and_punctuation_make_no_difference(tmp_path: Path) -> None:
    text = "Wlazł kotek na płotek i mruga, ładna to piosenka, niedługa."
    other = text.upper().replace(",", " –") + "!"
    assert set(removed([text, other], tmp_path)) == {text}


def test_joiners_and_marks_do(tmp_path: Path) -> None:
    assert removed(["क्ष क्ष क्ष क्ष", "कष कष कष कष"], tmp_path) == {}


def test_similar_is_not_enough(tmp_path: Path) -> None:
    words = text_of("pl", 1).split()
    changed = words.copy()
    for place in range(5, 60, 12):
        changed[place] = "inaczej"
    assert removed([" ".join(words), " ".join(changed)], tmp_path) == {}
    assert removed([" ".join(words), " ".join(changed)], tmp_path / "low", settings=NearDuplicates(threshold=0.4))


def test_the_result_does_not_depend_on_order_or_partitions(tmp_path: Path) -> None:
    texts = []
    for seed in range(12):
        words = text_of("hi", seed, 80).split()
        texts += [" ".join(words), " ".join(words[:-1]), " ".join(words[1:]), " ".join(words[2:-1])]
    outcomes = []
    for number, files in enumerate((1, 3, 5)):
        shuffled = texts.copy()
        random.Random(number).shuffle(shuffled)
        outcomes.append(removed(shuffled, tmp_path / str(number), files))
    assert len(outcomes[0]) == 36
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_many_copies_of_one_text_cost_no_quadratic_work(tmp_path: Path) -> None:
    words = text_of("pl", 3, 200)
    texts = [f"{words}{'.' * number}" for number in range(1500)]
    assert len(removed(texts, tmp_path)) == 1499


def test_jaccard_is_exact() -> None:
    first, second = list("abcdef"), list("abcdxfg")
    grams = [set(zip(words, words[1:], words[2:], strict=False)) for words in (first, second)]
    matrix = shingle_matrix(pa.array([" ".join(first), " ".join(second), "a b", "a b", ""], pa.large_string()), 3)
    pairs = np.array([[0, 1], [0, 0], [2, 3], [0, 2], [4, 4]])
    expected = [len(grams[0] & grams[1]) / len(grams[0] | grams[1]), 1.0, 1.0, 0.0, 0.0]
    assert jaccard(matrix, pairs[:, 0], pairs[:, 1]).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("hashes", "threshold"), [(128, 0.8), (128, 0.9), (64, 0.7), (16, 0.3)])
def test_bands_find_pairs_at_the_threshold(hashes: int, threshold: float) -> None:
    size = rows_per_band(hashes, threshold)
    assert size == 1 or 1 - (1 - threshold**size) ** (hashes // size) >= 0.999


def test_of_equal_texts_the_first_in_the_sources_stays() -> None:
    rows = np.array([7, 3, 5, 1])
    ids = np.array([b"b" * 32, b"a" * 32, b"b" * 32, b"c" * 32])
    kept, gone = exact_duplicates(rows, ids, pa.array(["p7", "p3", "p5", "p1"]))
    assert rows[kept].tolist() == [3, 5, 1]
    assert [(duplicate.row, duplicate.detail) for duplicate in gone] == [(7, "the same text as p5")]


def ids_of(count: int) -> np.ndarray:
    return np.array([document_id(str(number)) for number in range(count)], dtype="S32")


def test_held_out_documents_are_a_share_of_each_language() -> None:
    languages = np.array(["pl"] * 4000 + ["hi"] * 60 + ["kok"] * 3)
    chosen = choose_heldout(ids_of(4063), languages, Heldout(share=0.05, at_least=8), seed=0)
    assert 150 < chosen[:4000].sum() < 250
    assert 8 <= chosen[4000:4060].sum() <= 12
    assert chosen[4060:].sum() <= 1


def test_held_out_documents_stay_held_out_as_the_corpus_grows() -> None:
    languages = np.array(["pl"] * 3000)
    settings = Heldout(share=0.05, at_least=0)
    few = choose_heldout(ids_of(2000), languages[:2000], settings, seed=4)
    many = choose_heldout(ids_of(3000), languages, settings, seed=4)
    assert many[:2000].tolist() == few.tolist()
    assert choose_heldout(ids_of(3000), languages, settings, seed=5).tolist() != many.tolist()
