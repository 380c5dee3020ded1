"""A Markdown file as its parts: front matter, tables, prose and code, each with its line.

The file is untrusted: nothing in it is run, its size and the depth of its YAML are limited, and no expression that is
matched against it can take more than time proportional to a line's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml

from vernacular.foundation.errors import UserError

MOST_BYTES = 4 << 20
_DEEPEST_YAML = 40
_MOST_WRAPPED = 0.8

_WRAPPED_LINE = re.compile(r"^\|(?: \|)? ?")
_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})\s*([\w+-]*)")
_HEADING = re.compile(r"^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_KEY = re.compile(r"^([\w-]{1,60}):")
_DELIMITER = re.compile(r"^:?-+:?$")


@dataclass(frozen=True)
class Line:
    """A line of prose: its number, its text, and the headings it stands under, outermost first."""

    number: int
    text: str
    headings: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row of a table: its line's number and its cells."""

    number: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table: its header, its rows, and the headings it stands under."""

    header: Row
    rows: tuple[Row, ...]
    headings: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """A fenced block: the line of its first line, its language, its text, and whether its indentation is lost."""

    number: int
    language: str
    text: str
    flattened: bool


@dataclass
class Card:
    """A card's parts.

    Attributes:
        path: the file.
        front: the YAML at its beginning; empty where there is none.
        front_lines: the line of each of its keys.
        title: its first heading; the file's name where there is none.
        problems: (line, message) of parts that could not be read.
    """

    path: Path
    front: dict[str, Any] = field(default_factory=dict)
    front_lines: dict[str, int] = field(default_factory=dict)
    title: str = ""
    lines: list[Line] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    code: list[Code] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        UserError: the file is missing, empty, too large, or not UTF-8.
    """
    if not path.is_file():
        what = "this is a folder, not a file" if path.is_dir() else "there is no such file"
        raise UserError(what, where=path, fix="give a model card, e.g. a README.md")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"the file is larger than {MOST_BYTES >> 20} MiB", where=path, fix="give a model card")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"not valid UTF-8 at byte {error.start}", where=path, fix="save the file as UTF-8") from error
    if not text.strip():
        raise UserError("the file is empty", where=path, fix="give a model card, e.g. a README.md")
    return parse_card(text, path)


def parse_card(text: str, path: Path) -> Card:
    """As `read_card`, from a string."""
    card = Card(path)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").split("\n")
    flattened = _is_wrapped(lines)
    if flattened:
        lines = [_unwrap(line) for line in lines]
    body = _take_front(card, lines)
    _take_blocks(card, _without_comments(body), flattened)
    card.title = card.title or path.stem
    return card


def _is_wrapped(lines: list[str]) -> bool:
    """Whether the whole file was put into the cells of one table, as some exports do."""
    filled = [line for line in lines if line.strip()]
    return len(filled) > 2 and sum(line.startswith("| |") for line in filled) > _MOST_WRAPPED * len(filled)


def _unwrap(line: str) -> str:
    return _WRAPPED_LINE.sub("", line).removesuffix("|").rstrip()


def _take_front(card: Card, lines: list[str]) -> list[tuple[int, str]]:
    """Read the front matter into the card; the numbered lines after it."""
    numbered = list(enumerate(lines, start=1))
    if not lines or lines[0].strip() != "---":
        return numbered
    end = next((place for place, line in enumerate(lines[1:], start=1) if line.strip() in ("---", "...")), None)
    if end is None:
        return numbered
    try:
        _check_yaml("\n".join(lines[1:end]))
        value = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, ValueError) as error:
        card.problems.append((1, f"the front matter cannot be read as YAML: {str(error).splitlines()[0]}"))
        value = {}
    if isinstance(value, dict):
        card.front = value
        keys = ((number, _KEY.match(line)) for number, line in numbered[1:end])
        card.front_lines = {match[1]: number for number, match in keys if match}
    return numbered[end + 1 :]


def _check_yaml(text: str) -> None:
    """Refuse what makes a small file large or deep when it is loaded."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases are not read")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST_YAML:
            raise ValueError(f"nested deeper than {_DEEPEST_YAML}")


def _without_comments(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Lines with HTML comments blanked; fences inside of comments are comments too, those around them are not."""
    commented = fence = ""
    for number, line in lines:
        match = _FENCE.match(line)
        if not commented and match and (not fence or match[1].startswith(fence)):
            fence = "" if fence else match[1]
        kept = ""
        while line and not fence:
            if commented:
                _, closed, line = line.partition("-->")
                commented = "" if closed else commented
                line = line if closed else ""
            else:
                before, opened, line = line.partition("<!--")
                kept += before
                commented = opened
        yield number, kept or line


