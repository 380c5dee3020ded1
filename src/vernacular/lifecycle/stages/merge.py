"""`merge`: weights of several models become one model's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from vernacular.lifecycle.stage import WEIGHTS, Reads, Stage, Workplace
from vernacular.merging.configuration import MergeConfiguration


class Merge(Stage, MergeConfiguration):
    """Merge models of one shape and one tokenizer."""

    do: Literal["merge"]
    weights: Annotated[tuple[str, ...], Reads("weights", made_by=WEIGHTS)] = Field(
        description="the models: stages that make weights, or weights folders"
    )
    base: Annotated[str | None, Reads("the base's weights", made_by=WEIGHTS)] = Field(
        None, description="what all of them began with, for the methods that merge changes"
    )

    @field_validator("weights")
    @classmethod
    def _weights_differ(cls, weights: tuple[str, ...]) -> tuple[str, ...]:
        if not weights or len(set(weights)) < len(weights):
            raise ValueError(
                "weights needs at least one stage or folder, and each only once", "say by shares how much each counts"
            )
        return weights

    def check(self) -> None:
        """As `Stage`: as many models as the method merges, and its base."""
        self.require_models(len(self.weights), has_base=self.base is not None)

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Write the merged weights."""
        from vernacular.merging.merge import merge

        weights = {name: workplace.inputs[f"weights.{place}"] for place, name in enumerate(self.weights)}
        return merge(self, weights, workplace.inputs.get("base"), workplace.folder)
