"""`publish`: weights and scores become a release with a model card."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vernacular.lifecycle.stage import WEIGHTS, Reads, Stage, Workplace
from vernacular.publishing.configuration import PublishConfiguration


class Publish(Stage, PublishConfiguration):
    """Write a release folder whose README is a model card made from the artifacts."""

    do: Literal["publish"]
    weights: Annotated[str, Reads("weights", made_by=WEIGHTS)] = Field(
        description="the stage whose weights are released"
    )
    scores: Annotated[str, Reads("scores", made_by=("evaluate",))] = Field(
        description="an evaluate stage, or its folder"
    )

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Write the release."""
        from vernacular.publishing.card import publish

        return publish(
            self,
            workplace.inputs["weights"],
            workplace.inputs["scores"],
            list(workplace.ancestry),
            workplace.folder,
        )
