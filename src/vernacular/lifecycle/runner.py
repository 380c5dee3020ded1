"""The runner: turns a recipe into artifacts, doing what is missing or changed, and only that."""

from __future__ import annotations

import datetime
import fcntl
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vernacular.foundation.address import is_address
from vernacular.foundation.artifact import (
    CHECKPOINTS,
    RECORD,
    UNFINISHED,
    Artifact,
    Input,
    check_outputs,
    is_finished,
    read_artifact,
    write_artifact,
)
from vernacular.foundation.errors import UserError, machine_errors, unknown_name
from vernacular.foundation.files import write_json
from vernacular.lifecycle.decision import Decision, decide, digest_input, digest_outside, fingerprint
from vernacular.lifecycle.recipe import Recipe, load_recipe
from vernacular.lifecycle.stage import Stage, Workplace
from vernacular.parallel.processes import Processes, this_process
from vernacular.tokens.elsewhere import address_of
from vernacular.training.configuration import TrainingConfiguration

# Below the recipe's folder: what stands for the artifacts at other addresses.
_ELSEWHERE = ".elsewhere"
# What the first process says to the others once all stages are done; no stage can be called so.
_END = ""


def run(
    recipe_path: Path, overrides: Sequence[str] = (), *, out: Path = Path("runs"), until: str | None = None
) -> Path:
    """Bring every stage of a recipe up to date.

    Several processes may call this together (`parallel/processes.py`). The first does it; where a stage is `shared`, it
    calls the others, which wait for nothing else.

    Args:
        recipe_path: the recipe's YAML file.
        overrides: dotted overrides and parameters.
        out: artifacts lie in OUT/RECIPE/STAGE.
        until: stop after this stage and those it descends from.

    Returns:
        The folder of the recipe's artifacts.
    """
    recipe = load_recipe(recipe_path, overrides)
    folder = out / recipe.name
    names = _wanted(recipe, until)
    processes = this_process()
    with processes.ending_together():
        if processes.leads:
            _lead(recipe, names, folder, processes)
        else:
            _follow(recipe, folder, processes)
    return folder


def _lead(recipe: Recipe, names: Sequence[str], folder: Path, processes: Processes) -> None:
    begun = time.perf_counter()
    done = 0
    with _only_run_in(folder):
        _require_training(recipe, names, folder, processes.size)
        for name in names:
            done += _bring_up_to_date(recipe, name, folder, processes)
    processes.tell(_END)
    took = time.perf_counter() - begun
    print(f"{recipe.name}: {done} of {len(names)} stages done in {took:.0f} s; artifacts in {folder}")


def _follow(recipe: Recipe, folder: Path, processes: Processes) -> None:
    """Do the first process's part of the stages that it calls for, until it has come to the end."""
    while (name := processes.hear()) != _END:
        with recipe.places_told(name):
            recipe.stages[name].execute(_workplace(recipe, name, folder))


def _workplace(recipe: Recipe, name: str, folder: Path) -> Workplace:
    ancestry = tuple((ancestor, folder / ancestor) for ancestor in recipe.ancestors(name))
    paths = resolve_inputs(recipe, name, folder)
    return Workplace(name=name, folder=folder / name, inputs=paths, ancestry=ancestry)


def resolve_inputs(recipe: Recipe, name: str, folder: Path) -> dict[str, Path]:
    """The path behind each of a stage's references; of what lies elsewhere, the folder here that stands for it."""
    stage = recipe.stages[name]

    def path(key: str, value: str) -> Path:
        if value in recipe.stages:
            return folder / value
        if is_address(value) and stage.reads_elsewhere(key):
            return stage.mirror(value, folder / _ELSEWHERE)
        return Path(value)

    return {key: path(key, value) for key, value in stage.references().items()}


def identify(recipe: Recipe, name: str, folder: Path) -> tuple[dict[str, Input], str]:
    """A stage's inputs with their digests, and the fingerprint of what is asked for. Its parents must be finished."""
    stage = recipe.stages[name]
    paths = resolve_inputs(recipe, name, folder)
    references = stage.references()
    inputs = {key: Input(name=references[key], digest=digest_input(path)) for key, path in paths.items()}
    return inputs, fingerprint(stage, inputs, digest_outside(stage.outside_files()))


