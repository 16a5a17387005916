"""The environment of this host's agent, as its unit gives it: what commands beside it go by, too. The commands' own thread."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Final

ENV_FILE: Final = "/etc/hostward/agent.env"
_DATASTORE: Final = ("HOSTWARD_DATASTORE", "ETCD_", "CALICO_ETCD_")
_SETTINGS: Final = ("HOSTWARD_", "FELIX_", "NODENAME")


def read_environment(path: str) -> dict[str, str]:
    """The variables of a systemd EnvironmentFile; none when it can't be read."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith(("#", ";")))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def complete(environ: MutableMapping[str, str], path: str = ENV_FILE) -> None:
    """Adds what the agent's file says and `environ` doesn't: settings one by one, and the datastore as a whole or not at all.

    So nobody's ETCD_ENDPOINTS are asked with the agent's certificate.
    """
    elsewhere = any(name.startswith(_DATASTORE) and value for name, value in environ.items())
    for name, value in read_environment(path).items():
        if not elsewhere if name.startswith(_DATASTORE) else name.startswith(_SETTINGS):
            environ.setdefault(name, value)
