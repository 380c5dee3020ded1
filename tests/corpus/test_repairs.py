"""What is cut out of texts and masked in them, and what must stay."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vernacular.corpus.assessment import assess
from vernacular.corpus.configuration import CurateConfiguration, PersonalData, Repairs
from vernacular.corpus.repairs import repair

STORY = "Kot śpi na piecu i śni o rzece.\nPies pilnuje domu, bo nikt inny tego nie robi.\nRano wszyscy idą nad wodę."


def repaired(text: str, language: str = "pl", **settings: bool) -> str:
    texts = pa.array([text], pa.large_string())
    return repair(texts, [language], Repairs(**settings), PersonalData(mask=())).texts[0].as_py()


@pytest.mark.parametrize(
    ("frame", "language"),
    [
        ("Strona główna | O nas | Kontakt | Oferta", "pl"),
        ("Home > Products > Cats > Food", "en"),
        ("Polityka prywatności", "pl"),
        ("Ta strona używa plików cookie, aby świadczyć usługi na najwyższym poziomie.", "pl"),
        ("गोपनीयता नीति", "hi"),
        ("தனியுரிமைக் கொள்கை", "ta"),
        ("Please enable JavaScript to see this page.", "en"),
    ],
)
def test_the_frame_of_a_page_goes_and_the_text_stays(frame: str, language: str) -> None:
    assert repaired(f"{frame}\n\n{STORY}\n\n{frame}", language) == STORY


@pytest.mark.parametrize(
    "line",
    [
        "Он сказал: «Победа» над «Рейнджерс» и «Ливингстоном» важна",
        "तदैव , सः अपश्यत् | कानि इमानि वस्तूनि | इति चिन्तितवान् |",
        '— <a href="https://example.org/kot">@kot</a>, opiekun',
        "| kot | pies | ryba |",
        "Zapytał o nas i o to, co robimy w niedzielę.",
    ],
)
def test_lines_of_text_stay_however_many_marks_they_have(line: str) -> None:
    assert repaired(f"{line}\n{STORY}\n{line}") == f"{line}\n{STORY}\n{line}"


def test_one_notice_may_be_a_title() -> None:
    assert repaired(f"Polityka prywatności\n{STORY}") == f"Polityka prywatności\n{STORY}"
    assert repaired(f"Zaloguj się | Rejestracja | Pomoc\n{STORY}\nPolityka prywatności", notices=False).count("\n") == 4


def test_heads_and_numbers_of_pages_go_by_wish() -> None:
    lines = STORY.split("\n")
    pages = "\n".join(f"Kot na piecu\n{line}\n- {number} -" for number, line in enumerate(lines, start=1))
    assert repaired(pages) == pages
    assert repaired(pages, running_heads=True) == STORY
    numbers = "\n".join(["Lista:", "1", "2", "3", *lines])
    assert repaired(numbers, running_heads=True) == numbers


def test_lines_that_c4_does_not_take_for_prose_go_by_wish() -> None:
    text = f"Nagłówek bez kropki\n{STORY}\nKoniec...\nDwa słowa."
    assert repaired(text, c4_lines=True) == STORY


def test_a_curated_text_is_repaired_and_masked_and_may_come_out_empty() -> None:
    texts = [f"Menu | Start | Oferta\n{STORY}\nTel. 601 234 567\nMenu | Start | Oferta", "Start | Oferta | Kontakt"]
    configuration = CurateConfiguration(sources=({"path": "unused"},), filters={"families": ()})
    result = assess(pa.array(texts, pa.large_string()), [None, None], configuration, frozenset())
    assert result.field("text").to_pylist()[0] == f"{STORY}\nTel. [PHONE]"
    plain = CurateConfiguration(sources=({"path": "unused"},), filters={"families": ()}, personal_data={"mask": []})
    assert (
        "601 234 567"
        in assess(pa.array(texts, pa.large_string()), [None] * 2, plain, frozenset()).field("text")[0].as_py()
    )
