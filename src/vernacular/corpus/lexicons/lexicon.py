"""A language's lexicon: which of a batch's words it knows, and what parts of speech they are."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.codepoints import CodePoints
from vernacular.corpus.languages import read_data
from vernacular.corpus.lexicons import hunspell
from vernacular.corpus.words import Words
from vernacular.foundation.errors import MachineError, missing_extra, unknown_name
from vernacular.foundation.files import atomic_path, sha256_bytes, sha256_file
from vernacular.foundation.progress import progress

_FOLDERS = ("/usr/share/hunspell", "/usr/local/share/hunspell")
_COMPILED = 1  # raised when the same dictionary comes to give other hashes
_FORMS_AT_ONCE = 1 << 18
_WORDS_REMEMBERED = 1 << 20


class Part(IntEnum):
    """What a lexicon says of a word."""

    UNKNOWN = 0
    KNOWN = 1
    NOUN = 2
    VERB = 3
    ADJECTIVE = 4


class Lexicon(Protocol):
    """The words of one language.

    Attributes:
        name: with its version or checksum: what a model was trained with it must be used with.
        has_parts: whether it knows parts of speech; otherwise a word it has is KNOWN.
    """

    name: str
    has_parts: bool

    def parts(self, words: Words, chosen: np.ndarray) -> np.ndarray:
        """uint8: the `Part` of each of the words `chosen` (int [C], indices of words of the batch)."""


def lexicon(language: str) -> Lexicon:
    """The lexicon of a language.

    Raises:
        UserError: nobody has told us of one.
        MachineError: its package is not installed; names the command that installs it.
    """
    known = read_data("lexicons.yaml")
    if language not in known:
        raise unknown_name("language with a lexicon", language, known, where="lexicons")
    return _open(language)


@cache
def _open(language: str) -> Lexicon:
    entry = read_data("lexicons.yaml")[language]
    if entry.get("morfeusz"):
        return MorfeuszLexicon()
    folders = [*filter(None, os.environ.get("DICPATH", "").split(os.pathsep)), *_FOLDERS]
    for folder in folders:
        path = Path(folder) / f"{entry['hunspell']}.dic"
        if path.is_file():
            return HunspellLexicon(path)
    raise MachineError(
        f"the lexicon of '{language}' is not installed: there is no {entry['hunspell']}.dic",
        where=", ".join(folders),
        fix=f"apt-get install {entry['package']}, or name the folder of another copy in the variable DICPATH",
    )


@dataclass(frozen=True)
class _Known:
    """Hashes in ascending order."""

    values: np.ndarray

    def contains(self, values: np.ndarray) -> np.ndarray:
        places = np.minimum(np.searchsorted(self.values, values), max(len(self.values) - 1, 0))
        return self.values[places] == values if len(self.values) else np.zeros(len(values), dtype=bool)


class HunspellLexicon:
    """Every word of a Hunspell dictionary as a hash; spelt out once a machine, then read from the cache.

    Args:
        dictionary: the .dic file.
    """

    has_parts = False

    def __init__(self, dictionary: Path) -> None:
        checksum = sha256_bytes(
            f"{_COMPILED} {sha256_file(dictionary)} {sha256_file(dictionary.with_suffix('.aff'))}".encode()
        )[:16]
        self.name = f"hunspell {dictionary.stem} {checksum}"
        cached = _cache_folder() / f"{dictionary.stem}-{checksum}.npy"
        if not cached.is_file():
            hashes = _hashes_of(progress(hunspell.words(dictionary), doing=f"reading {dictionary.name}", unit="words"))
            with atomic_path(cached) as temporary, open(temporary, "wb") as file:
                np.save(file, hashes, allow_pickle=False)
        self._known = _Known(np.load(cached, mmap_mode="r", allow_pickle=False))

    def __len__(self) -> int:
        return len(self._known.values)

    def parts(self, words: Words, chosen: np.ndarray) -> np.ndarray:
        """uint8 [C]: KNOWN or UNKNOWN."""
        values, inverse = np.unique(words.hashes.values[chosen], return_inverse=True)
        return self._known.contains(values).astype(np.uint8)[inverse]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vernacular" / "lexicons"


def _hashes_of(forms: Iterable[str]) -> np.ndarray:
    """uint64, ascending: the hashes of all words of the forms; "don't" is two, as in the texts."""
    remaining = iter(forms)
    parts = [np.zeros(0, dtype=np.uint64)]
    while some := list(islice(remaining, _FORMS_AT_ONCE)):
        texts = pc.utf8_lower(pc.utf8_normalize(pa.array(some, pa.large_string()), "NFC"))
        parts.append(np.unique(Words(CodePoints.of(texts)).hashes.values))
    return np.unique(np.concatenate(parts))


# The first piece of Morfeusz's tags (those of the NKJP corpus). Participles are adjectives, gerunds nouns.
_TAGS = {
    **dict.fromkeys(("subst", "depr", "ger"), Part.NOUN),
    **dict.fromkeys(
        ("fin", "bedzie", "aglt", "praet", "impt", "imps", "inf", "pcon", "pant", "winien", "pred", "cond"), Part.VERB
    ),
    **dict.fromkeys(("adj", "adja", "adjp", "adjc", "pact", "ppas"), Part.ADJECTIVE),
    "ign": Part.UNKNOWN,
}


class MorfeuszLexicon:
    """Polish by Morfeusz 2 and its dictionary SGJP. A word is analysed once and then remembered."""

    has_parts = True

    def __init__(self) -> None:
        try:
            import morfeusz2
        except ImportError as error:
            raise missing_extra("morfeusz2", "polish", "the lexicon of Polish") from error
        self._analyser: Any = morfeusz2.Morfeusz(expand_tags=False, generate=False)
        self.name = f"morfeusz {self._analyser.dict_id()}"
        self._remembered: dict[int, int] = {}
        self._lock = threading.Lock()  # one analyser serves one thread at a time

    def parts(self, words: Words, chosen: np.ndarray) -> np.ndarray:
        """uint8 [C]: the part of speech of each word's first reading."""
        values, first, inverse = np.unique(words.hashes.values[chosen], return_index=True, return_inverse=True)
        with self._lock:
            if len(self._remembered) > _WORDS_REMEMBERED:
                self._remembered.clear()
            remembered = self._remembered
            keys = values.tolist()
            new = [place for place, key in enumerate(keys) if key not in remembered]
            for place, text in zip(new, _spelling(words, chosen[first[new]]), strict=True):
                remembered[keys[place]] = self._part(text)
            return np.array([remembered[key] for key in keys], dtype=np.uint8)[inverse]

    def _part(self, text: str) -> int:
        tag = self._analyser.analyse(text)[0][2][2]
        return _TAGS.get(tag.split(":", 1)[0], Part.KNOWN)


def _spelling(words: Words, chosen: np.ndarray) -> list[str]:
    """The chosen words (int [C], indices) as text."""
    points = words.points
    starts = words.hashes.starts[chosen]
    ends = _word_ends(words)[chosen]
    return [points.values[start:end].tobytes().decode("utf-32-le") for start, end in zip(starts, ends, strict=True)]


def _word_ends(words: Words) -> np.ndarray:
    """int64 [W]: one past the last code point of each word."""
    outside = np.append(np.flatnonzero(~words.points.in_word | words.points.word_starts), len(words.points.values))
    return outside[np.searchsorted(outside, words.hashes.starts, side="right")]
