"""Multiple-choice items per second beside lm-evaluation-harness's own Hugging Face path: same weights, same answers.

Four options to each question, as in most leaderboards. The harness's path is given a batch of 64 requests.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from claim import Claim, print_claims, rates
from random_weights import SIZES, write_weights
from vernacular.inference.model import load

ITEMS = dict(zip(SIZES, (24, 6), strict=True))
OPTIONS = 4
TOLERANCE = 1e-3
WORDS = ["नदी", "kite", "jezioro", "மழை", "lantern", "gęś", "صباح", "pebble"]


def pairs(shots: int, items: int) -> list[tuple[str, str]]:
    """Questions after `shots` solved ones, each with four options of several tokens."""
    solved = "".join(f"{WORDS[n % 8]} {WORDS[n * 3 % 8]} {n}? {WORDS[n * 5 % 8]}\n" for n in range(shots))
    return [
        (f"{solved}{WORDS[item % 8]} {WORDS[item // 8]} {item}?", f" {WORDS[(item + option) % 8]} {WORDS[option]}")
        for item in range(items)
        for option in range(OPTIONS)
    ]


def check_equal(found: list[Any], expected: list[Any]) -> None:
    """Stop where any answer differs."""
    for ours, theirs in zip(found, expected, strict=True):
        if abs(ours[0] - theirs[0]) > TOLERANCE or ours[1] != theirs[1]:
            raise SystemExit(f"the answers differ: {ours} and {theirs}")


def claims() -> Iterator[Claim]:
    """Both sizes, without and with solved examples in front."""
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = write_weights(Path(name), size)
            lm = load(folder)
            harness = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=64)
            for shots in (0, 5):
                asked = pairs(shots, ITEMS[size])
                requests: Any = [SimpleNamespace(args=pair, task_name=None) for pair in asked]
                ours = partial(lm.loglikelihood, asked)
                peers = partial(harness.loglikelihood, requests, disable_tqdm=True)
                check_equal(ours(), peers())
                yield Claim(
                    f"items/s of four options, {size}, {shots} solved examples; peer: lm-eval's HFLM",
                    *rates(ITEMS[size], ours, peers),
                    goal="at least 2",
                )


if __name__ == "__main__":
    print_claims(claims(), __doc__)
