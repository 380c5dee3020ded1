"""The C library that counts, and the tables it looks code points and phrases up in."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex
import yaml

from vernacular.corpus.codepoints import (
    LETTER,
    class_table,
    every_character,
    script_codes,
    script_table,
    unspaced_table,
    viramas,
)
from vernacular.corpus.languages import language_data
from vernacular.foundation.errors import InternalError, MachineError
from vernacular.foundation.native import FLAGS, NativeLibrary

_HERE = Path(__file__).parent
_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_int64
_BATCH = (_POINTER, _POINTER, _POINTER, _NUMBER, _POINTER)  # bytes, offsets, languages, D, tables
LIBRARY = NativeLibrary(
    name="counting",
    title="counters of text",
    folder=_HERE,
    sources=("text.c", "scan.c", "general.c", "languages.c", "romanised.c"),
    headers=("text.h", "fields.h", "general_fields.h"),
    # A product is rounded before it is added, as in scipy: scores are the same bits on every machine.
    flags=(*FLAGS, "-ffp-contract=off"),
    signatures={
        "scan": (*_BATCH, _POINTER),
        "scan_lines": (*_BATCH, _NUMBER, _POINTER, _POINTER),
        "measure_general": (*_BATCH, _POINTER),
        "score_languages": (*_BATCH, _POINTER, _NUMBER, _POINTER, _POINTER),
        "count_scripts": (*_BATCH, _POINTER, _NUMBER, _POINTER),
        "phrase_keys": (*_BATCH, _NUMBER, _POINTER),
        "latin_ngrams": (*_BATCH, _NUMBER, _POINTER, _POINTER, _POINTER),
        "romanised_words": (*_BATCH, _POINTER, _POINTER, _NUMBER, ctypes.c_float, _POINTER),
    },
)


def _fields(header: str) -> tuple[str, ...]:
    return tuple(re.findall(r"^FIELD\((\w+)\)", (_HERE / header).read_text(), re.MULTILINE))


# The names of what is counted, in the order of the columns: for published families, and for ours.
FIELDS = _fields("fields.h")
GENERAL_FIELDS = _fields("general_fields.h")

# Properties of code points, sets of phrases: the bits that text.h gives them.
_ALONE, _LINKER, _TERMINAL, _CLOSING, _UPPER, _LOWER = (1 << bit for bit in range(4, 10))
_BULLET, _SEPARATOR, _FULL_STOP, _LATIN, _SENTENCE_END = (1 << bit for bit in range(10, 15))
SETS = {
    "stop_words": 1,
    "profanity": 2,
    "boilerplate": 4,
    "spam": 8,
    "policy": 16,
    "scripting": 32,
    "filler": 64,
}
_BEGINNING, _COMMON_WORD = 128, 256
_LONGEST_PHRASE = 32  # words, as general.c has it
# What is rude or a function word in one language may be a plain word of another; notices of any language are notices.
_OWN = ("stop_words", "profanity")
_EVERYWHERE = ("boilerplate", "spam", "policy")


class _Tables(ctypes.Structure):
    """As in text.h."""

    _fields_ = [
        ("properties", ctypes.c_void_p),
        ("lower", ctypes.c_void_p),
        ("phrase_keys", ctypes.c_void_p),
        ("phrase_sets", ctypes.c_void_p),
        ("phrase_slots", ctypes.c_int64),
    ]


class Tables:
    """The tables in memory: kept alive as long as C may look into them."""

    def __init__(self, keys: np.ndarray, sets: np.ndarray) -> None:
        self._kept = (properties(), lower_case(), keys, sets)
        self.structure = _Tables(*(table.ctypes.data for table in self._kept), len(keys))


@cache
def library() -> ctypes.CDLL:
    """The compiled library. Raises `MachineError` where it cannot be compiled."""
    return LIBRARY.load()


@cache
def marks() -> dict[str, str]:
    """The marks of `data/marks.yaml` by what they do."""
    return yaml.safe_load(files("vernacular.corpus").joinpath("data", "marks.yaml").read_text(encoding="utf-8"))


@cache
def properties() -> np.ndarray:
    """uint16 [0x110000]: class and properties of each code point."""
    table = class_table().astype(np.uint16)
    table[unspaced_table() & (class_table() == LETTER)] |= _ALONE
    table[viramas()] |= _LINKER
    table[script_table() == script_codes().index("Latn")] |= _LATIN
    everything = every_character()
    for pattern, bit in ((r"\p{Sentence_Terminal}", _TERMINAL), (r"\p{Lu}+", _UPPER), (r"\p{Ll}+", _LOWER)):
        for match in regex.finditer(pattern, everything):
            table[match.start() : match.end()] |= bit
    named = (("terminal", _TERMINAL), ("closing", _CLOSING), ("bullets", _BULLET), ("separators", _SEPARATOR))
    for name, bit in (*named, ("full_stops", _FULL_STOP), ("sentence_ends", _SENTENCE_END)):
        table[[ord(mark) for mark in marks()[name]]] |= bit
    return table


@cache
def lower_case() -> np.ndarray:
    """uint32 [0x110000]: the lower case of each code point, by Unicode's mapping of one code point to one."""
    lowered = pc.utf8_lower(pa.array([every_character()], pa.large_string()))[0].as_py()
    return np.frombuffer(lowered.encode("utf-32-le"), dtype=np.uint32)


