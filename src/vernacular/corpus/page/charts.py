"""Charts as SVG with the page's own colours, so that they are right on light and dark screens and in any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from vernacular.corpus.page.sheet import percent, text

_WIDTH, _HEIGHT = 320, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 6, 6, 8, 22


def length_histogram(edges: Sequence[int], kept: Sequence[int], removed: Sequence[int], label: str) -> str:
    """Bars over a logarithmic axis of lengths.

    Args:
        edges: int [B + 1], ascending; from which length to before which one each bar counts.
        kept: int [B], documents.
        removed: int [B], documents, drawn on top.
        label: what is shown, for those who cannot see it.
    """
    logs = [math.log10(max(edge, 0.5)) for edge in edges]
    first, last = logs[0], max(logs[-1], logs[0] + 0.1)
    places = [_across((each - first) / (last - first)) for each in logs]
    spans = [f"{low:,} to {high - 1:,} characters" for low, high in itertools.pairwise(edges)]
    decades = range(math.ceil(first), math.floor(last) + 1)
    ticks = [(_across((decade - first) / (last - first)), _short(10**decade)) for decade in decades]
    return _histogram(places, kept, removed, spans, ticks, label)


def probability_histogram(kept: Sequence[int], removed: Sequence[int], threshold: float, label: str) -> str:
    """Bars over probabilities from 0 to 1, by hundredths drawn in steps of two, and where the threshold lies."""
    pairs = range(0, len(kept), 2)
    kept, removed = ([sum(counts[at : at + 2]) for at in pairs] for counts in (kept, removed))
    places = [_across(at / len(kept)) for at in range(len(kept) + 1)]
    spans = [f"above {at / len(kept):.2f}, to {(at + 1) / len(kept):.2f}" for at in range(len(kept))]
    ticks = [(_across(at / 4), f"{at / 4:g}") for at in range(5)]
    return _histogram(places, kept, removed, spans, ticks, label, chosen=_across(threshold))


def _histogram(
    places: Sequence[float],
    kept: Sequence[int],
    removed: Sequence[int],
    spans: Sequence[str],
    ticks: Sequence[tuple[float, str]],
    label: str,
    chosen: float | None = None,
) -> str:
    highest = max(1, *(below + above for below, above in zip(kept, removed, strict=True)))
    unit = (_HEIGHT - _TOP - _BOTTOM) / highest
    bottom = _HEIGHT - _BOTTOM
    bars = []
    for at, (below, above) in enumerate(zip(kept, removed, strict=True)):
        if not below + above:
            continue
        left, width = places[at], max(places[at + 1] - places[at] - 0.8, 0.6)
        shown = f"<title>{text(spans[at])}: {below:,} kept, {above:,} removed</title>"
        parts = (("kept", below, bottom - below * unit), ("gone", above, bottom - (below + above) * unit))
        rectangles = "".join(
            f"<rect class='{name}' x='{left:.1f}' y='{top:.1f}' width='{width:.1f}' height='{number * unit:.1f}'/>"
            for name, number, top in parts
            if number
        )
        bars.append(f"<g>{shown}{rectangles}</g>")
    line = "" if chosen is None else _upright(chosen)
    bottom_line = f"<line class='axis' x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{bottom}' y2='{bottom}'/>"
    content = f"{''.join(bars)}{line}{bottom_line}{_numbers(ticks, _WIDTH, _HEIGHT)}"
    return _drawing(_WIDTH, _HEIGHT, content, label)


def threshold_curve(
    thresholds: Sequence[float], documents: Sequence[float], volume: Sequence[float], chosen: float, label: str
) -> str:
    """The share of documents and of bytes (0…1) that stays above each threshold, and the one that was chosen."""
    width, height, left = 620, 260, 44
    bottom = height - _BOTTOM

    def point(threshold: float, share: float) -> tuple[float, float]:
        return left + threshold * (width - left - _RIGHT), bottom - share * (bottom - _TOP)

    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        _, y = point(0, share)
        lines.append(f"<line class='axis' x1='{left}' x2='{width - _RIGHT}' y1='{y:.1f}' y2='{y:.1f}'/>")
        lines.append(f"<text x='{left - 5}' y='{y + 4:.1f}' text-anchor='end'>{share:.0%}</text>")
    curves = []
    for name, shares in (("curve", documents), ("curve other", volume)):
        points = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (point(*pair) for pair in zip(thresholds, shares, strict=True))
        )
        curves.append(f"<polyline class='{name}' points='{points}'/>")
    dots = "".join(
        f"<circle class='kept' cx='{point(threshold, share)[0]:.1f}' cy='{point(threshold, share)[1]:.1f}' r='3'>"
        f"<title>above {threshold:g}: {percent(share)} of the documents, {percent(much)} of the bytes</title></circle>"
        for threshold, share, much in zip(thresholds, documents, volume, strict=True)
    )
    ticks = [(point(at / 5, 0)[0], f"{at / 5:g}") for at in range(6)]
    upright = _upright(point(chosen, 0)[0], bottom)
    content = f"{''.join(lines)}{upright}{''.join(curves)}{dots}{_numbers(ticks, width, height)}"
    return _drawing(width, height, content, label)


def _across(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _upright(x: float, bottom: float = _HEIGHT - _BOTTOM) -> str:
    return f"<line class='chosen' x1='{x:.1f}' x2='{x:.1f}' y1='{_TOP}' y2='{bottom}'/>"


def _numbers(ticks: Sequence[tuple[float, str]], width: int, height: int) -> str:
    return "".join(
        f"<text x='{min(max(x, 8), width - 8):.1f}' y='{height - 6}' text-anchor='middle'>{text(name)}</text>"
        for x, name in ticks
    )


def _drawing(width: int, height: int, content: str, label: str) -> str:
    return f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{text(label)}'>{content}</svg>"


def _short(number: int) -> str:
    for factor, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= factor:
            return f"{number // factor}{letter}"
    return str(number)
