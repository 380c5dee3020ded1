"""`evaluate`: weights get scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from vernacular.evaluation.configuration import EvaluateConfiguration, require_anything
from vernacular.foundation.artifact import CHECKPOINTS, learned_to_answer
from vernacular.foundation.errors import UserError, unknown_name
from vernacular.lifecycle.stage import WEIGHTS, Reads, Stage, Workplace, tasks_below

if TYPE_CHECKING:
    from vernacular.evaluation.suites.selection import Selection


class Evaluate(Stage, EvaluateConfiguration):
    """Score tasks through the harness, and bits per byte on held-out text. Killed, it goes on from its answers."""

    continues: ClassVar[bool] = True

    do: Literal["evaluate"]
    weights: Annotated[str, Reads("weights", made_by=WEIGHTS)] = Field(
        description="a pretrain or sft stage, or a weights folder"
    )
    tasks: Annotated[str | None, Reads("tasks", made_by=("curate",))] = Field(
        None, description="a curate stage whose source gives tasks, or a folder of harness YAML"
    )
    suite: str | None = Field(None, description="a card's suite, whose tasks are built in")
    data: Annotated[str | None, Reads("sets of benchmarks")] = Field(
        None, description="the suite's sets, as OWNER/SET/CONFIG/SPLIT.jsonl or as published (default: from the Hub)"
    )
    only_available: bool = Field(False, description="leave out of the suite what has no data; no headline then")
    heldout: Annotated[str | None, Reads("held-out documents", made_by=("curate",))] = Field(
        None, description="a curate stage, or its folder, whose held-out documents bits per byte are measured on"
    )
    contamination: Annotated[str | None, Reads("contaminated items", made_by=("curate",))] = Field(
        None, description="a curate stage with `decontamination`, or its contamination.json: those items score apart"
    )

    def check(self) -> None:
        """As `Stage`: there is something to evaluate, it is named in one way, and the suite is known."""
        from vernacular.evaluation.suites.suite import suites

        require_anything(self.suite, self.tasks, self.heldout)
        if self.suite is not None and self.suite not in suites():
            raise unknown_name("suite", self.suite, suites(), where="suite")
        if self.suite is not None and self.tasks is not None:
            raise UserError(
                "the stage names a suite and tasks", where="suite", fix="keep one: `tasks`, or `suite` and `only`"
            )

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Load the weights and score them."""
        from vernacular.evaluation.answer_file import ANSWERS
        from vernacular.evaluation.command import say_what_is_left_out, suite_summary
        from vernacular.evaluation.evaluation import evaluate
        from vernacular.inference.backends.judging import open_judge
        from vernacular.inference.model import load

        tasks = workplace.inputs.get("tasks")
        weights = workplace.inputs["weights"]
        instruct = learned_to_answer(weights)
        selection = self._selection(workplace)
        if selection is not None:
            say_what_is_left_out(selection)
        lm = load(weights, dtype=self.dtype)
        summary = evaluate(
            self,
            lm,
            None if tasks is None else tasks_below(tasks),
            workplace.inputs.get("heldout"),
            workplace.folder,
            instruct=instruct,
            answers=workplace.folder / CHECKPOINTS / ANSWERS,
            data=workplace.inputs.get("data"),
            contamination=workplace.inputs.get("contamination"),
            selection=selection,
            judge=None if self.judge is None else open_judge(self.judge, self.judge_model, self.judge_key_from),
        )
        return {**summary, **suite_summary(self.suite, workplace.folder)} if self.suite is not None else summary

    def _selection(self, workplace: Workplace) -> Selection | None:
        """The suite's tasks, before the weights are loaded."""
        if self.suite is None:
            return None
        from vernacular.evaluation.suites.selection import select
        from vernacular.evaluation.suites.suite import read_suite

        return select(
            read_suite(self.suite),
            workplace.inputs.get("data"),
            only=self.only,
            only_available=self.only_available,
            code=self.allow_code_execution,
            judge=self.judge is not None,
            encoder=self.bert_score is not None,
        )
