"""Suites as data: which tasks give which benchmark, and the card's own headline over them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from operator import mul
from typing import Any, Literal, NamedTuple

from pydantic import Field

from vernacular.evaluation.published.scores import PublishedScore, published_scores
from vernacular.evaluation.suites.headline import RULES, Scored
from vernacular.foundation.configuration import Configuration, parse_yaml, validate
from vernacular.foundation.errors import UserError, unknown_name

_OUT_OF_100 = ("chrf", "chrf++", "bleu", "bleu_max", "bleu_diff")


class Member(Configuration):
    """A benchmark of a suite: the tasks that measure it, and how it is counted."""

    benchmark: str = Field(description="its name in data/benchmarks.yaml, or one of the suite's own")
    tasks: tuple[str, ...] = Field(description="tasks whose mean is the score; * and ? allowed, ! leaves out")
    metric: str = Field(description="the tasks' metric")
    filter: str | None = Field(None, description="how the answer is taken from the response, where there are several")
    weigh: Literal["tasks", "items"] = Field("tasks", description="whether a task counts once or by its items")
    shots: int | None = Field(None, ge=0, description="examples before each question, as the card or its report says")
    scale: float = Field(1.0, gt=0, description="what the card multiplies the score by: 100 for percentages")
    baseline: float | None = Field(
        0.0, ge=0, lt=1, description="score of guessing; null: taken from the right answers of the record"
    )
    category: str = Field("", description="the group it is averaged in first")

    def has(self, task: str) -> bool:
        """Whether a task is one of the benchmark's."""
        wanted = [pattern for pattern in self.tasks if not pattern.startswith("!")]
        unwanted = [pattern[1:] for pattern in self.tasks if pattern.startswith("!")]
        return any(fnmatchcase(task, one) for one in wanted) and not any(fnmatchcase(task, one) for one in unwanted)


class HeadlineRule(Configuration):
    """One number over a suite's benchmarks."""

    name: str = Field(description="as the card calls it")
    rule: Literal["plain mean", "normalised mean", "gauntlet"] = Field(description="suites/headline.py")
    of: tuple[str, ...] = Field((), description="the benchmarks it is over (default: all of the suite's)")


class Suite(Configuration):
    """The benchmarks of a card, and its headlines."""

    name: str
    card: str | None = Field(None, description="the card in published/ whose scores stand beside ours")
    about: str = Field(description="where the rule and the shots come from, and what is not known of them")
    members: tuple[Member, ...]
    headlines: tuple[HeadlineRule, ...] = ()


class Headline(NamedTuple):
    """A headline's value, or what is missing for it.

    Attributes:
        name: as the card calls it.
        value: in the card's unit; None where something is missing.
        missing: benchmarks without a score or without a baseline.
    """

    name: str
    value: float | None
    missing: tuple[str, ...]


def suites() -> list[str]:
    """Names of all suites."""
    folder = files("vernacular.evaluation") / "suites"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@functools.cache
def read_suite(name: str) -> Suite:
    """A suite by name."""
    if name not in suites():
        raise unknown_name("suite", name, suites(), where="--suite")
    document = parse_yaml((files("vernacular.evaluation") / "suites" / f"{name}.yaml").read_text(encoding="utf-8"))
    return validate(Suite, document.value, document)


def choose_tasks(suite: Suite, available: Sequence[str]) -> tuple[str, ...]:
    """The suite's tasks among those there are; a benchmark without any is refused by name."""
    missing = [
        f"{member.benchmark} ({', '.join(member.tasks)})"
        for member in suite.members
        if not any(member.has(task) for task in available)
    ]
    if missing:
        raise UserError(
            f"the suite '{suite.name}' lacks tasks for: {'; '.join(missing)}",
            where="--suite",
            fix="put their YAML and data into the folder of --tasks, or name the tasks you have with --only",
        )
    return tuple(task for task in available if any(member.has(task) for member in suite.members))


def headlines(
    suite: Suite, shares: Mapping[str, float], baselines: Mapping[str, float] | None = None
) -> list[Headline]:
    """The suite's headlines.

    Args:
        suite: the suite.
        shares: score of each benchmark, 1 being everything right.
        baselines: of benchmarks whose baseline the suite leaves to the record.
    """
    return [_headline(suite, rule, shares, baselines or {}) for rule in suite.headlines]


def _headline(
    suite: Suite, rule: HeadlineRule, shares: Mapping[str, float], baselines: Mapping[str, float]
) -> Headline:
    members = [member for member in suite.members if not rule.of or member.benchmark in rule.of]
    scored, missing = [], []
    for member in members:
        baseline = member.baseline if member.baseline is not None else baselines.get(member.benchmark)
        if member.benchmark not in shares:
            missing.append(member.benchmark)
        elif baseline is None and rule.rule != "plain mean":
            missing.append(f"{member.benchmark} (its baseline)")
        else:
            scored.append(Scored(shares[member.benchmark], member.scale, baseline or 0.0, member.category))
    if missing:
        return Headline(rule.name, None, tuple(missing))
    return Headline(rule.name, RULES[rule.rule](scored), ())


def suite_shares(suite: Suite, scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Score of each benchmark from an evaluation's scores: the mean of its tasks', by its metric and filter."""
    found: dict[str, float] = {}
    for member in suite.members:
        own = [
            score
            for score in scores
            if score["metric"] == member.metric
            and score.get("subset", "all") == "all"
            and (member.filter is None or score["filter"] == member.filter)
            and member.has(score["task"])
        ]
        weights = [score["n"] if member.weigh == "items" else 1 for score in own]
        values = [score["value"] / (100 if member.metric in _OUT_OF_100 else 1) for score in own]
        if own:
            found[member.benchmark] = sum(map(mul, values, weights)) / sum(weights)
    return found


def published_shares(suite: Suite, model: str) -> dict[str, float]:
    """Score of each benchmark as the suite's card prints it for a model; by language, their mean."""
    scales = {member.benchmark: member.scale for member in suite.members}
    values: dict[str, list[float]] = {}
    for score in _published(suite):
        if score.model == model and score.benchmark in scales:
            values.setdefault(score.benchmark, []).append(score.value / scales[score.benchmark])
    return {benchmark: sum(found) / len(found) for benchmark, found in values.items()}


def published_models(suite: Suite) -> list[str]:
    """Models that the suite's card scores on any of its benchmarks, in the card's order."""
    known = {member.benchmark for member in suite.members} | {"average"}
    return list(dict.fromkeys(score.model for score in _published(suite) if score.benchmark in known))


def _published(suite: Suite) -> tuple[PublishedScore, ...]:
    return published_scores(suite.card) if suite.card else ()
