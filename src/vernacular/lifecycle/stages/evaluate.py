"""`evaluate`: weights get scores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.foundation.artifact import is_finished, learned_to_answer
from vernacular.foundation.errors import UserError
from vernacular.lifecycle.stage import Reads, Stage, Workplace


class Evaluate(Stage, EvaluateConfiguration):
    """Score tasks through the harness, and bits per byte on held-out text."""

    do: Literal["evaluate"]
    weights: Annotated[str, Reads("weights")] = Field(description="a pretrain or sft stage, or a weights folder")
    tasks: Annotated[str | None, Reads("tasks")] = Field(
        None, description="a curate stage whose source gives tasks, or a folder of harness YAML"
    )
    heldout: Annotated[str | None, Reads("held-out documents")] = Field(
        None, description="a curate stage, or its folder, whose held-out documents bits per byte are measured on"
    )

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Load the weights and score them."""
        from vernacular.evaluation.evaluation import evaluate
        from vernacular.inference.model import load

        tasks = workplace.inputs.get("tasks")
        if tasks is not None and is_finished(tasks):
            if not (tasks / "tasks").is_dir():
                raise UserError(
                    "none of this curated corpus's sources gives tasks",
                    where=tasks,
                    fix="set tasks to a folder of harness YAML, or leave it out",
                )
            tasks = tasks / "tasks"
        weights = workplace.inputs["weights"]
        instruct = learned_to_answer(weights)
        lm = load(weights, dtype=self.dtype)
        return evaluate(self, lm, tasks, workplace.inputs.get("heldout"), workplace.folder, instruct=instruct)
