"""The abstract ruleset: matches, targets, rules, tables, sets, and the desired state made of them.

Backend-neutral on purpose: a native nftables backend reads the same values. Rules are interned by value: equal rules compare
equal, so a plan can tell what changed. Pure values; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from msgspec import Struct, field

from hostward.model.identity import Identified

Family = Literal[4, 6]
TableName = Literal["raw", "mangle", "filter"]
Side = Literal["src", "dst"]
FAMILIES: Final[tuple[Family, ...]] = (4, 6)
TABLES: Final[tuple[TableName, ...]] = ("raw", "mangle", "filter")
Chain = tuple["Rule", ...]


# --- matches -----------------------------------------------------------------------------------------------------------
class Interface(Struct, frozen=True):
    """The packet's interface: "in" or "out". `prefix` matches every name that starts with `name`."""

    direction: Literal["in", "out"]
    name: str
    prefix: bool = False


class Protocol(Struct, frozen=True):
    """The IP protocol number."""

    number: int
    negate: bool = False


class Net(Struct, frozen=True):
    """Source or destination in one canonical CIDR."""

    side: Side
    net: str
    negate: bool = False


class PortSet(Struct, frozen=True):
    """Source or destination port in up to 15 slots (a range takes two); needs a Protocol match beside it."""

    side: Side
    ranges: tuple[tuple[int, int], ...]
    negate: bool = False


class IcmpType(Struct, frozen=True):
    """ICMP (family 4) or ICMPv6 (family 6) type, and code unless None."""

    type: int
    code: int | None = None
    negate: bool = False


class State(Struct, frozen=True):
    """Conntrack state: any of `states` out of RELATED, ESTABLISHED, INVALID, DNAT, NEW, UNTRACKED, SNAT."""

    states: tuple[str, ...]
    negate: bool = False


class Mark(Struct, frozen=True):
    """(packet mark & mask) == value."""

    value: int
    mask: int
    negate: bool = False


class ConnectionMark(Struct, frozen=True):
    """(the connection's mark & mask) == value."""

    value: int
    mask: int


class InSet(Struct, frozen=True):
    """Membership in a kernel set. `dimensions`: ("src",), ("dst",), ("src", "src") or ("dst", "dst") for address,port sets."""

    name: str
    dimensions: tuple[Side, ...]
    negate: bool = False


class Limit(Struct, frozen=True):
    """At most `rate` (as "10/minute") matches, after a first burst."""

    rate: str
    burst: int


class ReversePath(Struct, frozen=True):
    """The way back to the packet's source leads out of another interface than it came in by: the source is spoofed (rpfilter).

    Only where packets come in: raw and mangle PREROUTING.
    """


Match = Interface | Protocol | Net | PortSet | IcmpType | State | Mark | ConnectionMark | InSet | Limit | ReversePath


# --- targets -----------------------------------------------------------------------------------------------------------
class Verdict(Struct, frozen=True):
    """A final verdict, or RETURN to the caller."""

    word: Literal["ACCEPT", "DROP", "RETURN"]


class Jump(Struct, frozen=True):
    """Go on in another chain; `goto`: and from its end return to the caller of this chain."""

    chain: str
    goto: bool = False


class SetMark(Struct, frozen=True):
    """mark = (mark & ~mask) ^ value, as MARK --set-xmark; the rest of the mark is somebody else's (D15)."""

    value: int
    mask: int


class NoTrack(Struct, frozen=True):
    """Leave the packet out of connection tracking (CT --notrack)."""


class Reject(Struct, frozen=True):
    """Drop with an ICMP error (filter table only)."""


class Log(Struct, frozen=True):
    """Write to the kernel log at level 5 (notice); the prefix has at most 29 bytes (R-50, R-52)."""

    prefix: str


Target = Verdict | Jump | SetMark | NoTrack | Reject | Log
ACCEPT: Final = Verdict("ACCEPT")
DROP: Final = Verdict("DROP")
RETURN: Final = Verdict("RETURN")