def _take_blocks(card: Card, lines: Iterator[tuple[int, str]], flattened: bool) -> None:
    headings: list[tuple[int, str]] = []
    waiting: list[tuple[int, str]] = []
    fence: tuple[int, str, str] | None = None
    code: list[str] = []
    in_table = False

    def above() -> tuple[str, ...]:
        return tuple(text for _, text in headings)

    def settle() -> None:
        """What was gathered is a table, if its second line is a delimiter row; else prose."""
        table = _pipe_table(waiting, above()) or _html_table(waiting, above())
        if table is not None:
            card.tables.append(table)
        else:
            card.lines.extend(Line(number, text, above()) for number, text in waiting)
        waiting.clear()

    for number, line in lines:
        match = _FENCE.match(line)
        if fence is not None:
            if match and match[1].startswith(fence[1]) and not match[2]:
                card.code.append(Code(fence[0], fence[2].lower(), "\n".join(code), flattened))
                fence = None
            else:
                code.append(line)
        elif match:
            settle()
            fence, code = (number + 1, match[1], match[2]), []
        elif heading := _HEADING.match(line):
            settle()
            level = len(heading[1])
            headings = [one for one in headings if one[0] < level] + [(level, heading[2])]
            card.title = card.title or heading[2]
            card.lines.append(Line(number, heading[2], above()))
        elif not line.strip():
            settle()
        else:
            begins = bool(waiting) and "|" in line and "|" not in waiting[-1][1]
            if begins or (in_table and "|" not in line):
                settle()
            waiting.append((number, line.removeprefix(">").strip() if line.startswith(">") else line))
            in_table = _is_table(waiting) if len(waiting) <= 2 else in_table
    settle()


# ------------------------------------------------------------------------------------------------------ tables


def split_cells(line: str) -> tuple[str, ...]:
    r"""Cells of a table's line; `\|` and bars inside of code spans are text."""
    cells, cell, in_code, escaped = [], "", False, False
    for letter in line.strip():
        if escaped:
            cell += letter if letter == "|" else f"\\{letter}"
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == "|" and not in_code:
            cells.append(cell.strip())
            cell = ""
        else:
            in_code ^= letter == "`"
            cell += letter
    cells.append(cell.strip())
    if cells[0] == "":
        cells = cells[1:]
    return tuple(cells[:-1] if cells and cells[-1] == "" and line.rstrip().endswith("|") else cells)


def _is_table(lines: list[tuple[int, str]]) -> bool:
    if len(lines) < 2 or "|" not in lines[0][1]:
        return False
    delimiters = split_cells(lines[1][1])
    return len(delimiters) > 0 and all(_DELIMITER.match(cell) for cell in delimiters)


def _pipe_table(lines: list[tuple[int, str]], headings: tuple[str, ...]) -> Table | None:
    if not _is_table(lines):
        return None
    rows = [Row(number, split_cells(text)) for number, text in lines]
    width = len(rows[0].cells)
    padded = (Row(row.number, (row.cells + ("",) * width)[:width]) for row in rows[2:])
    return Table(rows[0], tuple(padded), headings)


class _TableReader(HTMLParser):
    """Rows of the first HTML table; `<b>` and `<strong>` become asterisks."""

    def __init__(self, first_line: int) -> None:
        super().__init__(convert_charrefs=True)
        self.first_line = first_line
        self.rows: list[Row] = []
        self.cells: list[str] | None = None
        self.cell: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.cells = []
        elif tag in ("td", "th"):
            self.cell = ""
        elif tag in ("b", "strong") and self.cell is not None:
            self.cell += "**"

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self.cells is not None:
            self.rows.append(Row(self.first_line + self.getpos()[0] - 1, tuple(self.cells)))
            self.cells = None
        elif tag in ("td", "th") and self.cell is not None:
            if self.cells is not None:
                self.cells.append(self.cell.strip())
            self.cell = None
        elif tag in ("b", "strong") and self.cell is not None:
            self.cell += "**"

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell += data


def _html_table(lines: list[tuple[int, str]], headings: tuple[str, ...]) -> Table | None:
    if not lines or "<table" not in lines[0][1].lower():
        return None
    reader = _TableReader(lines[0][0])
    reader.feed("\n".join(text for _, text in lines))
    rows = [row for row in reader.rows if row.cells]
    if len(rows) < 2:
        return None
    width = len(rows[0].cells)
    padded = (Row(row.number, (row.cells + ("",) * width)[:width]) for row in rows[1:])
    return Table(rows[0], tuple(padded), headings)
