"""Histograms of what rules measure, a picture for each language, and a page of them all."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vernacular.foundation.files import atomic_path
from vernacular.foundation.progress import progress

if TYPE_CHECKING:
    from vernacular.corpus.fitting import Fitted

_COLUMNS = 4
_BINS = 40
# Beyond these percentiles single documents would flatten everything else.
_SHOWN = (0.5, 99.5)
_BARS, _FITTED, _PUBLISHED = "#8aa4c8", "#1b7837", "#b2182b"


def histograms(fitted: Sequence[Fitted], out: Path) -> None:
    """Write LANGUAGE.png for each language, and histograms.html, into the folder `out`."""
    languages = list(dict.fromkeys(each.language for each in fitted))
    for language in progress(languages, doing="drawing", total=len(languages), unit="languages"):
        _draw([each for each in fitted if each.language == language], out / f"{language}.png")
    page = "\n".join(_section([each for each in fitted if each.language == language]) for language in languages)
    with atomic_path(out / "histograms.html") as temporary:
        temporary.write_text(_PAGE.format(sections=page), encoding="utf-8")


def _draw(fitted: Sequence[Fitted], path: Path) -> None:
    from matplotlib.figure import Figure

    rows = math.ceil(len(fitted) / _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 2.6 * rows), layout="constrained", dpi=80)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis, each in zip(axes, fitted, strict=False):
        _panel(axis, each)
    for axis in axes[len(fitted) :]:
        axis.set_axis_off()
    first = fitted[0]
    figure.suptitle(f"{first.language} ({first.script}), {len(first.values):,} documents: green fitted, red published")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _panel(axis: Any, each: Fitted) -> None:
    low, high = np.percentile(each.values, _SHOWN)
    for bound in (each.bound, each.published):
        # A bound far away is not shown; the page has its figure.
        if math.isfinite(bound) and abs(bound - (low + high) / 2) <= 3 * max(high - low, 1e-9):
            low, high = min(low, bound), max(high, bound)
    pad = 0.03 * max(high - low, abs(high) * 0.1, 1e-3)
    axis.hist(np.clip(each.values, low, high), bins=_BINS, range=(low - pad, high + pad), color=_BARS)
    for bound, colour, style in ((each.bound, _FITTED, "-"), (each.published, _PUBLISHED, "--")):
        if low - pad <= bound <= high + pad:
            axis.axvline(bound, color=colour, linestyle=style, linewidth=1.5)
    axis.set_title(f"{each.rule.key}\n{each.rule.measure}", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.set_yticks([])


def _section(fitted: Sequence[Fitted]) -> str:
    language = html.escape(fitted[0].language)
    rows = "".join(
        f"<tr><td>{html.escape(each.rule.key)}</td><td>{'at least' if each.rule.is_minimum else 'at most'}</td>"
        f"<td>{each.bound:g}</td><td>{each.published:g}</td><td>{each.lost:.1%}</td><td>{len(each.values):,}</td></tr>"
        for each in fitted
    )
    return (
        f'<h2>{language}</h2>\n<img src="{language}.png" alt="histograms of each rule, {language}">\n'
        "<table><tr><th>rule</th><th></th><th>fitted</th><th>published</th>"
        f"<th>of the reference the published bound removes</th><th>documents</th></tr>{rows}</table>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Thresholds fitted to a reference</title>
<style>body {{font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 82rem; padding: 0 1rem}}
img {{max-width: 100%}} td, th {{padding: .15rem .8rem; text-align: left; border-bottom: 1px solid #ddd}}
table {{border-collapse: collapse}}</style></head>
<body><h1>Thresholds fitted to a reference</h1>
<p>Each picture shows what a rule measures over the reference's documents. A rule removes what lies beyond its bound:
green is the fitted one, red the published one (not drawn where it lies far away).</p>
{sections}
</body></html>
"""
