"""BERTScore in the record: what an encoder makes of a task's answers, so that scores need the encoder but once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vernacular.evaluation.metrics.answers import BERT_SCORES
from vernacular.evaluation.records import Row
from vernacular.evaluation.tasks import LoadedTask
from vernacular.foundation.errors import UserError
from vernacular.foundation.progress import progress

if TYPE_CHECKING:
    from vernacular.evaluation.metrics.bert_score import Encoder


@dataclass
class Similarities:
    """BERTScore as an evaluation has it.

    Attributes:
        folder: of the encoder; None where there is none.
        layer: whose vectors are compared.
        idf: whether rare tokens count more.
    """

    folder: Path | None
    layer: int | None
    idf: bool

    def check(self, tasks: Sequence[LoadedTask]) -> None:
        """Refuse tasks that need an encoder where none is named: its choice changes every number."""
        names = ", ".join(task.name for task in tasks if self.is_wanted(task))
        if names and (self.folder is None or self.layer is None):
            raise UserError(
                f"{names}: BERTScore is that of an encoder and a layer, and there is none that all use",
                where="bert_score" if self.folder is None else "bert_score_layer",
                fix="name them: --bert-score FOLDER --bert-score-layer NUMBER, a transformers folder and a layer of it",
            )

    @staticmethod
    def is_wanted(task: LoadedTask) -> bool:
        """Whether a task has a metric of these."""
        return any(name in task.metrics for name in BERT_SCORES)

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, read once."""
        from vernacular.evaluation.metrics.bert_score import Encoder

        assert self.folder is not None
        assert self.layer is not None
        return Encoder(self.folder, self.layer)

    def identity(self) -> Mapping[str, Any] | None:
        """What the record says of it; None where it was not used."""
        if "encoder" not in self.__dict__:
            return None
        return {
            "encoder": self.encoder.hash,
            "name": self.folder and self.folder.name,
            "layer": self.layer,
            "idf": self.idf,
        }

    def add(self, task: LoadedTask, rows: Sequence[Row]) -> list[Row]:
        """The rows with their similarities in `facts`."""
        from vernacular.evaluation.metrics.bert_score import bert_scores

        answers, targets = [row["extracted"] for row in rows], [row["target"] for row in rows]
        with progress(doing=f"comparing {task.name}", unit="texts") as bar:
            found = bert_scores(self.encoder, answers, targets, idf=self.idf, report=bar.update)
        return [
            {
                **row,
                "facts": json.dumps({**json.loads(row["facts"] or "{}"), "bert_score": list(one)}, ensure_ascii=False),
            }
            for row, one in zip(rows, found, strict=True)
        ]
