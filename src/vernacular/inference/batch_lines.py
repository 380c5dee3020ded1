"""A line of a file of prompts, and the line that answers it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, StrictInt, StrictStr

from vernacular.foundation.configuration import Configuration, validate
from vernacular.foundation.errors import UserError, unknown_name
from vernacular.inference.answer import Answer
from vernacular.inference.json_text import parse_json
from vernacular.inference.turn import read_turn
from vernacular.models.language_model import Sampling

if TYPE_CHECKING:
    from vernacular.inference.model import LocalModel

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line that is not blank: its number from 1, its bytes, and their hash."""

    number: int
    content: bytes
    hash: str


class Task(Configuration):
    """What a line asks, its sampling left out."""

    prompt: str | None = Field(None, description="text to continue")
    messages: tuple[dict[str, Any], ...] | None = Field(None, description="a conversation to answer")
    tools: tuple[dict[str, Any], ...] | None = Field(None, description="tools that may be called, with messages")
    documents: tuple[dict[str, Any], ...] | None = Field(None, description="documents to rest on, with messages")
    id: StrictStr | StrictInt | None = Field(None, description="repeated in the answer")


class LineError(Exception):
    """A line that cannot be answered; the others can.

    Args:
        problem: why.
        given: the line's id, where that much could be read.
    """

    def __init__(self, problem: UserError, given: str | int | None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.given = given


class Pending(NamedTuple):
    """A line being answered."""

    line: Line
    task: Task
    answer: Answer


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file that are not blank, one at a time."""
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            content = raw.removeprefix(_BYTE_ORDER_MARK).strip() if number == 1 else raw.strip()
            if content:
                yield Line(number, content, hashlib.sha256(content).hexdigest()[:32])


def prepare(lm: LocalModel, line: Line, default: Sampling) -> Pending:
    """Read a line and encode what it asks.

    Raises:
        LineError: it is not JSON, has unknown keys, is too long, or the model's template refuses it.
    """
    given = None
    try:
        value = parse_json(line.content)
        if not isinstance(value, dict):
            raise UserError("the line is no JSON object", fix='write {"prompt": …} or {"messages": […]}')
        given = value["id"] if type(value.get("id")) in (str, int) else None
        task, sampling = _read(value, default)
        if task.prompt is not None:
            ids = lm.encode_prompt(task.prompt)
        else:
            messages = [_message(message, number) for number, message in enumerate(task.messages or ())]
            ids = lm.encode_chat(messages, tools=task.tools, documents=task.documents)
        return Pending(line, task, lm.answer(ids, sampling))
    except UserError as error:
        raise LineError(error, given) from error


def _read(value: Mapping[str, Any], default: Sampling) -> tuple[Task, Sampling]:
    known = {*Task.model_fields, *Sampling.model_fields}
    for name in value:
        if name not in known:
            raise unknown_name("key", name, known)
    task = validate(Task, {name: value[name] for name in Task.model_fields if name in value})
    if (task.prompt is None) == (task.messages is None):
        raise UserError("a line has either prompt or messages", fix="give it one of them")
    if task.messages is not None and not task.messages:
        raise UserError("the conversation has no messages", where="messages", fix="give it one at least")
    if task.messages is None and (task.tools or task.documents):
        raise UserError("tools and documents go with messages, not with a prompt", fix="leave them out")
    own = {name: value[name] for name in Sampling.model_fields if name in value}
    if isinstance(own.get("stop"), str):
        own["stop"] = (own["stop"],)
    if isinstance(own.get("json_schema"), dict):
        own["json_schema"] = json.dumps(own["json_schema"], ensure_ascii=False)
    return task, validate(Sampling, {**default.model_dump(), **own}) if own else default


def _message(message: dict[str, Any], number: int) -> dict[str, Any]:
    """A message as the template takes it, read as the server reads it: parts of text joined, developer as system."""
    plain = {name: value for name, value in message.items() if value is not None}
    if plain.get("role") == "developer":
        plain["role"] = "system"
    content = plain.get("content")
    if isinstance(content, list):
        for part in content:
            is_text = isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"
            if not is_text or not isinstance(part["text"], str):
                raise UserError(
                    "a part of the message is not text",
                    where=f"messages.{number}.content",
                    fix='write {"type": "text", "text": …}',
                )
        plain["content"] = "".join(part["text"] for part in content)
    return plain


def answered(lm: LocalModel, pending: Pending) -> tuple[bytes, bool]:
    """The line for a finished answer, and whether it tells of an error."""
    answer, task = pending.answer, pending.task
    problem = answer.constraint.problem if answer.constraint is not None else None
    if problem is not None:
        error = LineError(UserError(f"the schema or grammar could not be followed: {problem}"), task.id)
        return failed(pending.line, error), True
    generation = answer.generation()
    marker = lm.template.tool_call_marker if task.tools and lm.template is not None else None
    turn = read_turn(generation, lm.tokenizer, marker)
    value: dict[str, Any] = {**_name(pending.line, task.id), "text": turn.content}
    if turn.calls:
        value["tool_calls"] = turn.calls
    value |= {
        "stopped_by": generation.stopped_by,
        "prompt_tokens": len(answer.prompt),
        "answer_tokens": len(generation.ids),
    }
    if generation.log_probabilities is not None:
        value["log_probabilities"] = [
            {
                "token": one.token,
                "text": one.text,
                "log_probability": one.log_probability,
                "best": [list(alternative) for alternative in one.best],
            }
            for one in generation.log_probabilities
        ]
    return _written(value), False


def failed(line: Line, error: LineError) -> bytes:
    """The line for one that could not be answered."""
    problem = error.problem
    said = {"message": problem.message, "where": problem.where, "fix": problem.fix}
    return _written({**_name(line, error.given), "error": {key: text for key, text in said.items() if text}})


def _name(line: Line, given: str | int | None) -> dict[str, Any]:
    return {"line": line.number} if given is None else {"line": line.number, "id": given}


def _written(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
