"""What documents are like, counted as they are written: their lengths and qualities, and what was mended in them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.quality.configuration import QualityFilter
from vernacular.corpus.quality.grading import REASON as QUALITY
from vernacular.corpus.report import SPLITS

Figures = dict[str, Any]

# Lengths in code points, eight bins a decade: bin b holds those from _EDGES[b] to before _EDGES[b + 1].
_EDGES = np.array(sorted({0, *(round(10 ** (step / 8)) for step in range(65))}))
# Probabilities in hundredths: bin b holds those above b / 100, to (b + 1) / 100.
_HUNDREDTHS = np.arange(1, 100, dtype=np.float32) / 100
_EVERY = 5


class Observations:
    """Sums over the documents as they are written.

    Args:
        quality: the recipe's classifier; its probabilities are counted where there is one.
    """

    def __init__(self, quality: QualityFilter | None) -> None:
        self._quality = quality
        self._lengths: defaultdict[tuple[str, bool], np.ndarray] = defaultdict(lambda: np.zeros(len(_EDGES), np.int64))
        self._graded: defaultdict[tuple[str, bool], np.ndarray] = defaultdict(lambda: np.zeros((2, 100), np.int64))
        self._mended: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def add(self, rows: pa.Table) -> None:
        """Count rows with the columns source, language, outcome, length, bytes_out, quality, lines_cut and masked."""
        kept = pc.is_in(rows["outcome"], pa.array(SPLITS)).to_numpy()
        encoded = rows["language"].combine_chunks().dictionary_encode()
        places = encoded.indices.to_numpy()
        lengths = np.searchsorted(_EDGES, rows["length"].to_numpy(), side="right") - 1
        for place, language in enumerate(encoded.dictionary.to_pylist()):
            for is_kept in (True, False):
                chosen = (places == place) & (kept == is_kept)
                if chosen.any():
                    self._lengths[language, is_kept] += np.bincount(lengths[chosen], minlength=len(_EDGES))
        if self._quality is not None:
            self._add_graded(rows, kept)
        self._add_mended(rows.filter(pa.array(kept)))

    def _add_graded(self, rows: pa.Table, kept: np.ndarray) -> None:
        """Count what the classifier decided about: what is kept, and what it removed."""
        decided = kept | pc.equal(rows["outcome"], QUALITY).to_numpy()
        graded = rows.filter(pa.array(decided & pc.is_valid(rows["quality"]).to_numpy()))
        bins = np.searchsorted(_HUNDREDTHS, graded["quality"].to_numpy().astype(np.float32), side="left")
        kept = pc.is_in(graded["outcome"], pa.array(SPLITS)).to_numpy()
        languages = np.array(graded["language"].to_pylist(), dtype=object)
        sizes = graded["bytes_out"].to_numpy()
        for language in sorted(set(languages.tolist())):
            for is_kept in (True, False):
                chosen = (languages == language) & (kept == is_kept)
                both = [np.bincount(bins[chosen], minlength=100), np.bincount(bins[chosen], sizes[chosen], 100)]
                self._graded[language, is_kept] += np.stack(both).astype(np.int64)

    def _add_mended(self, kept: pa.Table) -> None:
        cut = kept.filter(pc.greater(kept["lines_cut"], 0)).group_by(["source", "language"])
        for row in cut.aggregate([("lines_cut", "sum"), ([], "count_all")]).to_pylist():
            self._mended[row["source"], row["language"]].update(
                documents_cut=row["count_all"], lines_cut=row["lines_cut_sum"]
            )
        masked = kept.filter(pc.is_valid(kept["masked"])).select(["source", "language", "masked"])
        for row in masked.to_pylist():
            pieces = row["masked"].split()
            self._mended[row["source"], row["language"]].update(["documents_masked", *pieces])

    def report(self) -> Figures:
        """Figures for report.json: `lengths`, `mended`, and `quality` where a classifier graded."""
        graded = {"quality": self._quality_figures(self._quality)} if self._quality is not None else {}
        return {"lengths": self._length_figures(), "mended": self._mended_figures(), **graded}

    def _length_figures(self) -> Figures:
        """By language how many documents, kept and removed, have a length between one edge and the next."""
        total = sum(self._lengths.values(), np.zeros(len(_EDGES), np.int64))
        filled = np.flatnonzero(total)
        first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        return {
            "edges": _EDGES[first : last + 1].tolist(),
            "languages": {
                language: {
                    "kept": self._lengths[language, True][first:last].tolist(),
                    "removed": self._lengths[language, False][first:last].tolist(),
                }
                for language in sorted({language for language, _ in list(self._lengths)})
            },
        }

    def _mended_figures(self) -> Figures:
        """Of the documents kept: lines cut out and personal data masked, in all, by source and by language."""
        sources = sorted({source for source, _ in self._mended})
        languages = sorted({language for _, language in self._mended})
        return {
            **_mended(list(self._mended.values())),
            "sources": {
                name: _mended([each for key, each in self._mended.items() if key[0] == name]) for name in sources
            },
            "languages": {
                name: _mended([each for key, each in self._mended.items() if key[1] == name]) for name in languages
            },
        }

    def _quality_figures(self, settings: QualityFilter) -> Figures:
        """Probabilities in hundredths by language, and what each threshold would keep of what was decided about."""
        languages = sorted({language for language, _ in list(self._graded)})
        both = {language: self._graded[language, True] + self._graded[language, False] for language in languages}
        everything = sum(both.values(), np.zeros((2, 100), np.int64))
        return {
            "keep": settings.keep,
            "probability": settings.probability,
            "thresholds": _curve(everything),
            "languages": {
                language: {
                    "kept": self._graded[language, True][0].tolist(),
                    "removed": self._graded[language, False][0].tolist(),
                    "thresholds": _curve(both[language]),
                }
                for language in languages
            },
        }


def _mended(counters: list[Counter[str]]) -> Figures:
    total = sum(counters, Counter[str]())
    kinds = sorted(set(total) - {"documents_cut", "lines_cut", "documents_masked"})
    return {
        "cut": {"documents": total["documents_cut"], "lines": total["lines_cut"]},
        "masked": {
            "documents": total["documents_masked"],
            "pieces": sum(total[kind] for kind in kinds),
            "kinds": {kind: total[kind] for kind in kinds},
        },
    }


def _curve(graded: np.ndarray) -> list[Figures]:
    """Documents and bytes above each threshold; int64 [2, 100], by hundredths."""
    above = np.cumsum(graded[:, ::-1], axis=1)[:, ::-1]
    steps = [*range(0, 100, _EVERY), 97, 98, 99]
    return [{"threshold": step / 100, "documents": int(above[0, step]), "bytes": int(above[1, step])} for step in steps]
