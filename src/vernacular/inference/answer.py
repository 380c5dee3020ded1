"""One request while it is being answered. Pure Python: no tensors here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from vernacular.foundation.errors import UserError
from vernacular.inference.constraint import Constraint
from vernacular.inference.detokenisation import Clusters, Decodes, Detokeniser, could_be_stop, find_stop
from vernacular.models.language_model import Generation, Sampling, StoppedBy, TokenLogProbability


class TokenScores(NamedTuple):
    """The log-probability of a token that was chosen, and the most probable ones in its place, with theirs."""

    log_probability: float
    best: tuple[tuple[int, float], ...]


class Answer:
    """A prompt, how to continue it, and what was drawn so far.

    Args:
        prompt: token ids.
        sampling: how the next token is chosen, and when to stop.
        max_positions: longest sequence in tokens, prompt and answer together.
        end_ids: tokens that end the answer.
        tokenizer: decodes the tokens.
        follow: whether the text is asked for token by token, not only at the end.
        constraint: the form that the answer is to follow.

    Attributes:
        ids: tokens of the answer so far, the end token or the stop string's included.
        text: what of its text is settled; all of it, without the stop string, when it is finished.
        stopped_by: why it is finished; None while it is not.
        log_probabilities: of each of `ids`, where they are asked for.
        random: its own source of chance.
        limit: most tokens it can have.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        max_positions: int,
        end_ids: frozenset[int],
        tokenizer: Decodes,
        follow: bool = False,
        constraint: Constraint | None = None,
    ) -> None:
        room = max_positions - len(prompt)
        if room < 1:
            raise UserError(
                f"the prompt has {len(prompt)} tokens, {1 - room} too many: the model has {max_positions} positions, "
                "and the answer needs at least one",
                where="prompt",
                fix=f"shorten the prompt to at most {max_positions - 1} tokens",
            )
        if "" in sampling.stop:
            raise UserError("a stop string is empty", where="stop", fix="leave it out")
        if not prompt:
            raise UserError("the prompt has no tokens", where="prompt", fix="give it the begin token at least")
        self.prompt = prompt
        self.sampling = sampling
        self.limit = min(sampling.max_new_tokens, room)
        self.random = random.Random(sampling.seed)
        self.ids: list[int] = []
        self.text = ""
        self.stopped_by: StoppedBy | None = None
        self.log_probabilities: list[TokenLogProbability] = []
        self.constraint = constraint
        self._end_ids = end_ids
        self._tokenizer = tokenizer
        # Text is needed on the way only to look for stop strings or to show it.
        self._detokeniser = Detokeniser(tokenizer) if sampling.stop or follow else None

    def push(self, token: int, scores: TokenScores | None = None) -> bool:
        """Take the next token; return whether the answer is finished."""
        self.ids.append(token)
        if scores is not None:
            best = tuple((other, self._text_of(other), score) for other, score in scores.best)
            self.log_probabilities.append(
                TokenLogProbability(token, self._text_of(token), scores.log_probability, best)
            )
        if self.constraint is not None:
            self.constraint.accept(token)
        if token in self._end_ids:
            self._finish("end")
        elif self._detokeniser is not None and self._grow(self._detokeniser.push(token)):
            self.stopped_by = "stop"
        elif len(self.ids) == self.limit:
            self._finish("length")
        return self.stopped_by is not None

    def generation(self) -> Generation:
        """The finished answer. Its tokens are all that were drawn, the end token or the stop string's included."""
        assert self.stopped_by is not None, "the answer is not finished"
        log_probabilities = None if self.sampling.log_probabilities is None else tuple(self.log_probabilities)
        return Generation(self.text, tuple(self.ids), self.stopped_by, log_probabilities)

    def cancel(self) -> None:
        """Finish it where it stands."""
        if self.stopped_by is None:
            self._finish("cancelled")

    def _text_of(self, token: int) -> str:
        return self._tokenizer.decode([token], skip_special=False)

    def _finish(self, reason: Literal["end", "length", "cancelled"]) -> None:
        self.stopped_by = reason
        if self._detokeniser is None:
            self.text = self._tokenizer.decode(self.ids[:-1] if reason == "end" else self.ids)
        elif self._grow(self._detokeniser.flush()):
            self.stopped_by = "stop"

    def _grow(self, text: str) -> bool:
        """Add settled text; at a stop string cut it off and return True."""
        before = len(self.text)
        self.text += text
        place = find_stop(self.text, self.sampling.stop, before) if text else None
        if place is None:
            return False
        self.text = self.text[:place]
        return True


class Pieces:
    """What of a growing answer can be shown: whole grapheme clusters that cannot be part of a stop string any more."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._clusters = Clusters()
        self._shown = 0

    def take(self) -> Iterator[str]:
        """The next piece, if there is one."""
        text, finished = self._answer.text, self._answer.stopped_by is not None
        safe = len(text) if finished else len(text) - could_be_stop(text, self._answer.sampling.stop)
        piece = self._clusters.push(text[self._shown : safe])
        self._shown = max(self._shown, safe)
        if finished:
            piece += self._clusters.flush()
        if piece:
            yield piece
