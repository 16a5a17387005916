"""Ports of Kubernetes policies, grouped by protocol and simplified as Calico does (`statements.md` kubernetes 1.3).

Entries given here have passed `kubernetes_checks`. A group is a protocol with its ports, such as `("TCP", [80, "81:90"])`: no
ports are all ports of the protocol, and no protocol is any. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Port = int | str
"""As v3 writes it: a number, a range `first:last`, or a name."""
Group = tuple[str | None, list[Port]]

EVERYTHING: Final[tuple[Group, ...]] = ((None, []),)

_Entry = Mapping[str, Any]
_Item = tuple[str | None, Port | None]


def of_policy(entries: Sequence[_Entry]) -> Sequence[Group]:
    """The groups of a NetworkPolicy rule's `ports`. An empty entry is all of TCP, the default of its protocol."""
    return _grouped((entry.get("protocol") or "TCP", _policy_port(entry)) for entry in entries)


def of_admin_policy(entries: Sequence[_Entry]) -> Sequence[Group]:
    """The groups of an AdminNetworkPolicy rule's `ports`. A name is that of any protocol's port (kubernetes 1.7)."""
    return _grouped(map(_admin_item, entries))


def of_cluster_policy(entries: Sequence[_Entry]) -> Sequence[Group]:
    """The groups of a ClusterNetworkPolicy rule's `protocols`."""
    return _grouped(map(_cluster_item, entries))


def _policy_port(entry: _Entry) -> Port | None:
    port, last = entry.get("port"), entry.get("endPort")
    if isinstance(port, str) and port.isdigit():
        port = int(port)
    return span(port, last) if isinstance(port, int) and last is not None else port


def _admin_item(entry: _Entry) -> _Item:
    if number := entry.get("portNumber"):
        return number.get("protocol") or "TCP", number["port"]
    if ports := entry.get("portRange"):
        return ports.get("protocol") or "TCP", span(ports["start"], ports["end"])
    return None, entry["namedPort"]


def _cluster_item(entry: _Entry) -> _Item:
    for name in ("tcp", "udp", "sctp"):
        if entry.get(name) is not None:
            destination = entry[name].get("destinationPort")
            if destination is None:
                return name.upper(), None
            if destination.get("number") is not None:
                return name.upper(), destination["number"]
            return name.upper(), span(destination["range"]["start"], destination["range"]["end"])
    return None, entry["destinationNamedPort"]


def _grouped(items: Iterable[_Item]) -> Sequence[Group]:
    """One group per protocol, sorted by name; an item without a port swallows the others of its protocol."""
    found: dict[str | None, list[Port]] = {}
    whole: set[str | None] = set()
    for protocol, port in items:
        ports = found.setdefault(protocol, [])
        if port is None:
            whole.add(protocol)
        else:
            ports.append(port)
    by_name = sorted(found.items(), key=lambda group: group[0] or "")
    return [(protocol, [] if protocol in whole else simplified(ports)) for protocol, ports in by_name] or EVERYTHING


def span(first: int, last: int) -> Port:
    """A range of ports; a single port is its number."""
    return first if first == last else f"{first}:{last}"


def simplified(ports: Sequence[Port]) -> list[Port]:
    """The same ports in the fewest ranges: names first, in their order, then sorted and joined numbers.

    Left as it is when there is only one number to place, as Calico leaves it.
    """
    ranges = sorted(_ends(port) for port in ports if not _is_name(port))
    if len(ports) <= 1 or not ranges or (len(ranges) == 1 and ranges[0][0] == ranges[0][1]):
        return list(ports)
    joined = [ranges[0]]
    for first, last in ranges[1:]:
        if first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return [*(port for port in ports if _is_name(port)), *(span(first, last) for first, last in joined)]


def _is_name(port: Port) -> bool:
    return isinstance(port, str) and not port.replace(":", "").isdigit()


def _ends(port: Port) -> tuple[int, int]:
    first, _, last = str(port).partition(":")
    return int(first), int(last or first)
