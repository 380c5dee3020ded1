"""The held-out split: which documents are set aside, decided by their ids alone."""

from __future__ import annotations

import numpy as np

from vernacular.corpus.configuration import Heldout
from vernacular.corpus.words import mixed

# A language never gives up more than this share of its documents to reach `at_least`.
_MOST = 0.2


def choose_heldout(ids: np.ndarray, languages: np.ndarray, settings: Heldout, seed: int) -> np.ndarray:
    """Choose held-out documents, per language.

    Args:
        ids: bytes [D], 32 hexadecimal digits each.
        languages: of each, as names or numbers [D].
        settings: share, and the least number of each language.
        seed: another seed chooses other documents.

    Returns:
        bool [D]. A document's lot depends on its id and the seed only, so that it stays held out as a corpus grows;
        `at_least` adds the documents with the next lots.
    """
    lots = _lots(ids, seed)
    chosen = lots < settings.share
    for language in np.unique(languages):
        members = np.flatnonzero(languages == language)
        least = min(settings.at_least, int(len(members) * _MOST))
        chosen[members[np.argsort(lots[members], kind="stable")[:least]]] = True
    return chosen


def _lots(ids: np.ndarray, seed: int) -> np.ndarray:
    """float64 [D] in [0, 1): pseudo-random, from the first sixteen digits of each id and the seed."""
    if not len(ids):
        return np.zeros(0)
    digits = np.ascontiguousarray(ids).view(np.uint8).reshape(len(ids), -1)[:, :16]
    nibbles = np.where(digits > ord("9"), digits - (ord("a") - 10), digits - ord("0")).astype(np.uint8)
    heads = (nibbles[:, ::2] << 4 | nibbles[:, 1::2]).copy().view(">u8").ravel().astype(np.uint64)
    salt = mixed(np.array([seed + 1], dtype=np.uint64))
    return mixed(heads ^ salt).astype(np.float64) / 2.0**64