def _wanted(recipe: Recipe, until: str | None) -> list[str]:
    if until is None:
        return recipe.order()
    if until not in recipe.stages:
        raise unknown_name("stage", until, recipe.stages, where="--until")
    return [*recipe.ancestors(until), until]


def _require_training(recipe: Recipe, names: Sequence[str], folder: Path, world: int) -> None:
    """Refuse now what an unfinished stage would refuse in hours: rows its model cannot read, cuts that do not suit."""
    from vernacular.lifecycle.estimate import decoder_shape

    for name in names:
        stage = recipe.stages[name]
        if isinstance(stage, TrainingConfiguration) and not is_finished(folder / name):
            with recipe.places_told(name):
                stage.require_shares(world)
                if (shape := decoder_shape(recipe, name, folder)) is not None:
                    stage.require_model(shape)
                    device = stage.device or "cuda"  # what is left out may turn out to be either
                    stage.parallel.check(shape, stage.sequence_length, device=device, compile=stage.compile)


def _bring_up_to_date(recipe: Recipe, name: str, folder: Path, processes: Processes) -> bool:
    """Do a stage if it needs doing; returns whether it was done."""
    stage, here = recipe.stages[name], folder / name
    inputs, wanted = identify(recipe, name, folder)
    decision = decide(here, stage, wanted, inputs)
    if decision.action == "keep":
        print(f"{name:<10} {decision.reason}", flush=True)
        return False
    verb = "continue" if decision.action == "continue" else stage.do
    print(f"{name:<10} {verb}: {decision.reason}", flush=True)
    workplace = _workplace(recipe, name, folder)
    for path in workplace.inputs.values():
        if path.is_dir() and is_finished(path) and address_of(path) is None:  # shards elsewhere, on arrival
            check_outputs(path, read_artifact(path))
    with recipe.places_told(name):
        artifact = _execute(stage, workplace, decision, inputs, wanted, processes)
    print(f"{name:<10} done in {artifact.seconds:.0f} s", flush=True)
    return True


def _execute(
    stage: Stage,
    workplace: Workplace,
    decision: Decision,
    inputs: dict[str, Input],
    wanted: str,
    processes: Processes,
) -> Artifact:
    """Run a stage in its folder and write its record last. What it replaces comes back if it fails."""
    here = workplace.folder
    previous = here.parent / f".{here.name}.previous"
    started = datetime.datetime.now(datetime.UTC)
    begun = time.perf_counter()
    if decision.action == "begin":
        _clear(here, previous)
        stage.forget(workplace)
        with machine_errors("making the stage's folder", here):
            here.mkdir(parents=True)
            write_json(here / UNFINISHED, {"fingerprint": wanted, "started": started.isoformat(timespec="seconds")})
    try:
        if stage.shared:
            processes.tell(workplace.name)
        summary = stage.execute(workplace)
        with machine_errors("writing the artifact's record", here):
            artifact = write_artifact(
                here,
                stage=workplace.name,
                do=stage.do,
                fingerprint=wanted,
                configuration=stage.settings(),
                inputs=inputs,
                summary=summary,
                started=started,
                seconds=time.perf_counter() - begun,
            )
    except Exception:
        _undo(here, previous)
        raise
    shutil.rmtree(here / CHECKPOINTS, ignore_errors=True)
    stage.forget(workplace)
    shutil.rmtree(previous, ignore_errors=True)
    return artifact


def _clear(here: Path, previous: Path) -> None:
    """Put a finished artifact aside until the new one is finished; remove an unfinished one."""
    if is_finished(here):
        shutil.rmtree(previous, ignore_errors=True)
        here.rename(previous)
    elif here.exists():
        shutil.rmtree(here)


def _undo(here: Path, previous: Path) -> None:
    """After a failure: leave checkpoints to go on from, else nothing half-written, else what was there before."""
    if any((here / CHECKPOINTS).glob("[!.]*")):
        return
    shutil.rmtree(here, ignore_errors=True)
    if (previous / RECORD).is_file():
        previous.rename(here)


@contextmanager
def _only_run_in(folder: Path) -> Iterator[None]:
    """Refuse a second run in the same folder while the first goes on."""
    with machine_errors("making the folder of artifacts", folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w", encoding="utf-8")  # noqa: SIM115 (held for the whole run)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                "another run is working in this folder",
                where=folder,
                fix="wait for it, or write elsewhere with --out",
            ) from error
        yield
    finally:
        lock.close()
        sys.stdout.flush()
