"""The account of a curation: every document and byte in, out, and why; and how well labelled noise was found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.reading import Tally
from vernacular.foundation.errors import InternalError

TRAIN, HELDOUT, QUARANTINED = "train", "heldout", "quarantined"
SPLITS = (TRAIN, HELDOUT)
# Labels of documents that are to stay; every other label is noise that is to go.
_GOOD_LABELS = ("clean", "repairable")
_COPY_LABELS = ("exact_duplicate", "near_duplicate")

_LANGUAGES_SHOWN = 20

Figures = dict[str, Any]


class Account:
    """Sums over the documents as they are written.

    An outcome is "train", "heldout", "quarantined" or the reason of a removal.
    """

    def __init__(self) -> None:
        self._documents: Counter[tuple[str, str, str]] = Counter()
        self._bytes_in: Counter[tuple[str, str, str]] = Counter()
        self._bytes_out: Counter[tuple[str, str, str]] = Counter()
        self._labelled: list[tuple[str, str, str]] = []
        self.first_broken: str | None = None
        """The first broken record's place and error, for people."""

    def add(self, rows: pa.Table) -> None:
        """Count rows with the columns source, language, outcome, bytes_in, bytes_out, label and group."""
        keys = ["source", "language", "outcome"]
        sums = rows.group_by(keys).aggregate([("bytes_in", "sum"), ("bytes_out", "sum"), ("bytes_in", "count")])
        for row in sums.to_pylist():
            key = (row["source"], row["language"], row["outcome"])
            self._documents[key] += row["bytes_in_count"]
            self._bytes_in[key] += row["bytes_in_sum"]
            self._bytes_out[key] += row["bytes_out_sum"] or 0
        labelled = rows.filter(pc.is_valid(rows["label"])).select(["label", "group", "outcome"])
        self._labelled += list(zip(*(column.to_pylist() for column in labelled.columns), strict=True))

    @property
    def quarantined(self) -> int:
        """Broken records so far."""
        return sum(count for (_, _, outcome), count in self._documents.items() if outcome == QUARANTINED)

    def check(self, tally: Tally) -> None:
        """Compare with what the readers counted: in = kept + removed + quarantined, by source.

        Raises:
            InternalError: a document or a byte is unaccounted for.
        """
        for what, counted, summed in (
            ("documents", tally.records, self._documents),
            ("bytes", tally.bytes, self._bytes_in),
        ):
            for source in sorted({*counted, *(key[0] for key in summed)}):
                out = sum(value for key, value in summed.items() if key[0] == source)
                if counted[source] != out:
                    raise InternalError(
                        f"{counted[source]:,} {what} of '{source}' went in, but {out:,} are accounted for"
                    )

    def report(self) -> Figures:
        """The report's figures: in all, by source, by language, and by label if a source carries labels."""
        sources = sorted({key[0] for key in self._documents})
        languages = sorted({key[1] for key in self._documents if key[2] != QUARANTINED})
        report = {
            **self._balance(list(self._documents)),
            "cells": self._cells(),
            "sources": {name: self._balance([key for key in self._documents if key[0] == name]) for name in sources},
            "languages": {
                name: self._balance([key for key in self._documents if key[1] == name and key[2] != QUARANTINED])
                for name in languages
            },
        }
        if self._labelled:
            report["labels"] = label_figures(self._labelled)
        return report

    def _cells(self) -> list[Figures]:
        """Of each source and language: what was read of it, and what of that is trained on."""
        cells = sorted({key[:2] for key in self._documents if key[2] != QUARANTINED})
        figures = []
        for source, language in cells:
            own = [key for key in self._documents if key[:2] == (source, language) and key[2] != QUARANTINED]
            training = [key for key in own if key[2] == TRAIN]
            kept = {**self._sum(training), "bytes_after_normalisation": sum(self._bytes_out[key] for key in training)}
            figures.append({"source": source, "language": language, "in": self._sum(own), TRAIN: kept})
        return figures

    def _balance(self, keys: list[tuple[str, str, str]]) -> Figures:
        kept = [key for key in keys if key[2] in SPLITS]
        broken = [key for key in keys if key[2] == QUARANTINED]
        removed = [key for key in keys if key[2] not in (*SPLITS, QUARANTINED)]
        reasons = sorted({key[2] for key in removed})
        return {
            "in": self._sum(keys),
            "kept": {**self._sum(kept), "bytes_after_normalisation": sum(self._bytes_out[key] for key in kept)}
            | {split: self._sum([key for key in kept if key[2] == split]) for split in SPLITS},
            "removed": {
                **self._sum(removed),
                "reasons": {reason: self._sum([key for key in removed if key[2] == reason]) for reason in reasons},
            },
            "quarantined": self._sum(broken),
        }

    def _sum(self, keys: list[tuple[str, str, str]]) -> dict[str, int]:
        return {
            "documents": sum(self._documents[key] for key in keys),
            "bytes": sum(self._bytes_in[key] for key in keys),
        }


