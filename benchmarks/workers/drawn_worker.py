"""Decoding with random weights drawn where they lie: `drawn_worker.py PROGRAM SIZE DTYPE DEVICE`.

PROGRAM: `ours`; `transformers`, its `generate` as it is; `transformers-compiled`, with a cache of fixed size, for which
`generate` compiles the whole model and records it. No weights are written and read: a full size takes minutes by way of
a disk.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from protocol import Run, serve

sys.path.append(str(Path(__file__).resolve().parents[1]))

from random_weights import draw, shape_of
from vernacular.inference.answer import Answer
from vernacular.inference.engine import Engine
from vernacular.inference.weight_only import quantise_weights
from vernacular.kernels.linear import QUANTISED
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.family import to_published
from vernacular.models.language_model import Sampling


class Numbers:
    """A tokenizer whose text is the tokens' numbers: nobody reads it."""

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        """As `Decodes`."""
        return "".join(f"{token} " for token in ids)


@contextmanager
def _built_on(device: str) -> Iterator[None]:
    """What is built here is in bfloat16 and on the device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def ours(configuration: DecoderConfiguration, dtype: str, device: str) -> Run:
    """Our engine, with PyTorch's kernels."""
    with _built_on(device):
        decoder = Decoder(configuration)
    decoder.requires_grad_(False).eval()
    draw(decoder, device)
    if dtype in QUANTISED:
        quantise_weights(decoder, dtype)
    engine = Engine(decoder)

    def run(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        sampling = Sampling(max_new_tokens=new_tokens)
        answers = [
            Answer(
                prompt, sampling, max_positions=configuration.max_positions, end_ids=frozenset(), tokenizer=Numbers()
            )
            for prompt in prompts
        ]
        for _ in engine.run(answers):
            pass
        return [answer.ids for answer in answers]

    return run


def transformers(configuration: DecoderConfiguration, dtype: str, device: str, cache: str | None = None) -> Run:
    """The same shape as its own class."""
    from transformers import AutoConfig, AutoModelForCausalLM

    published = AutoConfig.for_model(**to_published(configuration))
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(published, dtype=getattr(torch, dtype)).eval()
    found = sum(parameter.numel() for parameter in model.parameters())
    if found != configuration.num_parameters():
        raise SystemExit(f"transformers' model has {found} weights, ours {configuration.num_parameters()}")

    def run(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        ids = torch.tensor(prompts, device=device)
        counts = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
        answers = model.generate(
            ids, attention_mask=torch.ones_like(ids), pad_token_id=0, cache_implementation=cache, **counts
        )
        return answers[:, ids.shape[1] :].tolist()

    return run


PROGRAMS: Mapping[str, Callable[[DecoderConfiguration, str, str], Run]] = {
    "ours": ours,
    "transformers": transformers,
    "transformers-compiled": partial(transformers, cache="static"),
}


def main(program: str, size: str, dtype: str, device: str) -> None:
    serve(PROGRAMS[program](shape_of(size), dtype, device))


if __name__ == "__main__":
    main(*sys.argv[1:])
