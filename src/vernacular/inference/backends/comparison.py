"""Is a back-end the same model as ours? Log-probabilities of prompts, greedy answers, and tokens, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from vernacular.foundation.progress import progress
from vernacular.inference.backends.openai import OpenAiModel
from vernacular.inference.backends.openai_replies import UNKNOWN_TOKEN
from vernacular.inference.backends.probes import Probe, fitted
from vernacular.inference.backends.scoring import CannotScore, TokenScorer
from vernacular.inference.backends.tolerance import Tolerance, tolerance
from vernacular.inference.encoding import TokenPair
from vernacular.inference.model import LocalModel
from vernacular.models.language_model import Generation, LanguageModel, Sampling, TokenLogProbability

ALTERNATIVES = 5


class Gap(NamedTuple):
    """A token of a probe and its log-probability on both sides."""

    probe: str
    place: int
    token: str
    ours: float
    theirs: float

    @property
    def size(self) -> float:
        """Absolute difference in nats; infinite where one of them is no number."""
        size = abs(self.ours - self.theirs)
        return math.inf if math.isnan(size) else size


@dataclass
class Measure:
    """Differences of log-probabilities of one kind of tokens.

    Attributes:
        gaps: a token each.
        missing: why there are none, where the back-end does not give them.
    """

    gaps: list[Gap] = field(default_factory=list)
    missing: str | None = None

    @property
    def largest(self) -> Gap:
        """The first of the largest differences."""
        return max(self.gaps, key=lambda gap: gap.size)

    @property
    def mean(self) -> float:
        """Mean absolute difference."""
        return math.fsum(gap.size for gap in self.gaps) / len(self.gaps)


@dataclass
class Comparison:
    """What was found.

    Attributes:
        tolerance: what may differ.
        prompts: log-probabilities of the probes' tokens.
        answers: log-probabilities of the greedy answers' tokens, as far as the answers are the same.
        num_probes: how many texts.
        cut: names of those texts of ours that were too long for the model, so that only their beginning was read.
        same_answers: greedy answers that are the same to the end.
        ties: greedy answers that part where the two tokens are as good as equal.
        counted: texts whose tokens the back-end counts itself; None where it does not.
        differences: what the back-end does otherwise, the first first.
        undecided: why it cannot be called equal although nothing differs.
    """

    tolerance: Tolerance
    prompts: Measure
    answers: Measure
    num_probes: int = 0
    cut: list[str] = field(default_factory=list)
    same_answers: int = 0
    ties: list[str] = field(default_factory=list)
    counted: int | None = None
    differences: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether the back-end may be called equal."""
        return not self.differences and not self.undecided


def compare(ours: LocalModel, theirs: LanguageModel, probes: Sequence[Probe], *, num_tokens: int = 32) -> Comparison:
    """Compare a back-end with our engine on some texts.

    Args:
        ours: our engine, whose tokens and template count.
        theirs: the back-end.
        probes: texts of two tokens at least.
        num_tokens: most tokens of each greedy answer.

    Raises:
        UserError: a text leaves no room for an answer, and is not ours to be cut.
    """
    room = min(ours.max_positions, theirs.max_positions) - num_tokens
    given, probes = probes, [fitted(probe, ours.encode_prompt, room, num_tokens) for probe in probes]
    sequences = [ours.encode_prompt(probe.text) for probe in probes]
    own = [_our_scores(ours, ids) for ids in sequences]
    spread = math.sqrt(math.fsum(scores.square_spread for scores in own) / sum(map(len, sequences)))
    bounds = tolerance(ours.decoder.configuration, ours.dtype, theirs.identity["dtype"], spread)
    found = Comparison(bounds, Measure(), Measure(), num_probes=len(probes))
    found.cut = [probe.name for probe, whole in zip(probes, given, strict=True) if probe != whole]
    _compare_tokens(found, ours, theirs, probes, sequences)
    _compare_prompts(found, ours, theirs, probes, sequences, own)
    _compare_answers(found, ours, theirs, probes, sequences, num_tokens)
    for what, measure in (("prompts", found.prompts), ("greedy answers", found.answers)):
        if measure.gaps and measure.mean > bounds.mean:
            found.differences.append(
                f"{what}: log-probabilities differ by {measure.mean:.2e} on the mean of {len(measure.gaps)} tokens, "
                f"more than {bounds.mean:.2e}"
            )
    if not bounds.decides:
        found.undecided.append("the formats are too coarse: another model could pass within the tolerance")
    if not found.prompts.gaps and not found.answers.gaps:
        found.undecided.append("the back-end gives no log-probabilities at all")
    return found


