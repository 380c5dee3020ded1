"""All suites end to end on a CPU, offline, by the real command line: what each runs, what it leaves out, its seconds.

    python benchmarks/suites.py WEIGHTS --data SETS [--limit 50] [--suites krutrim-1 granite-3.0] [--no-programs]

Nothing comes from an earlier run (`--no-cache`), and programs are run in the sandbox. What has no data in SETS, needs a
judge or an encoder is named with the reason. The goal is that of the suites together: 15 minutes at 50 items a task.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vernacular.evaluation.records import SECONDS, SECONDS_SCHEMA, read_rows
from vernacular.evaluation.scores import read_scores
from vernacular.evaluation.suites.selection import by_reason
from vernacular.evaluation.suites.suite import suites
from vernacular.foundation.errors import UserError
from vernacular.foundation.machine import describe_machine

GOAL_SECONDS = 900
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


class Ran(NamedTuple):
    """What a suite took: seconds by the clock, of all processors, and of the model; and what its record holds."""

    suite: str
    seconds: float
    processor_seconds: float
    model_seconds: float
    evaluation: dict[str, Any]

    @property
    def tasks(self) -> int:
        """How many were run."""
        return len(self.evaluation["tasks"])

    def total(self, fact: str) -> int:
        """A fact of all tasks, added up."""
        return sum(facts[fact] for facts in self.evaluation["tasks"].values())


def run(suite: str, words: Sequence[str], folder: Path) -> Ran | str:
    """Evaluate a suite into a folder; why not, where nothing of it can be run."""
    before, started = _processor_seconds(), time.perf_counter()
    command = [sys.executable, "-m", "vernacular.cli.main", "evaluate", *words, "--suite", suite, "-o", str(folder)]
    done = subprocess.run(command, env={**os.environ, **OFFLINE}, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode == UserError.exit_code:
        return " ".join(done.stderr[done.stderr.rindex("error: ") :].split())
    if done.returncode:
        sys.exit(f"{suite} failed:\n{done.stderr}")
    took = (time.perf_counter() - started, _processor_seconds() - before, _model_seconds(folder))
    return Ran(suite, *took, read_scores(folder))


def _model_seconds(folder: Path) -> float:
    """What the requests took, as the evaluation's log has it."""
    return sum(row["seconds"] or 0.0 for row in read_rows(folder / SECONDS, SECONDS_SCHEMA))


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the suites one after another and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", metavar="WEIGHTS", help="a small model's weights folder")
    parser.add_argument("--data", required=True, metavar="SETS", help="the benchmarks' sets")
    parser.add_argument("--limit", default="50", help="most items of each task (default: 50)")
    parser.add_argument("--suites", nargs="+", default=suites(), choices=suites(), metavar="NAME")
    parser.add_argument("--no-programs", action="store_true", help="leave out tasks whose answers are run")
    given = parser.parse_args()
    words = [given.weights, "--data", given.data, "--limit", given.limit, "--only-available", "--template", "never"]
    words += ["--no-cache", *([] if given.no_programs else ["--allow-code-execution"])]
    columns = ["suite", "tasks", "left out", "items", "requests", "seconds", "of processors", "of the model"]
    print(describe_machine(), "", f"| {' | '.join(columns)} |", "|---" + "|---:" * 7 + "|", sep="\n", flush=True)
    notes: list[str] = []
    total = 0.0
    with tempfile.TemporaryDirectory(prefix="suites-") as place:
        for suite in given.suites:
            ran = run(suite, words, Path(place) / suite)
            if isinstance(ran, str):
                print(f"| `{suite}` | 0 | all | | | | | |", flush=True)
                notes.append(f"{suite}: {ran}")
                continue
            counts = (ran.tasks, len(ran.evaluation["left_out"]), ran.total("items"), ran.total("requests"))
            cells = [f"{count:,}" for count in counts]
            cells += [f"{took:.1f}" for took in (ran.seconds, ran.processor_seconds, ran.model_seconds)]
            print(f"| `{suite}` | {' | '.join(cells)} |", flush=True)
            notes += [
                f"{suite}: left out because {reason} ({len(names)}): {', '.join(names)}"
                for reason, names in by_reason(ran.evaluation["left_out"]).items()
            ]
            total += ran.seconds
    print("", *notes, sep="\n")
    print(f"\nall together: {total:.0f} s (goal: at most {GOAL_SECONDS} s at 50 items a task)")


if __name__ == "__main__":
    main()
