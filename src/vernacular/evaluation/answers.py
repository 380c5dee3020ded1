"""A model's answers on disk, by content hash: what was asked once is not asked again, not even after `kill -9`.

The file is only ever appended to. Each line carries its own checksum. A line cut off at the file's end is what a kill
leaves, and is dropped; any other line that does not match its checksum was altered, and the file is refused.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from vernacular.foundation.errors import UserError, machine_errors
from vernacular.foundation.files import sha256_bytes, sha256_json
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

ANSWERS = "answers.jsonl"

_FIRST_CHUNK = 64
_SECONDS_PER_CHUNK = 5.0
_CHECKSUM_LETTERS = 16

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class AnswerFile:
    """Answers by key, in memory and on disk.

    Args:
        path: the file; it is made, or continued.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, tuple[Any, float]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._read() if path.exists() else 0
        self._file: BinaryIO = open(path, "ab")  # noqa: SIM115 - closed by close()
        self._file.truncate(whole)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> tuple[Any, float] | None:
        """An answer and the seconds it took, or None."""
        return self._known.get(key)

    def add(self, answers: Mapping[str, Any], seconds: float) -> None:
        """Write answers, each of which took `seconds`; on return they are on the disk."""
        with machine_errors("writing answers", self.path):
            for key, value in answers.items():
                content = json.dumps([key, round(seconds, 6), value], ensure_ascii=False).encode()
                self._file.write(_checksum(content) + b" " + content + b"\n")
                self._known[key] = (value, round(seconds, 6))
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> int:
        """Read what is there; how many bytes of it are whole lines."""
        whole = 0
        with open(self.path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                checksum, _, content = line.rstrip(b"\n").partition(b" ")
                if not line.endswith(b"\n"):
                    return whole
                if checksum != _checksum(content):
                    raise UserError(
                        "the line does not match its checksum: the file was altered",
                        where=f"{self.path}:{number}",
                        fix="remove the file; what it holds will be asked again",
                    )
                key, seconds, value = json.loads(content)
                self._known[key] = (value, seconds)
                whole += len(line)
        return whole


def _checksum(content: bytes) -> bytes:
    return sha256_bytes(content)[:_CHECKSUM_LETTERS].encode()


class RememberingModel:
    """A `LanguageModel` that asks another only what the file does not hold.

    Requests go to the model in chunks of some seconds' work, in their own order, so that a shared beginning stays
    shared; each chunk is on the disk before the next is asked. An answer does not depend on what else is in its batch,
    so the chunks change nothing but what a kill can cost. What is asked twice is asked once.

    Args:
        model: what answers.
        file: where answers are kept.
    """

    def __init__(self, model: LanguageModel, file: AnswerFile) -> None:
        self.model = model
        self.file = file
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
        keys = [self.key("loglikelihood", list(pair)) for pair in pairs]
        values = self._answer(keys, pairs, lambda chunk, told: self.model.loglikelihood(chunk, report=told), report)
        return [Likelihood(*value) for value in values]

    def text_loglikelihood(self, texts: Sequence[str], *, report: Report | None = None) -> list[TextLikelihood]:
        """As the model's."""
        keys = [self.key("text", text) for text in texts]
        values = self._answer(
            keys, texts, lambda chunk, told: self.model.text_loglikelihood(chunk, report=told), report
        )
        return [TextLikelihood(*value) for value in values]

    def complete(
        self, prompts: Sequence[str], samplings: Sequence[Sampling], *, report: Report | None = None
    ) -> list[Generation]:
        """As the model's."""
        requests = list(zip(prompts, samplings, strict=True))
        keys = [self.key("complete", [prompt, sampling.model_dump(mode="json")]) for prompt, sampling in requests]

        def ask(chunk: Sequence[tuple[str, Sampling]], told: Report | None) -> list[Generation]:
            return self.model.complete([one for one, _ in chunk], [two for _, two in chunk], report=told)

        return [_generation(value) for value in self._answer(keys, requests, ask, report)]

    def stream(self, prompt: str, sampling: Sampling) -> Iterator[str]:
        """As the model's; nothing is remembered."""
        return self.model.stream(prompt, sampling)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """As the model's."""
        return self.model.render(messages, add_generation_prompt=add_generation_prompt)

    def key(self, kind: str, request: Any) -> str:
        """Hash of everything that an answer depends on: who answers, what is asked, and how."""
        return sha256_json([self._identity, kind, request])

    def seconds(self, key: str) -> float | None:
        """What an answer took: its share of its chunk's time."""
        found = self.file.get(key)
        return found[1] if found else None

    def _answer(
        self,
        keys: Sequence[str],
        requests: Sequence[Request],
        ask: Callable[[Sequence[Request], Report | None], Sequence[Any]],
        report: Report | None,
    ) -> list[Any]:
        missing = dict.fromkeys(key for key in keys if self.file.get(key) is None)
        if report is not None and len(missing) < len(keys):
            report(sum(key not in missing for key in keys))
        by_key = dict(zip(keys, requests, strict=True))
        waiting = list(missing)
        while waiting:
            chunk, waiting = waiting[: self._chunk], waiting[self._chunk :]
            started = time.perf_counter()
            answers = ask([by_key[key] for key in chunk], report)
            seconds = time.perf_counter() - started
            self.file.add(dict(zip(chunk, map(_as_json, answers), strict=True)), seconds / len(chunk))
            self._chunk = _next_chunk(self._chunk, seconds)
        return [self.file.get(key)[0] for key in keys]  # type: ignore[index]


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
