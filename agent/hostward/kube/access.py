"""How to reach an API server, and as whom: as values, from a pod's surroundings. `kubeconfig` makes them from a file.

Files named here are read when credentials are needed, not before, so that renewed ones are used. Any thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hostward.kube.errors import ApiError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Source:
    """A certificate, key or token: in a file, or inline. `setting` is the name that the operator knows it by."""

    setting: str
    file: Path | None = None
    inline: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """The content; ApiError (Credentials) names the setting and the file."""
        if self.file is None:
            return self.inline or b""
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise ApiError("Credentials", f"{self}: {error.strerror or error}") from error

    def __str__(self) -> str:
        return f"{self.setting}: {self.file}" if self.file else self.setting


@dataclass(frozen=True, slots=True)
class Access:
    """One server, and who asks it. `host` is a name or an IP address without brackets; no `ca`: the system's."""

    host: str
    port: int
    tls: bool = True
    prefix: str = ""
    """What a server behind a proxy wants before every path; without a slash at the end."""
    ca: Source | None = None
    cert: Source | None = None
    key: Source | None = None
    token: Source | None = None
    verify: bool = True
    server_name: str | None = None
    """The name in the server's certificate, where it isn't `host`."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"


def in_cluster(
    environment: Mapping[str, str], *, host: str | None = None, port: int | None = None, directory: Path = SERVICE_ACCOUNT
) -> Access:
    """The server as a pod sees it, `KUBERNETES_SERVICE_HOST` and `_PORT`, asked as the pod's service account.

    `host` and `port` win, for pods in the host's network, where the service's address needs a kube-proxy that may not be there
    yet (statements.md kubernetes 4.2). ApiError (Settings) says what is missing.
    """
    found = host or environment.get("KUBERNETES_SERVICE_HOST", "")
    if not found:
        raise ApiError("Settings", "KUBERNETES_SERVICE_HOST isn't set: this is no pod; give --kubeconfig")
    number = port if port is not None else port_number(environment.get("KUBERNETES_SERVICE_PORT") or "443")
    if number is None:
        raise ApiError("Settings", "KUBERNETES_SERVICE_PORT: not a port number")
    return Access(
        found.removeprefix("[").removesuffix("]"),
        number,
        ca=Source("service account", directory / "ca.crt"),
        token=Source("service account", directory / "token"),
    )


def port_number(text: str) -> int | None:
    """A TCP port; None if the text is none."""
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) and 0 < int(text) < 65536 else None
