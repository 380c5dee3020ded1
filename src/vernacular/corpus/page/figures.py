"""The figures of report.json as tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vernacular.corpus.page.charts import length_histogram, probability_histogram, threshold_curve
from vernacular.corpus.page.names import language_name, reason_place, reason_words
from vernacular.corpus.page.sheet import Markup, cell, isolated, note, percent, section, size, table, text
from vernacular.corpus.report import HELDOUT, TRAIN

Figures = dict[str, Any]

_PLOTTED = 24
_KEY = "<p class='facts'><span class='key'><i></i> kept</span><span class='key'><i class='gone'></i> removed</span></p>"


def languages_by_text(report: Figures) -> list[str]:
    """The languages, those of which most text is kept first."""
    sizes = {name: (each["kept"]["bytes"], each["in"]["bytes"]) for name, each in report["languages"].items()}
    return sorted(sizes, key=lambda name: (-sizes[name][0], -sizes[name][1], name))


def headline(report: Figures) -> str:
    """The figures one looks for first."""
    kept, languages = report["kept"], [name for name, each in report["languages"].items() if each["kept"]["documents"]]
    facts = [
        (f"{report['in']['documents']:,}", f"documents read, {size(report['in']['bytes'])}"),
        (f"{kept['documents']:,}", f"documents kept, {size(kept['bytes_after_normalisation'])}"),
        (cell(_share(kept, report["in"])), "of the documents kept"),
        (f"{len(languages):,}", "language" if len(languages) == 1 else "languages"),
        (f"{report['mended']['masked']['pieces']:,}", "pieces of personal data masked"),
        (f"{report['mended']['cut']['lines']:,}", "lines cut out"),
    ]
    boxes = "".join(f"<div><b>{figure}</b><span>{text(words)}</span></div>" for figure, words in facts)
    return f"<div class='headline'>{boxes}</div>"


def funnel_section(report: Figures) -> str:
    """What came in, what each step removed, and what is left."""
    whole = report["in"]
    rows: list[list[Any]] = [["read", _meter(1.0, 0.0), *_counts(whole, whole)]]
    steps = [("broken records", report["quarantined"])] if report["quarantined"]["documents"] else []
    steps += [(name, report["removed"]["reasons"][name]) for name in _reasons(report)]
    left = whole["documents"]
    for name, figures in steps:
        left -= figures["documents"]
        meter = _meter(left / max(whole["documents"], 1), figures["documents"] / max(whole["documents"], 1))
        rows.append([_step(name), meter, *_counts(figures, whole)])
    kept = report["kept"]
    rows.append(["kept", _meter(left / max(whole["documents"], 1), 0.0), *_counts(kept, whole)])
    rows += [[f"{words}", "", *_counts(kept[split], whole)] for split, words in _SPLIT_WORDS]
    words = (
        "Bytes are those that were read. After normalisation and repair the documents kept take "
        f"{kept['bytes_after_normalisation']:,} bytes."
    )
    head = ("step", "left, and removed", "documents", "of all", "bytes")
    return section("steps", "From all to what is kept", headline(report), table(head, rows, name="funnel"), note(words))


def languages_section(report: Figures) -> str:
    """In and out by language, and what each reason takes of each language."""
    names = languages_by_text(report)
    kept = [name for name in names if report["languages"][name]["kept"]["documents"]]
    gone = [name for name in names if name not in kept]
    heat = _heat(report, kept)
    rest = (
        f"<details><summary>{len(gone):,} languages of which nothing is kept</summary>"
        f"{_language_table(report, gone, 'by-language-gone')}</details>"
    )
    return section(
        "languages",
        "Languages",
        _language_table(report, kept, "by-language"),
        rest if gone else "",
        "<h3>What removes how much of a language</h3>" if heat else "",
        note("Shares of the documents that were read in the language.") if heat else "",
        heat,
    )


def _language_table(report: Figures, names: Sequence[str], identifier: str) -> str:
    rows = [[_language(name), *_balance(report["languages"][name])] for name in names]
    return table(("language", *_BALANCE), rows, name=identifier)


def sources_section(report: Figures) -> str:
    """In and out by source, and what of each source's languages is trained on: the cells of a mixture."""
    rows = [[isolated(name), *_balance(each)] for name, each in report["sources"].items()]
    cells = [
        [
            *(isolated(each["source"]), _language(each["language"])),
            *(each["in"]["documents"], each["in"]["bytes"]),
            *(each["train"]["documents"], each["train"]["bytes_after_normalisation"]),
        ]
        for each in report.get("cells", ())
    ]
    head = ("source", "language", "documents read", "bytes read", "for training", "bytes for training")
    return section(
        "sources",
        "Sources",
        table(("source", *_BALANCE), rows, name="by-source"),
        f"<details><summary>Languages of each source</summary>{table(head, cells, name='by-cell')}</details>",
    )


