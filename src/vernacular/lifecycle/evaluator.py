"""Tasks scored while a model trains: a probe that training is handed, since it knows no evaluation."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.foundation.errors import UserError
from vernacular.lifecycle.stage import Workplace, tasks_below
from vernacular.parallel.processes import this_process

if TYPE_CHECKING:
    from vernacular.models.decoder import Decoder

EVALUATIONS = "evaluations"


class InTraining(EvaluateConfiguration):
    """Which tasks are scored on the way, and how often."""

    every: int = Field(gt=0, description="steps between evaluations; one is always made after the last step")

    @model_validator(mode="after")
    def _needs_no_judge(self) -> Self:
        if self.judge is not None:
            raise ValueError("a judge grades in a stage `evaluate` only, not while a model trains; leave judge out")
        return self


class Evaluator:
    """A `Probe` (training/probe.py): writes the weights aside and evaluates them as the stage `evaluate` does.

    Args:
        configuration: what is scored, and when.
        tasks: folder of harness YAML with its data.
        tokenizer: folder of the tokenizer, and chat template, that belong to the weights.
        folder: receives `step-N/`, each with the record of an evaluation.
        instruct: whether the model learns to answer conversations.
    """

    name = "scores"

    def __init__(
        self, configuration: InTraining, tasks: Path, tokenizer: Path, folder: Path, *, instruct: bool
    ) -> None:
        self.configuration = configuration
        self._tasks, self._tokenizer, self._folder, self._instruct = tasks, tokenizer, folder, instruct

    @property
    def every(self) -> int:
        """Steps between evaluations."""
        return self.configuration.every

    def measure(self, decoder: Decoder, step: int) -> Mapping[str, float]:
        """The scores, by task and metric; of several filters the first one's."""
        from vernacular.evaluation.evaluation import evaluate
        from vernacular.inference.model import load
        from vernacular.models.weights import copy_tokenizer, published_token_ids, save_weights
        from vernacular.tokens.tokenizer import Tokenizer

        with tempfile.TemporaryDirectory(prefix="vernacular-weights-") as name, _same_random_state():
            weights = Path(name)
            save_weights(weights, decoder, token_ids=published_token_ids(Tokenizer.load(self._tokenizer)))
            copy_tokenizer(self._tokenizer, weights)
            lm = load(weights, dtype=self.configuration.dtype)
            folder = self._folder / f"step-{step:08d}"
            summary = evaluate(self.configuration, lm, self._tasks, None, folder, instruct=self._instruct)
        found: dict[str, float] = {}
        for score in summary["scores"]:
            if score["subset"] == "all":
                found.setdefault(f"{score['task']}/{score['metric']}", score["value"])
        return found


def require_both(configuration: InTraining | None, tasks: str | None) -> None:
    """Raises UserError for half of what evaluating while training needs."""
    if (configuration is None) != (tasks is None):
        raise UserError(
            "evaluating while training takes both `evaluate` and `evaluation_tasks`",
            where="evaluate" if tasks is None else "evaluation_tasks",
            fix="give `evaluate: {every: STEPS}` and a folder of tasks, or neither",
        )


def evaluators(
    configuration: InTraining | None, workplace: Workplace, tokenizer: Path, *, instruct: bool
) -> list[Evaluator]:
    """The evaluator that a training stage asks for, if it does.

    Raises:
        UserError: there is no task there, or none of a name that is asked for; said before training begins.
    """
    place = workplace.inputs.get("evaluation_tasks")
    if configuration is None or place is None:
        return []
    tasks, folder = tasks_below(place), workplace.folder / EVALUATIONS
    this_process().first(lambda: _require_tasks(configuration, tasks))
    return [Evaluator(configuration, tasks, tokenizer, folder, instruct=instruct)]


def _require_tasks(configuration: InTraining, tasks: Path) -> None:
    from vernacular.evaluation.tasks import find_tasks

    try:
        find_tasks(tasks, configuration.only)
    except UserError as error:
        if error.where == "only":
            error.where = "evaluate.only"
        raise


def draw_scores(folder: Path) -> None:
    """The curve of each score over the steps, where there were any."""
    from vernacular.foundation.artifact import LOGS
    from vernacular.publishing.plots import plot_score_curves
    from vernacular.training.metrics import read_metrics

    plot_score_curves(read_metrics(folder), folder / LOGS / "scores.png")


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Whatever an evaluation draws, training goes on as if it had not."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_num_threads(states[2])
