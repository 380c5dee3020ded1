"""`pretrain`: token shards become weights."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from vernacular.lifecycle.stage import Reads, Stage, Workplace
from vernacular.lifecycle.stages.tokenize import TOKENIZER
from vernacular.training.configuration import PretrainConfiguration


class Pretrain(Stage, PretrainConfiguration):
    """Train a new decoder, or given weights further."""

    do: Literal["pretrain"]
    continues: ClassVar[bool] = True
    shared: ClassVar[bool] = True
    tokens: Annotated[str, Reads("token shards")] = Field(description="a tokenize stage, or its folder")
    weights: Annotated[str | None, Reads("weights to begin with")] = Field(
        None, description="a pretrain or sft stage, or a weights folder; leave out to train a new model"
    )

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Train, and write the weights."""
        from vernacular.training.objectives.pretrain import pretrain

        tokens = workplace.inputs["tokens"]
        return pretrain(
            self,
            tokens=tokens,
            tokenizer=tokens / TOKENIZER,
            weights=workplace.inputs.get("weights"),
            folder=workplace.folder,
            name=workplace.name,
        )

    def forget(self, workplace: Workplace) -> None:
        """Remove its checkpoints elsewhere."""
        if self.checkpoint_folder is not None:
            from vernacular.training.checkpoint import forget_checkpoints

            forget_checkpoints(self, workplace.folder)
