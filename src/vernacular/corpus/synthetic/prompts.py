"""Prompts as data: a YAML file of texts with {placeholders}, filled from the fields of a file of seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

from pydantic import Field

from vernacular.corpus.synthetic.endpoint import EndpointConfiguration
from vernacular.foundation.configuration import Configuration, read_yaml, validate
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import json_objects, sha256_json


class Prompt(Configuration):
    """A prompt. A brace that is meant stands twice: {{ }}."""

    name: str = Field(min_length=1, description="what it is called in the provenance of documents")
    prompt: str = Field(min_length=1, description="what the model is told, with {placeholders}")
    system: str | None = Field(None, description="the system message, with {placeholders}")
    language: str | None = Field(None, description="language that is asked for; may be a {placeholder}")

    @property
    def texts(self) -> tuple[str, ...]:
        """All its texts."""
        return tuple(text for text in (self.system, self.prompt, self.language) if text is not None)


class PromptFile(Configuration):
    """What a file of prompts holds."""

    prompts: tuple[Prompt, ...] = Field(min_length=1, description="each is put with every seed")


@dataclass(frozen=True)
class Request:
    """What is asked once.

    Attributes:
        number: of the request, from 1.
        body: what is sent.
        language: that is asked for, or None.
        origin: the prompt, the line of the seeds and the number of the answer.
    """

    number: int
    body: Mapping[str, Any]
    language: str | None
    origin: str

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the body: what the answer is kept under."""
        return sha256_json(self.body)

    @property
    def most_tokens(self) -> int:
        """Tokens that it can cost: a token of the prompt has one byte at least."""
        said = sum(len(message["content"].encode()) for message in self.body["messages"])
        return said + int(self.body["max_tokens"])


def read_requests(settings: EndpointConfiguration) -> Iterator[Request]:
    """Every request of a source, in the order of seeds, prompts and answers.

    Raises:
        UserError: a file cannot be read, or a seed lacks a field that a prompt names.
    """
    prompts = _read_prompts(Path(settings.prompts))
    number = 0
    for line, seed in _read_seeds(Path(settings.seeds)):
        for prompt in prompts:
            filled = [_filled(text, seed, prompt, f"{settings.seeds}:{line}") for text in prompt.texts]
            language = filled.pop() if prompt.language is not None else None
            roles = ("system", "user")[-len(filled) :]
            messages = [{"role": role, "content": text} for role, text in zip(roles, filled, strict=True)]
            for answer in range(settings.answers):
                number += 1
                body = {
                    "model": settings.model,
                    "messages": messages,
                    "temperature": settings.temperature,
                    "top_p": settings.top_p,
                    "max_tokens": settings.max_tokens,
                    "seed": settings.seed + answer,
                }
                yield Request(number, body, language, f"{prompt.name}, seed {line}, answer {answer + 1}")


def _read_prompts(path: Path) -> tuple[Prompt, ...]:
    document = read_yaml(path)
    prompts = validate(PromptFile, document.value, document).prompts
    names = [prompt.name for prompt in prompts]
    for place, prompt in enumerate(prompts):
        where = document.where(("prompts", place))
        if names.index(prompt.name) != place:
            raise UserError(f"two prompts are called '{prompt.name}'", where=where, fix="rename one")
        for text in prompt.texts:
            try:
                fields = [field for _, field, _, _ in Formatter().parse(text) if field is not None]
            except ValueError as error:
                why = f"not a text with {{placeholders}}: {error}"
                raise UserError(why, where=where, fix="write {{ for {") from error
            for field in fields:
                if not field.isidentifier():
                    raise UserError(
                        f"'{{{field}}}' is no placeholder", where=where, fix="name a field of the seeds, as {topic}"
                    )
    return prompts


def _read_seeds(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = open(path, encoding="utf-8")  # noqa: SIM115 (closed below, and errors of opening are ours to explain)
    except OSError as error:
        raise UserError(f"the seeds cannot be read: {error.strerror}", where=path, fix="check the path") from error
    with lines:
        number = 0
        for number, seed in json_objects(lines, path):
            yield number, seed
        if not number:
            raise UserError("there are no seeds: the file is empty", where=path, fix="give it lines of JSON")


def _filled(text: str, seed: Mapping[str, Any], prompt: Prompt, where: str) -> str:
    try:
        return text.format_map(seed)
    except KeyError as error:
        raise UserError(
            f"the prompt '{prompt.name}' names the field {error}, which this seed has not",
            where=where,
            fix=f"add it, or name one of {', '.join(seed) or 'its fields (there are none)'}",
        ) from error
