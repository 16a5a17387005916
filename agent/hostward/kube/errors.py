"""What goes wrong between us and an API server: one exception, in words for the operator, without secrets. Pure; any thread."""

from __future__ import annotations

import re
from http.client import IncompleteRead
from typing import Final

from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import (
    IncompleteRead as CutRead,
)

_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_LONGEST: Final = 300
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


class ApiError(Exception):
    """A failed request, or settings that can't work; `str()` is one line.

    `reason` is one of a small fixed set: those of HTTP above, `Http` for other statuses, or what we saw ourselves: `Settings`,
    `Credentials`, `Unreachable`, `Tls`, `Stalled`, `Cut`, `Closed`, `TooLarge`, `Malformed`,
    `ErrorEvent`. `retry_after`: seconds.
    """

    def __init__(self, reason: str, text: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(_one_line(text))
        self.reason, self.status, self.retry_after = reason, status, retry_after


def _one_line(text: str) -> str:
    line = _UNPRINTABLE.sub(" ", text).strip()
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"


def refusal(status: int, message: str, retry_after: str | None = None) -> ApiError:
    """What a server said no with: the status of HTTP or of a Status object, its message, and its header `Retry-After`.

    A date there isn't understood: API servers send seconds.
    """
    reason = _REASONS.get(status, "Http")
    seconds = float(retry_after) if retry_after and re.fullmatch(r"\d{1,9}", retry_after) else None
    return ApiError(reason, f"HTTP {status} {reason}: {message or 'no message'}", status=status, retry_after=seconds)


def translate(error: Exception, server: str) -> ApiError:
    """An exception of urllib3 or the socket below it."""
    why = _why(error)
    match error:
        case NameResolutionError():
            return ApiError("Unreachable", f"{server}: no such host: {why}")
        case NewConnectionError() | ConnectTimeoutError():
            return ApiError("Unreachable", f"{server}: {why}")
        case SSLError():
            return ApiError("Tls", f"{server}: TLS: {why}")
        case ReadTimeoutError() | TimeoutError():
            return ApiError("Stalled", f"{server}: the server stopped sending")
        case _:
            return ApiError("Cut", f"{server}: the connection broke: {why}")


def _why(error: BaseException) -> str:
    """The innermost cause: urllib3's own texts name Python objects."""
    seen = 0
    while (inner := error.__cause__ or error.__context__) is not None and seen < 8:
        error, seen = inner, seen + 1
    if isinstance(error, ConnectTimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, IncompleteRead | CutRead):
        return "it ended in the middle"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Other texts name objects of Python, or quote what was sent.
    return str(error) if isinstance(error, OSError) else type(error).__name__
