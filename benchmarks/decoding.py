"""Tokens per second of greedy decoding beside transformers' `generate`: same weights, same prompts, same tokens.

Random weights in two sizes, float32 on the CPU; prompts of 20 to 80 tokens, 32 new ones each, alone and 16 at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from claim import Claim, print_claims, rates
from random_weights import write_weights
from vernacular.inference.model import LocalModel, load
from vernacular.models.language_model import Sampling

NEW_TOKENS = 32
MEASURED = ("7 M parameters", "117 M parameters")
# One prompt alone waits for the weights to come from memory, whoever multiplies them.
GOALS = {1: "at least 1", 16: "at least 1.2"}
WORDS = ["नदी", "kite", "jezioro", "மழை", "lantern", "gęś", "صباح", "pebble"]


def prompts(number: int) -> list[str]:
    """Prompts of unequal length."""
    return [" ".join(WORDS[(row + place) % len(WORDS)] for place in range(6 + row)) for row in range(number)]


def ours(lm: LocalModel, texts: list[str]) -> list[str]:
    """The greedy texts of our engine."""
    sampling = Sampling(max_new_tokens=NEW_TOKENS)
    return [answer.text for answer in lm.complete(texts, [sampling] * len(texts))]


def peers(model: Any, tokenizer: transformers.PreTrainedTokenizerBase, texts: list[str]) -> list[str]:
    """The greedy texts of transformers, prompts padded on the left."""
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    return tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def claims() -> Iterator[Claim]:
    """Both sizes, batches of 1 and 16."""
    for size in MEASURED:
        with tempfile.TemporaryDirectory() as name:
            folder = write_weights(Path(name), size)
            lm = load(folder)
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
            for number in GOALS:
                texts = prompts(number)
                if ours(lm, texts) != peers(model, tokenizer, texts):
                    raise SystemExit(f"the answers differ: {size}, {number} prompts")
                tokens = number * NEW_TOKENS
                yield Claim(
                    f"tokens/s of greedy decoding, {size}, {number} prompts at once; peer: transformers generate",
                    *rates(tokens, partial(ours, lm, texts), partial(peers, model, tokenizer, texts)),
                    goal=GOALS[number],
                )


if __name__ == "__main__":
    print_claims(claims(), __doc__)
