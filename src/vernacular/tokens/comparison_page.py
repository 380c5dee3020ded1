"""A comparison of tokenizers as a table to read and a plot to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path, write_json, write_text
from vernacular.tokens.comparison import Comparison, Fit

# Colours that stay apart for colour-blind readers (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#555555")
_MEASURES = {
    "parity": "tokens for a token of the reference",
    "tokens_per_word": "tokens per word",
    "graphemes_per_token": "graphemes per token",
    "bytes_per_token": "bytes per token",
    "graphemes_cut": "graphemes cut by the pre-tokenizer",
}


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write comparison.json, comparison.md and comparison.png into a folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError("a file stands where the folder should be", where=folder, fix="name another with --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", comparison.as_json())
    write_text(folder / "comparison.md", markdown(comparison))
    plot(comparison, folder / "comparison.png")


def markdown(comparison: Comparison) -> str:
    """A table for each measure, a row a language, a column a tokenizer; then how much of each vocabulary is used."""
    names = list(dict.fromkeys(fit.tokenizer for fit in comparison.fits))
    by_language: dict[str, dict[str, Fit]] = {}
    for fit in comparison.fits:
        by_language.setdefault(fit.language, {})[fit.tokenizer] = fit
    parts = []
    for key, title in _MEASURES.items():
        if all(getattr(fit, key) is None for fit in comparison.fits):
            continue
        rows = [
            [language, *(_shown(getattr(fits[name], key)) for name in names)] for language, fits in by_language.items()
        ]
        parts.append(_table(title[:1].upper() + title[1:], ["language", *names], rows))
    uses = [[use.tokenizer, use.vocab_size, use.unused, use.rare] for use in comparison.uses]
    rare = f"fewer than {comparison.uses[0].rare_below} times"
    heads = ["tokenizer", "tokens", "in no text", rare]
    parts.append(_table("Vocabulary", heads, [[str(cell) for cell in row] for row in uses]))
    return "\n\n".join(parts) + "\n"


def _table(title: str, heads: list[str], rows: list[list[str]]) -> str:
    lines = [f"## {title}", "", "| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def plot(comparison: Comparison, path: Path) -> None:
    """Bars by language, a colour a tokenizer: parity where there is a reference, else graphemes per token."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    key = "parity" if comparison.fits[0].parity is not None else "graphemes_per_token"
    values: dict[str, Mapping[str, float]] = {}
    for fit in comparison.fits:
        values[fit.tokenizer] = {**values.get(fit.tokenizer, {}), fit.language: getattr(fit, key) or 0.0}
    languages = list(next(iter(values.values())))
    width = 0.8 / len(values)
    figure = Figure(figsize=(max(6.0, 1.5 + 0.25 * len(languages) * (len(values) + 1)), 4.2), dpi=150)
    axes = figure.subplots()
    for number, (name, measured) in enumerate(values.items()):
        places = [place + (number - (len(values) - 1) / 2) * width for place in range(len(languages))]
        heights = [measured[language] for language in languages]
        axes.bar(places, heights, width, label=name, color=_COLOURS[number % len(_COLOURS)])
    axes.set_xticks(range(len(languages)), languages)
    axes.set_ylabel(_MEASURES[key])
    axes.spines[["top", "right"]].set_visible(False)
    if key == "parity":
        axes.axhline(1, color="#777777", linewidth=0.8, linestyle="--")
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight")
