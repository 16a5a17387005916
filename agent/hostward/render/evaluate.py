"""What the kernel would do with one packet: a pure evaluator of rulesets, the oracle of tests and of comparisons of backends.

It follows netfilter, not intentions: marks live through all hooks, GOTO leaves no return address, conntrack isn't there yet
in raw, DNAT happens between mangle and filter. It knows neither policies nor kernels. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final, Literal, Protocol

from msgspec import Struct, field

from hostward.model.identity import Identified
from hostward.model.rules import ICMP, ICMPV6, PORT_PROTOCOLS
from hostward.render.ruleset import (
    Chain,
    ConnectionMark,
    Family,
    IcmpType,
    InSet,
    Interface,
    Jump,
    Limit,
    Log,
    Mark,
    Match,
    Net,
    NoTrack,
    PortSet,
    Reject,
    ReversePath,
    Rule,
    Ruleset,
    SetMark,
    State,
    TableId,
    TableName,
    Verdict,
)
from hostward.render.ruleset import Protocol as ProtocolMatch

Path = Literal["input", "forward", "output"]
ConnState = Literal["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"]
HOOKS: Final[Mapping[Path, tuple[tuple[TableName, str], ...]]] = {
    "input": (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("filter", "INPUT")),
    "forward": (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("filter", "FORWARD"), ("mangle", "POSTROUTING")),
    "output": (("raw", "OUTPUT"), ("filter", "OUTPUT"), ("mangle", "POSTROUTING")),
}
_ANY_ICMP: Final = 255  # iptables' own "any" among ICMPv4 types
_MOST_RULES: Final = 100_000


class Packet(Struct, frozen=True):
    """One packet as it enters the host's hooks.

    `dnat` is the (address, port) that nat rewrites the destination to, for the first packet of a connection as for later
    ones. `mark` is whatever somebody else left there. `spoofed`: the way back to its source leads out of another interface.
    Ports are 0 where the protocol has none; interfaces are "" where the path has none. Addresses are canonical.
    """

    family: Family
    path: Path
    source: str
    destination: str
    protocol: int = 6
    source_port: int = 0
    destination_port: int = 0
    in_interface: str = ""
    out_interface: str = ""
    icmp_type: int = 0
    icmp_code: int = 0
    state: ConnState = "NEW"
    dnat: tuple[str, int] | None = None
    mark: int = 0
    spoofed: bool = False
    connection_mark: int = 0


class Outcome(Identified, frozen=True):
    """What became of a packet. `dropped_in` is "" when it passed, else as "filter INPUT". `logs`: prefixes, in order.

    `compared`: how many rules it was compared with, which is what it paid; not part of what became of it.
    """

    dropped_in: str
    logs: tuple[str, ...] = ()
    mark: int = 0
    tracked: bool = True
    rejected: bool = False
    compared: int = 0

    def _identity(self) -> object:
        return self.dropped_in, self.logs, self.mark, self.tracked, self.rejected

    @property
    def accepted(self) -> bool:
        """Whether it passed every hook."""
        return not self.dropped_in


class Members(Protocol):
    """What evaluation reads of a set: an `IPSet`, or a set read from a kernel with its members."""

    @property
    def members(self) -> Set[str] | None:
        """As the kernel prints them."""


class FilterState(Struct, frozen=True):
    """A state of the kernel to judge packets by: per table all chains, the kernel's own among them, and the sets.

    Chains may hold anything; what isn't a `Rule` never matches. `policies`: kernel chains whose policy is DROP.
    """

    tables: Mapping[TableId, Mapping[str, Sequence[object]]]
    sets: Mapping[str, Members]
    policies: frozenset[tuple[TableId, str]] = frozenset()


def of_ruleset(ruleset: Ruleset) -> FilterState:
    """The kernel state that a ruleset asks for, where nobody else has rules."""
    tables: dict[TableId, Mapping[str, Chain]] = {}
    for where, table in ruleset.tables.items():
        tables[where] = {**table.chains, **{name: (*hook.first, *hook.last) for name, hook in table.hooks.items()}}
    return FilterState(tables, ruleset.sets)


class _Walk(Struct):
    """A packet on its way: its mark, whether it is tracked, what was logged, and where it stands."""

    packet: Packet
    filter: FilterState
    mark: int
    tracked: bool = True
    logs: list[str] = field(default_factory=list)
    rejected: bool = False
    table: TableName = "raw"
    translated: bool = False
    steps: int = 0
    compared: int = 0

    @property
    def destination(self) -> tuple[str, int]:
        packet = self.packet
        if packet.dnat is not None and self.translated:
            return packet.dnat
        return packet.destination, packet.destination_port

    def states(self) -> frozenset[str]:
        """What conntrack's match sees here: before conntrack a packet counts as INVALID, unless marked untracked before."""
        packet = self.packet
        if not self.tracked:
            return frozenset({"UNTRACKED"})
        if self.table == "raw":
            return frozenset({"INVALID"})
        known = self.translated or packet.state != "NEW"
        if packet.dnat is not None and _translatable(packet) and known:
            return frozenset({packet.state, "DNAT"})
        return frozenset({packet.state})


def _translatable(packet: Packet) -> bool:
    return packet.state not in ("INVALID", "UNTRACKED")


@lru_cache(maxsize=16384)
def _number(address: str) -> int:
    return int(ip_address(address))


@lru_cache(maxsize=16384)
def _network(net: str) -> tuple[int, int]:
    parsed = ip_network(net)
    return int(parsed.network_address), int(parsed.netmask)


