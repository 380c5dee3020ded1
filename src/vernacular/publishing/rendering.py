"""The template and its filters: numbers go through the ledger, foreign text is escaped for where it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from vernacular.foundation.files import sha256_bytes
from vernacular.publishing.facts import read_facts
from vernacular.publishing.ledger import Entry, Ledger, Sourced, plain, source_of

TEMPLATE = "card.md.jinja"

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")
_SPACE = re.compile(r"\s+")
_UNITS = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))


class Ready(str):
    """Text that is already what it should be where it stands; all other text is escaped for Markdown."""

    __slots__ = ()


def render_card(release: Path) -> tuple[str, list[Entry]]:
    """The card's text, and every number in it with its source, from the release's own records."""
    ledger = Ledger()
    facts = read_facts(release)
    text = _environment(ledger, facts).from_string(template_text()).render(facts)
    return ledger.settle(text)


def template_text() -> str:
    """The card's template."""
    return (files("vernacular.publishing") / "templates" / TEMPLATE).read_text(encoding="utf-8")


def template_hash() -> str:
    """Hash of the template: a card can be verified by the version that made it."""
    return sha256_bytes(template_text().encode("utf-8"))


def escape(text: str) -> str:
    """Text as Markdown shows it literally, on one line, inside a table's cell or outside."""
    return _SPECIAL.sub(r"\\\1", _SPACE.sub(" ", text).strip())


def compact(value: float) -> str:
    """A large number in three digits: 4.18 M."""
    for scale, unit in _UNITS:
        if abs(value) >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"


def size(num_bytes: float) -> str:
    """Bytes in decimal units: 378 B, 1.2 MB."""
    return f"{compact(num_bytes)}B" if num_bytes >= 1000 else f"{num_bytes} B"


def duration(seconds: float) -> str:
    """Seconds in the units people use: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _environment(ledger: Ledger, facts: Mapping[str, Any]) -> jinja2.Environment:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # The output is Markdown, not HTML: `finalize` escapes for that.
        finalize=_finalize,
    )

    def number(show: Any) -> Any:
        def note(value: Sourced | None, *options: Any) -> Ready:
            return Ready("–") if value is None else Ready(ledger.note(value, show(plain(value), *options)))

        return note

    names = plain(facts["card"].language_names)
    environment.filters |= {
        "count": number(lambda value: f"{value:,}"),
        "fixed": number(lambda value, digits: f"{value:.{digits}f}"),
        "short": number(lambda value: f"{value:.6g}"),
        "compact": number(compact),
        "whole": number(lambda value: f"{value:,.0f}"),
        "size": number(size),
        "duration": number(duration),
        "share": number(lambda value: f"{100 * value:.1f}%"),
        "share_of": lambda part, whole: Ready(_share_of(ledger, part, whole)),
        "code": lambda value: Ready(f"`{str(plain(value)).replace('`', '')}`"),
        "prose": lambda value: Ready(str(plain(value)).strip()),
        "bibtex": lambda value: Ready(re.sub(r"[\\\\{}`]", "", str(plain(value)))),
        "yaml": lambda value: Ready(json.dumps(plain(value), ensure_ascii=False)),
        "python": lambda value: Ready(json.dumps(plain(value), ensure_ascii=False)),
        "language": lambda code: "–" if code is None else names.get(plain(code), plain(code)),
        "plain": plain,
    }
    return environment


def _share_of(ledger: Ledger, part: Sourced, whole: Sourced) -> str:
    """A part of a whole, both from the records."""
    share = Sourced(plain(part) / plain(whole), f"{source_of(part)} / {source_of(whole)}")
    return ledger.note(share, f"{100 * plain(share):.1f}%")


def _finalize(value: Any) -> Any:
    if value is None:
        return "–"
    bare = plain(value)
    if isinstance(bare, Ready):
        return bare
    if isinstance(bare, bool | int | float):
        raise TypeError(f"the template prints the number {bare!r} without the ledger: use a filter")
    return escape(str(bare))
