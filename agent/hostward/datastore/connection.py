"""How to reach etcd: endpoints, TLS and password as values, from the environment. `opening` has the way in.

Files named here are read when a connection is made, not before, so that renewed certificates are used. Any thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hostward.datastore.store import StoreError

DEFAULT_AUTHORITY: Final = "127.0.0.1:2379"
DEFAULT_PORT: Final = 2379
NOBODY_SAID: Final = "nothing says where etcd is: set ETCD_ENDPOINTS, or HOSTWARD_DATASTORE=dir:PATH for a directory"
"""What to tell who can't reach the endpoint that is assumed where none is given."""
_MOST_NAMED: Final = 8
_ENDPOINT = re.compile(r"(?:(?P<scheme>[a-z]+)://)?(?P<host>\[[0-9a-fA-F:.]+\]|[^/:@\[\]\s]+)(?::(?P<port>\d{1,5}))?/*")


class SettingsError(StoreError):
    """The settings of the connection are wrong; the text names the setting, and the file and line where there is one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server: `host` is a name or an IP address without brackets."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate or key: in a file, or inline. `setting` is the name that the operator gave it under."""

    setting: str
    file: str | None = None
    text: str | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """The PEM text; SettingsError names the setting and the file."""
        if self.file is None:
            return (self.text or "").encode()
        if "-----BEGIN" in self.file:  # not shown: it may be a key
            raise SettingsError(f"{self.setting} holds a certificate or key itself; put it into a file and name that")
        try:
            return Path(self.file).read_bytes()
        except FileNotFoundError:
            reason = "no such file"
        except OSError as error:
            reason = error.strerror or str(error)
        raise SettingsError(f"{self.setting}: {self.file}: {reason}{_placeholder_hint(Path(self.file))}")


def _placeholder_hint(path: Path) -> str:
    """What to say of a name such as `<CERTS_DIR>/<ca-*pem_file>`, which documentation prints to be replaced."""
    if not set("*<>") & set(str(path)):
        return ""
    hint = "; this still is a placeholder, put the real name in its place"
    try:
        there = sorted(one.name for one in path.parent.iterdir() if one.suffix == ".pem")[:_MOST_NAMED]
    except OSError:
        there = []
    return f"{hint} ({path.parent} holds {', '.join(there)})" if there else hint


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything that a client needs to know. `timeout` is for one request, `dial_timeout` for a first answer; seconds."""

    endpoints: tuple[Endpoint, ...]
    ca: Pem | None = None
    cert: Pem | None = None
    key: Pem | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    dial_timeout: float = 10.0
    timeout: float = 10.0
    notices: tuple[str, ...] = ()
    """What the operator should know about these settings, though they work."""
    assumed: bool = False
    """Whether nobody has said where etcd is, so that the endpoint is a guess."""


def parse_endpoints(text: str, setting: str) -> tuple[Endpoint, ...]:
    """Comma-separated URLs `http[s]://host[:port]` or bare `host:port`; SettingsError names the setting."""
    found = []
    for one in filter(None, (part.strip() for part in text.split(","))):
        if "@" in one:  # not shown: what stands before it may be a password
            raise SettingsError(
                f"{setting}: {one.rpartition('@')[2]} has a user name; that belongs into ETCD_USERNAME, etcdUsername"
            )
        if set("<>") & set(one):
            raise SettingsError(f'{setting}: "{one}" still is a placeholder; put the URL of etcd in its place')
        match = _ENDPOINT.fullmatch(one)
        if (
            match is None
            or match["scheme"] not in (None, "http", "https")
            or not 0 < int(match["port"] or DEFAULT_PORT) < 65536
        ):
            raise SettingsError(f'{setting}: "{one}" is not an etcd endpoint; write http://HOST:PORT or https://HOST:PORT')
        found.append(Endpoint(match["host"].strip("[]"), int(match["port"] or DEFAULT_PORT), match["scheme"] == "https"))
    return tuple(dict.fromkeys(found))


def build(
    values: Mapping[str, str], names: Mapping[str, str], inline: Mapping[str, str] | None = None, notices: tuple[str, ...] = ()
) -> Connection:
    """A connection from texts by canonical setting (`etcdEndpoints`, …); `names` says what the operator calls each.

    `inline` holds PEM texts (`etcdCACert`, `etcdCert`, `etcdKey`). A user name counts only with a password (A.9).
    SettingsError.
    """
    texts = inline or {}
    endpoints = parse_endpoints(values.get("etcdEndpoints", ""), names.get("etcdEndpoints", "etcdEndpoints"))
    if not endpoints:
        authority = values.get("etcdAuthority", "")
        named = names.get("etcdAuthority", "etcdAuthority")
        endpoints = parse_endpoints(f"{values.get('etcdScheme') or 'http'}://{authority}" if authority else "", named)
    if not endpoints:
        raise SettingsError(f"{names.get('etcdEndpoints', 'etcdEndpoints')}: no etcd endpoints are given")
    pems: dict[str, Pem | None] = {}
    for file_setting in ("etcdCACertFile", "etcdCertFile", "etcdKeyFile"):
        inline_setting = file_setting.removesuffix("File")
        named = names.get(file_setting, file_setting)
        if values.get(file_setting):
            if texts:
                raise SettingsError(
                    f"{named}: certificates are given both as files and inline ({', '.join(sorted(texts))}); choose one"
                )
            pems[file_setting] = Pem(named, file=values[file_setting])
        elif inline_setting in texts:
            pems[file_setting] = Pem(inline_setting, text=texts[inline_setting])
    if ("etcdCertFile" in pems) != ("etcdKeyFile" in pems):
        there, missing = ("etcdCertFile", "etcdKeyFile") if "etcdCertFile" in pems else ("etcdKeyFile", "etcdCertFile")
        raise SettingsError(
            f"{names.get(there, there)} is set without {names.get(missing, missing)}; a client certificate needs both"
        )
    user, password = values.get("etcdUsername"), values.get("etcdPassword")
    if bool(user) != bool(password):
        there = "etcdUsername" if user else "etcdPassword"
        notices += (f"{names.get(there, there)} is ignored: user name and password count only together",)
        user = password = None
    return Connection(
        endpoints,
        pems.get("etcdCACertFile"),
        pems.get("etcdCertFile"),
        pems.get("etcdKeyFile"),
        user or None,
        password or None,
        notices=notices,
    )


_VARIABLES: Final = {
    "etcdEndpoints": "ETCD_ENDPOINTS",
    "etcdScheme": "ETCD_SCHEME",
    "etcdAuthority": "ETCD_AUTHORITY",
    "etcdCACertFile": "ETCD_CA_CERT_FILE",
    "etcdCertFile": "ETCD_CERT_FILE",
    "etcdKeyFile": "ETCD_KEY_FILE",
    "etcdUsername": "ETCD_USERNAME",
    "etcdPassword": "ETCD_PASSWORD",
}


def from_environment(environ: Mapping[str, str]) -> Connection:
    """The connection that ETCD_… variables describe; with a `CALICO_` prefix they win (A.9). Default: 127.0.0.1:2379 (B.6)."""
    values, names = {}, {}
    for setting, variable in _VARIABLES.items():
        names[setting] = f"CALICO_{variable}" if environ.get(f"CALICO_{variable}") else variable
        if text := environ.get(names[setting]):
            values[setting] = text
    assumed = not values.keys() & {"etcdEndpoints", "etcdAuthority"}
    if not values.get("etcdEndpoints"):
        values.setdefault("etcdAuthority", DEFAULT_AUTHORITY)
    return replace(build(values, names), assumed=assumed)
