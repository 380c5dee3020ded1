"""A `LanguageModel` that asks another only what it has not answered before."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vernacular.evaluation.answer_file import AnswerFile
from vernacular.foundation.files import sha256_json
from vernacular.models.language_model import (
    Generation,
    LanguageModel,
    Likelihood,
    Message,
    Report,
    Sampling,
    TextLikelihood,
    TokenLogProbability,
)

if TYPE_CHECKING:
    from vernacular.evaluation.crew import Crew

_FIRST_CHUNK = 64
_SECONDS_PER_CHUNK = 5.0


class RememberingModel:
    """A `LanguageModel` that asks another only what the file does not hold.

    Requests go to the model in chunks of some seconds' work, in their own order, so that a shared beginning stays
    shared; each chunk is on the disk before the next is asked. An answer does not depend on what else is in its batch,
    so the chunks change nothing but what a kill can cost. What is asked twice is asked once.

    Args:
        model: what answers.
        file: where answers are kept.
        crew: the processes that answer together, where there are several.

    Attributes:
        num_answers: how many were given.
        num_cached: how many of them another evaluation had got.
    """

    def __init__(self, model: LanguageModel, file: AnswerFile, crew: Crew | None = None) -> None:
        self.model = model
        self.file = file
        self.num_answers = self.num_cached = 0
        self._crew = crew
        self._identity = dict(model.identity)
        self._chunk = _FIRST_CHUNK

    @property
    def identity(self) -> Mapping[str, str]:
        """As the model's."""
        return self._identity

    @property
    def max_positions(self) -> int:
        """As the model's."""
        return self.model.max_positions

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, report: Report | None = None) -> list[Likelihood]:
        """As the model's."""
        return [Likelihood(*value) for value in self._answer("loglikelihood", [list(pair) for pair in pairs], report)]

    def text_loglikelihood(self, texts: Sequence[str], *, report: Report | None = None) -> list[TextLikelihood]:
        """As the model's."""
        return [TextLikelihood(*value) for value in self._answer("text", list(texts), report)]

    def complete(
        self, prompts: Sequence[str], samplings: Sequence[Sampling], *, report: Report | None = None
    ) -> list[Generation]:
        """As the model's."""
        asked = zip(prompts, samplings, strict=True)
        requests = [[prompt, sampling.model_dump(mode="json")] for prompt, sampling in asked]
        return [_generation(value) for value in self._answer("complete", requests, report)]

    def stream(self, prompt: str, sampling: Sampling) -> Iterator[str]:
        """As the model's; nothing is remembered."""
        return self.model.stream(prompt, sampling)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """As the model's."""
        return self.model.render(messages, add_generation_prompt=add_generation_prompt)

    def key(self, kind: str, request: Any) -> str:
        """Hash of everything that an answer depends on: who answers, what is asked, and how."""
        return sha256_json([self._identity, kind, request])

    def _answer(self, kind: str, requests: Sequence[Any], report: Report | None) -> list[Any]:
        keys = [self.key(kind, request) for request in requests]
        known = {key: kept for key in keys if (kept := self.file.get(key)) is not None}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        self.num_answers += len(known) + len(missing)
        self.num_cached += sum(kept.is_cached for kept in known.values())
        if report is not None and known:
            report(sum(key in known for key in keys))
        if self._crew is None:
            self._ask_in_chunks(kind, missing, report)
        elif missing:
            self._crew.answer(self.model, self.file, kind, missing, report)
        return [self.file.get(key).value for key in keys]  # type: ignore[union-attr]

    def _ask_in_chunks(self, kind: str, missing: Mapping[str, Any], report: Report | None) -> None:
        waiting = list(missing)
        while waiting:
            chunk, waiting = waiting[: self._chunk], waiting[self._chunk :]
            seconds = ask_and_keep(self.model, self.file, kind, {key: missing[key] for key in chunk}, report)
            self._chunk = _next_chunk(self._chunk, seconds)


def ask_and_keep(
    model: LanguageModel, file: AnswerFile, kind: str, requests: Mapping[str, Any], report: Report | None
) -> float:
    """Have the model answer requests and write the answers down; the seconds it took.

    Args:
        model: what answers.
        file: where answers are kept.
        kind: loglikelihood, text or complete.
        requests: by key, as JSON values: a pair of texts; a text; a prompt and the fields of `Sampling`.
        report: told of answers as they come.
    """
    started = time.perf_counter()
    answers = _ask(model, kind, list(requests.values()), report)
    seconds = time.perf_counter() - started
    file.add(dict(zip(requests, map(_as_json, answers), strict=True)), seconds / len(requests))
    return seconds


def _ask(model: LanguageModel, kind: str, requests: Sequence[Any], report: Report | None) -> Sequence[Any]:
    if kind == "loglikelihood":
        return model.loglikelihood([(context, continuation) for context, continuation in requests], report=report)
    if kind == "text":
        return model.text_loglikelihood(requests, report=report)
    samplings = [Sampling.model_validate(settings) for _, settings in requests]
    return model.complete([prompt for prompt, _ in requests], samplings, report=report)


def _next_chunk(size: int, seconds: float) -> int:
    """Twice as many while a chunk is quick: large chunks let the model share and pack more."""
    return size * 2 if seconds < _SECONDS_PER_CHUNK else size


def _as_json(answer: Any) -> list[Any]:
    return json.loads(json.dumps(answer))


def _generation(value: Sequence[Any]) -> Generation:
    text, ids, stopped_by, log_probabilities = value
    tokens = None
    if log_probabilities is not None:
        tokens = tuple(
            TokenLogProbability(token, piece, number, tuple((other, piece_, each) for other, piece_, each in best))
            for token, piece, number, best in log_probabilities
        )
    return Generation(text, tuple(ids), stopped_by, tokens)
