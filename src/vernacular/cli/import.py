"""Bring a published checkpoint in: a Hugging Face folder becomes a weights folder.

Reads safetensors and legacy .bin files (never unpickled), single or sharded, of every family: llama, mistral, mpt,
granite, granitemoe, parambharatgen. Whatever would compute something else than was published is refused by name.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from vernacular.cli.export import add_output_arguments, print_bridged, read_shard_bytes

EXAMPLES = """\
  vernacular import downloads/Bielik-7B-v0.1 weights/bielik
  vernacular import downloads/Krutrim-2-instruct weights/krutrim-2 --window none --template krutrim-2
                                                         its config says 4096, its card 128K
  vernacular import downloads/Param-1-2.9B-Instruct weights/param-1 --dtype bfloat16
  vernacular import downloads/Krutrim-1-instruct weights/krutrim-1 --template krutrim-1 --shard-gb 2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders, and what may be changed on the way."""
    parser.add_argument("source", type=Path, metavar="FOLDER", help="the published folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="the weights folder to write")
    parser.add_argument("--dtype", metavar="NAME", help="float32 or bfloat16 (default: as each tensor is stored)")
    parser.add_argument(
        "--window", default="keep", metavar="N", help="keys a token may look at; none: all (default: what it says)"
    )
    parser.add_argument(
        "--template",
        metavar="NAME|FILE",
        help="chat template: krutrim-1, krutrim-2, granite-3.0, bielik-instruct, or a .jinja file (default: its own)",
    )
    add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Import, and say what came out."""
    window = read_window(arguments.window)
    template = arguments.template
    if template is not None and (template.endswith(".jinja") or "/" in template):
        template = Path(template)
    from vernacular.models.bridge import import_weights

    bridged = import_weights(
        arguments.source,
        arguments.out,
        dtype=arguments.dtype,
        window=window,
        template=template,
        shard_bytes=read_shard_bytes(arguments.shard_gb),
        force=arguments.force,
    )
    print_bridged(bridged)


def read_window(word: str) -> int | Literal["keep"] | None:
    """A number of keys, `none` or `keep`."""
    from vernacular.foundation.errors import UserError

    if word == "keep":
        return "keep"
    if word == "none":
        return None
    if not word.isdecimal():
        raise UserError(f"'{word}' is no window", where="--window", fix="give a number of tokens, or none")
    return int(word)
