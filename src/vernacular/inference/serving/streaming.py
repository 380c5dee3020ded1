"""Server-sent events, for as long as the client listens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vernacular.inference.serving.limits import while_connected

DONE = "[DONE]"


class EventStream(Response):
    """Sends each object as an event. `close` is called in the end, however it ends.

    Args:
        events: the objects.
        close: gives up what is still being made for the stream.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[dict[str, Any] | str], close: Callable[[], None]) -> None:
        self._events = events
        self._close = close
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})

    def init_headers(self, headers: Any = None) -> None:
        """Without content-length: nobody knows it yet."""
        given = {**(headers or {}), "content-type": f"{self.media_type}; charset=utf-8"}
        self.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await while_connected(receive, self._send(send))
        finally:
            self._close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events:
            content = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
            await send({"type": "http.response.body", "body": f"data: {content}\n\n".encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
