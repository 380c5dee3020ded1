"""What a request gets does not depend on how, or beside what, it is computed."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from random_decoders import (
    SHAPES,
    VOCAB_SIZE,
    Numbers,
    answer_to,
    make_decoder,
    make_prompts,
    naive_greedy,
    run,
)
from vernacular.inference.answer import Answer
from vernacular.inference.encoding import TokenPair
from vernacular.inference.engine import Engine, EngineSettings
from vernacular.inference.likelihood import likelihoods
from vernacular.inference.paged_memory import PagedAttend, PagedMemory, Placed, Placement
from vernacular.inference.pages import PAGE_TOKENS
from vernacular.inference.sampling import draw, penalise, probabilities
from vernacular.models.language_model import Sampling


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
