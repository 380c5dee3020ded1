"""`curate`: raw text becomes documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vernacular.corpus.configuration import CurateConfiguration
from vernacular.lifecycle.stage import Stage, Workplace, tasks_below

if TYPE_CHECKING:
    from vernacular.corpus.decontamination.benchmark import Benchmark

_CLASSIFIER = "quality.model"
_TASKS = "decontamination.tasks"


class Curate(Stage, CurateConfiguration):
    """Read sources, normalise, identify language, filter, deduplicate, hold out."""

    continues: ClassVar[bool] = True
    version: ClassVar[int] = 3

    do: Literal["curate"]

    def references(self) -> dict[str, str]:
        """The classifier of `quality`, and the tasks of `decontamination`."""
        found = {} if self.quality is None else {_CLASSIFIER: self.quality.model}
        tasks = () if self.decontamination is None else self.decontamination.tasks
        return {**found, **{f"{_TASKS}.{place}": value for place, value in enumerate(tasks)}}

    def outside_files(self) -> list[str]:
        """The sources' paths, prompts and seeds, and the folder with the data of tasks."""
        written = [source.endpoint for source in self.sources if source.endpoint is not None]
        paths = [source.path for source in self.sources]
        paths += [path for each in written for path in (each.prompts, each.seeds)]
        data = None if self.decontamination is None else self.decontamination.data
        return [path for path in (*paths, data) if path is not None]

    def check(self) -> None:
        """As `Stage`: names of rules and of scripts, and the memory, by what a process takes."""
        from vernacular.corpus.filters import check_names
        from vernacular.corpus.shingles import bands_of

        check_names(self.filters)
        bands_of(self.near_duplicates)
        if self.decontamination is not None:
            from vernacular.corpus.decontamination.index import run_sizes

            run_sizes(self.decontamination.sizes)
        if self.engine.runner == "native":
            self.engine.fitting_workers()

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Curate into the stage's folder."""
        from vernacular.corpus.curation import curate

        configuration = self
        if self.quality is not None:
            found = self.quality.model_copy(update={"model": str(workplace.inputs[_CLASSIFIER])})
            configuration = self.model_copy(update={"quality": found})
        return curate(configuration, workplace.folder, self._benchmarks(workplace))

    def _benchmarks(self, workplace: Workplace) -> list[Benchmark]:
        if self.decontamination is None:
            return []
        from vernacular.evaluation.items import read_benchmarks

        places = [workplace.inputs[f"{_TASKS}.{place}"] for place in range(len(self.decontamination.tasks))]
        return read_benchmarks(self.decontamination, [tasks_below(place) for place in places])
