"""Recorded steps give the tokens of computed ones: on a CPU by a plain call, on a GPU by CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._inductor.utils import run_and_get_code

from random_decoders import (
    SHAPES,
    answer_to,
    make_decoder,
    make_prompts,
    naive_greedy,
    run,
)
from vernacular.foundation.errors import UserError
from vernacular.inference import recorded_decoding
from vernacular.inference.engine import Engine, EngineSettings
from vernacular.inference.paged_memory import PagedMemory
from vernacular.inference.pages import PAGE_TOKENS
from vernacular.inference.recorded_decoding import Buffers, CudaGraphs, PlainCalls, begin, through
from vernacular.inference.weight_only import quantise_weights
from vernacular.models import feed_forward
from vernacular.models.decoder import Decoder

MANY_LAYERS = 9
"""More than the programs that PyTorch's compiler keeps of one function, which are eight."""


class Noting(PlainCalls):
    """Plain calls that note the sizes they are made for."""

    def __init__(self) -> None:
        self.sizes: set[tuple[int, ...]] = set()

    def record(self, step: Callable[[Buffers], torch.Tensor], buffers: Buffers) -> Callable[[], torch.Tensor]:
        self.sizes.add(tuple(buffers.table_BW.shape))
        return super().record(step, buffers)


class Compiling(Noting):
    """Compiled as for a GPU, by a compiler that changes nothing and notes the programs it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.programs: list[torch.fx.GraphModule] = []
        self.compile = CudaGraphs(self._note).compile  # type: ignore[method-assign]

    def _note(self, program: torch.fx.GraphModule, _given: Any) -> Callable[..., Any]:
        self.programs.append(program)
        return program.forward


def tokens(decoder: Decoder, recorder: PlainCalls | None, number: int = 11) -> tuple[list[Any], list[float]]:
    """Of answers of several lengths, and their log-probabilities."""
    answers = [
        answer_to(prompt, max_new_tokens=3 + place, log_probabilities=0)
        for place, prompt in enumerate(make_prompts(number))
    ]
    list(Engine(decoder, EngineSettings(most_rows=7), recorder=recorder).run(answers))
    scores = [score.log_probability for answer in answers for score in answer.log_probabilities or ()]
    return [answer.ids for answer in answers], scores


@pytest.mark.parametrize("name", SHAPES)
def test_recorded_steps_give_the_tokens_of_computed_ones(name: str) -> None:
    decoder, recorder = make_decoder(**SHAPES[name]), Noting()
    (expected, exact), (found, scores) = tokens(decoder, None), tokens(decoder, recorder)
    assert found == expected
    assert scores == pytest.approx(exact, abs=1e-4)
    assert {rows for rows, _ in recorder.sizes} == {1, 2, 4, 8}, "rows are filled up to powers of two"


@pytest.fixture
def _grouped_product_without_insides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's grouped product is one operation; a CPU's loop asks how many rows each expert has."""
    plain = feed_forward.grouped_product
    whole = torch.library.custom_op(
        "tests::grouped_product", plain, mutates_args=(), schema="(Tensor x, Tensor weights, Tensor ends) -> Tensor"
    )
    whole.register_fake(lambda x, weights, ends: x.new_empty(x.shape[0], weights.shape[1]))
    monkeypatch.setattr(feed_forward, "grouped_product", whole)


@pytest.mark.parametrize("name", ["window of some pages", "mpt", "granite moe"])
@pytest.mark.usefixtures("_grouped_product_without_insides")
def test_one_program_serves_the_blocks_of_all_layers_and_sizes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_decoding, "FEWEST_PAGES", 2)
    decoder, recorder = make_decoder(**SHAPES[name], num_layers=MANY_LAYERS), Compiling()
    assert tokens(decoder, recorder)[0] == tokens(decoder, None)[0]
    assert len({rows for rows, _ in recorder.sizes}) > 2 and len({pages for _, pages in recorder.sizes}) > 1
    assert len(recorder.programs) == 3 * 2, "before the blocks, a block, after them: for one row, and for several"


def test_a_decoder_of_two_kinds_of_blocks_takes_a_program_for_each() -> None:
    decoder, recorder = make_decoder(num_layers=4), Compiling()
    for block in decoder.blocks[2:]:
        block.attention.clip = 0.5
    assert tokens(decoder, recorder)[0] == tokens(decoder, None)[0]
    assert len(recorder.programs) == (3 + 1) * 2


@pytest.mark.slow
def test_blocks_of_more_kinds_than_the_compiler_keeps_are_an_error() -> None:
    decoder = make_decoder(num_layers=MANY_LAYERS)
    for block in decoder.blocks:
        block.attention.clip = 1.0 + block.layer
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        tokens(decoder, Compiling())


@pytest.mark.slow
def test_the_programs_of_other_decoders_do_not_count() -> None:
    for width in (24, 32, 40, 48, 56):
        recorder = Compiling()
        tokens(make_decoder(intermediate_size=width), recorder, number=3)
        assert len(recorder.programs) == 3 * 2


@pytest.mark.slow
def test_a_compiled_block_writes_into_its_pages_and_copies_none() -> None:
    decoder, num_pages = make_decoder(), 1237
    pools = PagedMemory(decoder.configuration, num_pages - 1, torch.float32).layers
    number = torch.tensor([5, 40, 70])
    buffers = Buffers(number, number, number, torch.zeros_like(number), torch.arange(12).view(3, 4))

    def compute(piece: Callable[..., Any]) -> list[torch.Tensor]:
        x, angles, mask = begin(decoder, buffers)
        found = []
        for block, (keys, values) in zip(decoder.blocks, pools, strict=True):
            keys.zero_(), values.zero_()
            x = piece(decoder, block, x, angles, mask, buffers, keys.flatten(0, 1), values.flatten(0, 1))
            found += [x, keys.clone(), values.clone()]
        return found

    with torch.inference_mode():
        found, programs = run_and_get_code(compute, CudaGraphs().compile(through))
        for ours, expected in zip(found, compute(through), strict=True):
            torch.testing.assert_close(ours, expected)
    (program,) = programs
    made = [line for line in program.splitlines() if "empty_strided" in line and " = " in line]
    assert made, "what is allocated is still written like that"
    assert not [line for line in made if str(num_pages) in line or str(num_pages * PAGE_TOKENS) in line]


def test_recording_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="CUDA graphs, which a CPU has not"):
        Engine(make_decoder(), EngineSettings(recorded=True))


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")


@pytest.mark.gpu
@pytest.mark.timeout(100)
@needs_gpu
@pytest.mark.parametrize("name", SHAPES)
def test_a_gpu_gives_the_tokens_of_full_forward_passes(name: str) -> None:
    plain, decoder = make_decoder(**SHAPES[name]), make_decoder(**SHAPES[name]).to("cuda")
    prompts = make_prompts(6)
    found = run(decoder, [answer_to(prompt) for prompt in prompts], recorded=False, tokens_per_step=50)
    assert [generation.ids for generation in found] == [naive_greedy(plain, prompt, 12) for prompt in prompts]


@pytest.mark.gpu
@pytest.mark.timeout(100)
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
@pytest.mark.timeout(100)
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
