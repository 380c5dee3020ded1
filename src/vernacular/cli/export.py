"""Write weights for others to use: a folder for transformers and vLLM, or a file for llama.cpp; or the tokenizer alone.

The folder needs no remote code wherever transformers has the class; where it has not, the output says who reads it.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vernacular.models.bridge import Bridged

EXAMPLES = """\
  vernacular export runs/demo/instruct release/demo
  vernacular export weights/bielik bielik-f16.gguf --format gguf --dtype float16
  vernacular export weights/granite granite-q8.gguf --format gguf --dtype q8_0
  vernacular export runs/demo/tokenizer tokenizer.model --format sentencepiece
"""
_SHARD_GIGABYTES = 5.0
_TOKENIZER_ALONE = "sentencepiece"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The weights, the form, and where it goes."""
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a weights folder, e.g. runs/demo/instruct")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write; gguf, sentencepiece: the file")
    parser.add_argument(
        "--format",
        default="transformers",
        metavar="NAME",
        help="transformers (default), gguf, or sentencepiece: the tokenizer as a .model, of weights or by itself",
    )
    parser.add_argument(
        "--dtype",
        metavar="NAME",
        help="float32 or bfloat16; gguf: also float16 and q8_0 (default: as the weights are stored)",
    )
    parser.add_argument(
        "--ids-only",
        action="store_true",
        help="gguf: write it though llama.cpp cuts text into other tokens; to be fed with token ids only",
    )
    add_output_arguments(parser)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """What `import` and `export` share."""
    parser.add_argument("--shard-gb", type=float, metavar="N", help="most gigabytes in a file of weights (default: 5)")
    parser.add_argument("--force", action="store_true", help="replace OUT where it is there already")


def run(arguments: argparse.Namespace) -> None:
    """Export, and say what came out."""
    shard_bytes = read_shard_bytes(arguments.shard_gb)
    _check_format(arguments)
    if arguments.format == _TOKENIZER_ALONE:
        from vernacular.tokens.sentencepiece_writing import write_model

        written = write_model(arguments.weights, arguments.out, force=arguments.force)
        size = arguments.out.stat().st_size / 1e6
        print(f"{arguments.out}: SentencePiece {written.algorithm}, {written.num_pieces:,} pieces, {size:.2f} MB")
        return
    from vernacular.models.bridge import export_weights

    bridged = export_weights(
        arguments.weights,
        arguments.out,
        arguments.format,
        dtype=arguments.dtype,
        shard_bytes=shard_bytes,
        force=arguments.force,
        ids_only=arguments.ids_only,
    )
    print_bridged(bridged)


def _check_format(arguments: argparse.Namespace) -> None:
    """Refuse a format that there is not, and a flag that the format does not read."""
    from vernacular.foundation.errors import UserError, unknown_name
    from vernacular.models.bridge import FORMATS

    if arguments.ids_only and arguments.format != "gguf":
        raise UserError("only gguf is written for token ids only", where="--ids-only", fix="add --format gguf")
    if arguments.format not in (*FORMATS, _TOKENIZER_ALONE):
        raise unknown_name("format", arguments.format, (*FORMATS, _TOKENIZER_ALONE), where="--format")
    if arguments.shard_gb is not None and arguments.format != "transformers":
        raise UserError(f"{arguments.format} is written as one file", where="--shard-gb", fix="leave the flag out")
    if arguments.dtype is not None and arguments.format == _TOKENIZER_ALONE:
        raise UserError("a tokenizer has no numbers to round", where="--dtype", fix="leave the flag out")


def read_shard_bytes(gigabytes: float | None) -> int:
    """Bytes of so many gigabytes; None for the default."""
    from vernacular.foundation.errors import UserError

    if gigabytes is None:
        gigabytes = _SHARD_GIGABYTES
    if not math.isfinite(gigabytes):
        raise UserError(f"{gigabytes} is not finite", where="--shard-gb", fix="give a number above 0")
    if not gigabytes > 0:
        raise UserError(f"a shard of {gigabytes} GB holds nothing", where="--shard-gb", fix="give more than 0")
    return int(gigabytes * 1e9)


def print_bridged(bridged: Bridged) -> None:
    """What was written, and the notes about it."""
    num_bytes = sum(path.stat().st_size for path in bridged.files)
    size = f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.2f} MB"
    count = f"{len(bridged.files)} files" if len(bridged.files) > 1 else "1 file"
    print(f"{bridged.folder}: {bridged.family}, {bridged.num_parameters:,} parameters, {count}, {size}")
    for note in bridged.notes:
        print(f"note: {note}")
