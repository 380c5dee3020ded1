"""Which documents to label: a fair sample, and with a classifier those that it is least sure of."""

from __future__ import annotations

import heapq
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vernacular.corpus.document import document_files
from vernacular.corpus.quality.labelling.store import Task
from vernacular.corpus.quality.model import QualityModel

_POOL = 20  # documents looked at for each that is asked for, with a classifier


def sample(documents: Path, number: int, model: QualityModel | None) -> list[tuple[Task, float]]:
    """Choose documents, the same number of each language as far as it goes, and their order.

    Ids are hashes, so the lowest ids are a random sample that is the same every time. With a classifier every other
    document is one it is unsure of: labels of these teach most, and the random ones keep probabilities honest.

    Args:
        documents: a curated artifact.
        number: how many.
        model: of a former training, or None.

    Returns:
        The tasks and their places.
    """
    pool = _lowest_by_language(documents, number * (_POOL if model else 1))
    fair = _in_turn(pool)[:number]
    if model is None:
        return [(task, float(place)) for place, task in enumerate(fair)]
    known = {task.document for task in fair[: (number + 1) // 2]}
    rest = [task for tasks in pool.values() for task in tasks if task.document not in known]
    unsure = [rest[place] for place in np.argsort(_sureness(model, rest), kind="stable")][: number // 2]
    placed = [(task, 2.0 * place) for place, task in enumerate(fair[: (number + 1) // 2])]
    return placed + [(task, 2.0 * place + 1) for place, task in enumerate(unsure)]


def _lowest_by_language(documents: Path, number: int) -> dict[str, list[Task]]:
    """Up to `number` documents of each language, by ascending id."""
    found: defaultdict[str, list[Task]] = defaultdict(list)
    for path in document_files(documents, "train"):
        for batch in pq.ParquetFile(path).iter_batches(columns=["id", "text", "language"]):
            for row in batch.to_pylist():
                found[row["language"]].append(Task(row["id"], row["text"], row["language"]))
            for language, tasks in found.items():
                found[language] = heapq.nsmallest(number, tasks, key=lambda task: task.document)
    return dict(found)


def _in_turn(pool: dict[str, list[Task]]) -> list[Task]:
    """One of each language after another."""
    ranked = [(place, language, task) for language, tasks in pool.items() for place, task in enumerate(tasks)]
    return [task for _, _, task in sorted(ranked, key=lambda row: row[:2])]


def _sureness(model: QualityModel, tasks: list[Task]) -> np.ndarray:
    """float64 [T]: how far the likeliest grade is ahead of the next; 0 in a language that the classifier never saw."""
    texts = pa.array([task.text for task in tasks], pa.large_string())
    ordered = np.sort(model.probabilities(texts, [task.language for task in tasks]), axis=1)
    return np.nan_to_num(ordered[:, -1] - ordered[:, -2])
