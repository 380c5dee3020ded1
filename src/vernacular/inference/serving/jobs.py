"""From a request to answers that the engine can make. Runs in a worker thread: encoding a long prompt takes a while."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import UserError
from vernacular.inference.answer import Answer
from vernacular.inference.model import LocalModel
from vernacular.inference.prompt_scores import prompt_scores
from vernacular.inference.serving.errors import ApiError, bad_request, said
from vernacular.inference.serving.schema import ChatMessage, ChatRequest, CompletionRequest, SchemaFormat
from vernacular.models.language_model import Sampling, TokenLogProbability

_NAMES_IN_THE_API = {
    "json_schema": "response_format",
    "log_probabilities": "logprobs",
    "max_new_tokens": "max_tokens",
}
"""Of settings of ours that are called otherwise there."""
_ANY_OBJECT = '{"type": "object"}'


class Job(NamedTuple):
    """The answers to a request, in the order of its choices.

    Attributes:
        answers: fresh answers.
        texts: the prompts as text, one for each answer; only where they are to be shown (`echo`, log of texts).
        num_prompt_tokens: each prompt counted once, however many answers it gets.
    """

    answers: list[Answer]
    texts: list[str]
    num_prompt_tokens: int


def completion_job(lm: LocalModel, asked: CompletionRequest) -> Job:
    """Answers to each prompt, n to each."""
    prompts = _prompts(lm, asked)
    answers, texts = [], []
    for ids in prompts:
        answers += _answers(lm, ids, asked, asked.max_tokens, asked.logprobs, "prompt")
        texts += [lm.tokenizer.decode(ids)] * asked.n
    return Job(answers, texts, sum(map(len, prompts)))


def echo_scores(lm: LocalModel, job: Job, asked: CompletionRequest) -> list[list[TokenLogProbability | None]]:
    """Log-probabilities of the prompt of each choice. For the engine's thread: it computes them."""
    if asked.logprobs is None:
        return []
    distinct = {id(answer.prompt): answer.prompt for answer in job.answers}
    scores = {name: prompt_scores(lm, prompt, asked.logprobs) for name, prompt in distinct.items()}
    return [scores[id(answer.prompt)] for answer in job.answers]


def chat_job(lm: LocalModel, asked: ChatRequest) -> Job:
    """n answers to a conversation."""
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise _refused("max_tokens", "max_tokens and max_completion_tokens are the same; leave one out")
    if asked.top_logprobs is not None and not asked.logprobs:
        raise _refused("top_logprobs", "top_logprobs needs logprobs: true")
    messages = [_message(message, number) for number, message in enumerate(asked.messages)]
    tools = [tool.model_dump(exclude_defaults=True) | {"type": tool.type} for tool in asked.tools]
    if not _wants_tools(lm, asked):
        tools = []
    try:
        ids = lm.encode_chat(messages, tools=tools or None)
    except UserError as error:
        raise bad_request(error, "messages") from error
    limit = asked.max_tokens or asked.max_completion_tokens
    alternatives = (asked.top_logprobs or 0) if asked.logprobs else None
    answers = _answers(lm, ids, asked, limit, alternatives, "messages")
    return Job(answers, [lm.tokenizer.decode(ids, skip_special=False)] * asked.n, len(ids))


def calls_marker(lm: LocalModel, asked: ChatRequest) -> str | None:
    """What an answer that calls tools starts with; None where the request offers none."""
    return lm.template.tool_call_marker if lm.template is not None and _wants_tools(lm, asked) else None


def _wants_tools(lm: LocalModel, asked: ChatRequest) -> bool:
    if asked.tool_choice not in (None, "auto", "none"):
        raise _refused("tool_choice", "tool_choice is auto or none: no tool can be forced here")
    if not asked.tools or asked.tool_choice == "none":
        return False
    if lm.template is None or lm.template.tool_call_marker is None:
        raise _refused("tools", "this model's chat template has no place for tool calls; leave out tools")
    strict = [tool.function.name for tool in asked.tools if tool.function.strict]
    if strict:
        raise _refused("tools", f"arguments of '{strict[0]}' cannot be bound to its schema; leave out strict")
    return True


