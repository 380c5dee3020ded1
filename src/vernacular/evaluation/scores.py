"""Scores, computed from the records alone: no model, no tokenizer, no task file is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vernacular.evaluation.judge.metrics import JUDGE_METRICS
from vernacular.evaluation.metrics.answers import BERT_SCORES
from vernacular.evaluation.metrics.metric import Metric
from vernacular.evaluation.metrics.registry import METRICS, OWN, find_metric, has_metric
from vernacular.evaluation.records import (
    HELDOUT,
    HELDOUT_SCHEMA,
    RECORDS,
    REQUEST_SCHEMA,
    YARDSTICK,
    YARDSTICK_SCHEMA,
    Row,
    by_item,
    read_rows,
    read_run,
)
from vernacular.evaluation.statistics import Estimate, bootstrap, share
from vernacular.evaluation.tables import markdown_table
from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.files import read_json

SCORES = "scores.json"
TOLERANCE = 1e-9
PARSE_FAILURES_TO_WARN_OF = 0.05
_MASS = {"mc2"}
"""Metrics that are a share of probability: guessing gives the share of right choices, as it does of right items."""


@dataclass(frozen=True)
class Score:
    """One number, and what is needed to judge it.

    Attributes:
        task: the task's name; "heldout" for bits per byte.
        metric: the metric's name.
        filter: how the answer was taken from the response ("none" where nothing was).
        language: of the task, or None.
        value: the number.
        stderr: its standard error; None for a single item.
        low: lower end of the 95% interval (Wilson for shares, bootstrap else).
        high: upper end of it.
        n: items, or documents, it is a mean over.
        chance: what guessing gives, where that is defined.
        is_share: whether it is a share of right answers.
        higher_is_better: which way is up.
        kind: the harness's `output_type`; "heldout" for bits per byte.
        task_version: of the task's own making.
        num_fewshot: examples before each question.
        prompts_sha256: hash over all prompts.
        parse_failures: answers that could not be read, of n; None where nothing is read.
        yardsticks: what other methods give on the same bytes.
        record: the file it was computed from.
        subset: "all" items, or only those "clean" or "contaminated" where that is known of any.
    """

    task: str
    metric: str
    filter: str
    language: str | None
    value: float
    stderr: float | None
    low: float | None
    high: float | None
    n: int
    chance: float | None
    is_share: bool
    higher_is_better: bool
    kind: str
    task_version: str | None
    num_fewshot: int | None
    prompts_sha256: str | None
    parse_failures: int | None
    record: str
    yardsticks: Mapping[str, float] = field(default_factory=dict)
    subset: str = "all"


def rescore(folder: Path, also: Mapping[str, Mapping[str, Any]] | None = None) -> list[Score]:
    """All scores of an evaluation, from the files in its `records/`.

    Args:
        folder: the evaluation.
        also: more metrics with their options, for every task whose kind has them; what was asked of the model stays.

    Raises:
        UserError: a record is missing, or no task's kind has one of the metrics.
    """
    records = folder / RECORDS
    run = read_run(records)
    scores: list[Score] = []
    kinds = {facts["kind"] for facts in run["tasks"].values()}
    for name, options in (also or {}).items():
        if name == "f1" and "positive" not in options:
            raise UserError(
                "f1 needs its positive answer", where="f1", fix="take f1_macro or f1_micro, or say `positive`"
            )
        if not any(_can_have(facts, name) for facts in run["tasks"].values()):
            known = {name for kind in kinds for name in (*METRICS[kind], *OWN.get(kind, {}))}
            raise unknown_name("metric", name, known, where=folder)
    for task, facts in run["tasks"].items():
        rows = read_rows(records / f"{task}.parquet", REQUEST_SCHEMA)
        more = {name: options for name, options in (also or {}).items() if _can_have(facts, name)}
        scores += _task_scores(task, {**facts, "metrics": {**facts["metrics"], **more}}, rows, run["settings"])
    if run["heldout"]:
        documents = read_rows(records / f"{HELDOUT}.parquet", HELDOUT_SCHEMA)
        yardsticks = read_rows(records / f"{YARDSTICK}.parquet", YARDSTICK_SCHEMA)
        scores += _heldout_scores(documents, yardsticks, run["settings"])
    return scores


def _can_have(facts: Mapping[str, Any], metric: str) -> bool:
    """Whether a metric can be made of a task's record: pass@k is of programs that were run alone, and so on."""
    return has_metric(facts["kind"], metric) and _is_in_record(facts, metric)


