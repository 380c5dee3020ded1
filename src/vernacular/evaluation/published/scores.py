"""Published scores: what a card prints of which model, on which benchmark, and in which cell."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from vernacular.evaluation.audit.cells import read_number
from vernacular.foundation.errors import unknown_name


@dataclass(frozen=True)
class PublishedScore:
    """A number on a card.

    Attributes:
        card: name of the card's file here: "krutrim-1-7b".
        model: what was scored.
        benchmark: its one name (`data/benchmarks.yaml`).
        metric: as the card says; None where it says none.
        shots: as the card or its report says; None where neither does.
        language: of the benchmark's part, where the card gives it by language.
        value: the number.
        printed: the cell as it is printed.
        bold: whether it is printed in bold.
        table: the heading the table stands under.
        section: the row that divides the table above it; "" for none.
        row: the row's label as printed.
        column: the column's label as printed.
    """

    card: str
    model: str
    benchmark: str
    metric: str | None
    shots: int | None
    language: str | None
    value: float
    printed: str
    bold: bool
    table: str
    section: str
    row: str
    column: str


def cards() -> list[str]:
    """Names of the cards whose scores are here."""
    folder = files("vernacular.evaluation") / "published"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@functools.cache
def read_card_scores(card: str) -> dict[str, Any]:
    """The data file of a card: `title`, `url`, `model`, `tables`."""
    if card not in cards():
        raise unknown_name("card", card, cards())
    path = files("vernacular.evaluation") / "published" / f"{card}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@functools.cache
def published_scores(card: str) -> tuple[PublishedScore, ...]:
    """Every number of a card's tables of scores, in the card's order."""
    found = []
    for table in read_card_scores(card)["tables"]:
        for row in table["rows"]:
            for column, printed in zip(table["columns"], row["cells"], strict=True):
                number = read_number(printed)
                if number is None:
                    continue
                facts = {**table.get("all", {}), **column, **row}
                found.append(
                    PublishedScore(
                        card=card,
                        model=facts["model"],
                        benchmark=facts["benchmark"],
                        metric=facts.get("metric"),
                        shots=number.shots if number.shots is not None else facts.get("shots"),
                        language=facts.get("language"),
                        value=float(number.value),
                        printed=printed,
                        bold=number.bold,
                        table=table["heading"],
                        section=row.get("section", ""),
                        row=row["row"],
                        column=column["column"],
                    )
                )
    return tuple(found)
