"""A kubeconfig file to the way to its API server.

What isn't supported and would change who asks whom is refused by name: programs that make credentials, proxies, impersonation.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from hostward.kube.access import Access, Source
from hostward.kube.errors import ApiError

_REFUSED: Final = {
    "exec": "credentials from a program (exec) aren't supported: use a token, a token file or a client certificate",
    "auth-provider": "auth-provider isn't supported: use a token, a token file or a client certificate",
    "username": "a user name and password aren't supported: use a token, a token file or a client certificate",
    "as": "acting as somebody else (as) isn't supported",
    "as-groups": "acting as somebody else (as-groups) isn't supported",
    "as-uid": "acting as somebody else (as-uid) isn't supported",
    "proxy-url": "proxy-url isn't supported",
}


def read_kubeconfig(file: Path, context: str | None = None) -> Access:
    """The access that a kubeconfig's current context, or the given one, describes. ApiError (Settings) names file and field."""
    try:
        # The base loader leaves every scalar as it is written: a token such as 12e4 must not become a number.
        document = yaml.load(file.read_bytes(), Loader=yaml.BaseLoader)  # noqa: S506 # it makes texts, lists and mappings only
    except OSError as error:
        raise ApiError("Settings", f"{file}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)  # the error's own text would quote the line, perhaps with a token in it
        raise ApiError("Settings", f"{file}: not YAML{f', line {mark.line + 1}' if mark else ''}") from None
    return _Reader(file).access(document, context)


class _Reader:
    def __init__(self, file: Path) -> None:
        self._file = file

    def access(self, document: object, context: str | None) -> Access:
        whole = self._mapping(document, "kubeconfig")
        name = context or self._text(whole, "current-context", "")
        if not name:
            raise self._error("current-context", "missing")
        chosen = self._named(whole, "contexts", name, "context")
        cluster = self._named(whole, "clusters", self._text(chosen, "cluster", ""), "cluster")
        user_name = self._text(chosen, "user", "")
        user = self._named(whole, "users", user_name, "user") if user_name else {}
        for key in (*cluster, *user):
            if key in _REFUSED:
                raise self._error(key, _REFUSED[key])
        return self._build(cluster, user)

    def _build(self, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Access:
        server = self._text(cluster, "server", "")
        try:
            url = urlsplit(server)
            port = url.port
        except ValueError:
            raise self._error("server", "not a URL") from None
        if url.scheme not in {"https", "http"} or not url.hostname or url.username is not None or url.query or url.fragment:
            raise self._error("server", "must be https://HOST:PORT")
        insecure = self._text(cluster, "insecure-skip-tls-verify", "false").lower() == "true"
        ca = self._source(cluster, "certificate-authority")
        if insecure and ca:
            raise self._error("insecure-skip-tls-verify", "contradicts certificate-authority")
        cert, key = self._source(user, "client-certificate"), self._source(user, "client-key")
        if (cert is None) != (key is None):
            raise self._error("client-certificate", "goes only together with client-key")
        return Access(
            url.hostname,
            port or (443 if url.scheme == "https" else 80),
            tls=url.scheme == "https",
            prefix=url.path.rstrip("/"),
            ca=ca,
            cert=cert,
            key=key,
            token=self._token(user),
            verify=not insecure,
            server_name=self._text(cluster, "tls-server-name", "") or None,
        )

    def _token(self, user: Mapping[str, Any]) -> Source | None:
        """A token file wins over an inline token, as for kubectl."""
        if name := self._text(user, "tokenFile", ""):
            return Source("tokenFile", self._file.parent / name)
        text = self._text(user, "token", "")
        return Source("token", inline=text.encode()) if text else None

    def _source(self, mapping: Mapping[str, Any], key: str) -> Source | None:
        """Inline data win over a file, as for kubectl; a file's name is relative to the kubeconfig."""
        if data := self._text(mapping, f"{key}-data", ""):
            try:
                return Source(f"{key}-data", inline=base64.b64decode("".join(data.split()), validate=True))
            except (binascii.Error, ValueError):
                raise self._error(f"{key}-data", "not base64") from None
        name = self._text(mapping, key, "")
        return Source(key, self._file.parent / name) if name else None

    def _named(self, whole: Mapping[str, Any], plural: str, name: str, singular: str) -> Mapping[str, Any]:
        entries = whole.get(plural)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and entry.get("name") == name:
                return self._mapping(entry.get(singular), f"{plural}.{name}")
        raise self._error(plural, f"no {singular} named {name!r}")

    def _mapping(self, value: object, where: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._error(where, "expected a mapping")
        return value

    def _text(self, mapping: Mapping[str, Any], key: str, default: str) -> str:
        value = mapping.get(key, default)
        if not isinstance(value, str):
            raise self._error(key, "expected a text")
        return value

    def _error(self, where: str, text: str) -> ApiError:
        return ApiError("Settings", f"{self._file}: {where}: {text}")
