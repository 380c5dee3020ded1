"""Continue a prompt with a model.

Prints the continuation; the prompt is not repeated. Without other settings the most probable token is taken each time.
Between the answers to several prompts stands a blank line; --json gives a line for each instead.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vernacular.inference.backends.opening import AnyModel
    from vernacular.models.language_model import Sampling

EXAMPLES = """\
  vernacular generate runs/demo/base "Stolica Polski to"
  vernacular generate runs/demo/base "गाँव के पास" --temperature 0.8 --top-p 0.9 --seed 7
  vernacular generate runs/demo/base "Once" --stop . --stop $'\\n' --max-new-tokens 60
  vernacular generate runs/demo/base - < prompt.txt
  vernacular generate runs/demo/base "Warszawa" "Kraków" --json     a line of JSON for each prompt
  vernacular generate runs/demo/base "Osoba: " --json-schema person.json
  vernacular generate 'openai:http://localhost:8000/v1?model=base' "Stolica Polski to"
"""

FILES = ("json_schema", "grammar")
"""Settings that are too long for a command line: a file's content."""
DEFAULTS = {"dtype": "float32", "device": "cpu"}
"""What is loaded where nothing is said."""


def add_model_arguments(
    parser: argparse.ArgumentParser,
    max_new_tokens: int | None = None,
    without: tuple[str, ...] = (),
    weights: str = "a weights folder, e.g. runs/demo/instruct, or the address of a back-end",
) -> None:
    """The weights and how to choose tokens: what `generate`, `chat` and `batch` share.

    Args:
        parser: receives the arguments.
        max_new_tokens: the default for this verb, where it is not that of `Sampling`.
        without: settings that this verb has no use for.
        weights: what this verb takes for them.
    """
    from vernacular.models.language_model import Sampling

    parser.add_argument("weights", metavar="WEIGHTS", help=weights)
    for name, field in Sampling.model_fields.items():
        if name in without:
            continue
        default = max_new_tokens if name == "max_new_tokens" and max_new_tokens else field.default
        shown = f" (default: {default})" if default not in (None, ()) else ""
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            type=Path if name in FILES else str,
            action="append" if name == "stop" else "store",
            default=argparse.SUPPRESS if name != "max_new_tokens" else default,
            metavar="TEXT" if name == "stop" else "FILE" if name in FILES else "NUMBER",
            help=f"{field.description}{shown}" + ("; may be given again" if name == "stop" else ""),
        )
    add_load_arguments(parser)


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """How and where the weights are loaded: arguments of `load`, by its names."""
    parser.add_argument(
        "--dtype",
        default=DEFAULTS["dtype"],
        metavar="NAME",
        help="float32 (default), bfloat16, int8 or int4 of the weights",
    )
    parser.add_argument("--device", default=DEFAULTS["device"], metavar="NAME", help="cpu (default), cuda, cuda:1, …")
    parser.add_argument(
        "--kernels",
        metavar="NAME",
        help="native: our own, on a CPU (default there); torch: PyTorch's, anywhere",
    )
    parser.add_argument(
        "--window",
        type=_window,
        metavar="NUMBER",
        help="keys a token may look at, where that is not to be what config.json says; none: all before it",
    )


def _window(word: str) -> int:
    """A number of keys, or 0, which is `load`'s word for none."""
    if word == "none":
        return 0
    if not re.fullmatch("[1-9][0-9]{0,8}", word):
        raise argparse.ArgumentTypeError(f"'{word}' is no window: give a number of keys, or none for all before it")
    return int(word)


def load_model(arguments: argparse.Namespace) -> AnyModel:
    """The weights, loaded as `add_load_arguments` says, or another back-end, which takes none of these flags."""
    from vernacular.inference.backends.opening import open_model

    flags = {name: getattr(arguments, name) for name in ("dtype", "device", "kernels", "window")}
    given = {name: value for name, value in flags.items() if value != DEFAULTS.get(name)}
    return open_model(arguments.weights, **given)


def read_sampling(arguments: argparse.Namespace) -> Sampling:
    """The settings that stand on the command line, checked."""
    from vernacular.foundation.configuration import validate_flags
    from vernacular.models.language_model import Sampling

    given = {name: getattr(arguments, name) for name in Sampling.model_fields if hasattr(arguments, name)}
    for name in given.keys() - {*FILES, "stop"}:
        given[name] = _number(given[name])
    for name in FILES:
        if name in given:
            given[name] = _read_form(name, given[name])
    return validate_flags(Sampling, given)


