"""Bars with intervals as SVG, drawn here: a page that needs no library and is the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

# Eight colours that stay apart for colour-blind readers (Okabe and Ito 2008), repeated for more than eight runs.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#555555")

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _TOP = 860, 300, 60, 14, 14, 26


class Bar(NamedTuple):
    """A value between 0 and 1 of one run, and its interval."""

    run: int
    value: float
    low: float | None
    high: float | None


Group = tuple[str, float | None, Sequence[Bar]]
"""A label, the chance level if there is one, and the runs' bars."""


def bars_svg(groups: Sequence[Group], runs: Sequence[str]) -> str:
    """Horizontal bars in groups, with a legend of the runs, ticks every fifth, and a dashed line at chance."""
    legend = _TOP * len(runs)
    height = legend + _TOP + sum(_BAR * len(bars) + _GAP for _, _, bars in groups) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'role="img" aria-label="Shares of right answers by task and run">'
    ]
    for number, name in enumerate(runs):
        y = 6 + _TOP * number
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="14" height="14" fill="{_colour(number)}"/>')
        parts.append(f'<text x="{_LEFT + 22}" y="{y + 12}">{escape(name)}</text>')
    top, bottom = legend + 12, height - 24
    for tick in range(6):
        x = _x(tick / 5)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}" class="grid"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{tick / 5:.1f}</text>')
    y = top + 8
    for label, chance, bars in groups:
        parts += _group(label, chance, bars, y)
        y += _BAR * len(bars) + _GAP
    return "\n".join(parts) + "\n</svg>"


def _group(label: str, chance: float | None, bars: Sequence[Bar], y: int) -> list[str]:
    end = y + _BAR * len(bars)
    shown = label if len(label) <= 44 else f"{label[:43]}…"
    parts = [f'<text x="{_LEFT - 10}" y="{(y + end) / 2 + 4}" text-anchor="end">{escape(shown)}</text>']
    for number, bar in enumerate(bars):
        place = y + _BAR * number
        width = _x(bar.value) - _LEFT
        parts.append(
            f'<rect x="{_LEFT}" y="{place + 1}" width="{width:.1f}" height="{_BAR - 2}" fill="{_colour(bar.run)}"/>'
        )
        if bar.low is not None and bar.high is not None:
            middle = place + _BAR / 2
            parts.append(
                f'<path d="M{_x(bar.low)} {middle}H{_x(bar.high)}M{_x(bar.low)} {middle - 3}v6M{_x(bar.high)} '
                f'{middle - 3}v6" class="interval"/>'
            )
        parts.append(f'<text x="{_x(1) + 8}" y="{place + 11}">{bar.value:.3f}</text>')
    if chance is not None:
        parts.append(f'<line x1="{_x(chance)}" x2="{_x(chance)}" y1="{y - 3}" y2="{end + 3}" class="chance"/>')
    return parts


def _colour(run: int) -> str:
    return COLOURS[run % len(COLOURS)]


def _x(share: float) -> float:
    return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)
