"""`sft`: weights and conversations become weights that answer."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from vernacular.foundation.errors import UserError
from vernacular.lifecycle.evaluator import InTraining, draw_scores, evaluators, require_both
from vernacular.lifecycle.stage import WEIGHTS, Reads, Stage, Workplace
from vernacular.training.configuration import SftConfiguration


class Sft(Stage, SftConfiguration):
    """Fine-tune on conversations; the loss falls on the assistant's text alone."""

    do: Literal["sft"]
    continues: ClassVar[bool] = True
    shared: ClassVar[bool] = True
    weights: Annotated[str, Reads("weights", made_by=WEIGHTS)] = Field(
        description="a pretrain or sft stage, or a weights folder"
    )
    conversations: Annotated[str, Reads("conversations", made_by=("curate",))] = Field(
        description="a curate stage whose source gives conversations, or a JSONL file of them"
    )
    evaluation_tasks: Annotated[str | None, Reads("tasks scored while it trains", made_by=("curate",))] = Field(
        None, description="a curate stage whose source gives tasks, or a folder of harness YAML; needs `evaluate`"
    )
    evaluate: InTraining | None = Field(
        None, description="score evaluation_tasks every so many steps, e.g. {every: 500}; each with its record"
    )

    def check(self) -> None:
        """As `Stage`: what belongs together is given together, and the steps suffice."""
        require_both(self.evaluate, self.evaluation_tasks)
        if self.steps is not None:
            self.require_steps(self.steps)

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Tokenize the conversations, train, and write the weights."""
        from vernacular.parallel.processes import this_process
        from vernacular.training.objectives.sft import sft

        conversations = workplace.inputs["conversations"]
        if conversations.is_dir():
            conversations = conversations / "conversations.jsonl"
            if not conversations.is_file():
                raise UserError(
                    "none of this curated corpus's sources gives conversations",
                    where=conversations,
                    fix='set conversations to a JSONL file of {"messages": [{"role", "content"}, …]} lines',
                )
        summary = sft(
            self,
            weights=workplace.inputs["weights"],
            conversations=conversations,
            folder=workplace.folder,
            name=workplace.name,
            probes=evaluators(self.evaluate, workplace, workplace.inputs["weights"], instruct=True),
        )
        this_process().first(lambda: draw_scores(workplace.folder))
        return summary

    def forget(self, workplace: Workplace) -> None:
        """Remove its checkpoints elsewhere."""
        if self.checkpoint_folder is not None:
            from vernacular.training.checkpoint import forget_checkpoints

            forget_checkpoints(self, workplace.folder)
