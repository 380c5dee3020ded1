"""Pictures for the card, drawn to be read at a README's width.

Labels are task names and language names in Latin letters, so that every machine's font has them; colours are told
apart by colour-blind readers too (Okabe and Ito 2008).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vernacular.foundation.files import atomic_path

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#5F5F5F")
_GREYS = ("#9c9c9c", "#c9c9c9")
_INK = "#222222"
_CHANCE = "#b00000"
_DPI = 160
_DECADE = 10
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9a9a9a",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "svg.hashsalt": "vernacular",
}


def plot_training(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss, perplexity and token accuracy over the steps; held-out values as dots."""
    panels = (
        ("loss (nats per token)", "loss", "heldout_loss", False),
        ("perplexity", "perplexity", "heldout_perplexity", True),
        ("token accuracy", "accuracy", "heldout_accuracy", False),
    )
    lines = [{**line, "heldout_perplexity": _exponential(line.get("heldout_loss"))} for line in lines]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(12, 3.7), dpi=_DPI, layout="constrained")
        for axes, (title, key, heldout, logarithmic) in zip(figure.subplots(1, 3), panels, strict=True):
            _draw_series(axes, lines, key, heldout)
            axes.set_title(title, loc="left")
            axes.set_xlabel("step")
            if logarithmic:
                _use_logarithm(axes)
        _save(figure, path)


def _exponential(loss: float | None) -> float | None:
    return None if loss is None else math.exp(min(loss, 700.0))


def _draw_series(axes: Axes, lines: Sequence[Mapping[str, Any]], key: str, heldout: str) -> None:
    points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    marker = "o" if len(points) < 3 else None
    axes.plot(*zip(*points, strict=True), color=_COLOURS[0], linewidth=1.8, marker=marker, label="training")
    dots = [(line["step"], line[heldout]) for line in lines if line.get(heldout) is not None]
    if dots:
        axes.plot(*zip(*dots, strict=True), "o", color=_COLOURS[1], markersize=6, label="held-out")
        axes.legend()


def _use_logarithm(axes: Axes) -> None:
    """A logarithmic axis, where the values span a decade at least."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.dataLim.intervaly
    if high < _DECADE * low:
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def plot_languages(lines: Sequence[Mapping[str, Any]], path: Path, bound: tuple[str, float] | None = None) -> bool:
    """Bits per byte of each language's held-out text over the steps, and how far each has come from its first value.

    Args:
        lines: a training stage's metrics.
        path: the picture.
        bound: the language that a stop rule watches, and the most bits per byte it allows.

    Returns:
        Whether there was anything to draw: two languages, measured twice.
    """
    series = language_series(lines)
    if len(series) < 2 or max(map(len, series.values())) < 2:
        return False
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(12, 4.2), dpi=_DPI, layout="constrained")
        levels, changes = figure.subplots(1, 2)
        for place, (language, points) in enumerate(series.items()):
            steps, values = zip(*points, strict=True)
            style = {"color": _COLOURS[place % len(_COLOURS)], "linewidth": 1.8, "marker": "o", "markersize": 5}
            levels.plot(steps, values, label=language, **style)
            changes.plot(steps, [100 * (value / values[0] - 1) for value in values], **style)
        changes.axhline(0, color=_INK, linewidth=1)
        if bound is not None and bound[0] in series:
            language, most = bound
            levels.axhline(most, color=_CHANCE, linewidth=1.6, linestyle="--", label=f"most for {language}")
            first = series[language][0][1]
            changes.axhline(100 * (most / first - 1), color=_CHANCE, linewidth=1.6, linestyle="--")
        levels.set_title("bits per byte, held-out text", loc="left")
        changes.set_title("change since the first measurement (%)", loc="left")
        for axes in (levels, changes):
            axes.set_xlabel("step")
        figure.legend(loc="outside upper center", ncols=min(len(series) + 1, 8))
        _save(figure, path)
    return True


def plot_score_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Each score that was taken while a model trained, over the steps; one panel for each metric.

    Returns:
        Whether there was anything to draw.
    """
    series: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for line in lines:
        for key, value in line.items():
            if key.startswith("scores/") and value is not None:
                _, task, metric = key.split("/", 2)
                series.setdefault(metric, {}).setdefault(task, []).append((line["step"], value))
    if not series:
        return False
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(12, 3.2 * len(series)), dpi=_DPI, layout="constrained")
        for axes, (metric, tasks) in zip(
            figure.subplots(len(series), squeeze=False)[:, 0], series.items(), strict=True
        ):
            for place, (task, points) in enumerate(tasks.items()):
                style = {"color": _COLOURS[place % len(_COLOURS)], "linewidth": 1.8, "marker": "o", "markersize": 5}
                axes.plot(*zip(*points, strict=True), label=task, **style)
            axes.set_title(metric, loc="left")
            axes.set_xlabel("step")
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        _save(figure, path)
    return True