def _prompts(lm: LocalModel, asked: CompletionRequest) -> list[list[int]]:
    """Token ids of each prompt; a list of numbers is one prompt."""
    prompt = asked.prompt
    if isinstance(prompt, str):
        return [lm.encode_prompt(prompt)]
    if not prompt:
        raise _refused("prompt", "the prompt is an empty list")
    if isinstance(prompt[0], int):
        return [_checked(lm, prompt)]
    return [lm.encode_prompt(one) if isinstance(one, str) else _checked(lm, one) for one in prompt]


def _checked(lm: LocalModel, ids: Sequence[Any]) -> list[int]:
    if not ids:
        raise _refused("prompt", "a prompt has no tokens")
    wrong = next((token for token in ids if not 0 <= token < lm.tokenizer.vocab_size), None)
    if wrong is not None:
        raise _refused("prompt", f"token {wrong} is outside the vocabulary of {lm.tokenizer.vocab_size}")
    return list(ids)


def _message(message: ChatMessage, number: int) -> dict[str, Any]:
    """A message as the template takes it: parts of text joined, developer read as system."""
    content = message.content
    if content is not None and not isinstance(content, str):
        content = "".join(part.text for part in content)
    if content is None and not message.tool_calls:
        raise _refused(f"messages.{number}.content", "the message has no content")
    plain: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
    if content or not message.tool_calls:
        plain["content"] = content
    if message.tool_calls:
        plain["tool_calls"] = [call.model_dump() for call in message.tool_calls]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _answers(
    lm: LocalModel,
    ids: list[int],
    asked: CompletionRequest | ChatRequest,
    limit: int | None,
    alternatives: int | None,
    param: str,
) -> list[Answer]:
    """n answers to one prompt. Where a limit is asked for, there is to be room for it."""
    needed = len(ids) + (limit or 1)
    if needed > lm.max_positions:
        raise ApiError(
            400,
            f"this model's context is {lm.max_positions} tokens; the request needs {needed}: {len(ids)} of the prompt "
            f"and {limit or 'at least 1'} of the answer. Shorten the prompt or ask for a shorter answer",
            code="context_length_exceeded",
            param=param,
        )
    seed = secrets.randbits(31) if asked.seed is None else asked.seed
    settings: dict[str, Any] = {
        "max_new_tokens": limit or lm.max_positions - len(ids),
        "temperature": asked.temperature,
        "top_p": asked.top_p if asked.top_p < 1 else None,
        "top_k": asked.top_k,
        "min_p": asked.min_p,
        "repetition_penalty": asked.repetition_penalty,
        "stop": (asked.stop,) if isinstance(asked.stop, str) else asked.stop,
        "log_probabilities": alternatives,
        **_form(asked),
    }
    try:
        samplings = [validate(Sampling, {**settings, "seed": seed + number}) for number in range(asked.n)]
        return [lm.answer(ids, sampling, follow=asked.stream) for sampling in samplings]
    except UserError as error:
        where = _NAMES_IN_THE_API.get((error.where or "").partition(":")[0], error.where)
        raise ApiError(400, said(error), code="invalid_value", param=where) from error


def _form(asked: CompletionRequest | ChatRequest) -> Mapping[str, str]:
    """The schema or grammar that the answer is bound to."""
    wanted = asked.response_format
    schema = None
    if isinstance(wanted, SchemaFormat):
        schema = json.dumps(wanted.json_schema.schema_, ensure_ascii=False)
    elif wanted is not None and wanted.type == "json_object":
        schema = _ANY_OBJECT
    if schema is not None and asked.grammar is not None:
        raise _refused("grammar", "an answer follows response_format or grammar, not both")
    if schema is not None:
        return {"json_schema": schema}
    return {} if asked.grammar is None else {"grammar": asked.grammar}


def _refused(param: str, message: str) -> ApiError:
    return ApiError(400, message, code="invalid_value", param=param)