# ------------------------------------------------------------------------------------------ tokens


def _compare_tokens(
    found: Comparison,
    ours: LocalModel,
    theirs: LanguageModel,
    probes: Sequence[Probe],
    sequences: Sequence[Sequence[int]],
) -> None:
    """Whether texts are cut into the same tokens: by the tokenizers' hashes, and as a server itself counts them."""
    tokenizer = theirs.identity["tokenizer"]
    if tokenizer not in (ours.identity["tokenizer"], "server"):
        found.differences.append(f"tokenizer: ours is {ours.identity['tokenizer'][:12]}…, theirs {tokenizer[:12]}…")
    if not isinstance(theirs, OpenAiModel):
        return
    counts = theirs.count_tokens([probe.text for probe in probes])
    found.counted = sum(count is not None for count in counts)
    for probe, ids, count in zip(probes, sequences, counts, strict=True):
        if count is not None and count != len(ids):
            found.differences.append(
                f"{probe.name}: the server reads the text as {count} tokens, our tokenizer as {len(ids)}"
            )


# ------------------------------------------------------------------------------------------ prompts


class _Scores(NamedTuple):
    """Log-probabilities of all tokens but the first, and the scores' summed square spread over the vocabulary."""

    log_probabilities: list[float]
    square_spread: float


