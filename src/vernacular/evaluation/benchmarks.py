"""What is known of benchmarks and metrics by name: other spellings, which way is up, what guessing gives."""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as `data/benchmarks.yaml` has it.

    Attributes:
        name: its one name.
        kind: how it is scored: choice, answer, code, instructions, judge, translation, text.
        chance: share that guessing gets right; None where unknown.
        items: number of scored items; None where unknown.
    """

    name: str
    kind: str
    chance: float | None
    items: int | None


@dataclass(frozen=True)
class MetricName:
    """A metric as `data/metrics.yaml` has it: its name, whether higher is better, the kinds it can be of."""

    name: str
    higher_is_better: bool
    kinds: tuple[str, ...]


def key(text: str) -> str:
    """Letters, marks and digits of a name in one case: what two spellings of it share. `+` and `@` count too."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in folded if letter in "+@" or unicodedata.category(letter)[0] in "LMN")


def find_benchmark(text: str) -> Benchmark | None:
    """The benchmark that `text` names, or None."""
    return _benchmarks().get(key(text))


def find_metric(text: str) -> MetricName | None:
    """The metric that `text` names, or None."""
    return _metrics().get(key(text))


def higher_is_better(benchmark: str, metric: str | None) -> bool:
    """Which way is up for a metric, or for a benchmark that is named after its metric."""
    found = (find_metric(metric) if metric else None) or find_metric(benchmark)
    return found.higher_is_better if found else True


@functools.cache
def data(name: str) -> Any:
    """A table of `evaluation/data`."""
    return yaml.safe_load((files("vernacular.evaluation") / "data" / name).read_text(encoding="utf-8"))


@functools.cache
def _benchmarks() -> dict[str, Benchmark]:
    found: dict[str, Benchmark] = {}
    for name, facts in data("benchmarks.yaml").items():
        benchmark = Benchmark(name, facts["kind"], facts.get("chance"), facts.get("items"))
        found |= {key(spelling): benchmark for spelling in (name, *facts["aliases"])}
    return found


@functools.cache
def _metrics() -> dict[str, MetricName]:
    found: dict[str, MetricName] = {}
    for name, facts in data("metrics.yaml").items():
        metric = MetricName(name, facts["better"] == "higher", tuple(facts["of"]))
        found |= {key(spelling): metric for spelling in (name, *facts["aliases"])}
    return found
