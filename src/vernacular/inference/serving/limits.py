"""What keeps one client from harming the others: the length of a body, the number that wait, the time one takes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from vernacular.foundation.errors import UserError
from vernacular.inference.json_text import parse_json
from vernacular.inference.serving.errors import ApiError, ClientGone, said

Result = TypeVar("Result")
_DISCARDED = 16
"""How many times the longest body is read and thrown away, so that the client gets to read the refusal."""


async def read_json_body(request: Request, max_bytes: int) -> dict[str, Any]:
    """The JSON object of a request's body; one that is too long, not UTF-8 or not JSON is refused."""
    content = await _read_body(request, max_bytes)
    value = await asyncio.to_thread(_parse, content)
    if not isinstance(value, dict):
        raise ApiError(400, "the body is to be a JSON object", code="invalid_json")
    return value


async def _read_body(request: Request, max_bytes: int) -> bytes:
    content = bytearray()
    length = 0
    try:
        async for chunk in request.stream():
            length += len(chunk)
            if length <= max_bytes:
                content += chunk
            elif length > _DISCARDED * max_bytes:
                break
    except ClientDisconnect as error:
        raise ClientGone from error
    if length > max_bytes:
        raise ApiError(
            413, f"the body is longer than {max_bytes} bytes, the most this server takes", code="body_too_large"
        )
    return bytes(content)


def _parse(content: bytes) -> Any:
    try:
        return parse_json(content)
    except UserError as error:
        raise ApiError(400, f"the body cannot be read: {said(error)}", code="invalid_json") from error


class TimeLimit:
    """What one request may take.

    Args:
        seconds: from its arrival to its end.
        spent: those that have passed.
    """

    def __init__(self, seconds: float, spent: float) -> None:
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds - spent

    def kept(self) -> _Kept:
        """A context; what is done within it is broken off at the deadline, with the API's error."""
        return _Kept(self._deadline, self._seconds)


class _Kept:
    def __init__(self, deadline: float, seconds: float) -> None:
        self._timeout = asyncio.timeout_at(deadline)
        self._seconds = seconds

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise ApiError(
                504, f"the request took longer than {self._seconds:g} seconds, the most it may", code="timeout"
            ) from late


class WaitingRoom:
    """Counts the answers that have no first token yet."""

    def __init__(self, places: int) -> None:
        self._places = places
        self.waiting = 0

    def enter(self, number: int) -> None:
        """Take places, or be sent away: for a while, or for good where there are not so many."""
        if number > self._places:
            raise ApiError(
                400,
                f"the request asks for {number} answers, more than the {self._places} that may wait at once; split it",
                code="too_many_answers",
            )
        if self.waiting + number > self._places:
            raise ApiError(
                429, f"{self.waiting} answers are waiting already; try again later", code="queue_full", retry_after=1
            )
        self.waiting += number

    def leave(self, number: int) -> None:
        """Give places back."""
        self.waiting -= number


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Do `work`; if the client leaves before it is done, cancel it and raise `ClientGone`."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnection(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
