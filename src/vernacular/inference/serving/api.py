"""The routes: /v1/completions, /v1/chat/completions, /v1/models, /health, /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vernacular.foundation.errors import VernacularError
from vernacular.inference.model import LocalModel
from vernacular.inference.serving.errors import ApiError, of_ours
from vernacular.inference.serving.exchange import Exchange, closed_on_error
from vernacular.inference.serving.gate import Gate, error_response
from vernacular.inference.serving.jobs import calls_marker, chat_job, completion_job, echo_scores
from vernacular.inference.serving.keys import ApiKeys
from vernacular.inference.serving.limits import TimeLimit, WaitingRoom, read_json_body, while_connected
from vernacular.inference.serving.loop import EngineLoop
from vernacular.inference.serving.metrics import CONTENT_TYPE, Metrics
from vernacular.inference.serving.record import Record
from vernacular.inference.serving.responses import ChatWriter, CompletionWriter, Writer
from vernacular.inference.serving.schema import Asked, ChatRequest, CompletionRequest, read_request
from vernacular.inference.serving.settings import ServingSettings
from vernacular.inference.serving.streaming import EventStream

ROUTES = ("/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/health/ready", "/metrics")


class Api:
    """What the routes do.

    Args:
        lm: who answers.
        loop: its engine's thread.
        settings: limits and manners.
        keys: who is let in.
    """

    def __init__(self, lm: LocalModel, loop: EngineLoop, settings: ServingSettings, keys: ApiKeys) -> None:
        self._lm = lm
        self._loop = loop
        self._settings = settings
        self._keys = keys
        self._room = WaitingRoom(settings.max_waiting)
        self._metrics = Metrics(lambda: loop.statistics)
        self._started = int(time.time())
        self.model_name = settings.model_name or lm.folder.resolve().name
        self.is_stopping = False

    def application(self) -> ASGIApp:
        """The routes behind the door."""
        routes = [
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat_completions, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/health", self.health),
            Route("/health/ready", self.ready),
            Route("/metrics", self.metrics),
        ]
        handlers: dict[Any, Callable[[Request, Any], Response]] = {
            ApiError: _say,
            VernacularError: _say_ours,
            HTTPException: _say_route,
            Exception: _say_accident,
        }
        return Gate(Starlette(routes=routes, exception_handlers=handlers), self._keys, self._metrics, ROUTES)

    # ------------------------------------------------------------------------------------------ answers

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        asked, exchange = await self._admitted(request, CompletionRequest)
        with closed_on_error(exchange):
            job = await while_connected(request.receive, exchange.prepare(partial(completion_job, self._lm, asked)))
            firsts = [answer.prompt[0] for answer in job.answers]
            writer = CompletionWriter(self.model_name, self._lm.tokenizer, job.texts if asked.echo else (), firsts)
            if asked.echo:
                work = partial(echo_scores, self._lm, job, asked)
                writer.echo_scores = await while_connected(request.receive, exchange.scores(self._loop, work))
            return await self._answer(request, asked, exchange, writer)

    async def chat_completions(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        asked, exchange = await self._admitted(request, ChatRequest)
        with closed_on_error(exchange):
            await while_connected(request.receive, exchange.prepare(partial(chat_job, self._lm, asked)))
            writer = ChatWriter(self.model_name, self._lm.tokenizer, calls_marker(self._lm, asked))
            return await self._answer(request, asked, exchange, writer)

    async def _admitted(self, request: Request, kind: type[Asked]) -> tuple[Asked, Exchange]:
        """What is asked, and places for its answers: before any work is done for it."""
        record: Record = request.state.record
        limit = TimeLimit(self._settings.timeout, record.seconds)
        async with limit.kept():
            asked = read_request(kind, await read_json_body(request, self._settings.max_body_bytes))
        self._check_model(asked.model)
        if asked.stream_options is not None and not asked.stream:
            raise ApiError(400, "stream_options is for streams", code="invalid_value", param="stream_options")
        return asked, Exchange(asked.num_answers, self._room, self._metrics, record, self._settings.log_text, limit)

    async def _answer(
        self, request: Request, asked: CompletionRequest | ChatRequest, exchange: Exchange, writer: Writer
    ) -> Response:
        exchange.start(self._loop, follow=asked.stream)
        if asked.stream:
            await while_connected(request.receive, exchange.accepted())
            with_usage = asked.stream_options is not None and asked.stream_options.include_usage
            return EventStream(exchange.events(writer, with_usage=with_usage), exchange.close)
        generations = await while_connected(request.receive, exchange.generations())
        exchange.close()
        return JSONResponse(writer.whole(generations, exchange.usage))

    def _check_model(self, name: str) -> None:
        if name != self.model_name:
            raise ApiError(
                404,
                f"the model '{name}' is not served here; there is '{self.model_name}'",
                code="model_not_found",
                param="model",
            )

    # ------------------------------------------------------------------------------------------ about the server

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/NAME."""
        request.state.record.route = "/v1/models"
        self._check_model(request.path_params["name"])
        return JSONResponse(self._model())

    async def health(self, request: Request) -> Response:
        """GET /health: whether the engine lives."""
        if self._loop.failure is not None:
            return JSONResponse({"status": "failed", "reason": self._loop.failure}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """GET /health/ready: whether requests are taken: the engine lives, the queue has room, nobody said stop."""
        full = self._room.waiting >= self._settings.max_waiting
        if self._loop.failure is not None or self.is_stopping or full:
            reason = "engine failed" if self._loop.failure else "stopping" if self.is_stopping else "queue full"
            return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    def _model(self) -> dict[str, Any]:
        return {
            "id": self.model_name,
            "object": "model",
            "created": self._started,
            "owned_by": "vernacular",
            "max_model_len": self._lm.max_positions,
        }


def _say(request: Request, error: ApiError) -> Response:
    request.state.record.code = error.code
    return error_response(error)


def _say_ours(request: Request, error: VernacularError) -> Response:
    return _say(request, of_ours(error))


def _say_accident(request: Request, error: Exception) -> Response:
    """The door logs it; its words may quote the request, so they stay here."""
    name = request.state.record.id
    return _say(request, ApiError(500, f"an accident of ours; the log names it under {name}", code="internal_error"))


def _say_route(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        allowed = (error.headers or {})["Allow"]
        methods = " or ".join(sorted(allowed.split(", ")))
        said = ApiError(405, f"{request.url.path} takes {methods} only", code="method_not_allowed")
        said.headers["Allow"] = allowed
        return _say(request, said)
    message = f"unknown path: {request.method} {request.url.path}; there are {', '.join(ROUTES)}"
    return _say(request, ApiError(error.status_code, message, code="unknown_url"))
