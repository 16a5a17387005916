"""What iptables and the kernel refuse, as far as our rules could ever meet it. The strict fake asks here. Pure; any thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from hostward.model import nets
from hostward.model.rules import ICMP, ICMPV6, PORT_PROTOCOLS
from hostward.render.ruleset import (
    MAX_CHAIN_NAME,
    IcmpType,
    InSet,
    Interface,
    IPSet,
    Jump,
    Log,
    Mark,
    Match,
    Net,
    NoTrack,
    PortSet,
    Protocol,
    Reject,
    ReversePath,
    Rule,
    SetMark,
    TableId,
)

KERNEL_CHAINS: Mapping[str, tuple[str, ...]] = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
_SLOTS, _INTERFACE, _COMMENT, _LOG_PREFIX, _MARK = 15, 15, 255, 29, 0xFFFFFFFF
_DIMENSIONS = {"hash:net": 1, "hash:ip,port": 2}
_UDPLITE = 136


def _match_refusals(match: Match, rule: Rule, where: TableId, sets: Mapping[str, IPSet]) -> Iterator[str]:
    protocols = {m.number for m in rule.matches if isinstance(m, Protocol) and not m.negate}
    match match:
        case InSet(name, dimensions):
            if name not in sets:
                yield f"Set {name} doesn't exist."
            elif sets[name].family != where.family:
                yield f"The protocol family of set {name} is not applicable."
            elif len(dimensions) != _DIMENSIONS[sets[name].type]:
                yield f"set {name} of type {sets[name].type} doesn't have {len(dimensions)} dimensions"
        case PortSet(_, ranges):
            if sum(1 if first == last else 2 for first, last in ranges) > _SLOTS or not ranges:
                yield "too many ports specified"
            if not protocols & {*PORT_PROTOCOLS, _UDPLITE}:
                yield "multiport needs `-p tcp', `-p udp', `-p udplite', `-p sctp' or `-p dccp'"
            if any(not 0 <= first <= last <= 65535 for first, last in ranges):
                yield f"invalid port range in {ranges}"
        case IcmpType() if (ICMP if where.family == 4 else ICMPV6) not in protocols:
            yield "icmp type without its protocol"
        case Interface(_, name, prefix):
            if len(name) > _INTERFACE - prefix or not (name or prefix):
                yield f"interface name `{name}' must be shorter than IFNAMSIZ (15)"
        case Net(_, net):
            if nets.family(net) != where.family or nets.parse_net(net) is None:
                yield f"host/network `{net}' not found"
        case ReversePath() if where.name not in ("raw", "mangle"):
            yield "rpfilter: only valid in the 'raw' or 'mangle' table"
        case Mark(value, mask) if value & ~mask or mask > _MARK:
            yield f"mark {value:#x}/{mask:#x} never matches"


def rule_refusals(rule: Rule, where: TableId, sets: Mapping[str, IPSet]) -> Iterator[str]:
    """Why a rule can't be in a table, if at all. Which chains exist isn't looked at."""
    header = [
        (type(m), m.side if isinstance(m, Net) else m.direction if isinstance(m, Interface) else "")
        for m in rule.matches
        if isinstance(m, Net | Interface | Protocol)
    ]
    if any(number > 1 for number in Counter(header).values()):
        yield "multiple -s, -d, -i, -o or -p flags not allowed"
    for match in rule.matches:
        yield from _match_refusals(match, rule, where, sets)
    if len(rule.comment) > _COMMENT:
        yield "comment too long"
    match rule.target:
        case Reject() if where.name != "filter":
            yield "REJECT: only valid in the filter table"
        case NoTrack() if where.name != "raw":
            yield "CT: only valid in the raw table"
        case Log(prefix) if len(prefix.encode()) > _LOG_PREFIX:
            yield "Maximum prefix length 29 for --log-prefix"
        case SetMark(value, mask) if max(value, mask) > _MARK:
            yield "mark out of range"


def kernel_chain_refusals(chain: str, rule: Rule) -> Iterator[str]:
    """Why a rule can't stand in a kernel chain itself."""
    for match in rule.matches:
        if isinstance(match, Interface):
            if match.direction == "in" and chain in ("OUTPUT", "POSTROUTING"):
                yield f"Can't use -i with {chain}"
            if match.direction == "out" and chain in ("PREROUTING", "INPUT"):
                yield f"Can't use -o with {chain}"


def structure_refusals(chains: Mapping[str, Sequence[object]], entrances: Mapping[str, Sequence[object]]) -> Iterator[str]:
    """Why these own chains, entered from kernel chains, can't be a table: names, missing targets, loops."""
    links = {name: [r.target.chain for r in chain if isinstance(r, Rule) and isinstance(r.target, Jump)]
             for name, chain in {**chains, **entrances}.items()}  # fmt: skip # one thought, one line each
    for name in chains:
        if not 0 < len(name) <= MAX_CHAIN_NAME:
            yield f"chain name `{name}' too long (must be under 29 chars)"
    for name, targets in links.items():
        for target in targets:
            if target not in chains:
                yield f"{name}: Couldn't load target `{target}': No such file or directory"
    finished: set[str] = set()
    for start, first in links.items():
        path: list[tuple[str, Iterator[str]]] = [(start, iter(first))]
        while path and start not in finished:
            name, rest = path[-1]
            below = next((target for target in rest if target not in finished), None)
            if below is None:
                finished.add(name)
                path.pop()
            elif any(below == other for other, _ in path):
                yield f"{name}: Too many levels of symbolic links"
                return
            else:
                path.append((below, iter(links.get(below, ()))))


def hook_refusals(chains: Mapping[str, Sequence[object]], entrances: Mapping[str, Sequence[object]]) -> Iterator[str]:
    """Why rules can't stand where the kernel chains lead to them, over however many own chains."""
    for hook in entrances.keys() - {"PREROUTING"}:
        reached, waiting = {hook}, [entrances[hook]]
        while waiting:
            for rule in waiting.pop():
                if not isinstance(rule, Rule):
                    continue
                if any(isinstance(match, ReversePath) for match in rule.matches):
                    yield f"rpfilter match: used from hooks {hook}, but only valid from PREROUTING"
                if isinstance(rule.target, Jump) and rule.target.chain not in reached:
                    reached.add(rule.target.chain)
                    waiting.append(chains.get(rule.target.chain, ()))