def _our_scores(lm: LocalModel, ids: Sequence[int]) -> _Scores:
    logits_TV = lm.logits(ids)
    own_T = logits_TV[:-1].log_softmax(dim=-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return _Scores(own_T.tolist(), float(logits_TV.var(dim=-1).sum()))


def _their_scores(theirs: LanguageModel, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    if isinstance(theirs, LocalModel):
        return [_our_scores(theirs, ids).log_probabilities for ids in sequences]
    if not isinstance(theirs, TokenScorer):
        raise CannotScore("the back-end does not score tokens")
    pairs = [TokenPair(tuple(ids[:1]), tuple(ids[1:])) for ids in sequences]
    scored = dict(theirs.token_scores(pairs))
    return [[score.log_probability for score in scored[number]] for number in range(len(pairs))]


def _compare_prompts(
    found: Comparison,
    ours: LocalModel,
    theirs: LanguageModel,
    probes: Sequence[Probe],
    sequences: Sequence[Sequence[int]],
    own: Sequence[_Scores],
) -> None:
    try:
        scored = _their_scores(theirs, sequences)
    except CannotScore as error:
        found.prompts.missing = error.message
        return
    for probe, ids, mine, other in zip(probes, sequences, own, scored, strict=True):
        for place, (a, b) in enumerate(zip(mine.log_probabilities, other, strict=True), start=2):
            found.prompts.gaps.append(Gap(probe.name, place, _text(ours, ids[place - 1]), a, b))
    _name_gap(found, found.prompts, "token")


def _name_gap(found: Comparison, measure: Measure, what: str) -> None:
    """Enter the first token whose difference is too large."""
    too_large = [gap for gap in measure.gaps if not gap.size <= found.tolerance.one]
    if too_large:
        gap = too_large[0]
        found.differences.append(
            f"{gap.probe}, {what} {gap.place} ({gap.token!r}): log-probability {gap.ours:.6f} here, {gap.theirs:.6f} "
            f"there: {gap.size:.2e} apart, more than {found.tolerance.one:.2e} "
            f"({len(too_large)} of {len(measure.gaps)} tokens are)"
        )


# ------------------------------------------------------------------------------------------ greedy answers


def _compare_answers(
    found: Comparison,
    ours: LocalModel,
    theirs: LanguageModel,
    probes: Sequence[Probe],
    sequences: Sequence[Sequence[int]],
    num_tokens: int,
) -> None:
    texts = [probe.text for probe in probes]
    sampling = Sampling(max_new_tokens=num_tokens, log_probabilities=ALTERNATIVES)
    mine = ours.complete(texts, [sampling] * len(texts))
    try:
        others = _answers(theirs, texts, sampling)
    except CannotScore as error:
        found.answers.missing = error.message
        others = _answers(theirs, texts, Sampling(max_new_tokens=num_tokens))
    for probe, ids, one, other in zip(probes, sequences, mine, others, strict=True):
        _compare_answer(found, ours, probe, ids, one, other)
    _name_gap(found, found.answers, "answer's token")


def _answers(lm: LanguageModel, texts: Sequence[str], sampling: Sampling) -> list[Generation]:
    with progress(doing="greedy answers", total=len(texts), unit="answers") as bar:
        return lm.complete(texts, [sampling] * len(texts), report=bar.update)


def _compare_answer(
    found: Comparison, lm: LocalModel, probe: Probe, prompt: Sequence[int], mine: Generation, other: Generation
) -> None:
    """Walk along both answers to where they part; then say whether that is a tie."""
    walk = zip(mine.log_probabilities or (), other.log_probabilities or (), strict=False)
    for place, (a, b) in enumerate(walk, start=1):
        if not _is_same(a, b):
            _enter_parting(found, probe, place, a, b, _next(lm, [*prompt, *mine.ids[: place - 1]]))
            return
        found.answers.gaps.append(Gap(probe.name, place, a.text, a.log_probability, b.log_probability))
    if mine.text != other.text:
        found.differences.append(f"{probe.name}: the answer is {mine.text!r} here, {other.text!r} there")
    else:
        found.same_answers += 1


def _enter_parting(
    found: Comparison, probe: Probe, place: int, a: TokenLogProbability, b: TokenLogProbability, own: Sequence[float]
) -> None:
    """Two greedy answers take different tokens: a tie where both sides see both tokens as equal, within tolerance."""
    ours_b = own[b.token] if b.token != UNKNOWN_TOKEN else _find(a.best, b)
    theirs_a = _find(b.best, a)
    words = (
        f"{probe.name}, answer's token {place}: {a.text!r} here (log-probability {a.log_probability:.6f}, there "
        f"{_said(theirs_a)}), {b.text!r} there ({b.log_probability:.6f}, here {_said(ours_b)})"
    )
    ours_lead = math.inf if ours_b is None else a.log_probability - ours_b
    theirs_lead = 0.0 if theirs_a is None else b.log_probability - theirs_a
    if max(ours_lead, theirs_lead) <= found.tolerance.one:
        found.ties.append(words)
    else:
        found.differences.append(words)


def _is_same(a: TokenLogProbability, b: TokenLogProbability) -> bool:
    return a.token == b.token if b.token != UNKNOWN_TOKEN else a.text == b.text


def _find(best: Sequence[tuple[int, str, float]], wanted: TokenLogProbability) -> float | None:
    """The log-probability of a token among the best of the other side, None where it is not among them."""
    for token, text, value in best:
        if token == wanted.token if UNKNOWN_TOKEN not in (token, wanted.token) else text == wanted.text:
            return value
    return None


def _next(lm: LocalModel, ids: Sequence[int]) -> list[float]:
    """Our log-probabilities of every token after `ids`."""
    scores: list[float] = lm.logits(ids)[-1].log_softmax(dim=-1).tolist()
    return scores


def _text(lm: LocalModel, token: int) -> str:
    return lm.tokenizer.decode([token], skip_special=False)


def _said(value: float | None) -> str:
    return "not among the best" if value is None else f"{value:.6f}"
