"""Answer a file of prompts.

Each line of PROMPTS is {"prompt": TEXT} or {"messages": [{"role", "content"}, …]}; beside it may stand an id and any
setting under its name, e.g. "temperature". ANSWERS gets a line for each, in the same order. A line that cannot be
answered gets an error in its place, and the exit code is 1. Run the same command again after an interruption: it goes
on where it stood.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vernacular.cli.generate import add_model_arguments, read_sampling
from vernacular.cli.serve import add_engine_arguments, read_engine_settings

EXAMPLES = """\
  vernacular batch runs/demo/instruct prompts.jsonl -o answers.jsonl
  vernacular batch runs/demo/instruct prompts.jsonl -o answers.jsonl --temperature 0.7 --seed 3 --max-new-tokens 256
"""
CONTINUES = "run the same command again to continue"
_SHOWN_FAILURES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Weights, sampling, files."""
    add_model_arguments(parser, weights="a weights folder, e.g. runs/demo/instruct")
    add_engine_arguments(parser)
    parser.add_argument("prompts", type=Path, metavar="PROMPTS", help="a JSON Lines file")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="ANSWERS", help="the file to write")


def run(arguments: argparse.Namespace) -> int:
    """Answer all lines; 1 if some could not be."""
    from vernacular.foundation.errors import UserError
    from vernacular.inference.backends.address import OURS, read_address
    from vernacular.inference.batch import answer_file, check_files

    sampling = read_sampling(arguments)
    if read_address(arguments.weights).backend != OURS:
        raise UserError(
            "batch takes weights folders only", where=arguments.weights, fix="ask a back-end with `generate` or `chat`"
        )
    check_files(arguments.prompts, arguments.out)
    # Only now: loading torch takes seconds, and a mistyped path is to be refused at once.
    from vernacular.inference.loading import load

    lm = load(
        arguments.weights,
        dtype=arguments.dtype,
        device=arguments.device,
        kernels=arguments.kernels,
        window=arguments.window,
        engine=read_engine_settings(arguments),
    )
    summary = answer_file(lm, arguments.prompts, arguments.out, sampling)
    print(f"{summary.answered} lines answered, {len(summary.failures)} failed: {arguments.out}", file=sys.stderr)
    if not summary.failures:
        return 0
    listed = ", ".join(map(str, summary.failures[:_SHOWN_FAILURES]))
    more = ", …" if len(summary.failures) > _SHOWN_FAILURES else ""
    print(f'failed: line {listed}{more}; each says why under "error"', file=sys.stderr)
    return 1
