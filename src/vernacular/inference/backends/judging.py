"""A chat model at a server that judges: one answer at a time, with what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from vernacular.foundation.endpoint import Endpoint, Rejected
from vernacular.foundation.errors import MachineError, UserError
from vernacular.inference.backends.openai_replies import ChatCompletion, read_reply
from vernacular.models.language_model import Message


class Said(NamedTuple):
    """What the model said, and the tokens of request and answer together; None where the server does not say."""

    text: str
    tokens: int | None


class ServerJudge:
    """A model behind OpenAI's API.

    Args:
        url: what stands before `/chat/completions`, e.g. `https://host/v1`.
        model: its name there.
        key_from: environment variable that holds the key.
        seconds: without a byte until a request counts as lost.
        retries: further tries after 429, 5xx, time-outs and broken answers.
        wait: sleeps between tries.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key_from: str | None = None,
        *,
        seconds: float = 120,
        retries: int = 4,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._endpoint = Endpoint(url, key_from, seconds=seconds, retries=retries, wait=wait)
        self._model = model

    @property
    def identity(self) -> Mapping[str, str]:
        """The model's name and its server's URL."""
        return {"model": self._model, "url": self._endpoint.url}

    def ask(self, messages: Sequence[Message], *, temperature: float, max_tokens: int, seed: int) -> Said:
        """The model's answer.

        Raises:
            MachineError: there is none, or it is empty.
            Rejected: the server refuses all such requests: a wrong key, an unknown model.
        """
        body = {
            "model": self._model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": max_tokens,
            "seed": seed,
        }
        try:
            sent = self._endpoint.post("/chat/completions", body)
        except Rejected as error:
            if not error.is_of_one_request:
                raise
            raise MachineError(error.message, where=error.where, fix=error.fix) from error
        reply = read_reply(ChatCompletion, sent, self._endpoint.url)
        message = reply.choices[0].message if reply.choices else None
        if message is None or not message.content:
            raise MachineError("the judge's answer is empty", where=self._endpoint.url)
        return Said(message.content, None if reply.usage is None else reply.usage.total_tokens)


def open_judge(url: str, model: str | None, key_from: str | None) -> ServerJudge:
    """The judge that settings name."""
    if model is None:
        raise UserError("the judge has a server and no model", where="judge_model", fix="name it: --judge-model NAME")
    return ServerJudge(url, model, key_from)
