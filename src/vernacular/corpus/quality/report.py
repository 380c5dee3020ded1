"""The report of a classifier: report.json, pictures, and a page with documents around each threshold to read."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from vernacular.corpus.configuration import PersonalKind
from vernacular.corpus.page.names import language_name
from vernacular.corpus.page.sheet import Markup, cell, isolated, note, passage, section, sheet, table, text
from vernacular.corpus.page.specimens import excerpt
from vernacular.corpus.personal import mask
from vernacular.corpus.quality.configuration import GRADES, TrainQualityConfiguration
from vernacular.corpus.quality.plots import plot_report
from vernacular.corpus.quality.weak_labels import Example
from vernacular.foundation.files import write_json, write_text

_READ_AT = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
_EACH_SIDE = 6
_CHARACTERS = 1500
_PICTURES = {
    "reliability.png": ("Reliability", "Of the documents given a probability, the share that is of the grade."),
    "thresholds.png": ("Thresholds", "What is kept as the threshold rises; the dotted line is the one chosen."),
    "importance.png": ("Features", "What the classifier looks at."),
    "damage.png": ("Damage", "Each kind was judged by a classifier that had never seen it."),
}


def write_report(
    report: Mapping[str, Any],
    examples: Sequence[Example],
    probabilities: np.ndarray,
    configuration: TrainQualityConfiguration,
    folder: Path,
) -> None:
    """Write report.json, plots/ and report.html, which holds the plots too and loads nothing.

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
    sections = [
        ("Grades", section("grades", "How good it is", *_grades(report))),
        *(_picture(folder / "plots" / name, *_PICTURES[name]) for name in pictures),
        ("Documents to read", section("reading", "Documents to read", *_reading(examples, given, configuration))),
    ]
    write_text(folder / "report.html", sheet("Quality classifier", sections))


def _grades(report: Mapping[str, Any]) -> Iterator[str]:
    kept = report["kept"]
    yield note("Every figure is of documents, and of kinds of damage, that the classifier giving it had not seen.")
    grades = [
        (grade, one["documents"], *map(_figure, (one["precision"], one["recall"], one["f1"])))
        for grade, one in report["grades"].items()
    ]
    yield table(("grade", "documents", "precision", "recall", "F1"), grades, name="by-grade")
    stays = "none" if kept["documents"] is None else f"{kept['documents']:.1%}"
    right = "nothing is kept" if kept["precision"] is None else f"{kept['precision']:.1%} of it rightly"
    yield note(
        f"Macro-F1 {report['macro_f1']:.3f}; sound against damaged {report['sound_or_damaged']['macro_f1']:.3f}. Above "
        f"{kept['probability']:.2f} for {kept['grade']}: {stays} of the undamaged documents; {right}."
    )
    languages = [
        (
            isolated(language_name(name)),
            one["documents"],
            *map(_figure, (one["three_grades_macro_f1"], one["macro_f1"], one["clear_macro_f1"])),
        )
        for name, one in report["languages"].items()
    ]
    head = ("language", "documents", "macro-F1", "sound or damaged", "sound or heavily damaged")
    yield table(head, languages, name="by-language")


def _figure(value: float) -> Markup:
    return Markup(f"{value:.3f}")


def _picture(path: Path, title: str, caption: str) -> tuple[str, str]:
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    image = f"<img src='data:image/png;base64,{encoded}' alt='{text(title)}'>"
    shown = f"<figure class='picture'>{image}<figcaption>{text(caption)}</figcaption></figure>"
    return title, section(path.stem, title, shown)


def _reading(examples: Sequence[Example], given: np.ndarray, configuration: TrainQualityConfiguration) -> Iterator[str]:
    yield note(f"Those nearest to each threshold of {configuration.keep}. Where would you draw the line?")
    for threshold in sorted({*_READ_AT, configuration.probability}):
        nearest = np.argsort(np.abs(given - threshold), kind="stable")
        below = [place for place in nearest if given[place] <= threshold][:_EACH_SIDE]
        above = [place for place in nearest if given[place] > threshold][:_EACH_SIDE]
        opened = " open" if threshold == configuration.probability else ""
        number = int(np.sum(given > threshold))
        yield f"<details{opened}><summary>around {threshold:.2f} <small>{cell(number)} are above</small></summary>"
        for kind, places in (("above", above), ("gone below", below)):
            yield from (_article(examples[place], given[place], kind) for place in places)
        yield "</details>"


def _article(example: Example, probability: float, kind: str) -> str:
    # Cut first, with something to spare: a text may be a book.
    near = pa.array([excerpt(example.text, 2 * _CHARACTERS)], pa.large_string())
    shown = excerpt(mask(near, [example.language], get_args(PersonalKind))[0][0].as_py(), _CHARACTERS)
    damage = f"damaged: {example.kind.replace('_', ' ')}" if example.kind else "as it is"
    facts = [f"{probability:.3f}", GRADES[example.grade], damage, language_name(example.language), example.document]
    said = " · ".join(isolated(fact).html for fact in facts)
    return f"<article class='{kind}'><div class='facts'>{said}</div>{passage(shown, example.language)}</article>"
