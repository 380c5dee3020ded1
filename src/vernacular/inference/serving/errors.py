"""Errors as the API words them: a status, and an object with message, type, param and code."""

from __future__ import annotations

from typing import Any

from vernacular.foundation.errors import MachineError, UserError, VernacularError


class ApiError(Exception):
    """Ends a request.

    Args:
        status: of HTTP.
        message: what is wrong and what to change. The client sees it; the log never does.
        code: for programs, e.g. "context_length_exceeded".
        param: the field at fault.
        retry_after: seconds after which a retry makes sense.
    """

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    @property
    def body(self) -> dict[str, Any]:
        """The object that the client gets."""
        return {"error": {"message": self.message, "type": _type(self.status), "param": self.param, "code": self.code}}


class ClientGone(Exception):
    """The client closed the connection before its answer was complete."""


def bad_request(error: UserError, param: str | None = None) -> ApiError:
    """What a user's error is in the API."""
    return ApiError(400, said(error), code="invalid_value", param=param or error.where)


def of_ours(error: VernacularError) -> ApiError:
    """The API's error for one of ours that no route has worded itself."""
    if isinstance(error, UserError):
        return bad_request(error)
    if isinstance(error, MachineError):
        return ApiError(501, said(error), code="not_installed")
    return ApiError(500, said(error), code="internal_error")


def said(error: VernacularError) -> str:
    """Message and remedy in one line."""
    return f"{error.message}; {error.fix}" if error.fix else error.message


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    if status == 401:
        return "authentication_error"
    return "invalid_request_error" if status < 500 else "server_error"
