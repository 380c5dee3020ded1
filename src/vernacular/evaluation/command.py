"""An evaluation outside of a recipe: a folder of its own, which a killed run leaves so that it can be gone on with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from vernacular.evaluation.answer_cache import AnswerCache
from vernacular.evaluation.answer_file import ANSWERS, AnswerFile
from vernacular.evaluation.configuration import EvaluateConfiguration, require_anything
from vernacular.evaluation.crew import Crew, answer_files, follow
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.judge.asking import Judge
from vernacular.evaluation.library.texts import text_tasks
from vernacular.evaluation.scores import SCORES
from vernacular.evaluation.suites.report import headline_table, suite_report
from vernacular.evaluation.suites.selection import NOT_ASKED, Selection, Wanted, by_reason, select, select_by_name
from vernacular.evaluation.suites.suite import choose_tasks, read_suite
from vernacular.evaluation.tasks import find_tasks
from vernacular.foundation.artifact import learned_to_answer
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json, sha256_json, write_json
from vernacular.models.language_model import LanguageModel
from vernacular.parallel.processes import this_process

ASKED = "asked.json"
HEADLINES = "headlines.json"


class Places(NamedTuple):
    """Where things lie: see `vernacular evaluate --help`.

    Attributes:
        model: a weights folder, or a back-end's address, in words.
        folder: receives the record.
        weights: the folder of the model's weights, whose artifact says whether they learned to answer; None where there
            is none here.
    """

    model: str
    folder: Path
    weights: Path | None = None
    tasks: Path | None = None
    suite: str | None = None
    heldout: Path | None = None
    data: Path | None = None
    contamination: Path | None = None
    only_available: bool = False
    texts: tuple[Path, ...] = ()


def evaluate_weights(
    configuration: EvaluateConfiguration,
    places: Places,
    load: Callable[[str], object],
    *,
    resume: bool = False,
    judge: Judge | None = None,
    cache: AnswerCache | None = None,
) -> dict[str, Any]:
    """Evaluate weights into a folder; several processes may call this together (`parallel/processes.py`).

    Args:
        configuration: the settings.
        places: model, tasks, and the folder that receives the record.
        load: makes a `LanguageModel` of `places.model`.
        resume: go on with what a killed run left in the folder.
        judge: who grades the answers of tasks that need it.
        cache: answers of earlier evaluations; this one's are added. None: everything is asked.

    Returns:
        The summary; of processes other than the first, nothing.

    Raises:
        UserError: the folder holds an evaluation and `resume` is not set; or it is one of something else.
    """
    processes = this_process()
    with processes.ending_together():
        if processes.leads:
            # What a judge says stays with the evaluation that asked it.
            cache = cache if judge is None else None
            return _lead(configuration, places, load, resume=resume, judge=judge, cache=cache)
        follow(cast(LanguageModel, load(places.model)), places.folder, processes)
        return {}


def _lead(
    configuration: EvaluateConfiguration,
    places: Places,
    load: Callable[[str], object],
    *,
    resume: bool,
    judge: Judge | None,
    cache: AnswerCache | None,
) -> dict[str, Any]:
    """The first process's part: everything, but that others answer with it."""
    selection = None
    if places.suite is not None and places.tasks is not None:
        configuration = _only_suite(configuration, places)
    elif places.suite is not None:
        selection = select(
            read_suite(places.suite),
            places.data,
            only=configuration.only,
            only_available=places.only_available,
            code=configuration.allow_code_execution,
            judge=judge is not None,
            encoder=configuration.bert_score is not None,
        )
    elif places.tasks is None and configuration.only:
        selection = select_by_name(configuration.only, places.data)
    if selection is not None:
        say_what_is_left_out(selection)
    if places.texts:
        selection = _with_texts(selection, places)
    require_anything(selection, places.tasks, places.heldout)  # before the weights are read
    with _claimed(configuration, places, resume=resume):
        return _answer(configuration, places, load, selection, judge=judge, cache=cache)