def _is_in_record(facts: Mapping[str, Any], metric: str) -> bool:
    """Whether what a metric is made of was made when the answers were given."""
    if metric.startswith("pass@"):
        return facts.get("code") is not None
    if metric in BERT_SCORES:
        return any(known in facts["metrics"] for known in BERT_SCORES)
    return metric in facts["metrics"] or metric not in JUDGE_METRICS


def read_scores(folder: Path) -> dict[str, Any]:
    """What an evaluation left in scores.json: what was run, the scores, the warnings."""
    if not (folder / SCORES).is_file():
        raise UserError(f"the folder has no {SCORES}", where=folder, fix="evaluate the weights first")
    return read_json(folder / SCORES)


def differences(written: Sequence[Mapping[str, Any]], recomputed: Sequence[Score]) -> list[tuple[str, str]]:
    """Where written scores are not what the records give: the place (a JSON pointer) and what stands there.

    Machines may differ in a sum's last digits, so numbers may by one part in a thousand million.
    """
    if len(written) != len(recomputed):
        return [("/scores", f"{len(written)} scores; the records give {len(recomputed)}")]
    found = []
    for place, (theirs, score) in enumerate(zip(written, recomputed, strict=True)):
        for key, ours in asdict(score).items():
            if not _same(theirs.get(key), ours):
                message = f"{score.task}, {score.metric}, {key} is {theirs.get(key)}; the records give {ours}"
                found.append((f"/scores/{place}/{key}", message))
    return found


