"""Failsafe ports: what stays reachable on every host endpoint whatever policies say (D8, `statements.md` H-60..H-67).

Here are the values, their texts and the default lists; which chains they become is rendering. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from hostward.model.nets import parse_net
from hostward.model.rules import TCP, UDP
from hostward.model.value_errors import BadValueError, shown

_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}
_NAMES: Final = {number: name for name, number in _PROTOCOLS.items()}
MAX_PORTS: Final = 1000  # every entry is up to eight kernel rules per family: a list beyond this is a mistake


class FailsafePort(Struct, frozen=True):
    """One entry: protocol number (TCP or UDP), port 0-65535, and the canonical CIDR of the other side or None for any.

    Inbound it is the host's own port and the client's net, outbound the remote port and the server's net. An entry with a
    net belongs to that net's family only (H-63).
    """

    protocol: int
    port: int
    net: str | None = None

    def __str__(self) -> str:
        net = "" if self.net is None else f"[{self.net}]:" if ":" in self.net else f"{self.net}:"
        return f"{_NAMES[self.protocol]}:{net}{self.port}"


def _port(raw: object) -> int:
    if isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) <= 5:
        raw = int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= 65535:
        return raw
    raise BadValueError(f"{shown(raw)} is not a port from 0 to 65535")


def _entry(protocol: object, net: object, port: object) -> FailsafePort:
    number = _PROTOCOLS.get(protocol.strip().lower()) if isinstance(protocol, str) else None
    if number is None:
        raise BadValueError(f"protocol {shown(protocol)} is neither tcp nor udp")
    canonical = None
    if net is not None and net != "":
        canonical = parse_net(net) if isinstance(net, str) else None
        if canonical is None:
            raise BadValueError(f"net {shown(net)} is not a CIDR")
    return FailsafePort(number, _port(port), canonical)


def parse_failsafe_text(text: str) -> FailsafePort:
    """`proto:port`, `proto:net:port`, `proto:[v6net]:port`, or a bare `port` for tcp (H-63). BadValueError."""
    head, colon, port = text.strip().rpartition(":")
    if not colon:
        return _entry("tcp", None, port)
    protocol, colon, net = head.partition(":")
    if colon and not net:
        raise BadValueError(f"{shown(text)} has an empty net")
    return _entry(protocol, net.removeprefix("[").removesuffix("]"), port)


def parse_failsafe(raw: object) -> FailsafePort:
    """An entry as a text, or as the mapping {protocol, port, net} of FelixConfiguration. BadValueError."""
    if isinstance(raw, str):
        return parse_failsafe_text(raw)
    if not isinstance(raw, Mapping):
        raise BadValueError(f"{shown(raw)} is neither a text like tcp:22 nor a mapping of protocol, port and net")
    unknown = [key for key in raw if key not in ("protocol", "port", "net")]
    if unknown:
        raise BadValueError(f"{shown(unknown[0])} is none of protocol, port and net")
    return _entry(raw.get("protocol"), raw.get("net"), raw.get("port"))


def _defaults(texts: str) -> tuple[FailsafePort, ...]:
    return tuple(parse_failsafe_text(text) for text in texts.split())


# H-62 (ssh, DHCP, BGP, etcd, Typha, the Kubernetes API, old etcd ports) and DHCPv6 (D8).
DEFAULT_INBOUND: Final = _defaults(
    "tcp:22 udp:68 udp:[fe80::/10]:546 tcp:179 tcp:2379 tcp:2380 tcp:5473 tcp:6443 tcp:6666 tcp:6667"
)
DEFAULT_OUTBOUND: Final = _defaults(
    "udp:53 udp:67 udp:[fe80::/10]:547 tcp:179 tcp:2379 tcp:2380 tcp:5473 tcp:6443 tcp:6666 tcp:6667"
)
