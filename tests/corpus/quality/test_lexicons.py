"""Lexicons: Hunspell's files spelt out as Hunspell would, kept, and what is said where one is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vernacular.corpus.codepoints import CodePoints
from vernacular.corpus.lexicons import hunspell, lexicon
from vernacular.corpus.lexicons.lexicon import HunspellLexicon, MorfeuszLexicon, Part
from vernacular.corpus.quality.features import measure
from vernacular.corpus.words import Words
from vernacular.foundation.errors import MachineError, UserError

AFF = """SET UTF-8
NEEDAFFIX X
FORBIDDENWORD !
PFX N Y 1
PFX N 0 nie .
SFX A Y 3
SFX A a y a
SFX A a ą [^k]a
SFX A ka ce ka
SFX B N 1
SFX B 0 em/C .
SFX C N 1
SFX C em ami em
"""
DIC = "6\nkawa/A\nmatka/A\nładny/N\nkot/B\nrdzeń/XB\nzły/!\n"


@pytest.fixture
def dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DICPATH", str(tmp_path))
    lexicon._open.cache_clear()
    (tmp_path / "hi_IN.dic").write_text(DIC, encoding="utf-8")
    (tmp_path / "hi_IN.aff").write_text(AFF, encoding="utf-8")
    yield tmp_path / "hi_IN.dic"
    lexicon._open.cache_clear()


def words_of(text: str) -> Words:
    return Words(CodePoints.of(pa.array([text.lower()], pa.large_string())))


def known(found: lexicon.Lexicon, text: str) -> dict[str, int]:
    words = words_of(text)
    parts = found.parts(words, np.arange(len(words.hashes.starts)))
    return dict(zip(text.split(), parts.tolist(), strict=True))


def test_affixes_are_spelt_out(dictionary: Path) -> None:
    assert set(hunspell.words(dictionary)) == {
        *("kawa", "kawy", "kawą", "matka", "matky", "matce"),
        *("ładny", "nieładny", "kot", "kotem", "kotami", "rdzeńem", "rdzeńami"),
    }


def test_a_dictionary_is_spelt_out_once_and_anew_when_it_changes(dictionary: Path, tmp_path: Path) -> None:
    first = HunspellLexicon(dictionary)
    assert known(first, "Kawy nieładny zły rdzeń kotami") == {
        "Kawy": 1,
        "nieładny": 1,
        "zły": 0,
        "rdzeń": 0,
        "kotami": 1,
    }
    kept = list((tmp_path / "cache").rglob("*.npy"))
    assert len(kept) == 1
    assert HunspellLexicon(dictionary).name == first.name
    dictionary.write_text(DIC + "pies\n", encoding="utf-8")
    assert HunspellLexicon(dictionary).name != first.name
    assert len(HunspellLexicon(dictionary)) == len(first) + 1


def test_features_of_a_lexicon_are_null_in_every_other_language(dictionary: Path) -> None:
    texts = pa.array(["kawa matka xyzzy", "kawa matka xyzzy"], pa.large_string())
    rows = measure(texts, ["hi", "ta"], {"hi": lexicon.lexicon("hi")})
    oov = [float(row) for row in rows[:, -6]]
    assert oov[0] == pytest.approx(1 / 3)
    assert np.isnan(oov[1])
    assert np.isnan(rows[:, -4:]).all()  # Hunspell knows no parts of speech


def test_a_missing_lexicon_names_the_command_that_installs_it(dictionary: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="apt-get install hunspell-ml") as caught:
        lexicon.lexicon("ml")
    assert str(tmp_path) in str(caught.value)


def test_a_language_without_a_lexicon_is_refused() -> None:
    with pytest.raises(UserError, match="unknown language with a lexicon 'ta'"):
        lexicon.lexicon("ta")


def test_an_affix_file_that_is_gone_is_named(dictionary: Path) -> None:
    dictionary.with_suffix(".aff").unlink()
    with pytest.raises(UserError, match=r"hi_IN\.aff"):
        list(hunspell.words(dictionary))


def test_morfeusz_knows_parts_of_speech() -> None:
    pytest.importorskip("morfeusz2", reason="needs the extra [polish]")
    found = known(MorfeuszLexicon(), "Babcia upiekła pyszne ciasto i brdękuł")
    assert found == {
        "Babcia": Part.NOUN,
        "upiekła": Part.VERB,
        "pyszne": Part.ADJECTIVE,
        "ciasto": Part.NOUN,
        "i": Part.KNOWN,
        "brdękuł": Part.UNKNOWN,
    }


@pytest.mark.parametrize(
    ("name", "text", "foreign"), [("en_US", "the houses unhappily walked", "qwzx"), ("hi_IN", "घर लड़का", "क्ष्ज्ञथ")]
)
def test_installed_dictionaries_know_their_language(name: str, text: str, foreign: str, tmp_path: Path) -> None:
    installed = Path("/usr/share/hunspell") / f"{name}.dic"
    if not installed.is_file():
        pytest.skip(f"needs {installed}: apt-get install hunspell-hi hunspell-en-us")
    for suffix in (".dic", ".aff"):
        shutil.copy(installed.with_suffix(suffix), tmp_path)
    forms = {form.lower() for form in hunspell.words(tmp_path / installed.name)}
    assert set(text.split()) <= forms
    assert foreign not in forms