def _same(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        return theirs.keys() == ours.keys() and all(_same(theirs[key], ours[key]) for key in ours)
    if isinstance(theirs, float) and isinstance(ours, float):
        return math.isclose(theirs, ours, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(theirs == ours)


def as_json(scores: Iterable[Score]) -> list[dict[str, Any]]:
    """Scores as JSON values."""
    return [asdict(score) for score in scores]


def _task_scores(task: str, facts: Mapping[str, Any], rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Score]:
    scores = []
    for name, subset, own in _subsets(rows):
        items = by_item(own)
        failures = [items_rows[0]["parse_failure"] for items_rows in items]
        for metric_name, options in facts["metrics"].items():
            metric = find_metric(facts["kind"], metric_name)
            estimate = _estimate(metric, [metric.of_item(item, options) for item in items], settings)
            scores.append(
                Score(
                    task=task,
                    metric=metric_name,
                    filter=name,
                    language=facts["language"],
                    **estimate._asdict(),
                    n=len(items),
                    chance=_chance(facts, items) if metric.is_share or metric_name in _MASS else None,
                    is_share=metric.is_share,
                    higher_is_better=metric.higher_is_better,
                    kind=facts["kind"],
                    task_version=facts["version"],
                    num_fewshot=facts["num_fewshot"],
                    prompts_sha256=facts["prompts_sha256"],
                    parse_failures=None if None in failures else sum(failures),
                    record=f"{RECORDS}/{task}.parquet",
                    subset=subset,
                )
            )
    return scores


def _subsets(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """(filter, subset, rows): all items; and where some are contaminated, those and the clean ones apart."""
    for name in sorted({row["filter"] for row in rows}):
        own = [row for row in rows if row["filter"] == name]
        yield name, "all", own
        known = {row["contamination"] for row in own}
        for subset in ("clean", "contaminated") if "contaminated" in known else ():
            if subset in known:
                yield name, subset, [row for row in own if row["contamination"] == subset]


def _estimate(metric: Metric, values: Sequence[Any], settings: Mapping[str, Any]) -> Estimate:
    if metric.is_share:
        return share(values)
    if metric.aggregation == "known_mean":
        values = [value for value in values if not math.isnan(value)]
    return bootstrap(values, metric.aggregate, resamples=settings["resamples"], seed=settings["seed"])


def _chance(facts: Mapping[str, Any], items: Sequence[Sequence[Row]]) -> float | None:
    """As the task states it; else, for multiple choice, the mean share of right choices."""
    if facts["stated_chance"] is not None:
        return float(facts["stated_chance"])
    if facts["kind"] != "multiple_choice":
        return None
    return sum(sum(row["is_target"] for row in item) / len(item) for item in items) / len(items)


def _heldout_scores(documents: Sequence[Row], yardsticks: Sequence[Row], settings: Mapping[str, Any]) -> list[Score]:
    scores = []
    for language in sorted({row["language"] for row in documents}):
        rows = [row for row in documents if row["language"] == language]
        beside = {
            row["yardstick"]: 8 * row["compressed_bytes"] / row["bytes"]
            for row in yardsticks
            if row["language"] == language
        }
        for unit in ("byte", "grapheme"):
            pairs = [(row["log_probability"], row[f"{unit}s"]) for row in rows]
            estimate = bootstrap(pairs, _bits_per_unit, resamples=settings["resamples"], seed=settings["seed"])
            scores.append(
                Score(
                    task=HELDOUT,
                    metric=f"bits_per_{unit}",
                    filter="none",
                    language=language,
                    **estimate._asdict(),
                    n=len(rows),
                    chance=None,
                    is_share=False,
                    higher_is_better=False,
                    kind=HELDOUT,
                    task_version=None,
                    num_fewshot=None,
                    prompts_sha256=None,
                    parse_failures=None,
                    yardsticks=beside if unit == "byte" else {},
                    record=f"{RECORDS}/{HELDOUT}.parquet",
                )
            )
    return scores


def _bits_per_unit(pairs: Sequence[tuple[float, int]]) -> float:
    total, count = np.asarray(pairs, dtype=np.float64).sum(axis=0)
    return float(-total / math.log(2) / count)


def is_hardly_read(score: Mapping[str, Any]) -> bool:
    """Whether so many of the answers could not be read that the number says little; of a score as JSON."""
    unread = score["parse_failures"]
    return unread is not None and unread > PARSE_FAILURES_TO_WARN_OF * score["n"]


def warnings(scores: Iterable[Score], tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a reader of these scores must know.

    Args:
        scores: the scores.
        tasks: what the record says of each task.
    """
    cut = [
        f"{task}: {facts['cut']:,} of {facts['requests']:,} prompts lost their beginning, being longer than what the "
        "model can read: examples or questions are missing from them"
        for task, facts in tasks.items()
        if facts.get("cut")
    ]
    return cut + list(
        dict.fromkeys(
            f"{score.task}{_by(score)}: {score.parse_failures:,} of {score.n:,} answers could not be read "
            f"({(score.parse_failures or 0) / score.n:.1%})"
            for score in scores
            if score.subset == "all" and is_hardly_read(asdict(score))
        )
    )


def _by(score: Score) -> str:
    """How the answer was taken from the response, in brackets; nothing where nothing was."""
    return f" ({score.filter})" if score.filter != "none" else ""


def table(scores: Iterable[Score]) -> str:
    """The scores as a Markdown table."""
    header = [
        "task",
        "language",
        "metric",
        "value",
        "± standard error",
        "95% interval",
        "chance",
        "n",
        "unread answers",
    ]
    rows = []
    for score in scores:
        interval = "" if score.low is None or score.high is None else f"{score.low:.3f} to {score.high:.3f}"
        unread = score.parse_failures
        rows.append(
            [
                score.task + (f" ({score.subset} items)" if score.subset != "all" else ""),
                score.language or "",
                score.metric + _by(score),
                f"{score.value:.3f}",
                "" if score.stderr is None else f"{score.stderr:.3f}",
                interval,
                "" if score.chance is None else f"{score.chance:.3f}",
                f"{score.n:,}",
                "" if unread is None else f"{unread:,} ({unread / score.n:.1%})",
            ]
        )
        rows += [["", score.language or "", name, f"{bits:.3f}", *[""] * 5] for name, bits in score.yardsticks.items()]
    return markdown_table(header, rows, words=3)
