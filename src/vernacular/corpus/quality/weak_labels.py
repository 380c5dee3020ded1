"""Weak labels: clean documents are HIGH; their copies, damaged lightly or heavily, MEDIUM and LOW."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from vernacular.corpus.quality.configuration import GRADES, Damage
from vernacular.corpus.quality.damage.catalogue import kinds
from vernacular.corpus.quality.damage.kind import Kind
from vernacular.foundation.errors import unknown_name

HIGH, MEDIUM, LOW = range(len(GRADES))


@dataclass(frozen=True)
class Example:
    """A labelled text.

    Attributes:
        document: id of the document that it is, or was made of.
        text: normalised.
        language: ISO 639 code.
        grade: place in `GRADES`.
        kind: of the damage; "" where there is none.
        told: whether a person or a file gave the grade, and not the damage.
    """

    document: str
    text: str
    language: str
    grade: int
    kind: str = ""
    told: bool = False


def chosen_kinds(settings: Damage) -> list[Kind]:
    """The kinds of damage that are asked for.

    Raises:
        UserError: there is none of a name.
    """
    known = {kind.name: kind for kind in kinds()}
    for name in settings.kinds or ():
        if name not in known:
            raise unknown_name("kind of damage", name, known, where="damage.kinds")
    return [known[name] for name in settings.kinds] if settings.kinds is not None else list(known.values())


def damaged_copies(document: str, text: str, language: str, settings: Damage, seed: int) -> Iterator[Example]:
    """The document as it is, then `copies` damaged ones. What becomes of it depends on its id and the seed alone."""
    yield Example(document, text, language, HIGH)
    random = Random(hashlib.sha256(f"{seed} {document}".encode()).digest())
    possible: Sequence[Kind] = chosen_kinds(settings)
    for kind in random.sample(possible, min(settings.copies, len(possible))):
        light = settings.light is not None and random.random() < 0.5
        bounds = settings.light if light and settings.light is not None else settings.heavy
        spoilt = kind.spoil(text, language, random.uniform(*bounds), random).strip()
        if spoilt and spoilt != text:
            yield Example(document, spoilt, language, MEDIUM if light else LOW, kind.name)