# --- rules, tables, sets -----------------------------------------------------------------------------------------------
class Rule(Identified, frozen=True):
    """Matches, all of which must hold, in evaluation order (D10), then what happens.

    `comment` is for people (at most 255 of `A-Za-z0-9:_-./`). `counter` names what this rule's packet counter means to a
    report, such as "drop eth0 ingress no-policy"; it isn't written to the kernel and isn't part of the rule's identity.
    """

    matches: tuple[Match, ...]
    target: Target
    comment: str = ""
    counter: str = ""

    def _identity(self) -> object:
        return self.matches, self.target, self.comment

    def uses_sets(self) -> tuple[str, ...]:
        """The names of the kernel sets that this rule matches on."""
        return tuple(m.name for m in self.matches if isinstance(m, InSet))


class Hook(Struct, frozen=True):
    """Our rules in one kernel chain: `first` before everybody's, `last` after everybody's (D11)."""

    first: Chain = ()
    last: Chain = ()


class Table(Identified, frozen=True):
    """All that we want in one table of one family: own chains by name, hooks by kernel chain.

    `other_hooks`: rules that stand in kernel chains when something else is needed, for who finds them there to know them.
    """

    chains: Mapping[str, Chain]
    hooks: Mapping[str, Hook]
    other_hooks: frozenset[Rule] = frozenset()

    def _identity(self) -> object:
        return self.chains, self.hooks


class TableId(NamedTuple):
    """A table of a family."""

    family: Family
    name: TableName

    def __str__(self) -> str:
        return f"{self.name}/v{self.family}"


SetType = Literal["hash:net", "hash:ip,port"]


class IPSet(Struct, frozen=True):
    """A kernel set: members as the kernel prints them ("10.0.0.0/8", "10.0.0.1", "10.0.0.1,tcp:80")."""

    type: SetType
    family: Family
    members: Set[str] = frozenset()
    max_members: int = 1_048_576


class Ruleset(Struct, frozen=True):
    """The desired state of the kernel, whole."""

    tables: Mapping[TableId, Table] = field(default_factory=lambda: MappingProxyType({}))
    sets: Mapping[str, IPSet] = field(default_factory=lambda: MappingProxyType({}))


class Focus(Struct, frozen=True):
    """The names of what may differ between two rulesets; whatever isn't named is the same object in both, or in neither.

    Hooks aren't named: they differ only together with a chain of their table.
    """

    chains: Mapping[TableId, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    sets: frozenset[str] = frozenset()

    def __or__(self, other: Focus) -> Focus:
        none: frozenset[str] = frozenset()
        tables = self.chains.keys() | other.chains.keys()
        chains = {where: self.chains.get(where, none) | other.chains.get(where, none) for where in tables}
        return Focus(chains, self.sets | other.sets)

    def touches(self, family: Family) -> bool:
        """Whether anything of a family may differ."""
        return any(names and where.family == family for where, names in self.chains.items()) or any(
            set_family(name) == family for name in self.sets
        )


OWN_CHAIN_PREFIX: Final = "hw-"
SHADOW_CHAIN_PREFIX: Final = "hw~"
OWN_CHAIN_PREFIXES: Final = (OWN_CHAIN_PREFIX, SHADOW_CHAIN_PREFIX)
OWN_SET_PREFIXES: Final = ("hw4-", "hw6-", "hw4~", "hw6~")
MAX_CHAIN_NAME: Final = 28
MAX_SET_NAME: Final = 31


def is_own_chain(name: str) -> bool:
    """Whether a chain is ours by its name."""
    return name.startswith(OWN_CHAIN_PREFIXES)


def set_family(name: str) -> Family:
    """The family of a set of ours, by its name."""
    return 6 if name.startswith("hw6") else 4


def is_own_set(name: str) -> bool:
    """Whether a set is ours by its name."""
    return name.startswith(OWN_SET_PREFIXES)
