"""`vernacular VERB …`: finds the verb's file, reads its arguments, runs it, and turns errors into plain lines.

A verb is a module of this package with four names (`schema.py` is the smallest example):

- its docstring: the first line is its line in `vernacular --help`, the whole is the text of `vernacular VERB --help`;
- `EXAMPLES`: command lines to copy, shown below the help;
- `add_arguments(parser)`: declares its arguments;
- `run(arguments)`: does it by calling one function of a room; returns the exit code, or None for 0.

One that goes on where it was interrupted says how in a fifth, `CONTINUES`.

A verb's module imports nothing heavy at its top: every verb is imported for `--help`, which is to answer at once.
What a room needs is imported inside `run`. A new verb's name is added to `VERBS`, in the order a newcomer meets them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn, Protocol, cast

from vernacular import __version__
from vernacular.foundation.errors import MachineError, UserError, VernacularError, machine_errors, nearest, unknown_name

VERBS = (
    "run",
    "plan",
    "report",
    "label",
    "import",
    "export",
    "inspect",
    "generate",
    "chat",
    "batch",
    "serve",
    "check-backend",
    "evaluate",
    "rescore",
    "compare",
    "compare-tokenizers",
    "leaderboard",
    "fit-thresholds",
    "fit-languages",
    "verify",
    "audit-card",
    "schema",
)

# PyTorch's threads wait for each other in a busy loop. Where another program wants the core, that loop starves the very
# thread it waits for: a training step became 20 times slower (docs/LOG.md). So they wait briefly and then sleep.
# It must be set before the library is loaded; a value from outside stays.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

INTERRUPTED = 130
BROKEN_PIPE = 141

_DESCRIPTION = "From raw text in your own language to a published language model: one tool, one recipe."
_EXAMPLES = """\
examples:
  vernacular run recipes/demo.yaml                       everything, from text to model card
  vernacular plan recipes/demo.yaml                      what would be done, why, and what it would cost
  vernacular run recipes/demo.yaml stages.base.steps=200 the same with one setting changed
  vernacular chat runs/demo/instruct                     talk to the result
  vernacular VERB --help                                 a verb's arguments and examples"""


class Verb(Protocol):
    """What a verb's module offers."""

    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""

    def run(self, arguments: argparse.Namespace) -> int | None:
        """Do it; the exit code, None meaning 0."""


class _Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations, names the nearest flag, and reports errors as every other error."""

    def __init__(self, prog: str, description: str, examples: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong as a `UserError`."""
        flag, what = re.fullmatch(r"(?:argument (\S+): )?(.*)", message, re.DOTALL).groups()  # type: ignore[union-attr]
        if number := re.fullmatch(r"invalid (int|float) value: (.*)", what, re.DOTALL):
            what = f"{'a whole number' if number[1] == 'int' else 'a number'} is needed, not {number[2]}"
        raise UserError(what, where=f"{self.prog} {flag}" if flag else self.prog, fix=f"see: {self.prog} --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave after `--help` or `--version`, once what was printed has been read."""
        with machine_errors("writing to standard output"):
            sys.stdout.flush()
        super().exit(status, message)

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse `words`; an unknown flag is refused with the nearest known one."""
        arguments, unknown = self.parse_known_intermixed_args(words)
        if not unknown:
            return arguments
        close = nearest(unknown[0].split("=")[0], self._option_string_actions)
        hint = f"did you mean '{close}'? see: {self.prog} --help" if close else f"see: {self.prog} --help"
        raise UserError(f"unknown argument '{unknown[0]}'", where=self.prog, fix=hint)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words` (by default the process's own) and return its exit code."""
    before, verb, after = _split(sys.argv[1:] if words is None else words)
    show_traceback = "--traceback" in before
    try:
        code = _run(before, verb, after)
        with machine_errors("writing to standard output"):
            sys.stdout.flush()
        return code
    except VernacularError as error:
        if show_traceback:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, MachineError):
            _drop_unwritten_output()
        return error.exit_code
    except KeyboardInterrupt:
        how = getattr(_load(verb), "CONTINUES", None) if verb in VERBS else None
        print(f"\ninterrupted: {how}" if how else "\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _drop_unwritten_output()  # The reader (`| head`) has left.
        return BROKEN_PIPE


def _drop_unwritten_output() -> None:
    """Python flushes standard output once more at exit: where that cannot be written, give it somewhere to go."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _split(words: Sequence[str]) -> tuple[list[str], str | None, list[str]]:
    """The words before the verb, the verb (the first word that is no flag), and the words after it."""
    for position, word in enumerate(words):
        if not word.startswith("-"):
            return list(words[:position]), word, list(words[position + 1 :])
    return list(words), None, []


def _run(before: list[str], verb: str | None, after: list[str]) -> int:
    if before or verb is None:
        top = _top_parser()
        top.read(before)
        if verb is None:
            top.print_help(sys.stderr)
            return UserError.exit_code
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS, where="vernacular")
    module = _load(verb)
    parser = _Parser(f"vernacular {verb}", (module.__doc__ or "").strip(), f"examples:\n{module.EXAMPLES.rstrip()}")
    module.add_arguments(parser)
    arguments = parser.read(after)
    try:
        with machine_errors(f"running `vernacular {verb}`"):
            return module.run(arguments) or 0
    except (NotADirectoryError, FileExistsError) as error:
        if os.path.isdir(error.filename or ""):  # a folder that is there already: our own fault
            raise
        fix = "name a folder, or a path where nothing is yet"
        raise UserError("a file stands where a folder is needed", where=error.filename, fix=fix) from error
    except IsADirectoryError as error:
        raise UserError("this is a folder, not a file", where=error.filename, fix="name a file") from error
    except MemoryError as error:
        raise MachineError("out of memory", where=f"vernacular {verb}", fix="make the batch smaller") from error


def _top_parser() -> _Parser:
    listed = "\n".join(f"  {verb:<18} {_summary(verb)}" for verb in VERBS)
    parser = _Parser("vernacular", f"{_DESCRIPTION}\n\nverbs:\n{listed}", _EXAMPLES)
    parser.usage = "vernacular [-h] [--version] [--traceback] VERB …"
    parser.add_argument("--version", action="version", version=f"vernacular {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the program an error arose")
    return parser


def _load(verb: str) -> Verb:
    return cast(Verb, importlib.import_module(f"vernacular.cli.{verb.replace('-', '_')}"))


def _summary(verb: str) -> str:
    return (_load(verb).__doc__ or "").strip().partition("\n")[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
