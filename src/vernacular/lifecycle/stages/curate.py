"""`curate`: raw text becomes documents."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from vernacular.corpus.configuration import CurateConfiguration
from vernacular.lifecycle.stage import Stage, Workplace

_CLASSIFIER = "quality.model"


class Curate(Stage, CurateConfiguration):
    """Read sources, normalise, identify language, filter, deduplicate, hold out."""

    continues: ClassVar[bool] = True
    version: ClassVar[int] = 2

    do: Literal["curate"]

    def references(self) -> dict[str, str]:
        """The classifier of `quality`."""
        return {} if self.quality is None else {_CLASSIFIER: self.quality.model}

    def outside_files(self) -> list[str]:
        """The sources' paths."""
        return [source.path for source in self.sources if source.path is not None]

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Curate into the stage's folder."""
        from vernacular.corpus.curation import curate

        if self.quality is None:
            return curate(self, workplace.folder)
        found = self.quality.model_copy(update={"model": str(workplace.inputs[_CLASSIFIER])})
        return curate(self.model_copy(update={"quality": found}), workplace.folder)
