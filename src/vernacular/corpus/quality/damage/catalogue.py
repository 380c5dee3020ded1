"""Every kind of damage, in an order that never changes."""

from __future__ import annotations

from vernacular.corpus.quality.damage import encoding, layout, noise, order, recognition, repetition, web
from vernacular.corpus.quality.damage.kind import Kind, registered

FAMILIES = (encoding, recognition, layout, order, noise, web, repetition)


def kinds() -> tuple[Kind, ...]:
    """Every kind, by family and then by name."""
    return tuple(sorted(registered(), key=lambda kind: (kind.family, kind.name)))
