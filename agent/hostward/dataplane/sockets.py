"""Which TCP ports of this host somebody listens on, or is connected to, and who: read from /proc. Any thread."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_ESTABLISHED, _LISTEN = "01", "0A"  # include/net/tcp_states.h
_FILES: Final = ("tcp", "tcp6")


class Socket(NamedTuple):
    """A socket that listens on `port` of `address`, or is connected to it. `process`: its owner, "" where it isn't seen."""

    address: str
    port: int
    process: str


def listening() -> list[Socket]:
    """What listens beyond the loopback interface."""
    return [one for one in _sockets(_LISTEN, local=True) if not one.address.startswith("127.") and one.address != "::1"]


def connected() -> list[Socket]:
    """The far ends of open connections that leave this host."""
    return [one for one in _sockets(_ESTABLISHED, local=False) if not one.address.startswith("127.") and one.address != "::1"]


def _sockets(state: str, *, local: bool) -> Iterator[Socket]:
    owners: dict[str, str] | None = None
    for name in _FILES:
        with suppress(OSError):
            for line in Path("/proc/thread-self/net", name).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == state:
                    owners = _owners() if owners is None else owners
                    address, _, port = words[1 if local else 2].partition(":")
                    yield Socket(_address(address), int(port, 16), owners.get(words[9], ""))


def _address(text: str) -> str:
    """The kernel prints addresses as words of the machine's own byte order."""
    raw = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    if raw.startswith(bytes(10) + b"\xff\xff"):
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _owners() -> dict[str, str]:
    """Socket inode to process name, of the processes that may be looked at."""
    found: dict[str, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    target = str(descriptor.readlink())
                    if target.startswith("socket:["):
                        found[target[8:-1]] = name
    return found
