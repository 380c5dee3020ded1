"""Requests: the fields we honour, those that change nothing here, and those we refuse by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, JsonValue, Tag, ValidationError, field_validator

from vernacular.foundation.configuration import Configuration, validate
from vernacular.foundation.errors import UserError
from vernacular.inference.serving.errors import ApiError, bad_request

WITHOUT_EFFECT = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier"})
"""Fields that say nothing about the answer."""

ONLY_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "function_call": (),
    "functions": (),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True,),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_cache_retention": (),
    "reasoning_effort": (),
    "store": (False,),
    "suffix": ("",),
    "verbosity": (),
    "web_search_options": (),
}
"""Fields of the API that we cannot honour, and the values of each that ask for nothing."""

MOST_CHOICES = 128
MOST_ALTERNATIVES = 20
_LONGEST_NAME = 40


def _tag(value: Any) -> str:
    return "many" if isinstance(value, list | tuple) else "one"


_Item = TypeVar("_Item")
OneOrMore = Annotated[
    Annotated[str, Tag("one")] | Annotated[tuple[_Item, ...], Tag("many")],
    Discriminator(_tag),
]
"""A text or a list; which of them, the value itself says, so that an error is about that one only."""


class StreamOptions(Configuration):
    """What a stream brings beside the text."""

    include_usage: bool = Field(False, description="a last chunk with the number of tokens")


class Schema(Configuration):
    """A JSON schema with a name."""

    name: str = Field("", description="for people")
    description: str | None = Field(None, description="for people")
    schema_: dict[str, JsonValue] = Field(alias="schema", description="the JSON schema")
    strict: bool = Field(True, description="answers always follow the schema, whatever this says")


class PlainFormat(Configuration):
    """Text, or any JSON object."""

    type: Literal["text", "json_object"] = Field(description="text, json_object or json_schema")


class SchemaFormat(Configuration):
    """JSON that follows a schema."""

    type: Literal["json_schema"] = Field(description="json_schema")
    json_schema: Schema = Field(description="the schema")


class _Request(Configuration):
    """What completions and chats share."""

    model: str = Field(description="name of the model, as /v1/models lists it")
    n: int = Field(1, ge=1, le=MOST_CHOICES, description="answers to each prompt")
    seed: int | None = Field(
        None, ge=0, description="seed of the draws; answer i takes seed + i. Without it, a fresh one"
    )
    stop: OneOrMore[str] = Field((), description="strings that end the answer; not part of it")
    stream: bool = Field(False, description="send the answer as it comes")
    stream_options: StreamOptions | None = Field(None, description="for streams")
    temperature: float = Field(1.0, ge=0, le=2, description="0 = greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the fewest tokens whose probabilities reach p")
    top_k: int | None = Field(None, gt=0, description="keep the k most probable tokens (not in OpenAI's API)")
    min_p: float | None = Field(None, ge=0, le=1, description="drop tokens below p times the best (not in OpenAI's)")
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 repeats less (not in OpenAI's API)")
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = Field(
        None, description="text, json_object, or json_schema"
    )
    grammar: str | None = Field(None, description="a grammar in llguidance's Lark (not in OpenAI's API)")


class CompletionRequest(_Request):
    """POST /v1/completions."""

    prompt: str | tuple[str, ...] | tuple[int, ...] | tuple[tuple[int, ...], ...] = Field(
        description="text, texts, token ids, or lists of them"
    )
    max_tokens: int = Field(16, ge=1, description="most tokens of the answer")
    echo: bool = Field(False, description="put the prompt before the answer")
    logprobs: int | None = Field(
        None, ge=0, le=MOST_ALTERNATIVES, description="log-probability of each token, and this many alternatives"
    )

    @field_validator("prompt", mode="before")
    @classmethod
    def _is_of_one_kind(cls, prompt: Any) -> Any:
        """Said here, for pydantic reads true as 1, and names every kind that it tried."""
        if isinstance(prompt, str):
            return prompt
        if isinstance(prompt, list):
            lists = prompt if prompt and all(isinstance(one, list) for one in prompt) else [prompt]
            if all(type(token) is int for ids in lists for token in ids):
                return prompt
            if all(isinstance(text, str) for text in prompt):
                return prompt
        raise ValueError("the prompt is to be a text, a list of texts, a list of token ids, or a list of such lists")

    @property
    def num_answers(self) -> int:
        """n to each prompt; a list of numbers is one prompt."""
        is_one = isinstance(self.prompt, str) or (len(self.prompt) > 0 and isinstance(self.prompt[0], int))
        return self.n * (1 if is_one else len(self.prompt))


class TextPart(Configuration):
    """A part of a message."""

    type: Literal["text"] = Field(description="only text")
    text: str = Field(description="the text")


class CalledFunction(Configuration):
    """What a tool call calls."""

    name: str = Field(description="the function's name")
    arguments: str = Field(description="its arguments as JSON text")


class ToolCall(Configuration):
    """A call that the assistant made."""

    id: str = Field(description="ties the tool's answer to the call")
    type: Literal["function"] = Field("function", description="only functions")
    function: CalledFunction = Field(description="name and arguments")


class ChatMessage(Configuration):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"] = Field(description="developer is read as system")
    content: OneOrMore[TextPart] | None = Field(None, description="text, or parts of type text")
    tool_calls: tuple[ToolCall, ...] = Field((), description="of an assistant's message")
    tool_call_id: str | None = Field(None, description="of a tool's message")


class Function(Configuration):
    """A function that the model may call."""

    name: str = Field(description="its name")
    description: str = Field("", description="what it does")
    parameters: dict[str, JsonValue] = Field({}, description="JSON schema of its arguments")
    strict: bool = Field(False, description="only false: arguments are not bound to the schema")


class Tool(Configuration):
    """A tool that the model may call."""

    type: Literal["function"] = Field(description="only functions")
    function: Function = Field(description="the function")


class ChatRequest(_Request):
    """POST /v1/chat/completions."""

    messages: tuple[ChatMessage, ...] = Field(min_length=1, description="the conversation")
    max_tokens: int | None = Field(None, ge=1, description="older name of max_completion_tokens")
    max_completion_tokens: int | None = Field(None, ge=1, description="most tokens of the answer; else all there is")
    logprobs: bool = Field(False, description="log-probability of each token")
    top_logprobs: int | None = Field(None, ge=0, le=MOST_ALTERNATIVES, description="this many alternatives to each")
    tools: tuple[Tool, ...] = Field((), description="functions that the model may call")
    tool_choice: str | dict[str, JsonValue] | None = Field(None, description="auto or none")

    @property
    def num_answers(self) -> int:
        """n to the conversation."""
        return self.n


Asked = TypeVar("Asked", CompletionRequest, ChatRequest)


def read_request(kind: type[Asked], body: Mapping[str, Any]) -> Asked:
    """A request from its JSON object. A field that is null counts as left out.

    Raises:
        ApiError: 400; a field is unknown (the nearest is named), wrong, or one that we cannot honour.
    """
    given = {name: value for name, value in body.items() if value is not None and name not in WITHOUT_EFFECT}
    for name, neutral in ONLY_NEUTRAL.items():
        if name in given and given.pop(name) not in neutral:
            raise ApiError(400, f"'{name}' is not served here; leave it out", code="unsupported_parameter", param=name)
    _check_parts(given.get("messages"))
    if isinstance(given.get("messages"), list):
        given["messages"] = [_without_nulls(message) for message in given["messages"]]
    if isinstance(given.get("response_format"), dict) and isinstance(given["response_format"].get("json_schema"), dict):
        given["response_format"] = {
            **given["response_format"],
            "json_schema": _without_nulls(given["response_format"]["json_schema"]),
        }
    try:
        return validate(kind, given)
    except UserError as error:
        cause = error.__cause__
        param = _param(cause, given) if isinstance(cause, ValidationError) else None
        raise bad_request(error, param) from error


def _param(error: ValidationError, given: Mapping[str, Any]) -> str:
    """Where the field at fault stands in the request: pydantic's path without the branches of unions that it tried."""
    problems = error.errors()
    first = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])  # as `validate` has it
    here: Any = given
    path: list[str] = []
    for place in first["loc"]:
        inside: dict[Any, Any] = here if isinstance(here, dict) else {}
        inside = dict(enumerate(here)) if isinstance(here, list) else inside
        if place in inside:
            here = inside[place]
            path.append(str(place))
    if first["type"] == "missing":
        path.append(str(first["loc"][-1]))
    return ".".join(path)


def _check_parts(messages: Any) -> None:
    """Refuse images, sound and files by that name, not by their keys."""
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for place, part in enumerate(content if isinstance(content, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind != "text":
                raise ApiError(
                    400,
                    f"only text parts are served, not parts of type '{kind[:_LONGEST_NAME]}'",
                    code="invalid_value",
                    param=f"messages.{number}.content.{place}.type",
                )


def _without_nulls(value: Any) -> Any:
    return {key: inner for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value