def _answer(
    configuration: EvaluateConfiguration,
    places: Places,
    load: Callable[[str], object],
    selection: Selection | None,
    *,
    judge: Judge | None,
    cache: AnswerCache | None,
) -> dict[str, Any]:
    """Load the model and evaluate it into the folder, which is claimed."""
    model = cast(LanguageModel, load(places.model))
    answers = AnswerFile(places.folder / ANSWERS, () if cache is None else cache.files(model.identity))
    for path in answer_files(places.folder):
        answers.take_in(path)
    processes = this_process()
    crew = Crew(processes, places.folder) if processes.size > 1 else None
    summary = evaluate(
        configuration,
        model,
        places.tasks,
        places.heldout,
        places.folder,
        instruct=None if places.weights is None else learned_to_answer(places.weights),
        answers=answers,
        crew=crew,
        data=places.data,
        contamination=places.contamination,
        selection=selection,
        judge=judge,
    )
    if places.suite is not None:
        summary |= suite_summary(places.suite, places.folder)
    if crew is not None:
        crew.dismiss()
    answers.close()
    if cache is not None:
        _say_what_was_cached(summary, cache)
        cache.keep(model.identity, answer_files(places.folder))
    for path in answer_files(places.folder):
        path.unlink()
    return {**summary, "scores_file": str(places.folder / SCORES)}


def say_what_is_left_out(selection: Selection) -> None:
    """Name every task that was meant and is not run, with the reason."""
    for reason, names in by_reason(selection.left_out).items():
        if reason != NOT_ASKED:
            print(f"Left out because {reason} ({len(names):,}): {', '.join(names)}", file=sys.stderr)


def suite_summary(name: str, folder: Path) -> dict[str, Any]:
    """Write a suite's report beside the scores and print it; its headlines, for the summary."""
    report = suite_report(read_suite(name), folder)
    write_json(folder / HEADLINES, report)
    print(headline_table(report), file=sys.stderr)
    return {"headlines": report["headlines"]}


def _with_texts(selection: Selection | None, places: Places) -> Selection:
    if places.tasks is not None:
        raise UserError("--text stands with a suite or alone", where="--text", fix="evaluate --tasks by itself")
    wanted = tuple(Wanted(entry, None) for entry in text_tasks(places.texts))
    return Selection((*selection.tasks, *wanted), selection.left_out) if selection else Selection(wanted, {})


def _say_what_was_cached(summary: dict[str, Any], cache: AnswerCache) -> None:
    if summary["cached"]:
        counts = f"{summary['cached']:,} of {summary['answers']:,} answers"
        print(f"{counts} were there from earlier evaluations ({cache.folder}); --no-cache asks anew", file=sys.stderr)


def _only_suite(configuration: EvaluateConfiguration, places: Places) -> EvaluateConfiguration:
    assert places.tasks is not None
    available = list(find_tasks(places.tasks, configuration.only))
    suite = read_suite(places.suite or "")
    chosen = available if configuration.only else choose_tasks(suite, available)
    return configuration.model_copy(update={"only": tuple(chosen)})


def _plain(value: Any) -> Any:
    """A place as JSON has it."""
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return str(value) if isinstance(value, Path) else value


@contextmanager
def _claimed(configuration: EvaluateConfiguration, places: Places, *, resume: bool) -> Iterator[None]:
    """The folder, noted as this evaluation's; what is refused before anything was answered leaves no trace in it."""
    was_there = places.folder.exists()
    was_claimed = (places.folder / ASKED).exists()
    _claim(configuration, places, resume=resume)
    try:
        yield
    except UserError:
        if not was_claimed and not any(path.stat().st_size for path in answer_files(places.folder)):
            for path in (*answer_files(places.folder), places.folder / ASKED):
                path.unlink(missing_ok=True)
            if not was_there and not any(places.folder.iterdir()):
                places.folder.rmdir()
        raise


def _claim(configuration: EvaluateConfiguration, places: Places, *, resume: bool) -> None:
    """Note in the folder what was asked for; refuse one that holds an evaluation already, or one of something else."""
    asked = {
        "configuration": configuration.decisive_settings(),
        "places": {name: _plain(value) for name, value in places._asdict().items()},
    }
    path = places.folder / ASKED
    if not path.exists():
        if (places.folder / SCORES).exists():
            raise UserError("the folder holds scores already", where=places.folder, fix="choose another with --out")
        write_json(path, asked)
        return
    if not resume:
        state = "a finished" if (places.folder / SCORES).exists() else "an unfinished"
        raise UserError(
            f"the folder holds {state} evaluation",
            where=places.folder,
            fix="go on with it by --resume, or choose another folder with --out",
        )
    if sha256_json(read_json(path)) != sha256_json(asked):
        raise UserError(
            "the evaluation in the folder was asked for differently",
            where=path,
            fix="give the same arguments as before, or choose another folder with --out",
        )
