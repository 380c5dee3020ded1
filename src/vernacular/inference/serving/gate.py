"""The door: every request passes it on its way in and out. Keys, request ids, the log's line, counts."""

from __future__ import annotations

import asyncio
import re
import secrets
import traceback
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vernacular.inference.serving.errors import ApiError, ClientGone
from vernacular.inference.serving.keys import ApiKeys
from vernacular.inference.serving.metrics import Metrics
from vernacular.inference.serving.record import LOG, Record

CLIENT_GONE = 499
UNAVAILABLE = 503
_METHOD = re.compile("[A-Z]{1,10}")


class Gate:
    """Wraps the application.

    Args:
        app: the routes.
        keys: who is let in to /v1.
        metrics: counts each request.
        routes: paths that are named in log and metrics; what else a client writes as path stays out of both.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, metrics: Metrics, routes: Collection[str]) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if _METHOD.fullmatch(scope["method"]) else "other"
        record = Record(id=f"req-{secrets.token_hex(8)}", method=method)
        if scope["path"] in self._routes:
            record.route = scope["path"]
        scope.setdefault("state", {})["record"] = record

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = record.status or message["status"]
                MutableHeaders(scope=message)["x-request-id"] = record.id
            await send(message)

        try:
            await self._pass(scope, receive, marked, record)
        except ClientGone:
            record.status = CLIENT_GONE
        except asyncio.CancelledError:  # the server ends, and the client did not read that it does
            record.status, record.code = UNAVAILABLE, "shutting_down"
            raise
        except Exception as error:  # noqa: BLE001 - the client was told; the others are not to suffer from it
            _log_accident(error, record)
        finally:
            self._metrics.requests.labels(record.route, str(record.status), record.code or "").inc()
            self._metrics.seconds.observe(record.seconds)
            record.log()

    async def _pass(self, scope: Scope, receive: Receive, send: Send, record: Record) -> None:
        authorization = Headers(scope=scope).get("authorization")
        if not scope["path"].startswith("/v1") or self._keys.let_in(authorization):
            await self._app(scope, receive, send)
            return
        what = "no API key was given" if authorization is None else "the API key is wrong"
        error = ApiError(401, f"{what}: send 'Authorization: Bearer KEY'", code="invalid_api_key")
        record.code = error.code
        await error_response(error)(scope, receive, send)


def _log_accident(error: Exception, record: Record) -> None:
    """Where it happened, not what the error says: that may quote the request."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    LOG.error("request=%s %s at %s:%s", record.id, type(error).__name__, place.filename, place.lineno)
    record.code = "internal_error"


def error_response(error: ApiError) -> Response:
    """The response that says what went wrong."""
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)
