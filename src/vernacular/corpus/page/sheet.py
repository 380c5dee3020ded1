"""A sheet of HTML: one file that loads nothing, for light and dark screens, small and large; text is only ever text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

# What no HTML may hold, and halves of surrogate pairs, which no UTF-8 may.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True)
class Markup:
    """HTML that is meant as such; every other string is escaped."""

    html: str


Cell = str | int | float | Markup | None


def text(value: str) -> str:
    """Untrusted text as HTML, for content and for attributes in quotation marks."""
    return html.escape(_FORBIDDEN.sub("\ufffd", value), quote=True)


def isolated(value: str) -> Markup:
    """A name from outside in a line of ours: it runs in its own direction and turns nothing around it."""
    return Markup(f"<bdi>{text(value)}</bdi>")


def cell(value: Cell) -> str:
    """What stands in a table: numbers with separators, shares (floats) in percent, nothing where nothing is known."""
    if value is None:
        return ""
    if isinstance(value, Markup):
        return value.html
    if isinstance(value, int):
        return f"{value:,}"
    return percent(value) if isinstance(value, float) else text(value)


def percent(share: float) -> str:
    """A share in percent, small ones with another digit; what is not nothing is never shown as 0."""
    if 0 < share < 0.0001:
        return "&lt; 0.01 %"
    return f"{share:.2%}".replace("%", " %") if share < 0.01 and share else f"{share:.1%}".replace("%", " %")


def size(num_bytes: int) -> str:
    """Bytes for people: 812 B, 4.1 kB, 12.30 MB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:,.2f} {unit}"
    return f"{num_bytes} B"


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], *, name: str) -> str:
    """A table that scrolls by itself on a narrow screen; the first column names the row. `name` is its id."""
    heads = "".join(f"<th scope='col'>{text(each)}</th>" for each in head)
    body = "\n".join(
        "<tr>"
        + f"<th scope='row'>{cell(first)}</th>"
        + "".join(f"<td>{each.html if isinstance(each, Markup) else cell(each)}</td>" for each in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{text(name)}'><table id='{text(name)}'>"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def section(identifier: str, title: str, *parts: str) -> str:
    """A section with a heading that can be linked to; empty without parts."""
    held = [part for part in parts if part]
    if not held:
        return ""
    return "\n".join([f"<section id='{identifier}'><h2>{text(title)}</h2>", *held, "</section>"])


def note(words: str) -> str:
    """A paragraph of explanation, our own words."""
    return f"<p class='note'>{text(words)}</p>"


def passage(value: str | Markup, language: str) -> str:
    """A document's text in its own direction and its language's letterforms."""
    shown = value.html if isinstance(value, Markup) else text(value)
    return f"<div class='text' dir='auto' lang='{text(language.split('+')[0])}'>{shown}</div>"


def sheet(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole file.

    Args:
        title: of the page.
        sections: (name in the list of contents, HTML of `section`); empty ones are left out. The first has no entry
            in the list where its name is empty.
    """
    style = files("vernacular.corpus.page").joinpath("sheet.css").read_text(encoding="utf-8")
    shown = [(name, content) for name, content in sections if content]
    entries = []
    for name, content in shown:
        found = re.match(r"<section id='([^']+)'", content)
        if name and found:
            entries.append(f"<a href='#{found[1]}'>{text(name)}</a>")
    return "\n".join(
        [
            "<!doctype html>",
            "<html lang='en'><head><meta charset='utf-8'>",
            # Should a text ever get through as markup, it still can run, load and send nothing.
            "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'; "
            'img-src data:">',
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            "<meta name='color-scheme' content='light dark'><link rel='icon' href='data:,'>",
            f"<title>{text(title)}</title>",
            f"<style>\n{style}</style></head><body>",
            f"<header><h1>{text(title)}</h1><nav aria-label='Contents'>{''.join(entries)}</nav></header>",
            "<main>",
            *(content for _, content in shown),
            "</main></body></html>\n",
        ]
    )
