"""Parameter counts that do not follow from the architecture a card states, and measures stated twice."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from vernacular.evaluation.audit.cells import plain
from vernacular.evaluation.audit.finding import Evidence, Result
from vernacular.evaluation.benchmarks import data, key

_LONGEST = 2000
_LEAST_MEASURES = 3
_LEADING_NUMBER = re.compile(r"^(?:\d{1,3}(?:,\d{3})+|\d{1,9})(?![\d.,]*\d)")
_SIZE = re.compile(r"^(\d{1,4}(?:\.\d{1,3})?)\s?([A-Za-z]+)$")


class Fact(NamedTuple):
    """A measure as stated: its line, and the words."""

    line: int
    text: str


class Size(NamedTuple):
    """A stated number of parameters, and how far rounding lets it lie from the true one."""

    value: Decimal
    half_unit: Decimal
    printed: str
    line: int

    def admits(self, count: int) -> bool:
        """Whether `count` may have been rounded to this."""
        return abs(self.value - count) <= self.half_unit


Measures = Mapping[str, list[Fact]]


@functools.cache
def _names() -> dict[str, str]:
    return {key(name): measure for measure, names in data("architecture.yaml")["measures"].items() for name in names}


def check_architecture(evidence: Evidence) -> Iterator[Result]:
    """Count the parameters of what is stated, and compare; say what is missing where they cannot be counted."""
    for name, measures in [*_listed(evidence), *_tabled(evidence)]:
        if len(measures.keys() - {"parameters", "active_parameters"}) < _LEAST_MEASURES:
            continue
        for measure, facts in measures.items():
            if len({_integer(fact.text) or fact.text for fact in facts}) > 1:
                values = " and ".join(fact.text for fact in facts)
                message = f"the {measure.replace('_', ' ')} is stated twice: {values}"
                yield evidence.finding("architecture", facts[-1].line, message)
        for stated, active in _stated(evidence, name, measures):
            yield from _check_count(evidence, name, measures, stated, active)


def _listed(evidence: Evidence) -> Iterator[tuple[str, Measures]]:
    """Measures given as a list, `- Layers: 32`."""
    found: dict[str, list[Fact]] = {}
    for line in evidence.card.lines:
        name, colon, text = plain(line.text[:_LONGEST]).lstrip("-*•+ ").partition(":")
        measure = _names().get(key(name.strip(" *")))
        if colon and measure and text.strip(" *"):
            found.setdefault(measure, []).append(Fact(line.number, text.strip(" *")))
    if found:
        yield "", found


def _tabled(evidence: Evidence) -> Iterator[tuple[str, Measures]]:
    """Measures given as a table, a model a column."""
    for table in evidence.card.tables:
        rows = {row: _names().get(key(plain(row.cells[0]))) for row in table.rows}
        if sum(measure is not None for measure in rows.values()) < _LEAST_MEASURES:
            continue
        for place, header in enumerate(table.header.cells[1:], start=1):
            facts = {
                m: [Fact(row.number, plain(row.cells[place]))] for row, m in rows.items() if m and row.cells[place]
            }
            yield plain(header), facts


def _stated(evidence: Evidence, name: str, measures: Measures) -> Iterator[tuple[Size, bool]]:
    """Sizes that are stated of this architecture, and whether each is of the active parameters only."""
    kinds = [("parameters", False), ("active_parameters", True)]
    for measure, active in kinds if _number(measures, "num_experts") else kinds[:1]:
        for fact in measures.get(measure, []):
            if match := _SIZE.match(fact.text):
                yield from ((size, active) for size in _size(match[1], match[2], fact.text, fact.line))
    if name:
        return
    seen: set[str] = set()
    for line in evidence.card.lines:
        for pattern in data("architecture.yaml")["statements"]:
            for match in re.finditer(pattern, plain(line.text[:_LONGEST]), re.IGNORECASE):
                if match[0] not in seen:
                    seen.add(match[0])
                    yield from ((one, False) for one in _size(match["size"], match["unit"], match[0], line.number))


def _size(number: str, unit: str, printed: str, line: int) -> list[Size]:
    factor = data("architecture.yaml")["units"].get(unit.casefold())
    value = Decimal(number.replace(",", "."))
    if factor is None:
        return []
    exponent = int(value.normalize().as_tuple().exponent)  # 400 is known to its first digit alone.
    return [Size(value * factor, Decimal(5).scaleb(exponent - 1) * factor, printed, line)]


# ------------------------------------------------------------------------------------------------- the count


def _integer(text: str) -> int | None:
    match = _LEADING_NUMBER.match(text)
    return int(match[0].replace(",", "")) if match else None


def _number(measures: Measures, name: str) -> int | None:
    values = [value for fact in measures.get(name, []) if (value := _integer(fact.text))]
    return values[0] if values else None


def count_without_embeddings(measures: Measures, *, active: bool) -> tuple[int | None, list[str]]:
    """Parameters of all layers, biases aside, and what is missing to count them.

    L(2·h·H·hd + 2·h·K·hd + m·h·ff·E + E·h + 2h) + h, with m = 3 for a gated feed-forward and 2 for a plain one, and E
    experts (those of one token, for the active count) where there are any.
    """
    hidden = [value for fact in measures.get("hidden_size", []) if (value := _integer(fact.text))]
    inner = _number(measures, "intermediate_size")
    if inner is None and len(hidden) > 1:
        inner = max(hidden)  # "Hidden Dimension" twice: the larger is the feed-forward's.
    width, layers, heads = min(hidden, default=None), _number(measures, "num_layers"), _number(measures, "num_heads")
    gates = _matrices(measures)
    needed = {"hidden size": width, "layers": layers, "heads": heads, "feed-forward size": inner, "activation": gates}
    missing = [name for name, value in needed.items() if value is None]
    if missing or not (width and layers and heads and inner and gates):
        return None, missing
    pairs = _number(measures, "num_key_value_heads") or heads
    head = _number(measures, "head_dim") or width // heads
    experts = _number(measures, "num_experts") or 0
    used = (_number(measures, "experts_per_token") or experts) if active else experts
    feed_forward = gates * width * inner * (used or 1) + experts * width
    return layers * (2 * width * heads * head + 2 * width * pairs * head + feed_forward + 2 * width) + width, []


def _matrices(measures: Measures) -> int | None:
    known = data("architecture.yaml")
    words = {key(fact.text) for fact in measures.get("activation", [])}
    if words & {key(word) for word in known["gated"]}:
        return 3
    return 2 if words & {key(word) for word in known["ungated"]} else None


def _check_count(evidence: Evidence, name: str, measures: Measures, stated: Size, active: bool) -> Iterator[Result]:
    inside, missing = count_without_embeddings(measures, active=active)
    said = f"{name}: {stated.printed}" if name else stated.printed
    if inside is None:
        yield evidence.unchecked(stated.line, f"'{said}' cannot be counted: not stated are {', '.join(missing)}")
        return
    hidden = min(value for fact in measures["hidden_size"] if (value := _integer(fact.text)))
    vocabulary = _number(measures, "vocab_size")
    if active and stated.admits(inside):
        return  # Some count the embeddings among the active parameters, others do not.
    if vocabulary is None:
        if inside > stated.value + stated.half_unit:
            message = f"'{said}': the layers alone have {inside:,} parameters"
            yield evidence.finding("parameters", stated.line, message)
            return
        low = max(0, int((stated.value - stated.half_unit - inside) / hidden))
        high = int((stated.value + stated.half_unit - inside) / hidden)
        yield evidence.unchecked(
            stated.line,
            f"'{said}' cannot be counted: the vocabulary's size is not stated; the layers have {inside:,}, so it "
            f"would be {low:,} to {high:,} with tied embeddings, half that with untied ones",
        )
        return
    counts = {times: inside + times * vocabulary * hidden for times in _embeddings(measures)}
    if not any(stated.admits(count) for count in counts.values()):
        told = " or ".join(f"{count:,} ({'tied' if times == 1 else 'untied'})" for times, count in counts.items())
        yield evidence.finding("parameters", stated.line, f"'{said}': the stated architecture has {told}")


def _embeddings(measures: Measures) -> tuple[int, ...]:
    """How often the vocabulary's matrix may stand in the model: once where tied, twice where not."""
    known = data("architecture.yaml")
    words = {key(fact.text) for fact in measures.get("tied", [])}
    if words & {key(word) for word in known["tied_words"]}:
        return (1,)
    return (2,) if words & {key(word) for word in known["untied_words"]} else (1, 2)
