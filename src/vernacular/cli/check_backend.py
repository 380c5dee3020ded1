"""Compare a back-end with our own engine, and refuse to call them equal when they are not.

Log-probabilities of the tokens of some texts, greedy answers to them, and the number of tokens they are read as. How
far they may differ follows from the formats of both sides' weights; it is printed with its derivation. Exit code 1
means that something differs, or that it cannot be known. --dtype, --device, --kernels and --window are for our own
side; what the back-end is told stands in its address.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vernacular.cli.generate import add_load_arguments

if TYPE_CHECKING:
    from vernacular.inference.backends.comparison import Comparison, Measure

EXAMPLES = """\
  vernacular check-backend 'openai:http://localhost:8000/v1?model=instruct' --against runs/demo/instruct
  vernacular check-backend llama.cpp:instruct.gguf --against runs/demo/instruct
  vernacular check-backend 'vllm:runs/demo/instruct?tensor_parallel=2' --against runs/demo/instruct --dtype bfloat16
  vernacular check-backend 'vernacular:runs/demo/instruct?dtype=int8' --against runs/demo/instruct
"""

UNEQUAL = 1
_TOKENS = 32
_MOST_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The back-end, what it is compared with, and texts."""
    parser.add_argument("backend", metavar="BACKEND", help="a back-end's address (docs/backends.md)")
    parser.add_argument("--against", type=Path, required=True, metavar="WEIGHTS", help="the same weights, for ours")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="more texts, one a line, beside our own")
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=_TOKENS,
        metavar="NUMBER",
        help=f"most tokens of an answer (default: {_TOKENS})",
    )
    add_load_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the table and the verdict; 1 unless they are equal."""
    from vernacular.foundation.errors import UserError
    from vernacular.inference.backends.comparison import compare
    from vernacular.inference.backends.opening import open_model
    from vernacular.inference.backends.probes import own_probes, read_probes
    from vernacular.inference.loading import load

    if arguments.max_new_tokens < 1:
        raise UserError(
            f"--max-new-tokens is {arguments.max_new_tokens}", where="--max-new-tokens", fix="give a number above 0"
        )
    probes = [*own_probes(), *(read_probes(arguments.prompts) if arguments.prompts is not None else ())]
    ours = load(
        arguments.against,
        dtype=arguments.dtype,
        device=arguments.device,
        kernels=arguments.kernels,
        window=arguments.window,
    )
    theirs = open_model(arguments.backend, weights=arguments.against)
    found = compare(ours, theirs, probes, num_tokens=arguments.max_new_tokens)
    print(report(found))
    if found.is_equal:
        return 0
    for difference in _shown(found.differences[1:]):
        print(f"  also: {difference}", file=sys.stderr)
    return UNEQUAL


def _shown(lines: list[str]) -> list[str]:
    """The first of many, and how many there are beside them."""
    more = len(lines) - _MOST_SHOWN
    return [*lines[:_MOST_SHOWN], f"{more} more"] if more > 0 else lines


def report(found: Comparison) -> str:
    """The table and the verdict."""
    counted = "the back-end counts none itself" if found.counted is None else f"{found.counted} counted by the server"
    rows = [
        ("tolerance", f"{found.tolerance.one:.2e} at one token, {found.tolerance.mean:.2e} on the mean"),
        ("", found.tolerance.derivation),
        ("texts", f"{found.num_probes}, tokens: {counted}"),
        *((("cut to fit", ", ".join(found.cut)),) if found.cut else ()),
        ("prompts", _described(found.prompts)),
        ("answers", _described(found.answers)),
        ("greedy", f"{found.same_answers} of {found.num_probes} the same, {len(found.ties)} part at a tie"),
        *(("  tie", tie) for tie in _shown(found.ties)),
    ]
    lines = [f"{name:<10} {value}" for name, value in rows]
    if found.differences:
        lines.append(f"not equal: {found.differences[0]}")
    elif found.undecided:
        lines.append(f"not shown to be equal: {'; '.join(found.undecided)}")
    else:
        missing = [name for name, one in (("prompts", found.prompts), ("answers", found.answers)) if one.missing]
        lines.append(
            _equal(found) + (f" in all that was compared; not compared: {', '.join(missing)}" if missing else "")
        )
    return "\n".join(lines)


def _equal(found: Comparison) -> str:
    """How equal: the same answers, or other ones where the formats explain it."""
    if found.same_answers == found.num_probes:
        return "equal"
    return (
        f"equal within the tolerance of {found.tolerance.coarser}; "
        f"{found.same_answers} of {found.num_probes} greedy answers are the same"
    )


def _described(measure: Measure) -> str:
    if measure.missing is not None or not measure.gaps:
        return f"not compared: {measure.missing or 'none begins alike'}"
    worst = measure.largest
    return (
        f"{len(measure.gaps)} log-probabilities, largest difference {worst.size:.2e} "
        f"({worst.probe}, token {worst.place}, {worst.token!r}), mean {measure.mean:.2e}"
    )
