"""Measure tokenizers on the same text: tokens per word, graphemes per token, parity between languages, unused tokens.

Each --text names a language and a file of lines, plain or gzipped. With --reference the files are translations line by
line, and parity says how many tokens a language takes for each token of the reference. A tokenizer is a folder that has
one: what a stage train-tokenizer wrote, or any weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular compare-tokenizers runs/demo/tokenizer --text hi=hindi.txt --text en=english.txt
  vernacular compare-tokenizers mine theirs --text hi=hi.txt.gz --text en=en.txt.gz --reference en -o comparison
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tokenizers, texts, and where the report goes."""
    parser.add_argument("tokenizers", type=Path, nargs="+", metavar="TOKENIZER", help="a folder with a tokenizer")
    parser.add_argument(
        "--text", action="append", required=True, metavar="LANGUAGE=FILE", help="text of a language; as often as needed"
    )
    parser.add_argument("--reference", metavar="LANGUAGE", help="the language that parity is measured against")
    parser.add_argument(
        "--rare-below", type=int, default=10, metavar="N", help="tokens found fewer times are rare (default: 10)"
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FOLDER", help="also write comparison.json, comparison.md and comparison.png"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the tables."""
    from vernacular.tokens.comparison import compare_tokenizers, read_lines
    from vernacular.tokens.comparison_page import markdown, write_comparison

    lines = read_lines(_files(arguments.text), arguments.reference)
    comparison = compare_tokenizers(
        arguments.tokenizers, lines, reference=arguments.reference, rare_below=arguments.rare_below
    )
    if arguments.out:
        write_comparison(comparison, arguments.out)
    print(markdown(comparison), end="")


def _files(texts: list[str]) -> dict[str, Path]:
    from vernacular.foundation.errors import UserError

    files: dict[str, Path] = {}
    for text in texts:
        language, equals, path = text.partition("=")
        if not equals or not language or not path or language in files:
            raise UserError(
                f"'{text}' names no language and file of its own",
                where="--text",
                fix="write it as --text hi=hindi.txt, each language once",
            )
        files[language] = Path(path)
    return files
