"""A server's URL: requests that are tried again when that helps, and errors that say whose they are."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vernacular.foundation.errors import MachineError, UserError, VernacularError, missing_extra
from vernacular.foundation.patience import Passing, Patience, persist

if TYPE_CHECKING:
    import httpx

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may be gone with the next try."""
_OF_ONE_REQUEST = frozenset({400, 413, 422})
_FIRST_WAIT = 0.5
_MOST_SAID = 400
_DATA = "data:"
_DONE = "[DONE]"


class Rejected(UserError):
    """The server understood the request and refuses it.

    Attributes:
        status: of HTTP.
    """

    status = 0

    @property
    def is_of_one_request(self) -> bool:
        """Whether it says nothing of other requests: it is for what this one holds, or for its length."""
        return self.status in _OF_ONE_REQUEST


class Unreachable(MachineError):
    """Nothing listens at the address: no further request will be answered either."""


class Endpoint:
    """JSON to and from a server.

    Args:
        url: what stands before `/completions`, e.g. `https://host/v1`.
        key_from: environment variable that holds the key; it is sent, and shown nowhere.
        seconds: without a byte from the server until a request counts as lost.
        retries: further tries of a request that failed in passing.
        wait: sleeps between tries.
    """

    def __init__(
        self,
        url: str,
        key_from: str | None,
        *,
        seconds: float,
        retries: int,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._httpx = _library()
        self.url = url.rstrip("/")
        self._key_from = key_from
        self._patience = Patience(retries + 1, _FIRST_WAIT, wait)
        self._key = _key(key_from)
        parsed = self._parsed()
        if parsed.userinfo or parsed.query:
            raise UserError(
                "the URL holds a password or a query",
                where="URL of the server",
                fix="name the environment variable that holds the key with key_from=NAME",
            )
        headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        self._client = self._httpx.Client(headers=headers, timeout=seconds)

    def get(self, path: str) -> Any:
        """The object at a path."""
        return self._tried(lambda: self._once("GET", path, None))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The object that the server answers with.

        Raises:
            Rejected: the server refuses the request; nothing is tried again.
            MachineError: it cannot be reached, or fails again and again.
        """
        return self._tried(lambda: self._once("POST", path, body))

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[Any]:
        """The objects of a stream of events. What fails before the first is tried again; later it is an error."""
        response = self._tried(lambda: self._opened(path, body))
        try:
            for line in response.iter_lines():
                if line.startswith(_DATA):
                    data = line.removeprefix(_DATA).strip()
                    if data == _DONE:
                        return
                    yield json.loads(data)
        except (self._httpx.TransportError, json.JSONDecodeError) as error:
            raise self._gave_up(f"its stream broke off: {_reason(error)}") from error
        finally:
            response.close()
        raise self._gave_up(f"its stream ended without {_DONE}")

    # ------------------------------------------------------------------------------------------ within

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        response = self._client.request(method, self.url + path, json=body)
        self._check(response)
        return response.json()

    def _opened(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        response = self._client.send(self._client.build_request("POST", self.url + path, json=body), stream=True)
        if not response.is_success:
            response.read()
            self._check(response)
        return response

    def _check(self, response: httpx.Response) -> None:
        """Raise what a status other than success means."""
        if response.is_success:
            return
        if response.status_code in _PASSING:
            passing = Passing(f"status {response.status_code}: {self._said(response)}")
            asked = response.headers.get("retry-after", "")
            passing.wait_asked = float(asked) if asked.isdecimal() else None
            raise passing
        fix = "see what it says"
        if response.status_code in (401, 403):
            fix = "name the environment variable that holds a valid key with key_from=NAME"
        rejected = Rejected(
            f"the server refuses the request (status {response.status_code}): {self._said(response)}",
            where=self.url,
            fix=fix,
        )
        rejected.status = response.status_code
        raise rejected

    def _tried(self, ask: Callable[[], Any]) -> Any:
        """What `ask` gives; tried again while the reason for failing may pass."""

        def once() -> Any:
            try:
                return ask()
            except self._httpx.TransportError as error:
                if _is_refused(error):
                    raise Unreachable(
                        f"nothing listens at {self.url}", where=self.url, fix="start the server, or correct the address"
                    ) from error
                raise Passing(_reason(error)) from error
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise Passing(f"its answer is not whole JSON: {error}") from error

        try:
            return persist(once, self._patience, lambda error: isinstance(error, Passing))
        except Passing as failed:
            raise self._gave_up(f"{failed.message} (tried {self._patience.attempts} times)") from failed

    def _gave_up(self, reason: str) -> VernacularError:
        return MachineError(
            f"the server gives no answer: {self._without_key(reason)}",
            where=self.url,
            fix="check that it runs and has room, or raise timeout=SECONDS and retries=NUMBER",
        )

    def _said(self, response: httpx.Response) -> str:
        """The server's own message, if it sends one."""
        try:
            error = response.json()["error"]
            message = error["message"] if isinstance(error, dict) else error
        except (ValueError, KeyError, TypeError):
            message = response.text or response.reason_phrase
        return self._without_key(str(message)[:_MOST_SAID])

    def _without_key(self, text: str) -> str:
        """Some servers repeat a wrong key."""
        return text if self._key is None else text.replace(self._key, "…")

    def _parsed(self) -> httpx.URL:
        try:
            parsed = self._httpx.URL(self.url)
        except self._httpx.InvalidURL as error:
            raise UserError(f"not a URL: {error}", where=self.url) from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UserError("not a URL of a server", where=self.url, fix="write it as http://HOST/v1")
        return parsed


def _is_refused(error: BaseException | None) -> bool:
    """Whether the machine was reached and has no server at that port: then no further try helps."""
    while error is not None and not isinstance(error, ConnectionRefusedError):
        error = error.__cause__ or error.__context__
    return error is not None


def _reason(error: Exception) -> str:
    words = str(error) or "no byte came in time"
    return f"{type(error).__name__}: {words}"


def _key(key_from: str | None) -> str | None:
    if key_from is None:
        return None
    key = os.environ.get(key_from, "").strip()
    if not key:
        raise UserError(
            f"the environment variable {key_from} is to hold the server's key, and is empty",
            where=f"key_from={key_from}",
            fix=f"export {key_from}=…, or leave key_from out for a server without keys",
        )
    if not key.isascii() or not key.isprintable():
        raise UserError("the key holds characters that no key has", where=f"key_from={key_from}")
    return key


def _library() -> ModuleType:
    if importlib.util.find_spec("httpx") is None:
        raise missing_extra("httpx", "openai", "asking a server")
    import httpx

    return httpx
