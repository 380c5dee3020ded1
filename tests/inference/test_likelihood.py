"""Log-probabilities of shared contexts equal a full forward pass of each pair by itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from vernacular.foundation.errors import UserError
from vernacular.inference.encoding import TokenPair, encode_pairs, encode_prompts
from vernacular.inference.likelihood import likelihoods
from vernacular.inference.model import LocalModel, load
from vernacular.models.decoder import Decoder
from vernacular.models.language_model import Likelihood, Sampling

TOLERANCE = 1e-4

PAIRS = [
    ("भारत की राजधानी", " दिल्ली"),
    ("भारत की राजधानी", " मुंबई है"),
    ("भारत की राजधानी", " क्या है, यह मुझे नहीं पता"),
    ("भारत की राजधानी", "ę"),
    ("Stolica Polski to ", "Warszawa"),
    ("Stolica Polski to ", "Kraków"),
    ("Stolica Polski to", " Warszawa"),
    ("", "The kite"),
    ("", "चिट्ठी"),
    ("   ", "x"),
    ("மழை பெய்தால்", " ஆறு நிரம்பும்"),
    ("<|begin|><|user|>Co?<|end|><|assistant|>", "To<|end|>"),
    ("<|user|>Co?", "To<|end|>"),
    ("k" * 300, " deszcz"),
    ("k" * 300, " chleb na święta"),
    ("x", "y" * 128),
]


@torch.inference_mode()
def naive(decoder: Decoder, pair: TokenPair) -> Likelihood:
    whole = [*pair.context, *pair.continuation][-decoder.configuration.max_positions - 1 :]
    scores_TV = decoder.logits(decoder(torch.tensor([whole[:-1]])))[0].log_softmax(-1)
    scores_TV = scores_TV[-len(pair.continuation) :]
    targets = torch.tensor(pair.continuation)
    return Likelihood(
        float(scores_TV.gather(1, targets[:, None]).double().sum()), bool((scores_TV.argmax(-1) == targets).all())
    )


def assert_same(found: list[Likelihood], expected: list[Likelihood], tolerance: float = TOLERANCE) -> None:
    assert [value.is_greedy for value in found] == [value.is_greedy for value in expected]
    assert [value.log_probability for value in found] == pytest.approx(
        [value.log_probability for value in expected], abs=tolerance
    )


def test_shared_contexts_equal_separate_forward_passes(lm: LocalModel) -> None:
    expected = [naive(lm.decoder, pair) for pair in encode_pairs(lm.tokenizer, PAIRS)]
    assert_same(lm.loglikelihood(PAIRS), expected)
    most = lm.max_positions + 1
    cut = [max(0, len(context) + len(text) - most) for context, text in encode_pairs(lm.tokenizer, PAIRS)]
    assert [value.num_cut for value in lm.loglikelihood(PAIRS)] == cut
    assert sum(map(bool, cut)) == 3


def test_a_score_hardly_depends_on_the_batch_with_the_kernels_of_torch(weights_folder: Path) -> None:
    lm = load(weights_folder, kernels="torch")
    encoded = encode_pairs(lm.tokenizer, PAIRS)
    alone = [likelihoods(lm.decoder, [pair])[0] for pair in encoded]
    assert_same(lm.loglikelihood(PAIRS), alone, 3e-5)
    for tokens_per_batch in (1, 60, 300):
        assert_same(likelihoods(lm.decoder, encoded, tokens_per_batch=tokens_per_batch), alone, 3e-5)


def test_a_score_is_the_same_bits_whatever_the_batch(lm: LocalModel) -> None:
    assert lm.engine.kernels == "native"
    encoded = encode_pairs(lm.tokenizer, PAIRS)
    # A continuation is computed by itself behind its context, or as one of many.
    alone = [likelihoods(lm.decoder, [pair], kernels="native")[0] for pair in encoded]
    assert lm.loglikelihood(PAIRS) == alone
    assert lm.loglikelihood(PAIRS[::-1])[::-1] == alone
    for tokens_per_batch in (1, 60, 300):
        assert likelihoods(lm.decoder, encoded, kernels="native", tokens_per_batch=tokens_per_batch) == alone


SHOTS = tuple(5 + number % 300 for number in range(70))
SHARING = [
    TokenPair((*context, *ending), continuation)
    for context, ending in [
        (SHOTS, (7, 8, 9)),
        (SHOTS, (7, 8, 9, *SHOTS[:20])),
        (SHOTS, ()),
        (SHOTS[:64], ()),  # Whole pages of another: its last token is read all the same.
        (SHOTS[:65], (5,)),
        (SHOTS[:32], SHOTS[:40]),
        (SHOTS[1:], (3,)),
        ((), (11,)),
    ]
    for continuation in ((20,), (21, 22, 23), tuple(range(30, 60)))
]


def test_what_contexts_begin_with_is_the_same_bits_and_read_once(
    lm: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [likelihoods(lm.decoder, [pair], kernels="native")[0] for pair in SHARING]
    read: list[int] = []
    forward = lm.decoder.forward
    monkeypatch.setattr(lm.decoder, "forward", lambda ids, **how: read.append(ids.numel()) or forward(ids, **how))
    branches = 8 * (2 + 29)
    new = 72 + (64 - 32) + (66 - 64) + (70 - 64) + (73 - 64) + (93 - 64) + 70 + 1
    for tokens_per_batch in (4096, 1, 150):
        for pairs, expected in ((SHARING, alone), (SHARING[::-1], alone[::-1])):
            read.clear()
            found = likelihoods(lm.decoder, pairs, kernels="native", tokens_per_batch=tokens_per_batch)
            assert found == expected
            # A context with more continuations than a small batch's pages hold is several groups.
            assert sum(read) == new + branches or tokens_per_batch < 4096


def test_shared_beginnings_with_the_kernels_of_torch(weights_folder: Path) -> None:
    lm = load(weights_folder, kernels="torch")
    alone = [naive(lm.decoder, pair) for pair in SHARING]
    for tokens_per_batch in (4096, 150):
        assert_same(likelihoods(lm.decoder, SHARING, tokens_per_batch=tokens_per_batch), alone)


def test_a_score_is_that_of_the_answer_that_was_drawn(lm: LocalModel) -> None:
    """Sampler and scorer agree to the bit: the same kernels, whatever the shape of the pass."""
    for prompt in ("गाँव के पास एक", "The ferry leaves when the tide"):
        ids = tuple(lm.encode_prompt(prompt))
        sampling = Sampling(max_new_tokens=25, temperature=1.0, log_probabilities=0)
        answer = lm.answer(ids, sampling)
        (generation,) = (finished.generation() for finished in lm.engine.run([answer]))
        drawn = sum(of_token.log_probability for of_token in generation.log_probabilities or ())
        (scored,) = likelihoods(lm.decoder, [TokenPair(ids, generation.ids)], kernels="native")
        assert scored.log_probability == drawn


def test_more_continuations_than_one_row_holds(lm: LocalModel) -> None:
    text = "".join(chr(0x0905 + number % 48) for number in range(30))
    pairs = [("अब", text[number % 20 :] + str(number)) for number in range(40)]
    assert_same(lm.loglikelihood(pairs), [naive(lm.decoder, pair) for pair in encode_pairs(lm.tokenizer, pairs)])


def test_chunks_of_the_vocabulary_scores_do_not_show(weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = load(weights_folder, kernels="torch")
    whole = lm.loglikelihood(PAIRS)
    monkeypatch.setattr("vernacular.inference.likelihood.LOGITS_PER_CHUNK", 3 * 420)
    assert_same(lm.loglikelihood(PAIRS), whole, 1e-5)


def test_the_greedy_answer_is_greedy_and_no_other(lm: LocalModel) -> None:
    context = tuple(lm.tokenizer.encode("Żółta łódka", begin=True))
    ids = list(context)
    for _ in range(6):
        ids.append(int(lm.logits(ids)[-1].argmax()))
    greedy = tuple(ids[len(context) :])
    others = [(*greedy[:place], (greedy[place] + 1) % 400, *greedy[place + 1 :]) for place in range(6)]
    found = likelihoods(lm.decoder, [TokenPair(context, ids) for ids in (greedy, *others)])
    assert [value.is_greedy for value in found] == [True] + [False] * 6
    assert found[0].log_probability > max(value.log_probability for value in found[1:])


def test_probabilities_of_all_next_tokens_add_up_to_one(lm: LocalModel) -> None:
    pairs = [TokenPair((1, 50, 60), (token,)) for token in range(lm.decoder.configuration.vocab_size)]
    assert sum(math.exp(value.log_probability) for value in likelihoods(lm.decoder, pairs)) == pytest.approx(1)


def test_half_precision_stays_close(lm: LocalModel, weights_folder: Path) -> None:
    half = load(weights_folder, dtype="bfloat16")
    assert half.identity["dtype"] == "bfloat16"
    for found, exact in zip(half.loglikelihood(PAIRS[:6]), lm.loglikelihood(PAIRS[:6]), strict=True):
        assert found.log_probability == pytest.approx(exact.log_probability, rel=0.05)


def test_every_pair_is_reported(lm: LocalModel) -> None:
    reported: list[int] = []
    lm.loglikelihood(PAIRS, report=reported.append)
    assert sum(reported) == len(PAIRS)


@pytest.mark.parametrize("pair", [("Ala", ""), ("Ala", "z" * 400)])
def test_a_continuation_that_cannot_be_scored_is_refused(lm: LocalModel, pair: tuple[str, str]) -> None:
    with pytest.raises(UserError, match="the continuation") as caught:
        lm.loglikelihood([("Ala", " ma"), pair])
    assert caught.value.where == "pair 2 of 2"


def test_control_tokens_are_read_only_in_rendered_chats(lm: LocalModel) -> None:
    rendered, written = encode_prompts(lm.tokenizer, ["<|begin|><|user|>Co?", "Co? <|user|>"])
    assert rendered[:2] == [1, 4]
    assert written[0] == 1
    assert 4 not in written


def test_whole_texts_in_windows_predict_each_token_once(lm: LocalModel) -> None:
    texts = ["", "क", "Wczoraj wieczorem słuchaliśmy, jak deszcz dudni o dach. " * 12, "z" * 128, "z" * 129, "z" * 256]
    reported: list[int] = []
    for text, found in zip(texts, lm.text_loglikelihood(texts, report=reported.append), strict=True):
        ids = lm.tokenizer.encode(text)
        assert found.num_tokens == len(ids)
        assert found.log_probability == pytest.approx(naive_windows(lm, ids), abs=TOLERANCE)
    assert sum(reported) == len(texts)


def naive_windows(lm: LocalModel, ids: list[int]) -> float:
    """The sum over windows, written otherwise: which tokens a token sees follows from its place alone."""
    size, total = lm.max_positions, 0.0
    for place, token in enumerate(ids):
        window_start = place // size * size
        window_end = min(window_start + size, len(ids))
        first = 0 if window_start == 0 else window_end - size
        seen = [1, *ids][first : place + 1]
        total += float(lm.logits(seen)[-1].log_softmax(-1)[token])
    return total