def mended_section(report: Figures) -> str:
    """Lines cut out and personal data masked, by language and source."""
    mended = report["mended"]
    kinds = list(mended["masked"]["kinds"])
    head = ("documents cut", "lines cut", "documents masked", "pieces masked", *kinds)

    def row(name: Any, figures: Figures) -> list[Any]:
        cut, masked = figures["cut"], figures["masked"]
        of_kinds = [masked["kinds"].get(kind, 0) for kind in kinds]
        return [name, cut["documents"], cut["lines"], masked["documents"], masked["pieces"], *of_kinds]

    if not mended["cut"]["lines"] and not mended["masked"]["pieces"]:
        return section("mended", "Repairs and personal data", note("Nothing was cut or masked in the documents kept."))
    languages = [name for name in languages_by_text(report) if name in mended["languages"]]
    rows = [row("all", mended), *(row(_language(name), mended["languages"][name]) for name in languages)]
    sources = [row(isolated(name), figures) for name, figures in mended["sources"].items()]
    return section(
        "mended",
        "Repairs and personal data",
        note("In the documents kept: lines of menus and notices cut out, and personal data put under a mask."),
        table(("language", *head), rows, name="mended-by-language"),
        table(("source", *head), sources, name="mended-by-source"),
    )


def lengths_section(report: Figures) -> str:
    """A histogram of lengths for each language."""
    lengths = report["lengths"]
    figures = []
    for name in languages_by_text(report)[:_PLOTTED]:
        counts = lengths["languages"].get(name)
        if counts is not None:
            label = f"Lengths of documents, {language_name(name)}"
            drawn = length_histogram(lengths["edges"], counts["kept"], counts["removed"], label)
            caption = f"{sum(counts['kept']):,} kept, {sum(counts['removed']):,} removed"
            figures.append(_figure(drawn, language_name(name), caption))
    words = "Characters a document (code points, after normalisation), on a logarithmic axis; heights are documents."
    return section("lengths", "Lengths", note(words) + _KEY, _plots(figures, len(report["languages"])))


def quality_section(report: Figures) -> str:
    """What each threshold of the classifier would keep, and its probabilities for each language."""
    quality = report.get("quality")
    if quality is None:
        return ""
    chosen, keep = quality["probability"], quality["keep"]
    points, all_of = quality["thresholds"], quality["thresholds"][0]
    curve = threshold_curve(
        [point["threshold"] for point in points],
        [point["documents"] / max(all_of["documents"], 1) for point in points],
        [point["bytes"] / max(all_of["bytes"], 1) for point in points],
        chosen,
        "The share of documents and of bytes above each threshold",
    )
    rows = [
        [
            Markup(f"{at['threshold']:.2f}"),
            *(part for unit in ("documents", "bytes") for part in _part(at, all_of, unit)),
        ]
        for at in points
    ]
    figures = []
    for name in languages_by_text(report)[:_PLOTTED]:
        graded = quality["languages"].get(name)
        if graded is not None:
            drawn = probability_histogram(
                graded["kept"], graded["removed"], chosen, f"Probabilities of {keep}, {language_name(name)}"
            )
            caption = f"{sum(graded['kept']):,} kept, {sum(graded['removed']):,} removed by the classifier"
            figures.append(_figure(drawn, language_name(name), caption))
    words = (
        f"Of the documents that are kept or that the classifier removed, those whose probability of {keep} lies above "
        f"each threshold; {chosen:g} was chosen. A lower one would also meet duplicates, which are not counted here."
    )
    key = (
        "<p class='facts'><span class='key'><i></i> documents</span>"
        "<span class='key'><i class='gone'></i> bytes, dashed</span></p>"
    )
    head = ("above", "documents", "of all", "bytes", "of all")
    return section(
        "quality",
        "Quality",
        note(words) + key,
        f"<div class='plots wide'><figure>{curve}</figure></div>",
        table(head, rows, name="thresholds"),
        f"<h3>Probability of {text(keep)}, by language</h3>" + _KEY,
        _plots(figures, len(quality["languages"])),
    )