def label_figures(labelled: Iterable[tuple[str, str, str]]) -> Figures:
    """How well the labels were found.

    A copy counts as removed if exactly one document of its group (the original and its copies) is kept; a clean
    document counts as kept if it is, or if one of its group is kept in its place.

    Args:
        labelled: (label, group, outcome) per document.

    Returns:
        noise_removed (recall: share of noise that is gone), clean_kept (share of clean documents that are there),
        precision (share of what was removed that is noise), and per label: documents, right, share, outcomes.
    """
    rows = list(labelled)
    survivors = Counter(group for _, group, outcome in rows if outcome in SPLITS)
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for label, group, outcome in rows:
        total[label] += 1
        outcomes[label]["kept" if outcome in SPLITS else outcome] += 1
        if label in _GOOD_LABELS:
            right[label] += survivors[group] > 0
        elif label in _COPY_LABELS:
            right[label] += survivors[group] == 1
        else:
            right[label] += outcome not in SPLITS
    good = [label for label in total if label in _GOOD_LABELS]
    noise = [label for label in total if label not in _GOOD_LABELS]
    noise_removed = sum(right[label] for label in noise)
    good_lost = sum(total[label] - right[label] for label in good)
    return {
        "noise_removed": _ratio(noise_removed, sum(total[label] for label in noise)),
        "clean_kept": _ratio(sum(right[label] for label in good), sum(total[label] for label in good)),
        "precision": _ratio(noise_removed, noise_removed + good_lost),
        "by_label": {
            label: {
                "documents": total[label],
                "right": right[label],
                "share": _ratio(right[label], total[label]),
                "outcomes": dict(sorted(outcomes[label].items())),
            }
            for label in sorted(total)
        },
    }


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def funnel(report: Figures, not_read: list[dict[str, str]]) -> str:
    """The report in a few lines, for people."""
    lines = [_line("read", report["in"])]
    for reason, figures in sorted(report["removed"]["reasons"].items(), key=lambda item: -item[1]["documents"]):
        lines.append(_line(f"  − {reason}", figures))
    if report["quarantined"]["documents"]:
        lines.append(_line("  − broken records (logs/quarantine.jsonl)", report["quarantined"]))
    kept = report["kept"]
    lines.append(_line("kept", {**kept, "bytes": kept["bytes_after_normalisation"]}))
    lines.append(_line("  for training", kept[TRAIN]))
    lines.append(_line("  held out", kept[HELDOUT]))
    languages = [(name, figures["kept"]) for name, figures in report["languages"].items()]
    languages = sorted((item for item in languages if item[1]["documents"]), key=lambda item: -item[1]["bytes"])
    lines += [_line(f"    {name}", figures) for name, figures in languages[:_LANGUAGES_SHOWN]]
    if len(languages) > _LANGUAGES_SHOWN:
        lines.append(f"    and {len(languages) - _LANGUAGES_SHOWN} more languages (report.json)")
    for name, figures in report.get("benchmarks", {}).items():
        lines.append(_benchmark_line(name, figures))
    if not_read:
        names = [f"{entry['file']} ({entry['why']})" for entry in not_read]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        lines.append(f"not read: {', '.join(names[:5])}{more}")
    if "labels" in report:
        labels = report["labels"]
        shares = [(name, labels[key]) for name, key in _LABEL_LINES]
        lines.append("labels: " + ", ".join(f"{name} {share:.1%}" for name, share in shares if share is not None))
    return "\n".join(lines)


_LABEL_LINES = (("noise removed", "noise_removed"), ("clean kept", "clean_kept"), ("precision", "precision"))


def _benchmark_line(name: str, figures: Figures) -> str:
    found, documents = figures["contaminated"] + figures["removed"], sum(figures["documents"].values())
    left = f"{figures['contaminated']:,} in the training text" if figures["contaminated"] else "none left"
    return f"benchmark {name}: {found:,} of {figures['items']:,} items found in {documents:,} documents; {left}"


def _line(what: str, figures: dict[str, int]) -> str:
    return f"{what:<40} {figures['documents']:>12,} documents {figures['bytes'] / 1e6:>12,.2f} MB"
