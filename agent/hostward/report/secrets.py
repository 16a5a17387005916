"""Keeps secrets out of what is logged: registered values, credentials in URLs, `password=` texts, private keys.

Thread-safe.
"""

from __future__ import annotations

import re
import threading
from typing import Final

MASKED: Final = "***"
_SHORTEST: Final = 4  # masking every "a" would make logs unreadable and protect nothing
_URL: Final = re.compile(r"(?<=://)([^/\s:@]{0,200}):[^/\s@]{1,500}@")
_ASSIGNED: Final = re.compile(
    r"(?i)\b([\w-]*(?:password|passwd|secret|token)[\w-]*[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;}]+)"
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_PEM: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_FIELD: Final = re.compile(r"(?i)password|passwd|secret|token|authorization|private_?key$")

_lock: Final = threading.Lock()
_hidden: set[str] = set()


def hide(secret: str) -> None:
    """Registers a value, such as the etcd password, that no log line may hold from now on."""
    if len(secret) >= _SHORTEST:
        with _lock:
            _hidden.add(secret)


def names_secret(field: str) -> bool:
    """Whether a field's name says that its value is secret."""
    return _FIELD.search(field) is not None


def scrub(text: str) -> str:
    """The text with everything secret in it masked."""
    with _lock:
        hidden = tuple(_hidden)
    for secret in hidden:
        text = text.replace(secret, MASKED)
    if "://" in text:
        text = _URL.sub(rf"\1:{MASKED}@", text)
    if "PRIVATE KEY" in text:
        text = _PEM.sub(MASKED, text)
    text = _BEARER.sub(rf"\1 {MASKED}", text)
    return _ASSIGNED.sub(rf"\1{MASKED}", text)
