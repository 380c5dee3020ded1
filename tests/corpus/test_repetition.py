"""Equal paragraphs and lines: one document keeps each, and the rest is what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from vernacular.corpus.configuration import CurateConfiguration
from vernacular.corpus.curation import curate
from vernacular.corpus.document import document_id
from vernacular.foundation.artifact import collect_outputs, digest_outputs
from vernacular.foundation.configuration import validate

NOTICE = {
    "pl": "Ta strona korzysta z plików, które zapamiętują wybory czytelnika.",
    "hi": "यह पृष्ठ पाठक की पसंद को याद रखने के लिए फ़ाइलों का उपयोग करता है।",
    "ta": "இந்தப் பக்கம் வாசகரின் விருப்பங்களை நினைவில் வைக்கக் கோப்புகளைப் பயன்படுத்துகிறது.",
}
STORY = {
    "pl": "Dziewczynka numer {} poszła nad rzekę i zobaczyła tam małego bobra, który budował tamę.",
    "hi": "लड़की संख्या {} नदी के किनारे गई और उसने वहाँ एक छोटा ऊदबिलाव देखा जो घर बना रहा था।",
    "ta": "சிறுமி எண் {} ஆற்றங்கரைக்குச் சென்று அங்கே வீடு கட்டும் ஒரு சிறிய விலங்கைப் பார்த்தாள்.",
}


def documents(language: str, separator: str) -> list[str]:
    texts = [separator.join([STORY[language].format(number), NOTICE[language]]) for number in range(6)]
    return [*texts, NOTICE[language]]


def curated(texts: list[str], folder: Path, **settings: Any) -> dict[str, str]:
    """The text that stays of each document, "" where none does, by what is removed or kept of it."""
    (folder / "in").mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / "in" / f"{number}.txt").write_text(text, encoding="utf-8")
    given = {
        "sources": [{"name": "s", "path": str(folder / "in")}],
        "near_duplicates": {"enabled": False},
        "filters": {"disable": ["boilerplate"]},
        **settings,
    }
    curate(validate(CurateConfiguration, given), folder / "out")
    kept = [row for split in ("train", "heldout") for row in rows(folder / "out" / "documents" / split)]
    for row in kept:
        assert row["id"] == document_id(row["text"])
    return {row["provenance"]: row["text"] for row in kept}


def rows(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder).to_pylist()


@pytest.mark.parametrize("language", STORY)
@pytest.mark.parametrize(("unit", "separator"), [("paragraph", "\n\n"), ("line", "\n")])
def test_a_piece_stays_in_one_document(language: str, unit: str, separator: str, tmp_path: Path) -> None:
    texts = documents(language, separator)
    owner = min(texts, key=document_id)
    found = curated(texts, tmp_path, exact_duplicates={"unit": unit})
    expected = {
        f"{number}.txt": text if text == owner else text.removesuffix(NOTICE[language]).strip()
        for number, text in enumerate(texts)
    }
    assert found == {name: text for name, text in expected.items() if text}
    gone = rows(tmp_path / "out" / "removed")
    assert [row["reason"] for row in gone] == ["repeated_text"] * (len(texts) - len(found))


def test_lines_within_paragraphs_stay_where_paragraphs_are_compared(tmp_path: Path) -> None:
    texts = documents("pl", "\n")[:-1]
    assert set(curated(texts, tmp_path, exact_duplicates={"unit": "paragraph"}).values()) == set(texts)


def test_within_a_document_the_first_of_equal_lines_stays(tmp_path: Path) -> None:
    first, second = STORY["pl"].format(1), STORY["pl"].format(2)
    found = curated([f"{first}\n{second}\n{first}\n{second}"], tmp_path, exact_duplicates={"unit": "line"})
    assert list(found.values()) == [f"{first}\n{second}"]


def test_short_lines_stay(tmp_path: Path) -> None:
    texts = [f"{STORY['hi'].format(number)}\nनमस्ते" for number in range(4)]
    assert set(curated(texts, tmp_path, exact_duplicates={"unit": "line"}).values()) == set(texts)
    settings = {"unit": "line", "minimum_characters": 3}
    found = curated(texts, tmp_path / "all", exact_duplicates=settings)
    assert sum("नमस्ते" in text for text in found.values()) == 1


def test_equal_documents_stay_equal(tmp_path: Path) -> None:
    texts = documents("ta", "\n")[:3]
    found = curated([*texts, texts[0], texts[1]], tmp_path, exact_duplicates={"unit": "line"})
    assert len(found) == 3
    reasons = [row["reason"] for row in rows(tmp_path / "out" / "removed")]
    assert reasons == ["exact_duplicate"] * 2


def test_what_is_left_may_be_a_duplicate_of_another(tmp_path: Path) -> None:
    story = STORY["hi"].format(7)
    texts = [f"{story}\n{NOTICE['hi']}", f"{NOTICE['hi']}\n{story}", f"{STORY['hi'].format(8)}\n{NOTICE['hi']}"]
    found = curated(texts, tmp_path, exact_duplicates={"unit": "line"})
    assert sum(text.count(NOTICE["hi"]) for text in found.values()) == 1
    assert sum(text.count(story) for text in found.values()) == 1


def test_the_order_of_files_and_the_memory_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vernacular.corpus.curation as curation

    texts = [text for language in STORY for text in documents(language, "\n")]
    near = {"near_duplicates": {"enabled": True}, "exact_duplicates": {"unit": "line"}}
    first = curated([f"{text}\n" for text in texts], tmp_path / "a", **near)
    monkeypatch.setattr(curation, "_COPIES_OF_A_PART", 3_000_000)
    second = curated(texts[::-1], tmp_path / "b", **near)
    assert set(first.values()) == set(second.values())
    assert len(digest_outputs(collect_outputs(tmp_path / "a" / "out"))) == 64