def _read_form(name: str, path: Path) -> str:
    """A schema or grammar from its file; a schema is to be JSON."""
    from vernacular.foundation.errors import UserError
    from vernacular.foundation.files import read_text

    text = read_text(path)
    if name == "json_schema":
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            place = f"{path}:{error.lineno}:{error.colno}"
            raise UserError(f"not valid JSON: {error.msg}", where=place, fix="give a JSON object") from error
        except RecursionError as error:
            raise UserError("the JSON is nested too deeply", where=path) from error
    return text


@contextmanager
def naming_files(arguments: argparse.Namespace) -> Iterator[None]:
    """What is wrong with a schema or a grammar is said of the file that it stands in."""
    from vernacular.foundation.errors import UserError

    try:
        yield
    except UserError as error:
        path = getattr(arguments, error.where or "", None) if error.where in FILES else None
        if path is None:
            raise
        raise UserError(error.message, where=path, fix=error.fix) from error


def warn_unless_whole(text: str, sampling: Sampling) -> None:
    """Say on standard error that an answer bound to a schema was cut off."""
    if sampling.json_schema is None:
        return
    try:
        json.loads(text)
    except ValueError:
        reason = "length or a stop string" if sampling.stop else "length"
        print(f"note: stopped by {reason}: not whole JSON; --max-new-tokens gives it more room", file=sys.stderr)


def _number(text: Any) -> Any:
    """The number that a flag's text writes; what writes none is left for the check to refuse."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def decode_input(content: bytes, where: str) -> str:
    """Text from standard input, without the line's end."""
    from vernacular.foundation.errors import UserError

    try:
        return content.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"not valid UTF-8 at byte {error.start}", where=where, fix="give text in UTF-8") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Weights, prompts, sampling, and how to print."""
    add_model_arguments(parser)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="text to continue; - reads it from standard input")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one line of JSON per prompt: prompt, text, stopped_by, and the log_probabilities asked for",
    )
    parser.add_argument(
        "--stream",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="print the text as it comes (default: where there is one prompt and no --json)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the continuations."""
    from vernacular.foundation.errors import UserError

    if arguments.json and arguments.stream:
        raise UserError(
            "--json prints whole answers, so it cannot stream", where="--stream", fix="leave one of them out"
        )
    sampling = read_sampling(arguments)
    if sampling.log_probabilities is not None and not arguments.json:
        raise UserError("log-probabilities are printed with --json", where="--log-probabilities", fix="add --json")
    if arguments.prompts.count("-") > 1:
        raise UserError("standard input can be read only once", where="PROMPT -", fix="give - once")
    prompts = [
        decode_input(sys.stdin.buffer.read(), "standard input") if prompt == "-" else prompt
        for prompt in arguments.prompts
    ]
    # Only now: loading torch takes seconds, and a mistyped flag is to be refused at once.
    lm = load_model(arguments)
    with naming_files(arguments):
        if arguments.stream or (arguments.stream is None and len(prompts) == 1 and not arguments.json):
            for number, prompt in enumerate(prompts):
                print(end="\n" if number else "")
                warn_unless_whole(write_pieces(lm.stream(prompt, sampling)), sampling)
        else:
            _print_whole(lm, prompts, sampling, as_json=arguments.json)


def write_pieces(pieces: Iterable[str]) -> str:
    """Write text as it comes, then end the line; return the text."""
    written: list[str] = []
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
        written.append(piece)
    sys.stdout.write("\n")
    sys.stdout.flush()
    return "".join(written)


def _print_whole(lm: AnyModel, prompts: list[str], sampling: Sampling, *, as_json: bool) -> None:
    answers = lm.complete(prompts, [sampling] * len(prompts))
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if as_json:
            line: dict[str, Any] = {"prompt": prompt, "text": answer.text, "stopped_by": answer.stopped_by}
            if answer.log_probabilities is not None:
                line["log_probabilities"] = [of_token._asdict() for of_token in answer.log_probabilities]
            print(json.dumps(line, ensure_ascii=False))
        else:
            print(end="\n" if number else "")
            print(answer.text)
        warn_unless_whole(answer.text, sampling)
