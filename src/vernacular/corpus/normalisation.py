"""Normalisation: mojibake repaired, NFC, stray controls and invisible characters dropped, white space in order.

What it never touches: ZWJ and ZWNJ (they decide conjuncts in Indic scripts and joins in Arabic), quotation marks,
dashes, digits, letter case, bidirectional marks. So a normalised text is the text, only clean.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

import ftfy
import ftfy.badness
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ftfy.fixes import unescape_html

from vernacular.corpus.configuration import Normalisation

REPAIR = ftfy.TextFixerConfig(
    unescape_html="auto",
    # Controls in U+0080–U+009F that are left after repair are damage, not Windows-1252: they are counted instead.
    fix_c1_controls=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    normalization=None,
    explain=False,
)

_REPAIR_TAGGED = REPAIR._replace(unescape_html=False)

# Single-byte encodings in which UTF-8 is misread, as ftfy knows them.
_MISREAD_AS = (
    "latin-1",
    "cp1250",
    "cp1251",
    "cp1252",
    "cp1253",
    "cp1254",
    "cp1257",
    "iso-8859-2",
    "mac-roman",
    "cp437",
)

_ENTITY = r"&[a-zA-Z#][a-zA-Z0-9]{1,30};"
# What ftfy changes in a text without mojibake, line ends aside: entities, and controls that it takes for stray ones.
_MENDED = r"&#?[0-9A-Za-z]{1,24};|[\x{00}-\x{08}\x{0B}\x{0E}-\x{1F}\x{7F}\x{206A}-\x{206F}\x{FEFF}\x{FFF9}-\x{FFFC}]"
# White space of Unicode, and what else `re` takes for it; RE2's \s is ASCII alone.
ANY_SPACE = r"[\s\pZ\x{0B}\x{1C}-\x{1F}\x{85}]"

_CONTROLS = r"[\x{00}-\x{08}\x{0E}-\x{1F}\x{7F}-\x{84}\x{86}-\x{9F}]"
# U+200B separates words in Thai, Lao, Khmer, Myanmar and Tibetan; elsewhere it is a leftover of a web page.
_ZERO_WIDTH_SPACE = r"(^|[^\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}])\x{200B}+"
_INVISIBLE = r"[\x{AD}\x{2060}\x{FEFF}\x{FFF9}-\x{FFFB}]"
_LINE_ENDS = r"\r\n|[\r\x{0B}\x{0C}\x{85}\x{2028}\x{2029}]"
_SPACES = r"[\t\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]"


# Addresses of pages and people.
LINK = r"(?i)(https?://|www\.)[^\s)\]>\"']+|[\w.+-]+@[\w-]+\.[\w.]+"
_TAG = r"<[a-zA-Z/!][^<>]{0,500}>"


def normalise(texts: pa.Array, settings: Normalisation) -> tuple[pa.Array, np.ndarray]:
    """Normalise a batch.

    Args:
        texts: large_string [D], no nulls.
        settings: what to do.

    Returns:
        The normalised texts (large_string [D]) and how many control characters were dropped from each (int64 [D]).
    """
    if settings.repair:
        texts = _repaired(texts)
    texts = pc.replace_substring_regex(texts, _LINE_ENDS, "\n")
    num_controls = pc.count_substring_regex(texts, _CONTROLS).to_numpy(zero_copy_only=False).astype(np.int64)
    if num_controls.any():
        texts = pc.replace_substring_regex(texts, _CONTROLS, "")
    texts = pc.replace_substring_regex(texts, _INVISIBLE, "")
    texts = pc.replace_substring_regex(texts, _ZERO_WIDTH_SPACE, r"\1")
    texts = _composed(texts)
    return _ordered_space(texts, keep_indentation=settings.keep_indentation), num_controls


def without_markup(texts: pa.Array) -> pa.Array:
    """The texts without links and tags, which are in no language: for identification only."""
    return pc.replace_substring_regex(pc.replace_substring_regex(texts, _TAG, " "), LINK, " ")


def num_mojibake(texts: pa.Array) -> np.ndarray:
    """int64 [D]: how many pieces of each text still look like mojibake (ftfy's measure of badness)."""
    counts = np.zeros(len(texts), dtype=np.int64)
    for index in _matching(texts, _suspicion(), _badness()):
        counts[index] = ftfy.badness.badness(texts[int(index)].as_py())
    return counts


def _repaired(texts: pa.Array) -> pa.Array:
    """The texts as `ftfy.fix_text` mends them, line by line; what it would leave is not given to it."""
    indices = _matching(texts, f"{_suspicion()}|{_ENTITY}|\\x{{1B}}", f"{_badness()}|{_MENDED}")
    if not len(indices):
        return texts
    values = texts.to_pylist()
    for index, text in zip(indices, _mended([values[index] for index in indices]), strict=True):
        values[index] = text
    return pa.array(values, pa.large_string())


def _mended(texts: list[str]) -> list[str]:
    by_text = [re.findall(r".*\n|.+", text) for text in texts]
    lines = [line for mine in by_text for line in mine]
    # From a tag on ftfy leaves a text's entities alone.
    settings = [REPAIR if whole else _REPAIR_TAGGED for mine in by_text for whole in _before_tag(mine)]
    plain = [unescape_html(line) if own is REPAIR else line for line, own in zip(lines, settings, strict=True)]
    for index in _matching(pa.array(plain, pa.large_string()), f"{_badness()}|{_MENDED}"):
        plain[index] = ftfy.fix_text(lines[index], settings[index])
    rest = iter(plain)
    return ["".join(islice(rest, len(mine))) for mine in by_text]


def _before_tag(lines: list[str]) -> Iterator[bool]:
    tagged = False
    for line in lines:
        tagged = tagged or "<" in line
        yield not tagged


def _matching(texts: pa.Array, *patterns: str) -> np.ndarray:
    """int64: the texts that each of the patterns matches somewhere."""
    matched = [pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False) for pattern in patterns]
    return np.flatnonzero(np.all(matched, axis=0))


