"""Duplicates: what counts as one, which one stays, and that order and partitions do not matter."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from corpus_runs import run_of
from vernacular.corpus.configuration import Engine, Heldout, NearDuplicates
from vernacular.corpus.deduplication import find_distinct, near_duplicates
from vernacular.corpus.distinct import read_settled
from vernacular.corpus.document import document_id
from vernacular.corpus.heldout import choose_heldout
from vernacular.corpus.runs import Runs, write_run
from vernacular.corpus.shingles import Shingles, bands_of
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import UserError
from vernacular.foundation.ledger import Ledger

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
    """The texts removed as near-duplicates, with the text that stays in their place."""
    ledger = Ledger.open(folder, {})
    for part in range(files):
        write_run(run_of(texts[part::files], settings), ledger.part("runs") / f"{part}.arrow")
    runs = Runs(sorted(ledger.part("runs").iterdir()))
    engine = Engine(workers=1)
    parts = runs.parts(10_000 if files > 1 else 1 << 30)
    distinct = find_distinct(runs, parts, settings, ledger.part("bands"), engine)
    found = near_duplicates(runs, parts, distinct, settings, ledger, engine)
    of_id = {document_id(text): text for text in texts}
    text_at = [of_id[each.decode()] for each in distinct.ids]
    return {text_at[gone]: text_at[kept] for gone, kept in zip(found.removed, found.kept, strict=True)}


@pytest.mark.parametrize("language", WORDS)
def test_the_longest_of_similar_texts_stays(language: str, tmp_path: Path) -> None:
    originals = [text_of(language, seed) for seed in range(20)]
    copies = [text[: -len(WORDS[language].split()[0]) - 1].rstrip() for text in originals[:5]]
    gone = removed(originals + copies, tmp_path)
    assert set(gone) == set(copies)
    for copy, original in zip(copies, originals, strict=False):
        assert gone[copy] == original


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


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(*(words[place:] for place in range(size)), strict=False)) or {tuple(words)}


def test_jaccard_is_exact() -> None:
    texts = ["a b c d e f", "A b, c d x f g", "a b", "a b!", ""]
    shingles = Shingles.of(pa.array(texts, pa.large_string()), NearDuplicates(shingle=3)).distinct()
    pairs = np.array([[0, 1], [0, 0], [2, 3], [0, 2], [4, 4]])
    expected = []
    for first, second in pairs:
        one, other = grams(texts[first], 3), grams(texts[second], 3)
        expected.append(len(one & other) / len(one | other) if texts[first] else 0.0)
    assert shingles.jaccard(pairs[:, 0], pairs[:, 1]).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "unit", "pieces"),
    [
        ("Wlazł kotek, na PŁOTEK!", "word", 4),
        ("नमस्ते दुनिया", "word", 2),
        ("नमस्ते दुनिया", "grapheme", 6),
        ("தமிழ் மொழி", "grapheme", 5),
        ("我喜欢猫", "word", 4),
        ("ประเทศไทย", "grapheme", 9),
        ("...", "word", 0),
    ],
)
def test_pieces_are_words_or_graphemes(text: str, unit: str, pieces: int) -> None:
    settings = validate(NearDuplicates, {"shingle": 1, "unit": unit})
    assert len(Shingles.of(pa.array([text], pa.large_string()), settings).hashes) == pieces


def test_a_slice_of_texts_has_the_shingles_of_its_texts() -> None:
    texts = pa.array([text_of(language, 1) for language in WORDS], pa.large_string())
    whole, part = (Shingles.of(array, SETTINGS) for array in (texts, texts.slice(1, 2)))
    assert part.hashes.tolist() == whole.hashes[whole.ends[1] : whole.ends[3]].tolist()


@pytest.mark.parametrize(("hashes", "threshold"), [(128, 0.8), (128, 0.9), (64, 0.7), (16, 0.3)])
def test_bands_find_pairs_at_the_threshold(hashes: int, threshold: float) -> None:
    count, size = bands_of(NearDuplicates(hashes=hashes, threshold=threshold))
    assert size == 1 or 1 - (1 - threshold**size) ** count >= 0.999


def test_more_bands_than_hashes_are_refused() -> None:
    with pytest.raises(UserError, match="must not exceed hashes"):
        validate(NearDuplicates, {"hashes": 16, "bands": 17})


def test_a_further_grouping_finds_most_of_the_pairs_that_the_first_one_misses(tmp_path: Path) -> None:
    generator, texts = random.Random(0), []
    for _ in range(200):
        words = [f"w{generator.randrange(10**6)}" for _ in range(200)]
        changed = [*words[:-22], *(f"x{number}" for number in range(22))]
        texts += [" ".join(words), " ".join(changed)]
    found = []
    for groupings in (1, 2, 3):
        settings = NearDuplicates(threshold=0.7, hashes=64, bands=8, groupings=groupings)
        found.append(set(removed(texts, tmp_path / str(groupings), settings=settings)))
    assert found[0] <= found[1] <= found[2]
    # Of similarity 0.8: eight bands of eight miss one of four, and of those a second eight three of four.
    missed = [200 - len(each) for each in found]
    assert missed[0] > 25 and missed[1] < 20 and missed[2] < 10


def test_more_groupings_than_bands_are_refused() -> None:
    with pytest.raises(UserError, match="must not exceed bands"):
        validate(NearDuplicates, {"bands": 4, "groupings": 5})


@pytest.mark.parametrize("cut", [{"threshold": 0.99, "hashes": 64}, {"hashes": 16, "bands": 16}])
def test_groupings_that_would_only_repeat_each_other_are_refused(cut: dict[str, float]) -> None:
    with pytest.raises(UserError, match="different ways, not 5"):
        bands_of(validate(NearDuplicates, cut | {"groupings": 5}))


def test_of_equal_texts_the_best_stays(tmp_path: Path) -> None:
    table = run_of([text_of("pl", 1)] * 4, SETTINGS)
    table = table.set_column(table.schema.get_field_index("order"), "order", pa.array([2, 0, 1, 0], pa.int32()))
    table = table.set_column(table.schema.get_field_index("name"), "name", pa.array(["a", "c", None, "b"]))
    table = table.set_column(
        table.schema.get_field_index("reason"), "reason", pa.array([None, None, None, "spam"], pa.string())
    )
    write_run(table, tmp_path / "run.arrow")
    rows, stays = read_settled(runs := Runs([tmp_path / "run.arrow"]), runs.parts(1 << 30)[0])
    assert stays.tolist() == [True, False, False, False]
    assert rows["name"].to_pylist() == ["c", None, "a", "b"]


def test_of_similar_texts_the_one_of_better_quality_stays(tmp_path: Path) -> None:
    words = text_of("ta", 3, 80).split()
    texts = [" ".join(words), " ".join(words[:-1]), " ".join(words[1:])]
    ledger = Ledger.open(tmp_path, {})
    write_run(run_of(texts, SETTINGS, {texts[1]: 0.9, texts[2]: 0.7}), ledger.part("runs") / "0.arrow")
    runs = Runs(sorted(ledger.part("runs").iterdir()))
    parts, engine = runs.parts(1 << 30), Engine(workers=1)
    distinct = find_distinct(runs, parts, SETTINGS, ledger.part("bands"), engine)
    found = near_duplicates(runs, parts, distinct, SETTINGS, ledger, engine)
    assert {distinct.ids[kept].decode() for kept in found.kept} == {document_id(texts[1])}
    assert len(found.removed) == 2


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
