"""A `LanguageModel` on top of a program that takes token ids and gives token ids."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vernacular.inference.answer import Answer, Pieces
from vernacular.inference.backends.scoring import TokenScorer
from vernacular.inference.constraint import Constraint
from vernacular.inference.reader import Reader
from vernacular.models.language_model import Generation, Message, Report, Sampling


class TokenModel(TokenScorer):
    """What such back-ends share: our tokenizer on both sides, our stop strings, our reading of broken characters."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def reader(self) -> Reader:
        """Who makes tokens of texts."""
        return self._reader

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, str]:
        """What answers: back-end, dtype, and hashes of weights, tokenizer and template."""

    @abstractmethod
    def run(self, answers: Sequence[Answer]) -> Iterable[Answer]:
        """Go on with each answer until it is finished, yielding it then."""

    @abstractmethod
    def grow(self, answer: Answer) -> Iterator[None]:
        """Go on with one answer until it is finished, pausing wherever there may be something to show."""

    def constraint(self, sampling: Sampling) -> Constraint | None:
        """The form that an answer is to follow; a back-end that cannot hold answers to one refuses it here."""
        return None

    def complete(
        self, prompts: Sequence[str], samplings: Sequence[Sampling], *, report: Report | None = None
    ) -> list[Generation]:
        """Continue each prompt; the begin token is put first unless the prompt starts with it."""
        encoded = self.reader.encode_prompts(prompts)
        answers = [self._answer(ids, sampling) for ids, sampling in zip(encoded, samplings, strict=True)]
        for _ in self.run(answers):
            if report is not None:
                report(1)
        return [answer.generation() for answer in answers]

    def stream(self, prompt: str, sampling: Sampling) -> Iterator[str]:
        """As `complete` for one prompt, in pieces that never cut a grapheme cluster."""
        (ids,) = self.reader.encode_prompts([prompt])
        return self._stream(ids, sampling)

    def stream_chat(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The assistant's answer to a conversation, in pieces; what it says is never read as a control token."""
        return self._stream(self.reader.encode_chat(messages), sampling)

    def _stream(self, ids: Sequence[int], sampling: Sampling) -> Iterator[str]:
        answer = self._answer(ids, sampling, follow=True)
        pieces = Pieces(answer)
        for _ in self.grow(answer):
            yield from pieces.take()
        yield from pieces.take()

    def _answer(self, ids: Sequence[int], sampling: Sampling, *, follow: bool = False) -> Answer:
        return Answer(
            ids,
            sampling,
            max_positions=self.max_positions,
            end_ids=self.reader.end_ids,
            tokenizer=self.reader.tokenizer,
            follow=follow,
            constraint=self.constraint(sampling),
        )
