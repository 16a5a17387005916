"""The token and certificates of a connection, read again once a minute and whenever the server refuses them. Any thread."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hostward.kube.access import Access
from hostward.kube.errors import ApiError
from hostward.kube.tls import Material, read_material

REREAD: Final = 60.0  # seconds: a pod's token lives for an hour and is renewed long before (statements.md kubernetes 4.2)
_TOKEN = re.compile(rb"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Known:
    """What was read last."""

    token: str | None = field(repr=False)
    material: Material


class Credentials:
    """`current` reads files at most once a minute, and at once after `refused`. `now`: seconds, monotonic."""

    def __init__(self, access: Access, now: Callable[[], float]) -> None:
        self._access, self._now = access, now
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._read_at = 0.0

    def current(self) -> Known:
        """Token and certificates to use now. ApiError (Credentials) names the file that can't be used."""
        with self._lock:
            now = self._now()
            if self._known is None or now - self._read_at >= REREAD:
                self._known = Known(self._token(), read_material(self._access))
                self._read_at = now
            return self._known

    def refused(self) -> None:
        """The server didn't accept them (401)."""
        with self._lock:
            self._known = None

    def _token(self) -> str | None:
        source = self._access.token
        if source is None:
            return None
        text = source.read().strip()
        # Checked here because the HTTP library's own complaint would quote the token.
        if not _TOKEN.fullmatch(text):
            raise ApiError("Credentials", f"{source}: holds no token")
        return text.decode("ascii")
