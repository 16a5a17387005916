"""As much HTTP/1.1 as a probe and a scrape need: one GET per connection, small heads, whole answers. Pure; any thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from msgspec import Struct

MAX_HEAD: Final = 8192
TEXT: Final = "text/plain; charset=utf-8"
METRICS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Response(Struct, frozen=True):
    """Status, body, and what the body is."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT


Route = Callable[[], Response]


def _plain(status: HTTPStatus, more: str = "") -> Response:
    return Response(status, f"{status.value} {status.phrase}{more}\n".encode())


def head_of(received: bytes) -> bytes | None:
    """The head of a request once it is there whole, else None."""
    for end in (b"\r\n\r\n", b"\n\n"):
        head, found, _ = received.partition(end)
        if found:
            return head
    return None


def answer(head: bytes, routes: Mapping[str, Route]) -> bytes:
    """The whole answer to a request's head. What a route raises is raised."""
    first = head.split(b"\n", 1)[0].decode("latin-1").strip().split(" ")
    if len(first) != 3 or not first[2].startswith("HTTP/1."):
        return encode(_plain(HTTPStatus.BAD_REQUEST))
    method, path = first[0], first[1].partition("?")[0]
    if method not in ("GET", "HEAD"):
        return encode(_plain(HTTPStatus.METHOD_NOT_ALLOWED))
    route = routes.get(path)
    response = route() if route else _plain(HTTPStatus.NOT_FOUND, f"; here are {' '.join(routes)}")
    return encode(response, with_body=method == "GET")


def refusal(status: HTTPStatus) -> bytes:
    """A whole answer that only says a status."""
    return encode(_plain(status))


def encode(response: Response, *, with_body: bool = True) -> bytes:
    """The bytes of a response; the connection ends with it."""
    head = (
        f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (response.body if with_body else b"")
