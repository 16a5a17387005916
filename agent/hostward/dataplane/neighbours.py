"""What other programs have in this network namespace's packet filters: names of chains and tables, marks. Only read.

It asks the kernel, not their tools, and loads no table that nobody uses. Any thread; it touches no library that only the engine
thread may use. What the names mean is `model.neighbours`'.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink, RefusedError, attribute, attributes
from hostward.dataplane.xtables.blob import chain_names, contents, locate
from hostward.dataplane.xtables.layout import LAYOUTS, MARK_MATCH, MARK_TARGET, Layout, LayoutError, is_ours, marks_in
from hostward.dataplane.xtables.sockopt import TableInfo, TableSocket
from hostward.model.neighbours import Seen
from hostward.render.ruleset import TABLES, Family, TableId, TableName, is_own_chain

# include/uapi/linux/netfilter/nf_tables.h, include/uapi/linux/fib_rules.h
_NFTABLES: Final = 10 << 8
_GET_TABLES, _GET_CHAINS, _GET_RULES = _NFTABLES | 1, _NFTABLES | 4, _NFTABLES | 7
_TABLE_NAME, _CHAIN_TABLE, _CHAIN_NAME, _RULE_TABLE = 1, 1, 3, 1
_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_GET_ROUTING_RULES, _FIRST_ATTRIBUTE, _FWMARK, _FWMASK = 34, 12, 10, 16


class MarkUse(NamedTuple):
    """Bits of the packet mark that somebody else sets or looks at, and where."""

    mask: int
    where: str


def look(families: tuple[Family, ...]) -> Seen:
    """Everything that tells who else is there. Raises KernelError where even our own tables can't be read."""
    legacy: dict[str, set[str]] = {}
    for family in families:
        with TableSocket(family) as tables:
            for name in _loaded(family):
                _, blob = tables.read(TableId(family, name))
                found = (chain for chain in chain_names(blob) if not is_own_chain(chain))
                legacy.setdefault(name, set()).update(found)
    nftables, rules = _nftables()
    try:
        interfaces = frozenset(name for _, name in socket.if_nameindex())
    except OSError as error:
        raise KernelError(f"interfaces can't be listed: {error}", retry=True) from error
    return Seen({name: frozenset(chains) for name, chains in legacy.items()}, nftables, rules, interfaces)


def _loaded(family: Family) -> tuple[TableName, ...]:
    """The tables that somebody uses; ours where we may not know. Reading another one would make the kernel load it."""
    file = Path("/proc/thread-self/net", "ip_tables_names" if family == 4 else "ip6_tables_names")
    try:
        names = file.read_text(encoding="ascii").split()
    except OSError:
        return TABLES
    return tuple(name for name in ("raw", "mangle", "nat", "filter") if name in names)  # type: ignore[misc] # nat is read, never written


def _nftables() -> tuple[dict[str, frozenset[str]], int]:
    """Chains by table, and the rules in iptables-nft's tables; nothing where the kernel has no nftables."""
    found: dict[str, set[str]] = {}
    rules = 0
    with suppress(OSError, RefusedError), Netlink(NETLINK_NETFILTER) as netlink:
        everything = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
        for body in netlink.dump(_GET_TABLES, everything):
            found.setdefault(_table(body, dict(attributes(body, 4)).get(_TABLE_NAME, b"")), set())
        for body in netlink.dump(_GET_CHAINS, everything):
            parts = dict(attributes(body, 4))
            found.setdefault(_table(body, parts.get(_CHAIN_TABLE, b"")), set()).add(_text(parts.get(_CHAIN_NAME, b"")))
        for number, family in ((socket.AF_INET, "ip"), (socket.AF_INET6, "ip6")):
            for table in ("raw", "mangle", "nat", "filter"):
                if f"{family} {table}" in found:
                    header = struct.pack("=BBH", number, 0, 0)
                    rules += len(netlink.dump(_GET_RULES, header + attribute(_RULE_TABLE, table.encode() + b"\0")))
    return {table: frozenset(chains) for table, chains in found.items()}, rules


def _table(body: bytes, name: bytes) -> str:
    return f"{_FAMILIES.get(body[0], body[0])} {_text(name)}"


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def marks(families: tuple[Family, ...]) -> Iterator[MarkUse]:
    """Which bits of the packet mark others' rules in legacy tables, and rules of routing, use. Raises KernelError."""
    for family in families:
        with TableSocket(family) as tables:
            for name in _loaded(family):
                info, blob = tables.read(TableId(family, name))
                try:
                    found = list(_of_others(LAYOUTS[family], info, bytes(blob)))
                except LayoutError as error:
                    raise KernelError(f"table {TableId(family, name)}: {error}") from error
                for chain, rules in found:
                    mask = 0
                    for rule in rules:
                        mask |= _mask(rule)
                    if mask:
                        yield MarkUse(mask, f"chain {chain} of {TableId(family, name)}")
        yield from _routing(family)


def _of_others(layout: Layout, info: TableInfo, blob: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The rules of a table that aren't ours, by chain: ours stand in the kernel's chains, too. Raises LayoutError."""
    places = locate(layout, info, blob)
    spans = [(chain, spans) for chain, spans in places.builtins.items()]
    spans += [(chain, places.spans(chain)) for chain in places.chains if not is_own_chain(chain)]
    for chain, rules in spans:
        known = zip(rules, contents(layout, blob, rules, places.heads, str), strict=True)
        yield chain, [blob[begin:end] for (begin, end), content in known if not is_ours(content)]


def _mask(entry: bytes) -> int:
    """The bits that one rule of others sets or looks at."""
    found = 0
    for kind in (MARK_TARGET, MARK_MATCH):
        for _, mask, _ in marks_in(entry, kind):
            found |= mask
    return found


def _routing(family: Family) -> Iterator[MarkUse]:
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    try:
        with Netlink(NETLINK_ROUTE) as netlink:
            bodies = netlink.dump(_GET_ROUTING_RULES, struct.pack("=B11x", domain))
    except RefusedError:
        return  # a kernel without rules of routing
    except OSError as error:
        raise KernelError(f"rules of routing can't be read: {error}") from error
    for body in bodies:
        parts = dict(attributes(body, _FIRST_ATTRIBUTE))
        if _FWMARK in parts:
            mark = struct.unpack("=I", parts[_FWMARK])[0]
            mask = struct.unpack("=I", parts[_FWMASK])[0] if _FWMASK in parts else 0xFFFFFFFF
            yield MarkUse(mask, f"a rule of IPv{family} routing for mark {mark:#x}/{mask:#x}")
