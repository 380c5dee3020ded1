"""The report of a classifier: report.json, pictures, and a page with documents around each threshold to read."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vernacular.corpus.quality.configuration import GRADES, TrainQualityConfiguration
from vernacular.corpus.quality.plots import plot_report
from vernacular.corpus.quality.weak_labels import Example
from vernacular.foundation.files import write_json, write_text

_READ_AT = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
_EACH_SIDE = 6
_CHARACTERS = 1500
_CAPTIONS = {
    "reliability.png": "Of the documents given a probability, the share of the grade; on the dashed line as stated.",
    "thresholds.png": "What is kept as the threshold rises; the dotted line is the one chosen.",
    "importance.png": "What the classifier looks at.",
    "damage.png": "Each kind was judged by a classifier that had never seen it.",
}
_STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .25rem .8rem; border-bottom: 1px solid #ddd; }
td { text-align: right; } td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; } figure { margin: 1.5rem 0; } figcaption, .facts { color: #666; font-size: .9rem; }
article { border: 1px solid #ddd; border-radius: .4rem; margin: .8rem 0; padding: .6rem 1rem; }
article p.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; max-height: 22rem; overflow-y: auto; }
.below { background: #fff6ef; } .above { background: #f1faf6; } summary { cursor: pointer; font-weight: 600; }
"""


def write_report(
    report: Mapping[str, Any],
    examples: Sequence[Example],
    probabilities: np.ndarray,
    configuration: TrainQualityConfiguration,
    folder: Path,
) -> None:
    """Write report.json, plots/ and report.html.

    Args:
        report: the figures.
        examples: E, judged unseen.
        probabilities: float64 [E, 3].
        configuration: which grade is kept, and from which probability.
        folder: where to.
    """
    write_json(folder / "report.json", report)
    pictures = plot_report(report, folder / "plots")
    given = probabilities[:, GRADES.index(configuration.keep)]
    parts = [*_head(report), *_pictures(pictures), *_reading(examples, given, configuration), "</body></html>\n"]
    write_text(folder / "report.html", "\n".join(parts))


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    kept = report["kept"]
    yield "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>Quality classifier</title>"
    yield f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style></head><body>"
    yield "<h1>Quality classifier</h1>"
    yield "<p>Every figure is of documents, and of kinds of damage, that the classifier giving it had not seen.</p>"
    rows = [
        (grade, one["documents"], one["precision"], one["recall"], one["f1"]) for grade, one in report["grades"].items()
    ]
    yield _table(("grade", "documents", "precision", "recall", "F1"), rows)
    yield (
        f"<p>Macro-F1 {report['macro_f1']:.3f}; sound against damaged {report['sound_or_damaged']['macro_f1']:.3f}. "
        f"Above {kept['probability']:.2f} for {kept['grade']}: {_percent(kept['documents'])} of the undamaged "
        f"documents, {_percent(kept['precision'])} of what is kept is of the grade.</p>"
    )
    languages = [
        (name, one["documents"], one["three_grades_macro_f1"], one["macro_f1"], one["clear_macro_f1"])
        for name, one in report["languages"].items()
    ]
    yield _table(("language", "documents", "macro-F1", "sound or damaged", "sound or heavily damaged"), languages)


def _pictures(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        caption = html.escape(_CAPTIONS[name])
        yield f"<figure><img src='plots/{name}' alt='{caption}'><figcaption>{caption}</figcaption></figure>"


def _reading(examples: Sequence[Example], given: np.ndarray, configuration: TrainQualityConfiguration) -> Iterator[str]:
    yield "<h2>Documents to read</h2>"
    yield f"<p>Those nearest to each threshold of {configuration.keep}. Where would you draw the line?</p>"
    for threshold in sorted({*_READ_AT, configuration.probability}):
        nearest = np.argsort(np.abs(given - threshold), kind="stable")
        below = [place for place in nearest if given[place] <= threshold][:_EACH_SIDE]
        above = [place for place in nearest if given[place] > threshold][:_EACH_SIDE]
        opened = " open" if threshold == configuration.probability else ""
        number = int(np.sum(given > threshold))
        yield f"<details{opened}><summary>around {threshold:.2f}: {number:,} are above</summary>"
        for side, places in (("above", above), ("below", below)):
            yield from (_article(examples[place], given[place], side) for place in places)
        yield "</details>"


def _article(example: Example, probability: float, side: str) -> str:
    text = html.escape(example.text[:_CHARACTERS]) + (" […]" if len(example.text) > _CHARACTERS else "")
    kind = f"damaged: {example.kind.replace('_', ' ')}" if example.kind else "as it is"
    facts = [f"{probability:.3f}", GRADES[example.grade], kind, example.language, example.document]
    said = html.escape(" · ".join(facts))
    language = html.escape(example.language, quote=True)
    shown = f"<p class='text' dir='auto' lang='{language}'>{text}</p>"
    return f"<article class='{side}'><div class='facts'>{said}</div>{shown}</article>"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        return (
            f"{value:.3f}"
            if isinstance(value, float)
            else html.escape(f"{value:,}" if isinstance(value, int) else str(value))
        )

    lines = ["<tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"
