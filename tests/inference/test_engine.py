"""The engine gives what a naive full forward pass per token gives, alone or in a batch, and stops where it should."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from vernacular.foundation.errors import InternalError, UserError
from vernacular.inference.answer import Answer
from vernacular.inference.engine import Engine, EngineSettings
from vernacular.inference.model import LocalModel, load
from vernacular.inference.packing import pack
from vernacular.kernels.linear import PackedLinear
from vernacular.models.decoder import Decoder
from vernacular.models.language_model import Sampling

PROMPTS = (
    "गाँव के पास एक पुराना",
    "Żółta",
    "The ferry leaves when the tide turns, not before. She mended the kite",
    "",
    "மழை",
    "في الصباح",
    "क्षण",
)


@torch.inference_mode()
def naive_greedy(decoder: Decoder, prompt: list[int], num_tokens: int) -> list[int]:
    """The best-scored token, `num_tokens` times, each from a forward pass over everything before it."""
    ids = list(prompt)
    for _ in range(num_tokens):
        ids.append(int(decoder.logits(decoder(torch.tensor([ids]))[0, -1]).argmax()))
    return ids[len(prompt) :]


def answers_to(lm: LocalModel, prompts: tuple[str, ...], *samplings: Sampling, end_ids: frozenset[int] = frozenset()):
    return [
        Answer(
            lm.tokenizer.encode(prompt, begin=True),
            sampling,
            max_positions=lm.max_positions,
            end_ids=end_ids,
            tokenizer=lm.tokenizer,
        )
        for prompt, sampling in zip(prompts, samplings * (len(prompts) if len(samplings) == 1 else 1), strict=True)
    ]


def finish(engine: Engine, answers: list[Answer]) -> list[list[int]]:
    assert len(list(engine.run(answers))) == len(answers)
    return [answer.ids for answer in answers]


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"num_key_value_heads": 4, "tie_embeddings": True},
        {"num_key_value_heads": 1, "num_layers": 1, "head_dim": 16},
    ],
    ids=["grouped", "tied", "one-key-head"],
)
def test_cached_decoding_takes_the_tokens_of_a_full_forward(
    shape: dict, tokenizer_folder: Path, tmp_path: Path
) -> None:
    lm = load(tiny.make_weights(tmp_path / "weights", tokenizer_folder, seed=5, **shape))
    answers = answers_to(lm, PROMPTS, Sampling(max_new_tokens=40))
    found = finish(Engine(lm.decoder), answers)
    assert found == [naive_greedy(lm.decoder, answer.prompt, 40) for answer in answers]


def test_a_row_that_leaves_does_not_change_the_others(lm: LocalModel) -> None:
    lengths = (3, 30, 1, 17, 2, 40, 9)
    answers = answers_to(lm, PROMPTS, *[Sampling(max_new_tokens=length) for length in lengths])
    found = finish(Engine(lm.decoder), answers)
    assert found == [naive_greedy(lm.decoder, a.prompt, n) for a, n in zip(answers, lengths, strict=True)]


@pytest.mark.parametrize("limits", [{"most_rows": 2}, {"tokens_per_step": 5}, {"cache_bytes": 1 << 16}])
def test_the_size_of_the_batches_does_not_show(lm: LocalModel, limits: dict[str, int]) -> None:
    sampling = Sampling(max_new_tokens=20, temperature=0.9, top_k=50, seed=11)
    whole = finish(Engine(lm.decoder), answers_to(lm, PROMPTS, sampling))
    assert finish(Engine(lm.decoder, EngineSettings(**limits)), answers_to(lm, PROMPTS, sampling)) == whole


def test_draws_do_not_depend_on_the_batch(lm: LocalModel) -> None:
    samplings = [Sampling(max_new_tokens=25, temperature=1.3, top_p=0.95, seed=seed) for seed in range(len(PROMPTS))]
    samplings[2] = Sampling(max_new_tokens=7)
    together = finish(Engine(lm.decoder), answers_to(lm, PROMPTS, *samplings))
    alone = [
        finish(Engine(lm.decoder), answers_to(lm, (prompt,), sampling))[0]
        for prompt, sampling in zip(PROMPTS, samplings, strict=True)
    ]
    assert together == alone


def test_another_seed_draws_otherwise(lm: LocalModel) -> None:
    texts = {lm.generate("Żółta", max_new_tokens=20, temperature=1.0, seed=seed) for seed in range(4)}
    assert len(texts) == 4


def test_the_end_token_ends_the_answer(lm: LocalModel) -> None:
    (free,) = answers_to(lm, ("Żółta łódka",), Sampling(max_new_tokens=30))
    finish(Engine(lm.decoder), [free])
    end = free.ids[10]
    (ended,) = answers_to(lm, ("Żółta łódka",), Sampling(max_new_tokens=30), end_ids=frozenset({end}))
    finish(Engine(lm.decoder), [ended])
    place = free.ids.index(end)
    assert ended.ids == free.ids[: place + 1]
    assert ended.stopped_by == "end"
    assert ended.text == lm.tokenizer.decode(free.ids[:place])


@pytest.mark.parametrize("prompt", PROMPTS[:3])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_stop_strings_are_found_wherever_tokens_end(lm: LocalModel, prompt: str, length: int) -> None:
    whole = lm.generate(prompt, max_new_tokens=40)
    starts = [s for s in range(len(whole) - length) if "\ufffd" not in whole[s : s + length]]
    assert starts
    stops = [whole[start : start + length] for start in starts]
    found = lm.complete([prompt] * len(stops), [Sampling(max_new_tokens=40, stop=(stop, "∅∅")) for stop in stops])
    assert [answer.text for answer in found] == [whole[: whole.index(stop)] for stop in stops]
    assert {answer.stopped_by for answer in found} == {"stop"}


def test_the_earliest_of_two_stop_strings_counts(lm: LocalModel) -> None:
    whole = lm.generate("Żółta", max_new_tokens=40)
    places = [place for place in range(len(whole) - 2) if "\ufffd" not in whole[place : place + 2]]
    late, early = whole[places[-1] :][:2], whole[places[2] :][:2]
    expected = whole[: min(whole.index(late), whole.index(early))]
    assert lm.generate("Żółta", max_new_tokens=40, stop=[late, early]) == expected


def test_an_empty_stop_string_is_refused(lm: LocalModel) -> None:
    with pytest.raises(UserError, match="stop string is empty"):
        lm.generate("Żółta", stop="")


def test_an_answer_ends_at_the_last_position(lm: LocalModel) -> None:
    prompt = "x" * (lm.max_positions - 6)
    (answer,) = lm.complete([prompt], [Sampling(max_new_tokens=50)])
    num_prompt = len(lm.tokenizer.encode(prompt, begin=True))
    assert answer.stopped_by == "length"
    assert len(answer.ids) == lm.max_positions - num_prompt


def test_a_prompt_that_is_too_long_says_by_how_much(lm: LocalModel) -> None:
    ids = lm.tokenizer.encode("x" * 200, begin=True)
    over = len(ids) - (lm.max_positions - 1)
    with pytest.raises(UserError, match=f"{len(ids)} tokens, {over} too many: the model has {lm.max_positions}"):
        lm.generate(["kurz", "x" * 200])


@torch.inference_mode()
def test_scores_that_are_equal_once_scaled_are_so_whatever_else_is_asked(lm: LocalModel) -> None:
    changes = {"logits_scaling": 6.0, "tie_embeddings": False}
    decoder = Decoder(lm.decoder.configuration.model_copy(update=changes)).eval()
    for parameter in decoder.parameters():  # every hidden state is one number, h, and zeros
        parameter.fill_(0)
    decoder.embedding.weight.fill_(1)
    decoder.final_norm.weight[0] = 1
    pack(decoder, "float32")
    h = decoder(torch.tensor([[1]]))[0, 0, 0]
    larger = 1 + torch.arange(1, 1000) / 1000
    smaller = larger.nextafter(torch.zeros(()))
    same = (h * larger != h * smaller) & (h * larger / 6 == h * smaller / 6)
    weight = torch.zeros(decoder.configuration.vocab_size, decoder.configuration.hidden_size)
    weight[300, 0], weight[200, 0] = larger[same][0], smaller[same][0]
    decoder.head = PackedLinear(weight, "float32")
    assert naive_greedy(decoder, [1], 3) == [200] * 3
    plain, scored = Sampling(max_new_tokens=3), Sampling(max_new_tokens=3, log_probabilities=0)
    for samplings in ((plain, plain), (plain, scored)):
        answers = answers_to(lm, PROMPTS[:2], *samplings)
        assert finish(Engine(decoder, kernels="native"), answers) == [[200] * 3] * 2


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=3),
        Sampling(max_new_tokens=3, log_probabilities=0),
        Sampling(max_new_tokens=3, temperature=1.0, seed=1),
        Sampling(max_new_tokens=3, repetition_penalty=1.2),
    ],
)
def test_scores_that_are_no_numbers_are_refused_however_the_token_is_chosen(
    lm: LocalModel, sampling: Sampling, broken: float
) -> None:
    decoder = Decoder(lm.decoder.configuration).eval()
    decoder.load_state_dict(lm.decoder.state_dict(), strict=False)
    with torch.no_grad():
        decoder.final_norm.weight[0] = broken
    with pytest.raises(InternalError, match="not all numbers"):
        finish(Engine(decoder), answers_to(lm, PROMPTS[:2], sampling))
