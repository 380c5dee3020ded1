"""Tables for people: Markdown whose columns also stand below each other in a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """A Markdown table.

    Args:
        header: the columns' names.
        rows: cells, as many as there are names.
        words: how many columns, from the left, are words; the others are numbers, and stand at the right.
    """
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    rule = ["-" * (width + 2) if place < words else "-" * (width + 1) + ":" for place, width in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(header), f"|{'|'.join(rule)}|", *map(line, rows)])
