"""Small decoders of every shape, their weights drawn, and requests in numbers: what the engine is tested with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from vernacular.inference.answer import Answer
from vernacular.inference.engine import Engine, EngineSettings
from vernacular.inference.packing import pack
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.language_model import Generation, Sampling

VOCAB_SIZE = 211
GRANITE = {
    "family": "granite",
    "embedding_multiplier": 2.0,
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.8,
    "logits_scaling": 0.25,
    "tie_embeddings": False,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "one key head": {"num_key_value_heads": 1, "head_dim": 12},
    "window shorter than the prompt": {"family": "mistral", "window": 19},
    "window of some pages": {"family": "mistral", "window": 70},
    "mpt": {"family": "mpt", "hidden_size": 48, "intermediate_size": 192, "num_heads": 6, "tie_embeddings": True},
    "granite": GRANITE,
    "granite moe": {**GRANITE, "family": "granitemoe", "num_experts": 5, "experts_per_token": 2},
}


class Numbers:
    """A tokenizer whose text is the tokens' numbers."""

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        return "".join(f"{token} " for token in ids)


def make_decoder(kernels: str = "torch", **changes: Any) -> Decoder:
    """A decoder whose best-scored tokens lead by a margin, its weights packed for the native kernels."""
    values = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_key_value_heads": 2, "intermediate_size": 72}
    shape = ModelShape(**{**values, "initializer_range": 0.35, **changes})
    decoder = Decoder(configure(shape, VOCAB_SIZE, max_positions=256)).requires_grad_(False).eval()
    decoder.initialise(seed=3)
    if kernels == "native":
        pack(decoder, "float32")
    return decoder


def make_prompts(number: int, longest: int = 150) -> list[list[int]]:
    """Prompts of random length; a half of them begin alike."""
    chance = random.Random(7)
    beginning = [chance.randrange(VOCAB_SIZE) for _ in range(75)]
    lengths = [chance.randint(1, longest - 75) for _ in range(number)]
    return [
        (beginning if place % 2 else []) + [chance.randrange(VOCAB_SIZE) for _ in range(length)]
        for place, length in enumerate(lengths)
    ]


def answer_to(prompt: Sequence[int], **sampling: Any) -> Answer:
    settings = Sampling(**{"max_new_tokens": 12, **sampling})
    return Answer(prompt, settings, max_positions=256, end_ids=frozenset(), tokenizer=Numbers())


def run(decoder: Decoder, answers: Sequence[Answer], kernels: str = "torch", **settings: Any) -> list[Generation]:
    engine = Engine(decoder, EngineSettings(**settings), kernels=kernels)
    finished = list(engine.run(answers))
    assert sorted(map(id, finished)) == sorted(map(id, answers))
    assert engine.is_idle
    assert engine.statistics.pages_used == 0
    return [answer.generation() for answer in answers]


@torch.inference_mode()
def naive_greedy(decoder: Decoder, prompt: Sequence[int], num_tokens: int) -> tuple[int, ...]:
    ids = list(prompt)
    for _ in range(num_tokens):
        ids.append(int(decoder.logits(decoder(torch.tensor([ids]))[0, -1]).argmax()))
    return tuple(ids[len(prompt) :])
