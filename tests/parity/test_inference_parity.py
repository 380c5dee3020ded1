"""Our answers and those of transformers and lm-evaluation-harness, from the same weights folder."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny
from vernacular.inference.model import LocalModel, load
from vernacular.inference.sampling import penalise, probabilities
from vernacular.models.language_model import Sampling

PROMPTS = ["गाँव के पास एक", "Żółta łódka", "The ferry leaves when the tide turns", "மழை", "في الصباح"]
CHAT = "<|begin|><|user|>Gdzie kupię chleb?<|end|><|assistant|>"
PAIRS = [
    ("भारत की राजधानी", " दिल्ली"),
    ("भारत की राजधानी", " मुंबई है"),
    ("भारत की राजधानी", "  क"),
    ("भारत की राजधानी ", "ख"),
    ("Stolica Polski to \n", "Warszawa"),
    ("Stolica Polski to", "w"),
    ("Stolica Polski t", "o"),
    ("", "The kite"),
    ("", "<|begin|>The kite"),
    (" \t ", "x"),
    (CHAT, "Na rynku.<|end|>"),
    (CHAT + " ", "W piekarni."),
    (CHAT, "ę"),
    ("k" * 300, " deszcz"),
    ("k" * 300, " chleb na święta"),
    ("<|begin|>" + "<|user|>" * 150, "x"),
    ("x", "y" * 128),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("parity")
    return tiny.make_weights(base / "weights", tiny.make_tokenizer(base / "tokenizer"), seed=2)


@pytest.fixture(scope="module")
def lm(folder: Path) -> LocalModel:
    return load(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def harness(folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4)


def requests(*arguments: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=args, task_name=None) for args in arguments]


@torch.inference_mode()
def test_logits_are_those_of_transformers(lm: LocalModel, theirs: Any) -> None:
    for prompt in PROMPTS:
        ids = lm.tokenizer.encode(prompt, begin=True)
        assert (lm.logits(ids) - theirs(torch.tensor([ids])).logits[0]).abs().max() < 1e-4


@torch.inference_mode()
def test_greedy_text_is_that_of_transformers(lm: LocalModel, theirs: Any, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = []
    for prompt in [*PROMPTS, CHAT]:
        inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=not prompt.startswith("<|begin|>"))
        ids = theirs.generate(**inputs, max_new_tokens=50, do_sample=False)[0]
        expected.append(tokenizer.decode(ids[inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    assert lm.generate([*PROMPTS, CHAT], max_new_tokens=50) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"temperature": 1.0, "top_k": 5},
        {"temperature": 1.0, "top_p": 0.8},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.5},
        {"temperature": 0.3, "top_k": 300, "top_p": 0.99},
        {"temperature": 0.9, "min_p": 0.1},
        {"temperature": 2.0, "top_k": 60, "top_p": 0.9, "min_p": 0.3},
    ],
    ids=str,
)
def test_cut_offs_are_those_of_transformers_in_its_order(settings: dict[str, Any], theirs: Any) -> None:
    from transformers import GenerationConfig

    scores_BV = torch.randn(16, 200, generator=torch.Generator().manual_seed(0)) * 3
    # Two scores in three are equal to another one: ties count too.
    scores_BV = (scores_BV * 4).round() / 4
    config = GenerationConfig(do_sample=True, **{"top_k": 0, **settings})
    processors = theirs._get_logits_processor(generation_config=config, input_ids_seq_length=1)
    expected_BV = processors(torch.zeros(16, 1, dtype=torch.int64), scores_BV.clone()).softmax(-1)
    found_BV = probabilities(scores_BV, [Sampling(**settings)] * len(scores_BV))
    assert torch.equal(found_BV > 0, expected_BV > 0)
    assert torch.allclose(found_BV, expected_BV, atol=1e-6)


@pytest.mark.parametrize("penalty", [1.0, 0.7, 1.3])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    generator = torch.Generator().manual_seed(0)
    scores_BV = torch.randn(5, 200, generator=generator)
    ids_BT = torch.randint(0, 200, (5, 40), generator=generator)
    expected_BV = RepetitionPenaltyLogitsProcessor(penalty)(ids_BT, scores_BV.clone())
    seen_BV = torch.zeros(5, 200, dtype=torch.bool).scatter(1, ids_BT, True)
    assert torch.allclose(penalise(scores_BV, seen_BV, [penalty] * 5), expected_BV)
    mixed_BV = penalise(scores_BV, seen_BV, [1.0, penalty, 1.0, 1.0, 1.0])
    assert torch.equal(mixed_BV[0], scores_BV[0])
    assert torch.allclose(mixed_BV[1], expected_BV[1])


def test_penalised_text_is_that_of_transformers(lm: LocalModel, theirs: Any) -> None:
    for prompt in PROMPTS:
        ids = lm.tokenizer.encode(prompt, begin=True)
        expected = theirs.generate(
            torch.tensor([ids]), max_new_tokens=40, do_sample=False, repetition_penalty=1.4, eos_token_id=None
        )
        answer = lm.answer(ids, Sampling(max_new_tokens=40, repetition_penalty=1.4))
        list(lm.engine.run([answer]))
        assert answer.ids == expected[0, len(ids) :].tolist()[: len(answer.ids)]


def test_rows_of_a_batch_keep_their_own_settings() -> None:
    scores_BV = torch.randn(6, 200, generator=torch.Generator().manual_seed(0)) * 3
    samplings = [
        Sampling(temperature=0.7),
        Sampling(temperature=1.0, top_k=5),
        Sampling(temperature=1.5, top_p=0.8),
        Sampling(temperature=1.0, min_p=0.2),
        Sampling(temperature=0.4, top_k=50, top_p=0.9, min_p=0.01),
        Sampling(temperature=3.0, top_k=2),
    ]
    together_BV = probabilities(scores_BV, samplings)
    for row, sampling in enumerate(samplings):
        assert torch.equal(together_BV[row], probabilities(scores_BV[row : row + 1], [sampling])[0])


def test_likelihoods_are_those_of_the_harness(lm: LocalModel, harness: Any) -> None:
    expected = harness.loglikelihood(requests(*PAIRS), disable_tqdm=True)
    found = lm.loglikelihood(PAIRS)
    assert [value.is_greedy for value in found] == [is_greedy for _, is_greedy in expected]
    assert [value.log_probability for value in found] == pytest.approx([value for value, _ in expected], abs=1e-4)


def test_likelihoods_of_whole_texts_are_those_of_the_harness(lm: LocalModel, folder: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    # By default the harness also asks for the begin token after the begin token, for a tokenizer that puts one first;
    # told not to add one, it scores the text alone, as we do.
    harness = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4, add_bos_token=False)
    texts = ["कुआँ", "Wczoraj wieczorem słuchaliśmy, jak deszcz dudni o dach. " * 9, "z" * 128, "z" * 129, "z" * 256]
    expected = harness.loglikelihood_rolling(requests(*[(text,) for text in texts]), disable_tqdm=True)
    found = [value.log_probability for value in lm.text_loglikelihood(texts)]
    assert found == pytest.approx(expected, abs=1e-3)


def test_answers_are_those_of_the_harness(lm: LocalModel, harness: Any) -> None:
    settings = {"until": ["whe", "\n\n"], "max_gen_toks": 24, "do_sample": False}
    prompts = [*PROMPTS, CHAT]
    expected = [harness.generate_until(requests((prompt, settings)), disable_tqdm=True)[0] for prompt in prompts]
    sampling = Sampling(max_new_tokens=24, stop=("whe", "\n\n"))
    assert [answer.text for answer in lm.complete(prompts, [sampling] * len(prompts))] == expected
