"""Log-probabilities of texts from whatever gives log-probabilities of tokens."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vernacular.foundation.errors import UserError
from vernacular.inference.encoding import TokenPair
from vernacular.inference.reader import Reader
from vernacular.models.language_model import Likelihood, Message, Report, TextLikelihood


class TokenScore(NamedTuple):
    """Log-probability in nats of a given token in its place, and whether it is the most probable one there."""

    log_probability: float
    is_best: bool


class CannotScore(UserError):
    """The back-end does not give log-probabilities of what it is asked for; says why."""


class TokenScorer(ABC):
    """The scoring half of a `LanguageModel`, of a back-end that scores token ids."""

    @property
    @abstractmethod
    def reader(self) -> Reader:
        """Who makes tokens of texts."""

    @property
    @abstractmethod
    def max_positions(self) -> int:
        """Longest sequence in tokens, prompt and answer together."""

    @property
    @abstractmethod
    def most_scored(self) -> int:
        """Longest context and continuation together, in tokens, that can be scored at once."""

    @abstractmethod
    def token_scores(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, list[TokenScore]]]:
        """Each pair's number and the scores of its continuation's tokens, in any order.

        Raises:
            CannotScore: this back-end does not give them.
        """

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, report: Report | None = None) -> list[Likelihood]:
        """Log-probability of each continuation given its context; `report(n)` is told of n more pairs done.

        A context that is too long loses tokens at its left. A continuation that is too long by itself is refused.
        """
        encoded = self.reader.encode_pairs(pairs)
        fitted = []
        for number, pair in enumerate(encoded, start=1):
            room = self.most_scored - len(pair.continuation)
            if room < 1:
                raise UserError(
                    f"the continuation has {len(pair.continuation)} tokens, {1 - room} more than can be scored at once",
                    where=f"pair {number} of {len(pairs)}",
                    fix="score long texts with text_loglikelihood, which reads them in windows",
                )
            fitted.append(TokenPair(pair.context[-room:], pair.continuation))
        found: list[Likelihood] = [Likelihood(0.0, True)] * len(pairs)
        for number, scores in self.token_scores(fitted):
            total = math.fsum(score.log_probability for score in scores)
            cut = len(encoded[number].context) - len(fitted[number].context)
            found[number] = Likelihood(total, all(score.is_best for score in scores), len(scores), cut)
            if report is not None:
                report(1)
        return found

    def text_loglikelihood(self, texts: Sequence[str], *, report: Report | None = None) -> list[TextLikelihood]:
        """Log-probability of each whole text after the begin token, and its number of tokens.

        A text longer than `most_scored` is read in windows of as many tokens, each token predicted exactly once.
        """
        tokenizer = self.reader.tokenizer
        encoded = tokenizer.encode_batch(texts)
        windows: list[TokenPair] = []
        owners: list[int] = []
        for number, ids in enumerate(encoded):
            for window in _windows((tokenizer.begin_id, *ids), self.most_scored):
                windows.append(window)
                owners.append(number)
        totals = [0.0] * len(texts)
        left = [owners.count(number) for number in range(len(texts))]
        for number, scores in self.token_scores(windows):
            owner = owners[number]
            totals[owner] += math.fsum(score.log_probability for score in scores)
            left[owner] -= 1
            if report is not None and not left[owner]:
                report(1)
        if report is not None and (empty := len(texts) - len(set(owners))):
            report(empty)
        return [TextLikelihood(total, len(ids)) for total, ids in zip(totals, encoded, strict=True)]

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the chat template writes it; refused where the weights have no template."""
        return self.reader.need_template().render(messages, add_generation_prompt=add_generation_prompt)


def _windows(ids: Sequence[int], most: int) -> Iterator[TokenPair]:
    """Windows of at most `most` tokens that predict each of `ids` but the first once."""
    for start in range(1, len(ids), most - 1):
        end = min(start + most - 1, len(ids))
        first = max(0, end - most)
        yield TokenPair(tuple(ids[first:start]), tuple(ids[start:end]))
