"""The cuts made in text before byte pairs are merged: one regular expression, put together from data."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Literal

import regex
import yaml

Digits = Literal["individual", "groups"]
Normalisation = Literal["none", "nfc"]


@cache
def split_pattern(digits: Digits = "individual") -> str:
    """The pattern whose matches are the pieces of a text; every character belongs to exactly one of them.

    No cut parts a character from a mark, joiner or other extender that follows it: see `data/pre_tokenizer.yaml`.

    Args:
        digits: "individual" makes each digit a piece; "groups" makes pieces of up to three.
    """
    parts = yaml.safe_load((files("vernacular.tokens") / "data" / "pre_tokenizer.yaml").read_text(encoding="utf-8"))
    pieces = {**parts["pieces"], "digits": parts["digits"][digits]}
    pattern = "|".join(pieces[name] for name in parts["order"])
    for name, members in parts["classes"].items():
        pattern = pattern.replace(f"{{{name}}}", members)
    return pattern


def word_cutter(digits: Digits = "individual", normalisation: Normalisation = "none") -> Callable[[str], list[str]]:
    """What cuts a text into the pieces of `split_pattern`, thrice as fast as the engine that encodes.

    Args:
        digits: as of `split_pattern`.
        normalisation: "nfc" cuts the text in Unicode's composed form, "none" as it is.
    """
    written = re.sub(r"\\x\{([0-9A-F]+)\}", lambda match: chr(int(match[1], 16)), split_pattern(digits))
    pieces = regex.compile(written).findall
    if normalisation == "none":
        return pieces
    return lambda text: pieces(unicodedata.normalize("NFC", text))
