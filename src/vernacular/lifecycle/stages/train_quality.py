"""`train-quality`: labelled documents give a quality classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from vernacular.corpus.quality.configuration import TrainQualityConfiguration
from vernacular.lifecycle.stage import Reads, Stage, Workplace


class TrainQuality(Stage, TrainQualityConfiguration):
    """Train a classifier of quality on labels, damage, or both."""

    do: Literal["train-quality"]
    documents: Annotated[str, Reads("curated documents", made_by=("curate",))] = Field(
        description="a curate stage, or its folder: the documents that were labelled, or clean ones to damage"
    )
    labels: str | None = Field(
        None,
        description="file of `vernacular label`, or JSON Lines with a grade and an id or a text; null: damage alone",
    )

    def outside_files(self) -> list[str]:
        """The labels."""
        return [self.labels] if self.labels is not None else []

    def check(self) -> None:
        """As `Stage`: names of kinds of damage."""
        from vernacular.corpus.quality.weak_labels import chosen_kinds

        if self.damage is not None:
            chosen_kinds(self.damage)

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Train into the stage's folder."""
        from vernacular.corpus.quality.training import train_quality

        labels = Path(self.labels) if self.labels is not None else None
        return train_quality(self, workplace.inputs["documents"], labels, workplace.folder)