def _composed(texts: pa.Array) -> pa.Array:
    """The texts in NFC, by the standard library: Arrow's `utf8_normalize` (25.0) returns NFD when asked for NFC."""
    values = texts.to_pylist()
    others = [index for index, value in enumerate(values) if not unicodedata.is_normalized("NFC", value)]
    for index in others:
        values[index] = unicodedata.normalize("NFC", values[index])
    return pa.array(values, pa.large_string()) if others else texts


@functools.cache
def _suspicion() -> str:
    """A pattern that every mojibake matches: two neighbours that bytes from 0x80 up turn into when misread."""
    misread = {
        character
        for encoding in _MISREAD_AS
        for byte in range(0x80, 0x100)
        for character in bytes([byte]).decode(encoding, errors="ignore")
    }
    codes = sorted(ord(character) for character in misread) + list(range(0x80, 0xA0))
    members = "".join(rf"\x{{{code:X}}}" for code in sorted(set(codes)))
    return f"[{members}]{{2}}"


@functools.cache
def _badness() -> str:
    """ftfy's pattern of badness as RE2 takes it: it matches what ftfy finds in a text, or in a line of it."""
    pieces = re.findall(r"\[[^]]*\]|\\.|[^\[\\#]+|#.*\n", ftfy.badness.BADNESS_RE.pattern)
    return "".join(_as_re2(piece) for piece in pieces if not piece.startswith("#"))


def _as_re2(piece: str) -> str:
    """A class of characters, an escape, or what stands between them, with its white space (re.VERBOSE)."""
    if piece.startswith(("[", "\\")):
        return {r"\s": ANY_SPACE, r"\w": r"[\pL\pN\pM_]"}.get(piece, piece)
    return "".join(piece.split()).replace("^", "(?m:^)")


def _ordered_space(texts: pa.Array, *, keep_indentation: bool) -> pa.Array:
    texts = pc.replace_substring_regex(texts, _SPACES, " ")
    if keep_indentation:
        texts = pc.replace_substring_regex(texts, r"([^ \n]) {2,}", r"\1 ")
    else:
        texts = pc.replace_substring_regex(texts, r" {2,}", " ")
        texts = pc.replace_substring_regex(texts, r"\n ", "\n")
    texts = pc.replace_substring_regex(texts, r" +\n", "\n")
    texts = pc.replace_substring_regex(texts, r"\n{3,}", "\n\n")
    texts = pc.replace_substring_regex(texts, r"^\n+| +$", "")
    return pc.utf8_rtrim_whitespace(texts) if keep_indentation else pc.utf8_trim_whitespace(texts)
