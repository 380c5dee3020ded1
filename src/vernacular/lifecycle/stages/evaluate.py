"""`evaluate`: weights get scores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.foundation.artifact import learned_to_answer
from vernacular.lifecycle.stage import Reads, Stage, Workplace, tasks_below


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
    contamination: Annotated[str | None, Reads("contaminated items")] = Field(
        None, description="a curate stage with `decontamination`, or its contamination.json: those items score apart"
    )

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Load the weights and score them."""
        from vernacular.evaluation.evaluation import evaluate
        from vernacular.inference.backends.judging import open_judge
        from vernacular.inference.model import load

        tasks = workplace.inputs.get("tasks")
        weights = workplace.inputs["weights"]
        instruct = learned_to_answer(weights)
        lm = load(weights, dtype=self.dtype)
        return evaluate(
            self,
            lm,
            None if tasks is None else tasks_below(tasks),
            workplace.inputs.get("heldout"),
            workplace.folder,
            instruct=instruct,
            contamination=workplace.inputs.get("contamination"),
            judge=None if self.judge is None else open_judge(self.judge, self.judge_model, self.judge_key_from),
        )
