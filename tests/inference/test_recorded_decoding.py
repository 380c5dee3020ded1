"""Recorded steps give the tokens of computed ones: on a CPU by a plain call, on a GPU by CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from random_decoders import (
    SHAPES,
    answer_to,
    make_decoder,
    make_prompts,
    naive_greedy,
    run,
)
from vernacular.foundation.errors import UserError
from vernacular.inference.engine import Engine, EngineSettings
from vernacular.inference.recorded_decoding import Buffers, Step, call_plainly
from vernacular.inference.weight_only import quantise_weights


def traced(step: Step, buffers: Buffers) -> Callable[[], torch.Tensor]:
    """What a compiler is given before a recording: refused by PyTorch where it is not one graph of tensors."""
    whole = torch.compile(step, backend="eager", fullgraph=True, dynamic=True)
    return lambda: whole(*buffers)


@pytest.mark.parametrize("name", SHAPES)
def test_recorded_steps_give_the_tokens_of_computed_ones(name: str) -> None:
    decoder = make_decoder(**SHAPES[name])
    sizes = set()

    def record(step: Step, buffers: Buffers) -> Callable[[], torch.Tensor]:
        sizes.add(tuple(buffers.table_BW.shape))
        return call_plainly(step, buffers)

    tokens, scores = [], []
    for how in (None, record):
        answers = [
            answer_to(prompt, max_new_tokens=3 + number, log_probabilities=0)
            for number, prompt in enumerate(make_prompts(11))
        ]
        list(Engine(decoder, EngineSettings(most_rows=7), record=how).run(answers))
        tokens.append([answer.ids for answer in answers])
        scores.append([score.log_probability for answer in answers for score in answer.log_probabilities])
    assert tokens[0] == tokens[1]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert {rows for rows, _ in sizes} == {1, 2, 4, 8}, "rows are filled up to powers of two"


@pytest.mark.parametrize("name", ["window shorter than the prompt", "mpt"])
def test_a_step_is_one_graph_to_the_compiler(name: str) -> None:
    decoder = make_decoder(**SHAPES[name])
    expected, found = ([answer_to(prompt) for prompt in make_prompts(3)] for _ in range(2))
    list(Engine(decoder).run(expected))
    list(Engine(decoder, record=traced).run(found))
    assert [answer.ids for answer in found] == [answer.ids for answer in expected]


def test_recording_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="CUDA graphs, which a CPU has not"):
        Engine(make_decoder(), EngineSettings(recorded=True))


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", SHAPES)
def test_a_gpu_gives_the_tokens_of_full_forward_passes(name: str) -> None:
    plain, decoder = make_decoder(**SHAPES[name]), make_decoder(**SHAPES[name]).to("cuda")
    prompts = make_prompts(6)
    found = run(decoder, [answer_to(prompt) for prompt in prompts], recorded=False, tokens_per_step=50)
    assert [generation.ids for generation in found] == [naive_greedy(plain, prompt, 12) for prompt in prompts]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", ["llama", "window of some pages", "mpt"])
def test_cuda_graphs_give_the_tokens_of_computed_steps(name: str) -> None:
    decoder = make_decoder(**SHAPES[name]).to("cuda")
    expected, found = (
        run(decoder, [answer_to(prompt) for prompt in make_prompts(11)], recorded=recorded, most_rows=7)
        for recorded in (False, True)
    )
    assert [generation.ids for generation in found] == [generation.ids for generation in expected]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("shape", "format"), [("granite moe", "bfloat16"), ("llama", "int8"), ("llama", "int4")])
def test_cuda_graphs_score_as_computed_steps_in_fewer_bits(shape: str, format: str) -> None:
    wide = {} if format == "bfloat16" else {"hidden_size": 128, "intermediate_size": 256}
    if shape == "granite moe":
        wide = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 64}
    decoder = make_decoder(**{**SHAPES[shape], **wide}).to("cuda", torch.bfloat16)
    if format != "bfloat16":
        quantise_weights(decoder, format)
    prompts = make_prompts(5)
    scores = []
    for recorded in (False, True):
        answers = [answer_to(prompt, max_new_tokens=1, log_probabilities=0) for prompt in prompts]
        list(Engine(decoder, EngineSettings(recorded=recorded, tokens_per_step=1)).run(answers))
        scores.append([score.log_probability for answer in answers for score in answer.log_probabilities or ()])
    assert len(scores[0]) == 5
    assert scores[0] == pytest.approx(scores[1], abs=0.15), "bfloat16 keeps 8 bits of scores near 10"
