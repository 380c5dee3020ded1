"""The report's pictures. Labels are in Latin letters, so every machine has them; colours are those of Okabe and Ito."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vernacular.corpus.quality.configuration import GRADES
from vernacular.foundation.files import atomic_path

_COLOURS = {"HIGH": "#009E73", "MEDIUM": "#E69F00", "LOW": "#D55E00"}
_LINES = ("#0072B2", "#CC79A7", "#009E73", "#D55E00")
_SHOWN = 25
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
}


def plot_report(report: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw all four; their file names."""
    pictures = {
        "reliability.png": (_reliability, (6.5, 5.6)),
        "thresholds.png": (_thresholds, (8.0, 5.0)),
        "importance.png": (_importance, (7.5, 7.2)),
        "damage.png": (_damage, (7.5, 8.2)),
    }
    drawn = []
    for name, (draw, size) in pictures.items():
        if name == "damage.png" and not report["damage"]:
            continue
        with matplotlib.rc_context(_STYLE):
            figure = Figure(figsize=size, dpi=150, layout="constrained")
            draw(figure.subplots(), report)
            with atomic_path(folder / name) as temporary:
                figure.savefig(temporary, format="png", metadata={"Software": None})
        drawn.append(name)
    return drawn


def _reliability(axes: Axes, report: Mapping[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color="#9a9a9a", linewidth=1, linestyle="--", label="as stated")
    for grade in GRADES:
        rows = [row for row in report["reliability"] if row["grade"] == grade]
        if rows:
            error = report["calibration_error"][grade]
            axes.plot(
                [row["probability"] for row in rows],
                [row["share"] for row in rows],
                color=_COLOURS[grade],
                marker="o",
                label=f"{grade} (mean distance {error:.3f})",
            )
    axes.set_xlabel("probability given")
    axes.set_ylabel("share that is of the grade")
    axes.set_title("Reliability", loc="left")
    axes.figure.legend(loc="outside lower center", ncols=2)


def _thresholds(axes: Axes, report: Mapping[str, Any]) -> None:
    rows: Sequence[Mapping[str, Any]] = report["thresholds"]
    series = {
        "documents kept": "documents_kept",
        "words kept": "words_kept",
        "precision": "precision",
        "recall": "recall",
    }
    for (name, key), colour in zip(series.items(), _LINES, strict=True):
        points = [(row["threshold"], row[key]) for row in rows if row[key] is not None]
        style = "--" if key == "recall" else "-"  # without labels it lies on the documents kept
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3.5, linestyle=style, label=name)
    kept = report["kept"]
    axes.axvline(kept["probability"], color="#5F5F5F", linewidth=1, linestyle=":")
    axes.set_ylim(0, 1.03)
    axes.set_xlabel(f"kept where the probability of {kept['grade']} is above")
    axes.set_title("What a threshold keeps", loc="left")
    axes.figure.legend(loc="outside lower center", ncols=4)


def _importance(axes: Axes, report: Mapping[str, Any]) -> None:
    names = list(report["importance"])[:_SHOWN]
    axes.barh(range(len(names)), [report["importance"][name] for name in names], color=_LINES[0])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("mean distance that the feature moves the score of HIGH (SHAP)")
    axes.set_title(f"The {len(names)} features that count most", loc="left")


def _damage(axes: Axes, report: Mapping[str, Any]) -> None:
    found = sorted(report["damage"].items(), key=lambda item: item[1]["found"])
    places = range(len(found))
    axes.barh(places, [figures["found"] for _, figures in found], color=_COLOURS["LOW"], label="not called sound")
    kept = [figures["kept_at_the_threshold"] for _, figures in found]
    axes.barh(
        places, kept, height=0.35, color=_COLOURS["HIGH"], label=f"kept above {report['kept']['probability']:.2f}"
    )
    axes.set_yticks(places, [f"{name} ({figures['documents']})" for name, figures in found])
    axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of the damaged copies; the classifier never saw the kind")
    axes.set_title("Kinds of damage", loc="left")
    axes.figure.legend(loc="outside lower center", ncols=2)
