"""What a request gets does not depend on how, or beside what, it is computed; and what it held is free afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import InternalError, UserError
from vernacular.inference.answer import Answer
from vernacular.inference.encoding import TokenPair
from vernacular.inference.engine import Engine, EngineSettings
from vernacular.inference.likelihood import likelihoods
from vernacular.inference.model import LocalModel
from vernacular.inference.packing import pack
from vernacular.inference.paged_memory import PagedAttend, PagedMemory, Placed, Placement
from vernacular.inference.pages import PAGE_TOKENS
from vernacular.inference.recorded_decoding import Buffers, Step, call_plainly
from vernacular.inference.sampling import draw, penalise, probabilities
from vernacular.inference.weight_only import quantise_weights
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


@pytest.mark.parametrize("kernels", ["torch", "native"])
@pytest.mark.parametrize("name", SHAPES)
def test_greedy_tokens_are_those_of_full_forward_passes(name: str, kernels: str) -> None:
    plain, decoder = make_decoder(**SHAPES[name]), make_decoder(kernels, **SHAPES[name])
    prompts = make_prompts(6)
    expected = [naive_greedy(plain, prompt, 12) for prompt in prompts]
    assert len({token for ids in expected for token in ids}) > 10, "the comparison would be empty"
    found = run(decoder, [answer_to(prompt) for prompt in prompts], kernels, tokens_per_step=50)
    assert [generation.ids for generation in found] == expected


@pytest.mark.parametrize("name", SHAPES)
def test_log_probabilities_are_the_same_bits_whatever_the_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, prompts = make_decoder("native", **SHAPES[name]), make_prompts(9)
    samplings = [{"log_probabilities": 2, "temperature": place % 2 * 0.8, "seed": place} for place in range(9)]

    def ask() -> list[Answer]:
        return [answer_to(prompt, **sampling) for prompt, sampling in zip(prompts, samplings, strict=True)]

    alone = [run(decoder, [answer], "native")[0] for answer in ask()]
    bytes_per_page = decoder.configuration.cache_bytes_per_token(4) * PAGE_TOKENS
    for settings in (
        {},
        {"tokens_per_step": 7},
        {"tokens_per_step": 33, "most_rows": 3},
        {"tokens_per_step": 64, "cache_bytes": 8 * bytes_per_page},  # too small for all: some are preempted
    ):
        assert run(decoder, ask(), "native", **settings) == alone
    # However many threads take part: a step this small would not be shared out.
    monkeypatch.setattr("vernacular.inference.runner.SMALL_STEP", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    assert run(decoder, ask(), "native", tokens_per_step=100) == alone
    torch.set_num_threads(before)
    # The second time all beginnings are found in pages.
    engine = Engine(decoder, kernels="native")
    for _ in range(2):
        answers = ask()
        list(engine.run(answers))
        assert [answer.generation() for answer in answers] == alone
    assert engine.statistics.prefix_hit_tokens > sum(len(prompt) - PAGE_TOKENS for prompt in prompts)


@pytest.mark.parametrize("kernels", ["torch", "native"])
@pytest.mark.parametrize("name", SHAPES)
def test_likelihoods_of_branches_are_those_of_full_passes(name: str, kernels: str) -> None:
    plain, decoder = make_decoder(**SHAPES[name]), make_decoder(kernels, **SHAPES[name])
    chance = random.Random(5)
    contexts = [[chance.randrange(VOCAB_SIZE) for _ in range(length)] for length in (1, 31, 32, 33, 100)]
    pairs = [
        TokenPair(tuple(context), tuple(chance.randrange(VOCAB_SIZE) for _ in range(length)))
        for context in contexts
        for length in (1, 2, 40, 7)
    ]
    chance.shuffle(pairs)
    expected = []
    for context, continuation in pairs:
        with torch.inference_mode():
            scores_TV = plain.logits(plain(torch.tensor([[*context, *continuation[:-1]]])))[0].log_softmax(-1)
        targets = torch.tensor(continuation)[:, None]
        expected.append(float(scores_TV[len(context) - 1 :].gather(1, targets).double().sum()))
    found = likelihoods(decoder, pairs, kernels=kernels)
    assert [value.log_probability for value in found] == pytest.approx(expected, abs=1e-3)
    if kernels == "native":
        assert found == [likelihoods(decoder, [pair], kernels=kernels)[0] for pair in pairs]


@pytest.mark.parametrize("name", [name for name in SHAPES if "moe" not in name])
def test_a_pass_stays_on_its_device(name: str) -> None:
    # The device without memory refuses tensors of others, and questions about values, for which a GPU would wait.
    decoder = make_decoder(**SHAPES[name]).to("meta")
    memory = PagedMemory(decoder.configuration, 20, torch.float32, "meta", "torch")
    pages = np.arange(5, dtype=np.int32)
    sequences = [Placed(0, 100, pages), Placed(100, 3, pages, range(96, 100)), Placed(131, 1, pages + 5)]
    placement = Placement.of(sequences, "meta")
    ids_1N = torch.zeros((1, 104), dtype=torch.int64, device="meta")
    with torch.inference_mode():
        hidden_1ND = decoder(ids_1N, positions_BT=placement.positions_N[None], attend=PagedAttend(memory, placement))
        logits_BV = decoder.logits(hidden_1ND[0, :3])
        seen_BV = torch.zeros_like(logits_BV, dtype=torch.bool)
        samplings = [Sampling(temperature=1, top_k=3), Sampling(temperature=1, top_p=0.5, min_p=0.1)]
        penalised_BV = penalise(logits_BV, seen_BV, [1.5, 1.0, 1.0])
        tokens_B = draw(probabilities(penalised_BV[:2], samplings), [0.1, 0.2])
    assert tokens_B.is_meta
    assert logits_BV.shape == (3, VOCAB_SIZE)


def test_a_preempted_request_goes_on_as_if_undisturbed() -> None:
    decoder = make_decoder("native")
    prompts = make_prompts(5, longest=100)
    wishes = {"max_new_tokens": 60, "temperature": 1.0, "log_probabilities": 0, "repetition_penalty": 1.2}
    expected = run(decoder, [answer_to(prompt, **wishes) for prompt in prompts], "native")
    bytes_per_page = decoder.configuration.cache_bytes_per_token(4) * PAGE_TOKENS
    engine = Engine(decoder, EngineSettings(cache_bytes=7 * bytes_per_page), kernels="native")
    answers = [answer_to(prompt, **wishes) for prompt in prompts]
    list(engine.run(answers))
    assert engine.statistics.preemptions > 0
    assert [answer.generation() for answer in answers] == expected


def test_log_probabilities_are_those_of_the_model_not_of_the_settings() -> None:
    decoder = make_decoder()
    prompt = make_prompts(1)[0]
    settings = {"temperature": 0.5, "top_k": 3, "repetition_penalty": 3.0, "seed": 2}
    (found,) = run(decoder, [answer_to(prompt, log_probabilities=4, **settings)])
    (silent,) = run(decoder, [answer_to(prompt, **settings)])
    assert found.ids == silent.ids
    assert silent.log_probabilities is None
    assert found.log_probabilities is not None
    with torch.inference_mode():
        expected_TV = decoder.logits(decoder(torch.tensor([[*prompt, *found.ids]])))[0].log_softmax(-1)
    for place, (token, of_token) in enumerate(zip(found.ids, found.log_probabilities, strict=True)):
        expected_V = expected_TV[len(prompt) - 1 + place]
        assert of_token.token == token
        assert of_token.text == f"{token} "
        assert of_token.log_probability == pytest.approx(float(expected_V[token]), abs=1e-4)
        best = expected_V.topk(4)
        assert [other for other, _, _ in of_token.best] == best.indices.tolist()
        assert [score for _, _, score in of_token.best] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_a_thousand_requests_finish_in_a_small_memory() -> None:
    decoder = make_decoder("native", num_layers=1)
    chance = random.Random(1)
    answers = [
        answer_to(
            [chance.randrange(VOCAB_SIZE) for _ in range(int(chance.expovariate(1 / 20)) % 200 + 1)],
            max_new_tokens=chance.randint(1, 20),
        )
        for _ in range(1000)
    ]
    bytes_per_page = decoder.configuration.cache_bytes_per_token(4) * PAGE_TOKENS
    engine = Engine(decoder, EngineSettings(cache_bytes=40 * bytes_per_page, most_rows=32), kernels="native")
    for number, _ in enumerate(engine.run(answers)):
        statistics = engine.statistics
        assert statistics.pages_used <= statistics.pages_total == 40
        assert statistics.running <= 32
        assert number < 1000
    assert all(answer.stopped_by == "length" and len(answer.ids) == answer.limit for answer in answers)
    assert engine.statistics.pages_used == 0
    assert engine.statistics.generated_tokens == sum(answer.limit for answer in answers)
    assert engine.statistics.prompt_tokens == sum(len(answer.prompt) for answer in answers)


def test_a_cancelled_answer_keeps_its_text_and_frees_its_pages() -> None:
    engine = Engine(make_decoder())
    answers = [answer_to(prompt, max_new_tokens=50) for prompt in make_prompts(4)]
    for answer in answers:
        engine.submit(answer)
    for _ in range(3):
        assert engine.step() == answers
    used = engine.statistics.pages_used
    engine.cancel(answers[2])
    assert engine.statistics.pages_used < used
    assert engine.statistics.running == 3
    assert (answers[2].stopped_by, len(answers[2].ids)) == ("cancelled", 3)
    assert answers[2].text == Numbers().decode(answers[2].ids)
    waiting = answer_to([5])
    engine.submit(waiting)
    engine.cancel(waiting)
    assert waiting.stopped_by == "cancelled"
    while not engine.is_idle:
        engine.step()
    engine.cancel(answers[0])
    assert answers[0].stopped_by == "length"
    assert engine.statistics.pages_used == 0


def test_two_callers_take_turns() -> None:
    decoder = make_decoder()
    prompts = make_prompts(6)
    expected = run(decoder, [answer_to(prompt) for prompt in prompts])
    engine = Engine(decoder)
    answers = [answer_to(prompt) for prompt in prompts]
    first, second = engine.run(answers[:3]), engine.run(answers[3:])
    finished = [next(first), *second, *first]
    assert len(finished) == 6
    assert [answer.generation() for answer in answers] == expected


def test_who_stops_listening_frees_the_pages(lm: LocalModel) -> None:
    pieces = lm.stream("Żółta", max_new_tokens=60)
    next(pieces)
    assert lm.engine.statistics.pages_used > 0
    pieces.close()
    assert lm.engine.is_idle
    assert lm.engine.statistics.pages_used == 0


def test_a_step_that_breaks_off_leaves_a_usable_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = make_decoder()
    prompt = make_prompts(2)[1]
    (expected,) = run(decoder, [answer_to(prompt)])
    engine = Engine(decoder)
    with monkeypatch.context() as patched:
        patched.setattr(decoder, "logits", lambda hidden: (_ for _ in ()).throw(InternalError("no memory")))
        answer = answer_to(prompt)
        with pytest.raises(InternalError):
            list(engine.run([answer]))
    assert answer.stopped_by == "cancelled"
    assert engine.is_idle
    again = answer_to(prompt)
    list(engine.run([again]))
    assert again.generation() == expected
    assert engine.statistics.prefix_hit_tokens == 0


def test_a_request_that_can_never_fit_is_refused_before_it_waits() -> None:
    decoder = make_decoder()
    bytes_per_page = decoder.configuration.cache_bytes_per_token(4) * PAGE_TOKENS
    engine = Engine(decoder, EngineSettings(cache_bytes=2 * bytes_per_page))
    with pytest.raises(UserError, match="the cache has 2"):
        engine.submit(answer_to([1] * 60, max_new_tokens=6))
    assert engine.is_idle
    engine.submit(answer_to([1] * 60, max_new_tokens=5))


def test_a_cache_of_less_than_two_pages_is_refused() -> None:
    decoder = make_decoder()
    least = 2 * decoder.configuration.cache_bytes_per_token(4) * PAGE_TOKENS
    with pytest.raises(UserError, match=f"of {least - 1} bytes holds less than 2 pages .* take {least}") as caught:
        Engine(decoder, EngineSettings(cache_bytes=least - 1))
    assert caught.value.where == "cache_bytes"
    assert Engine(decoder, EngineSettings(cache_bytes=least)).statistics.pages_total == 2


@pytest.mark.parametrize(
    ("written", "number"),
    [("4GiB", 4 << 30), ("1.5 MiB", 3 << 19), ("64KiB", 65536), ("900", 900), ("4GB", 0), ("KiB", 0), ("0KiB", 0)],
)
def test_a_cache_may_be_written_with_its_unit(written: str, number: int) -> None:
    if number:
        assert EngineSettings(cache_bytes=written).cache_bytes == number
    else:
        with pytest.raises(UserError):
            validate(EngineSettings, {"cache_bytes": written})


class OnlyEven:
    """A constraint: even tokens, five of them; the sixth is the end."""

    def __init__(self) -> None:
        self.accepted: list[int] = []

    def allowed(self) -> np.ndarray:
        tokens = np.arange(VOCAB_SIZE)
        return tokens == 7 if self.is_finished else tokens % 2 == 0

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    @property
    def is_finished(self) -> bool:
        return len(self.accepted) >= 5

    @property
    def problem(self) -> str | None:
        return None


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_constraint_says_what_may_come_next_in_its_own_answer(temperature: float) -> None:
    decoder = make_decoder()
    prompts = make_prompts(3)
    expected = run(decoder, [answer_to(prompt, temperature=temperature) for prompt in prompts])
    answers = [answer_to(prompt, temperature=temperature) for prompt in prompts]
    constraint = OnlyEven()
    answers[1] = Answer(
        prompts[1],
        Sampling(temperature=temperature, log_probabilities=1),
        max_positions=256,
        end_ids=frozenset({7}),
        tokenizer=Numbers(),
        constraint=constraint,
    )
    found = run(decoder, answers)
    assert [found[0], found[2]] == [expected[0], expected[2]]
    assert found[1].stopped_by == "end"
    assert all(token % 2 == 0 for token in found[1].ids[:5])
    assert found[1].ids[5:] == (7,)
    assert tuple(constraint.accepted) == found[1].ids
    assert any(of_token.best[0][0] % 2 for of_token in found[1].log_probabilities or ()), "nothing was forbidden"


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


@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_left_padding_never_changes_an_answer(name: str) -> None:
    """Rows filled up on the left, as other libraries batch: a mask and positions leave the filling without a trace."""
    decoder, prompts = make_decoder(**SHAPES[name]), make_prompts(5)
    longest = max(map(len, prompts))
    missing = torch.tensor([longest - len(prompt) for prompt in prompts])
    places_T = torch.arange(longest)
    is_text_BT = places_T >= missing[:, None]
    positions_BT = (places_T - missing[:, None]).clamp_min(0)
    mask_B1TT = (is_text_BT[:, None, :] & (places_T <= places_T[:, None]))[:, None]
    # A row of padding looks at itself, or its softmax would be of nothing.
    mask_B1TT = mask_B1TT | torch.eye(longest, dtype=torch.bool)
    for filling in (0, VOCAB_SIZE - 1):
        ids_BT = torch.tensor([[filling] * int(gap) + prompt for gap, prompt in zip(missing, prompts, strict=True)])
        hidden_BTD = decoder(ids_BT, positions_BT=positions_BT, mask_B1TS=mask_B1TT)
        for row, prompt in enumerate(prompts):
            padded = decoder.logits(hidden_BTD[row, -len(prompt) :])
            alone = decoder.logits(decoder(torch.tensor([prompt]))[0])
            torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-4)
    # The engine fills nothing up: rows of unequal length are answered as each is alone.
    together = run(decoder, [answer_to(prompt) for prompt in prompts])
    assert [answer.ids for answer in together] == [naive_greedy(decoder, prompt, 12) for prompt in prompts]


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