@cache
def language_numbers() -> dict[str, int]:
    """A number from 1 for each language with word lists."""
    return {code: number for number, code in enumerate(sorted(language_data()), start=1)}


@cache
def tables() -> Tables:
    """The tables with every phrase of `data/languages/` and the marks of `data/marks.yaml`."""
    phrases: list[tuple[str, int, int]] = []
    for code, data in language_data().items():
        for name in _OWN:
            phrases += [(phrase, language_numbers()[code], SETS[name]) for phrase in getattr(data, name)]
        phrases += [(phrase, 0, _COMMON_WORD) for phrase in data.stop_words]
        for name in _EVERYWHERE:
            phrases += [(phrase, 0, SETS[name]) for phrase in getattr(data, name)]
    for name in ("scripting", "filler"):
        phrases += [(phrase, 0, SETS[name]) for phrase in marks()[name]]
    return _with_phrases(phrases)


def _with_phrases(phrases: list[tuple[str, int, int]]) -> Tables:
    """Tables with phrases, each with the number of its language (0: any) and the bit of its set."""
    texts = pa.array([phrase for phrase, _, _ in phrases], pa.large_string())
    numbers = np.array([number for _, number, _ in phrases], dtype=np.int64)
    most_words = max(len(phrase) for phrase, _, _ in phrases)
    keys = np.zeros((len(phrases), most_words), dtype=np.uint64)
    empty = Tables(np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.uint32))
    call("phrase_keys", texts, numbers, empty, most_words, keys.ctypes.data)
    known: dict[int, int] = {}
    for row, (_, _, bit) in zip(keys.tolist(), phrases, strict=True):
        pieces = [key for key in row if key]
        if len(pieces) > _LONGEST_PHRASE:
            raise InternalError(f"a phrase of data/languages has more than {_LONGEST_PHRASE} words")
        for key in pieces[:-1]:
            known[key] = known.get(key, 0) | _BEGINNING
        if pieces:
            known[pieces[-1]] = known.get(pieces[-1], 0) | bit
    return Tables(*_open_addressing(known))


def _open_addressing(known: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """uint64 [S] keys and uint32 [S] values, at most a quarter of the slots taken; 0 is an empty slot."""
    slots = 1 << (4 * len(known)).bit_length()
    keys, values = [0] * slots, [0] * slots
    for key, value in known.items():
        at = key & (slots - 1)
        while keys[at]:
            at = (at + 1) & (slots - 1)
        keys[at], values[at] = key, value
    return np.array(keys, dtype=np.uint64), np.array(values, dtype=np.uint32)


def call(name: str, texts: pa.Array, languages: np.ndarray, tables: Tables, *rest: float) -> None:
    """Call a function of the library with a batch.

    Args:
        name: of the function.
        texts: large_string [D] without nulls.
        languages: int64 [D], numbers of `language_numbers`.
        tables: what it looks up.
        rest: its further arguments.

    Raises:
        MachineError: no memory is left.
    """
    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    languages = np.ascontiguousarray(languages, dtype=np.int64)
    batch = (data.address if data else None, offsets.address + 8 * texts.offset, languages.ctypes.data, len(texts))
    if getattr(library(), name)(*batch, ctypes.addressof(tables.structure), *rest):
        longest = int(pc.max(pc.binary_length(texts)).as_py() or 0)
        raise MachineError(
            "no memory is left to count a text", where=f"a document of {longest:,} bytes", fix="split the document"
        )
