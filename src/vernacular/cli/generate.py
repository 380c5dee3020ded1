"""Continue a prompt with a model.

Prints the continuation; the prompt is not repeated. Without other settings the most probable token is taken each time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vernacular.inference.model import LocalModel
    from vernacular.models.language_model import Sampling

EXAMPLES = """\
  vernacular generate runs/demo/base "Stolica Polski to"
  vernacular generate runs/demo/base "गाँव के पास" --temperature 0.8 --top-p 0.9 --seed 7
  vernacular generate runs/demo/base "Once" --stop . --stop $'\\n' --max-new-tokens 60
  vernacular generate runs/demo/base - < prompt.txt
  vernacular generate runs/demo/base "Warszawa" "Kraków" --json     a line of JSON for each prompt
"""


def add_model_arguments(parser: argparse.ArgumentParser, max_new_tokens: int | None = None) -> None:
    """The weights and how to choose tokens: what `generate` and `chat` share.

    Args:
        parser: receives the arguments.
        max_new_tokens: the default for this verb, where it is not that of `Sampling`.
    """
    from vernacular.models.language_model import Sampling

    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a weights folder, e.g. runs/demo/instruct")
    for name, field in Sampling.model_fields.items():
        default = max_new_tokens if name == "max_new_tokens" and max_new_tokens else field.default
        shown = f" (default: {default})" if default not in (None, ()) else ""
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            action="append" if name == "stop" else "store",
            default=argparse.SUPPRESS if name != "max_new_tokens" else default,
            metavar="TEXT" if name == "stop" else "NUMBER",
            help=f"{field.description}{shown}" + ("; may be given again" if name == "stop" else ""),
        )
    parser.add_argument("--dtype", default="float32", metavar="NAME", help="float32 (default) or bfloat16")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1, …")


def read_sampling(arguments: argparse.Namespace) -> Sampling:
    """The settings that stand on the command line, checked."""
    from vernacular.foundation.configuration import validate
    from vernacular.models.language_model import Sampling

    given = {name: getattr(arguments, name) for name in Sampling.model_fields if hasattr(arguments, name)}
    return validate(Sampling, given)


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
        "--json", action="store_true", help="print one line of JSON per prompt: prompt, text, stopped_by"
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
    prompts = [
        decode_input(sys.stdin.buffer.read(), "standard input") if prompt == "-" else prompt
        for prompt in arguments.prompts
    ]
    # Only now: loading torch takes seconds, and a mistyped flag is to be refused at once.
    from vernacular.inference.model import load

    lm = load(arguments.weights, dtype=arguments.dtype, device=arguments.device)
    if arguments.stream or (arguments.stream is None and len(prompts) == 1 and not arguments.json):
        for prompt in prompts:
            write_pieces(lm.stream(prompt, sampling))
    else:
        _print_whole(lm, prompts, sampling, as_json=arguments.json)


def write_pieces(pieces: Iterable[str]) -> None:
    """Write text as it comes, then end the line."""
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()


def _print_whole(lm: LocalModel, prompts: list[str], sampling: Sampling, *, as_json: bool) -> None:
    for prompt, answer in zip(prompts, lm.complete(prompts, [sampling] * len(prompts)), strict=True):
        if as_json:
            line = {"prompt": prompt, "text": answer.text, "stopped_by": answer.stopped_by}
            print(json.dumps(line, ensure_ascii=False))
        else:
            print(answer.text)
