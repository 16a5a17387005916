"""Policy rules as values: actions, entity matches, ports, ICMP (`statements.md` enforcement 3.1).

A rule here is wholly understood: `decode` never makes one from a field that it could not read. Pure values; any thread.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct, field

PROTOCOL_NUMBERS: Final = {"TCP": 6, "UDP": 17, "ICMP": 1, "ICMPv6": 58, "SCTP": 132, "UDPLite": 136}
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
PORT_PROTOCOLS: Final = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}


class Action(StrEnum):
    """What a matching rule does (R-2)."""

    ALLOW = "Allow"
    DENY = "Deny"
    LOG = "Log"
    PASS = "Pass"


class PortRange(Struct, frozen=True, order=True):
    """Ports `first`..`last`, both included, 0-65535."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}:{self.last}"


class Ports(Struct, frozen=True):
    """A port list: numbers and ranges, and names of endpoint ports. OR-ed (M-42)."""

    ranges: tuple[PortRange, ...] = ()
    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ranges or self.names)


class Icmp(Struct, frozen=True):
    """An ICMP type, and a code when not None."""

    type: int
    code: int | None = None


class Service(Struct, frozen=True):
    """A Kubernetes service that a side of a rule names: its endpoints' addresses, or with `ports` address and port (R-26)."""

    namespace: str
    name: str
    ports: bool


class Entity(Struct, frozen=True):
    """One side of a rule. None or an empty list does not restrict (R-1).

    `nets` are canonical CIDR texts (`model.nets`); `selector` and `not_selector` are canonical selector texts, None when
    absent. `selector` already holds what the namespace and service account fields contribute (R-20).
    """

    nets: tuple[str, ...] = ()
    not_nets: tuple[str, ...] = ()
    ports: Ports = Ports()
    not_ports: Ports = Ports()
    selector: str | None = None
    not_selector: str | None = None
    service: Service | None = None


class Rule(Struct, frozen=True):
    """One rule of a policy or profile. Protocols are numbers; a name's limit to one IP version is in `ip_version` (R-3).

    `never` marks a rule that was not understood and would have allowed: it keeps its place and matches nothing (D4).
    """

    action: Action
    ip_version: int | None = None
    protocol: int | None = None
    not_protocol: int | None = None
    icmp: Icmp | None = None
    not_icmp: Icmp | None = None
    source: Entity = Entity()
    destination: Entity = Entity()
    annotations: tuple[tuple[str, str], ...] = ()
    never: bool = field(default=False)
