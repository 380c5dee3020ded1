"""Any server with OpenAI's API behind `LanguageModel`: completions, chats, and log-probabilities where it has them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from vernacular.foundation.configuration import Configuration
from vernacular.foundation.endpoint import Endpoint, Rejected
from vernacular.foundation.errors import UserError
from vernacular.inference.backends.address import OPENAI
from vernacular.inference.backends.openai_replies import (
    UNKNOWN_TOKEN,
    ChatCompletion,
    Choice,
    Completion,
    ListedModel,
    ModelList,
    TokenNames,
    read_reply,
    stopped_by,
)
from vernacular.inference.backends.scoring import CannotScore, TokenScore, TokenScorer
from vernacular.inference.detokenisation import Clusters
from vernacular.inference.encoding import TokenPair
from vernacular.inference.reader import Reader
from vernacular.models.language_model import Generation, Message, Report, Sampling
from vernacular.models.weights import CONFIG, read_config

NOT_STATED = "not stated"
_NO_SUCH_ROUTE = (404, 405, 501)
_CANNOT = (400, *_NO_SUCH_ROUTE, 422)
"""Statuses of a server that does not know what it is asked for."""
_OPTIONAL = ("top_p", "top_k", "min_p")
_Result = TypeVar("_Result")


class OpenAiSettings(Configuration):
    """Settings of the back-end `openai`."""

    model: str = Field(min_length=1, description="the model's name at the server")
    weights: Path | None = Field(
        None, description="folder with the model's tokenizer: prompts are then sent as token ids, and can be scored"
    )
    template: Literal["server", "local"] | None = Field(
        None, description="who writes chats: the server, or the template of `weights` (default: `local` with weights)"
    )
    dtype: str | None = Field(None, description="format of the server's weights, for the record and for check-backend")
    key_from: str | None = Field(None, min_length=1, description="environment variable that holds the key")
    max_positions: int | None = Field(None, gt=0, description="longest sequence, where the server does not say")
    concurrency: int = Field(8, gt=0, le=256, description="requests under way at once")
    timeout: float = Field(600, gt=0, description="seconds without a byte until a request counts as lost")
    retries: int = Field(4, ge=0, le=20, description="further tries after 429, 5xx, time-outs and broken answers")


class OpenAiModel(TokenScorer):
    """A model at a server.

    Without `weights` prompts are sent as text, and the server makes the tokens: begin token and control tokens are its
    affair. With `weights` they are made here, exactly as for our own engine, and sent as numbers.

    Args:
        url: what stands before `/completions`, e.g. `http://localhost:8000/v1`.
        settings: the model's name and manners.
        wait: sleeps between tries.
    """

    def __init__(self, url: str, settings: OpenAiSettings, *, wait: Callable[[float], object] = time.sleep) -> None:
        self._settings = settings
        self._endpoint = Endpoint(url, settings.key_from, seconds=settings.timeout, retries=settings.retries, wait=wait)
        self._known_reader = Reader(settings.weights) if settings.weights is not None else None
        self.template = settings.template or ("local" if self._known_reader is not None else "server")
        if self.template == "local" and self._known_reader is None:
            raise UserError("template=local needs a template", where="template", fix="name it with weights=FOLDER")

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What answers, as far as a URL can tell; `template` is "server" where the server writes chats."""
        reader = self._known_reader
        local = reader.template_hash if reader is not None else "none"
        return {
            "backend": OPENAI,
            "dtype": self._settings.dtype or NOT_STATED,
            "weights": f"{self._settings.model} at {self._endpoint.url}",
            "tokenizer": reader.tokenizer.hash if reader is not None else "server",
            "template": local if self.template == "local" else "server",
        }

    @cached_property
    def max_positions(self) -> int:
        """Longest sequence: as set, as the server lists it (`max_model_len`), or as `weights` has it."""
        if self._settings.max_positions is not None:
            return self._settings.max_positions
        for model in self._listed():
            if model.id == self._settings.model and model.max_model_len is not None:
                return model.max_model_len
        if self._settings.weights is not None and (self._settings.weights / CONFIG).is_file():
            return read_config(self._settings.weights).max_positions
        raise UserError(
            "the server does not say how long a sequence may be", where=self._endpoint.url, fix="set max_positions"
        )

    def _listed(self) -> list[ListedModel]:
        """The server's models; none where it has no list."""
        try:
            return read_reply(ModelList, self._endpoint.get("/models"), self._endpoint.url).data
        except Rejected as error:
            if error.status not in _NO_SUCH_ROUTE:
                raise
            return []

    @property
    def reader(self) -> Reader:
        """Who makes tokens; refused where only the server can."""
        if self._known_reader is None:
            raise CannotScore(
                "only the server has the tokenizer, and log-probabilities are of tokens",
                where=self._endpoint.url,
                fix="name a folder with the same tokenizer: weights=FOLDER",
            )
        return self._known_reader

    # ------------------------------------------------------------------------------------------ answers

    def complete(
        self, prompts: Sequence[str], samplings: Sequence[Sampling], *, report: Report | None = None
    ) -> list[Generation]:
        """Continue each prompt; several requests are under way at once."""
        asked = list(zip(self._prompts(prompts), samplings, strict=True))
        if any(sampling.log_probabilities is not None for sampling in samplings):
            _ = self._names  # read once, before the threads need it
        return self._all([partial(self._complete, *one) for one in asked], report)

    def stream(self, prompt: str, sampling: Sampling) -> Iterator[str]:
        """As `complete` for one prompt, in pieces that never cut a grapheme cluster."""
        (prompt_sent,) = self._prompts([prompt])
        return self._stream(prompt_sent, sampling)

    def chat(self, conversations: Sequence[Sequence[Message]], samplings: Sequence[Sampling]) -> list[Generation]:
        """The assistant's answer to each conversation, written by the template that `template` names."""
        asked = list(zip(conversations, samplings, strict=True))
        return self._all([partial(self._chat, *one) for one in asked], None)

    def stream_chat(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """As `chat` for one conversation, in pieces that never cut a grapheme cluster."""
        if self.template == "local":
            yield from self._stream(self.reader.encode_chat(messages), sampling)
            return
        body = {**self._body(sampling, chat=True), "messages": list(messages), "stream": True}
        yield from _clusters(
            piece.delta.content or ""
            for sent in self._endpoint.events("/chat/completions", body)
            for piece in read_reply(ChatCompletion, sent, self._endpoint.url).choices
            if piece.delta is not None
        )

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the local template writes it; refused where the server writes chats."""
        if self.template == "server":
            raise UserError(
                "chats are written by the server, so their text is not known here",
                where="template=server",
                fix="set template=local and weights=FOLDER, a folder with the model's tokenizer and template",
            )
        return super().render(messages, add_generation_prompt=add_generation_prompt)

    def count_tokens(self, texts: Sequence[str]) -> list[int | None]:
        """Tokens that the server itself reads each text as, begin token included; None where it does not say."""
        return self._all([partial(self._count, text) for text in texts], None)

    # ------------------------------------------------------------------------------------------ scores

    @property
    def most_scored(self) -> int:
        """Longest context and continuation together: the server reads all of it, and draws a token after it."""
        return self.max_positions - 1

    def token_scores(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, list[TokenScore]]]:
        """Each pair's number and the scores of its continuation, from the echo of its tokens.

        Raises:
            CannotScore: the server does not echo prompts with their log-probabilities.
        """
        with self._pool() as pool:
            waiting: dict[Future[list[TokenScore]], int] = {}
            for number, pair in enumerate(pairs):
                waiting[pool.submit(self._score, pair)] = number
            for done in as_completed(waiting):
                yield waiting[done], done.result()

    def _score(self, pair: TokenPair) -> list[TokenScore]:
        ids = [*pair.context, *pair.continuation]
        body = {
            "model": self._settings.model,
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 0,
            "echo": True,
            "logprobs": 1,
        }
        try:
            choice = self._choice(self._endpoint.post("/completions", body))
        except Rejected as error:
            if error.status not in _CANNOT:
                raise
            raise CannotScore(
                f"the server does not serve log-probabilities of a prompt (echo with logprobs): {error.message}",
                where=error.where,
                fix="score with a server that does, e.g. vLLM, or with our own engine",
            ) from error
        found = choice.logprobs
        if found is None or found.top_logprobs is None:
            raise self._cannot("the server's echo has no log-probabilities")
        if len(found.token_logprobs) not in (len(ids), len(ids) + 1):
            raise self._cannot(f"the server echoes {len(found.token_logprobs)} tokens for a prompt of {len(ids)}")
        scores = []
        for place in range(len(pair.context), len(ids)):
            own, best = found.token_logprobs[place], found.top_logprobs[place]
            if own is None or not best:
                raise self._cannot(f"the server gives no log-probability for token {place + 1} of the prompt")
            scores.append(TokenScore(own, own >= max(best.values())))
        return scores

    def _cannot(self, reason: str) -> CannotScore:
        return CannotScore(reason, where=self._endpoint.url, fix="score with another server, or with our own engine")

    # ------------------------------------------------------------------------------------------ within

    def _prompts(self, prompts: Sequence[str]) -> Sequence[str | list[int]]:
        return prompts if self._known_reader is None else self._known_reader.encode_prompts(prompts)

    def _complete(self, prompt: str | Sequence[int], sampling: Sampling) -> Generation:
        body = {**self._body(sampling), "prompt": prompt}
        choice = self._choice(self._endpoint.post("/completions", body))
        reason = stopped_by(choice.finish_reason, bool(sampling.stop), self._endpoint.url)
        if sampling.log_probabilities is None:
            return Generation(choice.text, (), reason)
        if choice.logprobs is None:
            raise self._cannot("the server's answer has no log-probabilities")
        found = self._names.read(choice.logprobs, sampling.log_probabilities)
        ids = tuple(one.token for one in found)
        return Generation(choice.text, () if UNKNOWN_TOKEN in ids else ids, reason, found)

    def _chat(self, messages: Sequence[Message], sampling: Sampling) -> Generation:
        if self.template == "local":
            return self._complete(self.reader.encode_chat(messages), sampling)
        body = {**self._body(sampling, chat=True), "messages": list(messages)}
        reply = read_reply(ChatCompletion, self._endpoint.post("/chat/completions", body), self._endpoint.url)
        if not reply.choices or reply.choices[0].message is None:
            raise self._cannot("the server's answer has no message")
        reason = stopped_by(reply.choices[0].finish_reason, bool(sampling.stop), self._endpoint.url)
        return Generation(reply.choices[0].message.content or "", (), reason)

    def _stream(self, prompt: str | Sequence[int], sampling: Sampling) -> Iterator[str]:
        body = {**self._body(sampling), "prompt": prompt, "stream": True}
        return _clusters(
            piece.text
            for sent in self._endpoint.events("/completions", body)
            for piece in read_reply(Completion, sent, self._endpoint.url).choices
        )

    def _count(self, text: str) -> int | None:
        body = {"model": self._settings.model, "prompt": text, "max_tokens": 1, "temperature": 0}
        usage = read_reply(Completion, self._endpoint.post("/completions", body), self._endpoint.url).usage
        return None if usage is None else usage.prompt_tokens

    def _choice(self, sent: Any) -> Choice:
        choices = read_reply(Completion, sent, self._endpoint.url).choices
        if not choices:
            raise self._cannot("the server's answer has no choices")
        return choices[0]

    def _body(self, sampling: Sampling, *, chat: bool = False) -> dict[str, Any]:
        """The settings in the API's words; what changes nothing is left out, since not every server knows it."""
        body: dict[str, Any] = {
            "model": self._settings.model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
        }
        if sampling.temperature:
            body["seed"] = sampling.seed
            body |= {name: getattr(sampling, name) for name in _OPTIONAL if getattr(sampling, name) is not None}
        if sampling.repetition_penalty != 1:
            body["repetition_penalty"] = sampling.repetition_penalty
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.log_probabilities is not None:
            body |= {"logprobs": True} if chat else {"logprobs": sampling.log_probabilities}
        if sampling.json_schema is not None:
            schema = {"name": "answer", "schema": json.loads(sampling.json_schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if sampling.grammar is not None:
            body["grammar"] = sampling.grammar
        return body

    @cached_property
    def _names(self) -> TokenNames:
        return TokenNames(None if self._known_reader is None else self._known_reader.tokenizer)

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Threads for the requests; on an error those not begun are dropped."""
        pool = ThreadPoolExecutor(self._settings.concurrency)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)

    def _all(self, jobs: Sequence[Callable[[], _Result]], report: Report | None) -> list[_Result]:
        """What each job gives, in order; the first that fails ends all."""
        with self._pool() as pool:
            futures = [pool.submit(job) for job in jobs]
            for done in as_completed(futures):
                done.result()
                if report is not None:
                    report(1)
            return [future.result() for future in futures]


def _clusters(texts: Iterator[str]) -> Iterator[str]:
    """The text in whole grapheme clusters."""
    clusters = Clusters()
    for text in texts:
        piece = clusters.push(text)
        if piece:
            yield piece
    rest = clusters.flush()
    if rest:
        yield rest
