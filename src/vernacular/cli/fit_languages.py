"""Fit language identification to labelled sentences, and show how often it is right.

Of each file the lines of even numbers are learnt from, the others are the examination. OUT then holds calibration.yaml
(one temperature, and of each language a shift and a threshold) and romanised.safetensors (the classifier of Indian
languages in Latin letters, which learns from sentences in their own scripts). Put into `corpus/data/`, they are used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  vernacular fit-languages hi=hindi.txt pl=polish.txt.gz en=english.txt -o fitted
  vernacular fit-languages udhr.jsonl.gz --language-field lang hi=hindi.txt -o fitted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sentences and where to write."""
    parser.add_argument(
        "sentences", nargs="+", metavar="LANGUAGE=FILE", help="a sentence a line; or a JSON Lines file of texts"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--language-field", default="language", metavar="FIELD", help="of JSON Lines files (default language)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Fit, write, and print the table of the examination."""
    from vernacular.corpus.language_fitting import examination_table, fit_languages, read_sentences

    sentences = read_sentences(arguments.sentences, arguments.language_field)
    examined = fit_languages(sentences, arguments.out)
    print(examination_table(examined))
    print(f"\nwritten: {arguments.out / 'calibration.yaml'}, {arguments.out / 'romanised.safetensors'}")