def benchmarks_section(report: Figures) -> str:
    """Benchmarks' items by what became of them, and the documents they stood in."""
    benchmarks = report.get("benchmarks")
    if not benchmarks:
        return ""
    rows = [
        [
            isolated(name),
            *(each[key] for key in ("items", *_STANDING_WORDS)),
            *(each["documents"][key] for key in _HOLDING_WORDS),
        ]
        for name, each in benchmarks.items()
    ]
    head = ("benchmark", "items", *_STANDING_WORDS.values(), *_HOLDING_WORDS.values())
    words = "Items of benchmarks that were searched for, and the documents that held one at least."
    return section("benchmarks", "Benchmarks", note(words), table(head, rows, name="by-benchmark"))


def labels_section(report: Figures) -> str:
    """How well noise that was planted is found, where a source carries labels."""
    labels = report.get("labels")
    if labels is None:
        return ""
    head = ("label", "documents", "rightly treated", "of them")
    rows = [
        [name, each["documents"], each["right"], each["share"]] for name, each in sorted(labels["by_label"].items())
    ]
    shares = [(words, labels[key]) for words, key in _LABEL_SHARES if labels[key] is not None]
    said = ", ".join(f"{words} {share:.1%}" for words, share in shares)
    return section(
        "labels",
        "Planted noise",
        note(f"A source says what its documents are: {said}."),
        table(head, rows, name="by-label"),
    )


_STANDING_WORDS = {
    "contaminated": "in the training text",
    "removed": "found, not trained on",
    "clean": "not found",
    "unknown": "too short to tell",
}
_HOLDING_WORDS = {"dropped": "documents dropped", "kept": "kept", "elsewhere": "held out, or gone for another reason"}
_SPLIT_WORDS = ((TRAIN, "for training"), (HELDOUT, "held out"))
_LABEL_SHARES = (
    ("of the noise removed", "noise_removed"),
    ("of the clean documents kept", "clean_kept"),
    ("of what was removed is noise", "precision"),
)
_BALANCE = ("documents read", "kept", "of them", "held out", "bytes read", "bytes kept")


def _balance(figures: Figures) -> list[Any]:
    kept = figures["kept"]
    return [
        figures["in"]["documents"],
        kept["documents"],
        _share(kept, figures["in"]),
        kept[HELDOUT]["documents"],
        figures["in"]["bytes"],
        kept["bytes_after_normalisation"],
    ]


def _counts(figures: Figures, whole: Figures) -> list[Any]:
    return [figures["documents"], _share(figures, whole), figures["bytes"]]


def _part(figures: Figures, whole: Figures, unit: str) -> list[Any]:
    return [figures[unit], figures[unit] / whole[unit] if whole[unit] else None]


def _share(part: Figures, whole: Figures) -> float | None:
    return part["documents"] / whole["documents"] if whole["documents"] else None


def _reasons(report: Figures) -> list[str]:
    return sorted(report["removed"]["reasons"], key=reason_place)


def _step(name: str) -> Markup:
    words = reason_words(name)
    return Markup(f"<span class='step'>{text(name)}</span>" + (f"<small>{text(words)}</small>" if words else ""))


def _meter(left: float, removed: float) -> Markup:
    gone = f"<i style='width:{100 * removed:.3f}%'></i>" if removed else ""
    return Markup(f"<div class='meter'><i style='width:{100 * left:.3f}%'></i>{gone}</div>")


def _heat(report: Figures, names: Sequence[str]) -> str:
    removed = [report["languages"][name]["removed"]["reasons"] for name in names]
    reasons = [reason for reason in _reasons(report) if any(reason in each for each in removed)]
    if not reasons:
        return ""
    rows = []
    for name in names:
        figures = report["languages"][name]
        read = max(figures["in"]["documents"], 1)
        shares = [figures["removed"]["reasons"].get(each, {"documents": 0})["documents"] / read for each in reasons]
        rows.append([_language(name), *(_heated(share) for share in shares)])
    return table(("language", *reasons), rows, name="reasons-by-language")


def _heated(share: float) -> Markup:
    if not share:
        return Markup("")
    much = min(75.0, 6 + 300 * share)
    return Markup(f"<span class='heat' style='--much:{much:.0f}'>{percent(share)}</span>")


def _language(name: str) -> Markup:
    return isolated(language_name(name))


def _figure(drawing: str, name: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption><b><bdi>{text(name)}</bdi></b><br>{text(caption)}</figcaption></figure>"


def _plots(figures: Sequence[str], languages: int) -> str:
    more = note(f"The {len(figures)} languages with most text; report.json has all {languages}.")
    return f"<div class='plots'>{''.join(figures)}</div>" + (more if languages > len(figures) else "")
