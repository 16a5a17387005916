"""Where writing many rules by libiptc, from entries encoded before, costs more than one iptables-restore; and filling sets.

The only benchmark of parts of the agent instead of the agent: it calls the functions between which the agent chooses. A process
of its own, in a namespace of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from tests.lab.netns import Namespace, run

from benchmarks import cpu
from benchmarks.bed import FAMILIES
from benchmarks.found import Found
from hostward.dataplane.ipsets import IPSets
from hostward.dataplane.kernel import CreateSet, DestroySet
from hostward.dataplane.xtables.commit import commit
from hostward.dataplane.xtables.delta import EncodedEdit
from hostward.dataplane.xtables.encode import Encoded, Encoder
from hostward.render.ruleset import Family, IPSet, Net, PortSet, Protocol, Rule, SetType, TableId, Verdict

RULES = (1_000, 10_000, 50_000)
QUICK_RULES = (100, 1_000)
MEMBERS = 100_000
CHAIN = 10  # rules
CPU = ", CPU"
LIBIPTC, RESTORE, AGAIN = "libiptc, cached entries", "iptables-restore", "libiptc again"
NETLINK, TOOL = "netlink", "ipset restore"
TYPES: tuple[SetType, ...] = ("hash:net", "hash:ip,port")


def name(rules: int, family: int, way: str) -> str:
    """What samples are called."""
    return f"{rules:,} rules, IPv{family}: {way}"


def set_name(kind: str, family: int, way: str) -> str:
    """The same for sets: microseconds a member."""
    return f"{kind}, IPv{family}: {way}"


def rules(found: Found, *, quick: bool, reverse: bool) -> None:
    """One repetition: milliseconds of wall time, and the sum of CPU beside it."""
    ways = [(LIBIPTC, 10**9), (RESTORE, 1), (AGAIN, 10**9)]
    for count in QUICK_RULES if quick else RULES:
        for tool, number in FAMILIES:
            family: Family = 6 if number == 6 else 4
            edit = _edit(count, family)
            for way, switch in reversed(ways) if reverse else ways:
                namespace = Namespace("bulk")
                try:
                    with namespace.entered():
                        run(f"{tool}-restore", data="*filter\nCOMMIT\n")
                        _timed(found, name(count, family, way), lambda s=switch, e=edit, f=family: _commit(e, f, s))
                finally:
                    namespace.close()


def _commit(edit: EncodedEdit, family: Family, switch: int) -> None:
    commit(TableId(family, "filter"), edit, bulk_rules=switch)


def _timed(found: Found, called: str, action: Callable[[], object], *, members: int = 0) -> None:
    used, began = time.process_time() + cpu.of_children(), time.perf_counter()
    action()
    took = (time.perf_counter() - began) * 1000
    spent = (time.process_time() + cpu.of_children() - used) * 1000
    factor = 1000 / members if members else 1
    found.times[called].append(took * factor)
    found.times[f"{called}{CPU}"].append(spent * factor)


def _edit(count: int, family: Family) -> EncodedEdit:
    encode = Encoder(family).encode
    chains: dict[str, tuple[Encoded, ...] | None] = {}
    for first in range(0, count, CHAIN):
        chains[f"hw-bulk-{first}"] = tuple(encode(_rule(number, family)) for number in range(first, first + CHAIN))
    return EncodedEdit(chains, {})


def _rule(number: int, family: Family) -> Rule:
    net = _address(number, family)
    ports = PortSet("dst", ((number % 60_000 + 1, number % 60_000 + 1), (443, 443)))
    return Rule((Net("src", net), Protocol(6), ports), Verdict("ACCEPT"), "hw:bulk" if number % CHAIN == 0 else "")


def _address(number: int, family: Family) -> str:
    high, low = divmod(number, 65536)
    return f"10.{high}.{low // 256}.{low % 256}" if family == 4 else f"fd00::{f'{high:x}:' if high else ''}{low:x}"


# --- sets ----------------------------------------------------------------------------------------------------------------
def sets(found: Found, *, quick: bool, reverse: bool) -> None:
    """One repetition: microseconds a member."""
    count = MEMBERS // 100 if quick else MEMBERS
    for kind in TYPES:
        for number in (4, 6):
            family: Family = 6 if number == 6 else 4
            members = frozenset(_members(kind, family, count))
            ways: dict[str, Callable[[], object]] = {
                NETLINK: lambda k=kind, f=family, m=members: _by_netlink(k, f, m),
                TOOL: lambda k=kind, f=family, m=members: _by_tool(k, f, m),
            }
            for way in reversed(ways) if reverse else ways:
                namespace = Namespace("sets")
                try:
                    with namespace.entered():
                        _timed(found, set_name(kind, family, way), ways[way], members=count)
                finally:
                    namespace.close()


def _members(kind: SetType, family: Family, count: int) -> Iterator[str]:
    for number in range(count):
        net = _address(number, family)
        yield f"{net},tcp:{number % 60_000 + 1}" if kind == "hash:ip,port" else net


def _by_netlink(kind: SetType, family: Family, members: frozenset[str]) -> None:
    with IPSets() as kernel:
        kernel.apply(CreateSet(f"hw{family}-bulk", IPSet(kind, family, members)))
        kernel.apply(DestroySet(f"hw{family}-bulk"))


def _by_tool(kind: SetType, family: Family, members: frozenset[str]) -> None:
    inet = "inet6" if family == 6 else "inet"
    lines = [f"create bulk {kind} family {inet} maxelem 1048576", *(f"add bulk {member}" for member in members)]
    run("ipset", "restore", data="".join(f"{line}\n" for line in [*lines, "destroy bulk"]))
