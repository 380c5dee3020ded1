"""Repairs within a text: lines and paragraphs that are no part of it go, and personal data is masked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.configuration import PersonalData, Repairs
from vernacular.corpus.counting.counts import Lines, lines_of
from vernacular.corpus.personal import mask

# A notice is short; in a longer line its phrase is part of what somebody writes.
_NOTICE_WORDS = 12
_POLICY_WORDS = 40
# One such line may be a title; two are a page's frame.
_LEAST_NOTICES = 2
# A running head or foot: a short line that ends no sentence and stands on many pages.
_HEAD_CHARACTERS = 60
_HEAD_REPEATS = 3
_PAGE_NUMBER = r"(?m)^[ \t]*[-–—|\[(]?[ \t]*(\pN{1,4}|[ivxlc]{1,6})([ \t]*/[ \t]*\pN{1,4})?[ \t]*[-–—|\])]?[ \t]*$"


@dataclass(frozen=True)
class Repaired:
    """A batch of D texts, repaired.

    Attributes:
        texts: large_string [D].
        lines_cut: int32 [D], lines that were cut out of each.
        masked: large_string [D], the kinds of personal data masked in each, a word a piece ("email phone phone"); null
            where there was none.
    """

    texts: pa.Array
    lines_cut: pa.Array
    masked: pa.Array


def repair(texts: pa.Array, languages: list[str], repairs: Repairs, personal: PersonalData) -> Repaired:
    """Repair a batch of normalised texts (large_string [D]) in the languages given."""
    cut = np.zeros(len(texts), dtype=np.int32)
    if repairs.notices or repairs.running_heads or repairs.c4_lines:
        texts, cut = _without_lines(texts, languages, repairs)
    texts, counts = mask(texts, languages, personal.mask)
    masked = [" ".join(sorted(pieces.elements())) or None for pieces in counts]
    return Repaired(texts, pa.array(cut), pa.array(masked, pa.large_string()))


def _without_lines(texts: pa.Array, languages: list[str], settings: Repairs) -> tuple[pa.Array, np.ndarray]:
    """The texts without some lines, and how many each has lost (int32 [D])."""
    lines = lines_of(texts, languages)
    drop = np.zeros(len(lines.documents), dtype=bool)
    if settings.notices:
        drop |= _notices(lines, len(texts))
    if settings.running_heads:
        drop |= _running_heads(lines, texts)
    if settings.c4_lines:
        drop |= ~lines.prose
    lost = np.bincount(lines.documents[drop], minlength=len(texts)).astype(np.int32)
    if not drop.any():
        return texts, lost
    values = texts.to_pylist()
    for document in np.unique(lines.documents[drop]):
        first, last = np.searchsorted(lines.documents, [document, document + 1])
        mine = drop[first:last]
        spans = zip(lines.starts[first:last][mine], lines.ends[first:last][mine], strict=True)
        values[document] = _cut(values[document].encode("utf-8"), [(int(start), int(end)) for start, end in spans])
    cut = pc.replace_substring_regex(pa.array(values, pa.large_string()), r"\n{3,}", "\n\n")
    return pc.utf8_trim_whitespace(cut), lost


def _notices(lines: Lines, num_documents: int) -> np.ndarray:
    """bool [L]: menus, and short lines with a phrase of banners, forms or terms; two of them in a text at least."""
    frame = lines.have("boilerplate") & ~lines.terminal & (lines.words <= _NOTICE_WORDS)
    found = lines.menus | frame | ((lines.have("policy") | lines.have("scripting")) & (lines.words <= _POLICY_WORDS))
    in_document = np.bincount(lines.documents, weights=found, minlength=num_documents)
    return found & (in_document >= _LEAST_NOTICES)[lines.documents]


def _running_heads(lines: Lines, texts: pa.Array) -> np.ndarray:
    """bool [L]: heads and feet of pages, every time they stand, and page numbers where there are such heads."""
    short = (lines.characters <= _HEAD_CHARACTERS) & ~lines.terminal
    _, piece, counts = np.unique(
        np.stack([lines.documents.astype(np.uint64), lines.hashes]), axis=1, return_inverse=True, return_counts=True
    )
    heads = short & (counts[piece] >= _HEAD_REPEATS)
    numbered = np.flatnonzero(pc.match_substring_regex(texts, _PAGE_NUMBER).to_numpy(zero_copy_only=False))
    for document in numbered:
        raw = texts[int(document)].as_py().encode("utf-8")
        first, last = np.searchsorted(lines.documents, [document, document + 1])
        if not heads[first:last].any():
            continue
        pieces = [
            raw[start:end].decode() for start, end in zip(lines.starts[first:last], lines.ends[first:last], strict=True)
        ]
        matched = pc.match_substring_regex(pa.array(pieces, pa.large_string()), _PAGE_NUMBER)
        heads[first:last] |= matched.to_numpy(zero_copy_only=False)
    return heads


def _cut(raw: bytes, spans: list[tuple[int, int]]) -> str:
    """The text without some lines and their line ends."""
    kept, place = [], 0
    for start, end in spans:
        kept.append(raw[place:start])
        place = end + 1
    return b"".join([*kept, raw[place:]]).decode("utf-8")