def stop_bound(summary: Mapping[str, Any]) -> tuple[str, float] | None:
    """The language that a training stage's stop rule watched, and the most bits per byte it allowed."""
    found = summary.get("forgetting")
    return None if found is None else (found["probe"], found["most_bits_per_byte"])


def language_series(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """(step, bits per byte) of held-out text by language."""
    before = "heldout_bits_per_byte/"
    series: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for key, value in line.items():
            if key.startswith(before) and not key.startswith(f"{before}source/") and value is not None:
                series.setdefault(key.removeprefix(before), []).append((line["step"], value))
    return dict(sorted(series.items()))


def plot_scores(scores: Sequence[Mapping[str, Any]], names: Mapping[str, str], path: Path) -> None:
    """Each share of right answers with its 95% interval, and a line where chance lies; grouped by language."""
    ordered = sorted(scores, key=lambda score: (score["language"] or "", score["task"], score["metric"]))
    languages = sorted({score["language"] or "" for score in ordered})
    colours = {language: _COLOURS[place % len(_COLOURS)] for place, language in enumerate(languages)}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11, 1.3 + 0.42 * len(ordered)), dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        for place, score in enumerate(ordered):
            colour = colours[score["language"] or ""]
            axes.barh(place, score["value"], height=0.62, color=colour, alpha=0.85)
            ends = (score["low"], score["high"])
            axes.hlines(place, *ends, color=_INK, linewidth=1.6)
            axes.vlines(ends, place - 0.14, place + 0.14, color=_INK, linewidth=1.6, clip_on=False)
            axes.plot(score["value"], place, "o", color=_INK, markersize=5, clip_on=False)
            axes.annotate(
                f"{score['value']:.2f}", (1, place), xytext=(8, 0), textcoords="offset points", va="center", fontsize=11
            )
            if score["chance"] is not None:
                axes.vlines(score["chance"], place - 0.42, place + 0.42, color=_CHANCE, linewidth=2.2, zorder=4)
        axes.set_yticks(range(len(ordered)), [_label(score) for score in ordered])
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of right answers")
        axes.grid(axis="y", visible=False)
        handles: list[Any] = [
            Patch(color=colours[language], alpha=0.85, label=names.get(language, language) or "no language stated")
            for language in languages
        ]
        handles.append(Line2D([], [], color=_INK, linewidth=1.6, marker="o", markersize=5, label="value, 95% interval"))
        if any(score["chance"] is not None for score in ordered):
            handles.append(Line2D([], [], color=_CHANCE, linewidth=2.2, label="chance"))
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5))
        _save(figure, path)


def _label(score: Mapping[str, Any]) -> str:
    suffix = "" if score["filter"] == "none" else f", {score['filter']}"
    return f"{score['task']} ({score['metric']}{suffix})"


def plot_heldout(scores: Sequence[Mapping[str, Any]], names: Mapping[str, str], path: Path) -> None:
    """Bits per byte by language: the model with its 95% interval, and xz on the same bytes."""
    yardsticks = list(dict.fromkeys(name for score in scores for name in score["yardsticks"]))
    series = ["this model", *yardsticks]
    with matplotlib.rc_context(_STYLE):
        height = 1.3 + len(scores) * (0.3 + 0.26 * len(series))
        figure = Figure(figsize=(11, height), dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        thickness = 0.8 / len(series)
        for place, score in enumerate(scores):
            values = [score["value"], *(score["yardsticks"].get(name) for name in yardsticks)]
            for row, value in enumerate(values):
                if value is None:
                    continue
                at = place + (row - (len(series) - 1) / 2) * thickness
                colour = _COLOURS[0] if row == 0 else _GREYS[(row - 1) % len(_GREYS)]
                axes.barh(at, value, height=thickness * 0.9, color=colour)
                right = value
                if row == 0 and score["low"] is not None:
                    axes.hlines(at, score["low"], score["high"], color=_INK, linewidth=1.6)
                    right = max(right, score["high"])
                axes.annotate(
                    f"{value:.2f}", (right, at), xytext=(5, 0), textcoords="offset points", va="center", fontsize=11
                )
        axes.set_yticks(range(len(scores)), [names.get(score["language"], score["language"]) for score in scores])
        axes.set_ylim(len(scores) - 0.45, -0.55)
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.set_xlabel("bits per byte of held-out text (lower is better)")
        axes.grid(axis="y", visible=False)
        colours = (_COLOURS[0], *_GREYS)
        handles = [Patch(color=colours[min(row, 2)], label=name) for row, name in enumerate(series)]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        # No version and no date in the file: the same numbers give the same picture.
        figure.savefig(temporary, format="png", metadata={"Software": None})