@lru_cache(maxsize=1024)
def _prefixes(members: frozenset[str]) -> Mapping[int, frozenset[int]]:
    """The networks of a hash:net set by their netmask."""
    found: dict[int, set[int]] = {}
    for member in members:
        base, netmask = _network(member)
        found.setdefault(netmask, set()).add(base)
    return {netmask: frozenset(bases) for netmask, bases in found.items()}


def _in_set(match: InSet, walk: _Walk) -> bool:
    found = walk.filter.sets.get(match.name)
    if found is None:
        raise ValueError(f"a rule names the set {match.name}, which isn't there")
    members = found.members or frozenset()
    packet = walk.packet
    at_source = match.dimensions[0] == "src"
    address, port = (packet.source, packet.source_port) if at_source else walk.destination
    if len(match.dimensions) == 1:
        number = _number(address)
        inside = any(number & netmask in bases for netmask, bases in _prefixes(frozenset(members)).items())
    else:
        inside = f"{address},{PORT_PROTOCOLS.get(packet.protocol, packet.protocol)}:{port}" in members
    return inside is not match.negate


def _icmp(match: IcmpType, packet: Packet) -> bool:
    if packet.protocol != (ICMP if packet.family == 4 else ICMPV6):
        return False
    any_type = packet.family == 4 and match.type == _ANY_ICMP
    same = any_type or (packet.icmp_type == match.type and match.code in (None, packet.icmp_code))
    return same is not match.negate


def _interface(match: Interface, walk: _Walk, builtin: str) -> bool:
    if match.direction == "in":
        name = walk.packet.in_interface if builtin in ("PREROUTING", "INPUT", "FORWARD") else ""
    else:
        name = walk.packet.out_interface if builtin in ("OUTPUT", "FORWARD", "POSTROUTING") else ""
    return name.startswith(match.name) if match.prefix else name == match.name


def _matches(match: Match, walk: _Walk, builtin: str) -> bool:
    packet = walk.packet
    match match:
        case Interface():
            return _interface(match, walk, builtin)
        case ProtocolMatch(number, negate):
            return (packet.protocol == number) is not negate
        case Net(side, net, negate):
            base, netmask = _network(net)
            address = packet.source if side == "src" else walk.destination[0]
            return (_number(address) & netmask == base) is not negate
        case PortSet(side, ranges, negate):
            port = packet.source_port if side == "src" else walk.destination[1]
            return any(first <= port <= last for first, last in ranges) is not negate
        case IcmpType():
            return _icmp(match, packet)
        case State(states, negate):
            return bool(walk.states().intersection(states)) is not negate
        case Mark(value, mask, negate):
            return (walk.mark & mask == value) is not negate
        case ConnectionMark(value, mask):
            return packet.connection_mark & mask == value
        case InSet():
            return _in_set(match, walk)
        case Limit():
            return True
        case ReversePath():
            return packet.spoofed


def _rule(rule: Rule, walk: _Walk) -> Verdict | Jump | None:
    """Carries out the target of a rule that matched; a verdict or jump is left to the caller."""
    match rule.target:
        case Verdict() | Jump() as where:
            return where
        case SetMark(value, mask):
            walk.mark = (walk.mark & ~mask) ^ value
        case NoTrack():
            walk.tracked = False
        case Reject():
            walk.rejected = True
            return Verdict("DROP")
        case Log(prefix):
            walk.logs.append(prefix)
    return None


def _hook(walk: _Walk, chains: Mapping[str, Sequence[object]], builtin: str) -> bool | None:
    """True: accepted here; False: dropped here; None: fell to the chain's policy."""
    stack: list[Iterator[object]] = []
    here = iter(chains.get(builtin, ()))
    while True:
        walk.steps += 1
        if walk.steps > _MOST_RULES:
            raise ValueError(f"more than {_MOST_RULES} rules for one packet: chains jump in a loop")
        rule = next(here, None)
        if rule is None:
            found: Verdict | Jump | None = Verdict("RETURN")
        else:
            walk.compared += 1
            if not isinstance(rule, Rule) or not all(_matches(match, walk, builtin) for match in rule.matches):
                continue
            found = _rule(rule, walk)
        match found:
            case Verdict("RETURN"):
                if not stack:
                    return None
                here = stack.pop()
            case Verdict(word):
                return word == "ACCEPT"
            case Jump(chain, goto):
                if chain not in chains:
                    raise ValueError(f"a rule jumps to the chain {chain}, which isn't there")
                if not goto:
                    stack.append(here)
                here = iter(chains[chain])


def evaluate(packet: Packet, state: FilterState) -> Outcome:
    """A packet's way through the hooks of its path. Raises ValueError when a rule names a chain or set that is missing.

    A `Limit` always matches: the rate isn't modelled, and ours only limits logging.
    """
    walk = _Walk(packet, state, packet.mark, tracked=packet.state != "UNTRACKED")
    for table, builtin in HOOKS[packet.path]:
        where = TableId(packet.family, table)
        walk.table = table
        # nat sits behind mangle PREROUTING and between raw and filter OUTPUT; it leaves alone what isn't tracked.
        walk.translated = table != "raw" and builtin != "PREROUTING" and walk.tracked and _translatable(packet)
        passed = _hook(walk, state.tables.get(where, {}), builtin)
        if passed is None:
            passed = (where, builtin) not in state.policies
        if not passed:
            return Outcome(f"{table} {builtin}", tuple(walk.logs), walk.mark, walk.tracked, walk.rejected, walk.compared)
    return Outcome("", tuple(walk.logs), walk.mark, walk.tracked, compared=walk.compared)
