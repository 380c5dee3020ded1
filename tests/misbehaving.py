"""A server that does what a test tells it to: stalls, fails, sends half of its JSON, leaves things out."""

from __future__ import annotations

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What is sent: a status, headers, the body's bytes; or nothing at all until the server stops."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    stalls: bool = False
    announced: int | None = None


def sends(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), tuple(headers.items()))


def completion(text: str = "dobrze", reason: str | None = "stop", **choice: Any) -> Reply:
    return sends({"choices": [{"text": text, "finish_reason": reason, **choice}], "usage": {"prompt_tokens": 3}})


STALL = Reply(stalls=True)
BROKEN = Reply(200, b'{"choices": [{"te')


class FakeServer:
    """Sends the replies of `replies` one after another, the last again and again; keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque([completion()])
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self.barrier: threading.Barrier | None = None
        self._at_once = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                server._take(json.loads(body), {name.lower(): value for name, value in self.headers.items()})
                server._send(self)
                with server._lock:
                    server._at_once -= 1

            def do_GET(self) -> None:
                self.send_response(404)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        return Handler

    def _take(self, body: dict[str, Any], headers: dict[str, str]) -> None:
        with self._lock:
            self.asked.append(body)
            self.headers.append(headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        if self.barrier is not None:
            self.barrier.wait(30)

    def _send(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            reply = self.replies.popleft() if len(self.replies) > 1 else self.replies[0]
        if reply.stalls:
            self._stopped.wait(30)
            return
        handler.send_response(reply.status)
        for name, value in reply.headers:
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(reply.body) if reply.announced is None else reply.announced))
        handler.end_headers()
        handler.wfile.write(reply.body)
