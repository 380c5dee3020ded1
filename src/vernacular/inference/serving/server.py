"""The server's life: it listens, answers, and when told to stop it finishes what it has."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from vernacular.foundation.errors import MachineError
from vernacular.inference.model import LocalModel
from vernacular.inference.serving.api import Api
from vernacular.inference.serving.keys import ApiKeys
from vernacular.inference.serving.loop import EngineLoop
from vernacular.inference.serving.record import LOG
from vernacular.inference.serving.settings import ServingSettings

_SWITCH_S = 0.0002
"""How long the thread of the routes may keep the interpreter from the engine's, which asks for it after each kernel:
with Python's 5 ms, 64 streams of a small model took twice the time (benchmarks/serving.py)."""
_LAST_WORDS_S = 2.0
"""How long clients may take to read why they get no more."""
_LOCAL = ("127.0.0.1", "::1", "localhost")


def serve(lm: LocalModel, listener: socket.socket, settings: ServingSettings, keys: ApiKeys) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is running, for `settings.grace` seconds at most.

    Args:
        lm: who answers.
        listener: from `reserve`.
        settings: limits and manners.
        keys: who is let in.
    """
    _log_to_stderr()
    loop = EngineLoop(lm.engine)
    api = Api(lm, loop, settings, keys)
    if not keys and settings.host not in _LOCAL:
        LOG.warning("no API key is asked for, and the address can be reached from other machines")
    if settings.log_text:
        LOG.warning("prompts and answers are written into this log")
    configuration = uvicorn.Config(
        api.application(),
        lifespan="off",
        log_config=None,
        log_level="critical",  # its errors quote what clients send; the log's lines are ours
        access_log=False,
        server_header=False,
    )
    sys.setswitchinterval(_SWITCH_S)
    loop.start()
    try:
        asyncio.run(_Server(configuration, api, loop, settings.grace).serve(sockets=[listener]))
    finally:
        loop.stop()
    LOG.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn's server, which returns after a signal instead of dying of it; a second signal does not wait."""

    def __init__(self, configuration: uvicorn.Config, api: Api, loop: EngineLoop, grace: float) -> None:
        super().__init__(configuration)
        self._api = api
        self._loop = loop
        self._grace = grace
        self._at_once = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and only then say so."""
        self._asyncio = asyncio.get_running_loop()
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            LOG.info("model=%s listening at http://%s:%s/v1", self._api.model_name, shown, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at the second time, at once."""
        again = self.should_exit
        self.should_exit = self._api.is_stopping = True
        if again:
            self._asyncio.call_soon_threadsafe(self._at_once.set)
        LOG.info("told to stop (%s)%s", signal.Signals(sig).name, ": at once" if again else "")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is running within the grace; tell the rest that it is over, and let them read it."""
        closing = asyncio.ensure_future(super().shutdown(sockets))
        at_once = asyncio.ensure_future(self._at_once.wait())
        await asyncio.wait({closing, at_once}, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        if not closing.done():
            self._loop.break_off()
            await asyncio.wait({closing}, timeout=_LAST_WORDS_S)
        for task in (closing, at_once):
            task.cancel()
        await asyncio.gather(closing, at_once, return_exceptions=True)


def reserve(settings: ServingSettings) -> socket.socket:
    """Take the address, before the weights are loaded for nothing. Until `serve`, nobody can connect to it.

    Raises:
        MachineError: the address is unknown, in use, or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise MachineError(
            f"cannot listen: {error.strerror or error}",
            where=f"{settings.host}:{settings.port}",
            fix="choose another --host or --port",
        ) from error
    return listener


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.handlers = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
