"""The rules of policies and profiles as chains (`statements.md` enforcement 3.3, 3.4 as D9 and D10 change them).

An Allow is one rule: it goes to a chain that sets the accept mark, and from that chain's end back to the endpoint's chain.
Pure functions; any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from hostward.model import nets
from hostward.model.rules import ICMP, ICMPV6, Action, Entity, PortRange, Rule
from hostward.model.sets import NetSet, SetMatch, holds_ports, side_sets
from hostward.render.marks import clear, is_set, put
from hostward.render.merging import MULTIPORT_SLOTS, merged_ports, merged_rules, slots
from hostward.render.names import ALLOW, PASS, Direction, set_name
from hostward.render.options import Options
from hostward.render.ruleset import (
    DROP,
    Chain,
    Family,
    IcmpType,
    InSet,
    Jump,
    Limit,
    Log,
    Match,
    Net,
    PortSet,
    Protocol,
    Reject,
    Side,
    TableName,
    Target,
)
from hostward.render.ruleset import Rule as KernelRule

LOG_PREFIX_BYTES = 29
COMMENT_CHARACTERS = 255


class Owner(Struct, frozen=True):
    """Whose rules are rendered, of which direction: title for comments ("gnp/x"), and the parts of a log prefix (R-51)."""

    direction: Direction
    title: str
    tier: str
    short_kind: str
    name: str


def port_groups(ranges: Iterable[PortRange]) -> list[tuple[tuple[int, int], ...]]:
    """Port ranges cut into groups of at most 15 multiport slots; a range that isn't one port takes two (R-31)."""
    groups: list[list[tuple[int, int]]] = []
    free = 0
    for first, last in merged_ports(ranges):
        needed = slots(first, last)
        if needed > free:
            groups.append([])
            free = MULTIPORT_SLOTS
        groups[-1].append((first, last))
        free -= needed
    return [tuple(group) for group in groups]


class _Sided(Struct, frozen=True):
    """What one side of a rule becomes: header, port and set matches, and the OR alternatives that need a block."""

    header: tuple[Match, ...]
    ports: tuple[Match, ...]
    sets: tuple[Match, ...]
    alternatives: tuple[Match, ...]


def of_family(wanted: Iterable[str], family: Family) -> tuple[str, ...]:
    """The distinct CIDRs of one family, in one order, so that equal lists share a set."""
    return tuple(sorted({net for net in wanted if nets.family(net) == family}))


def _side(entity: Entity, side: Side, protocol: int | None, family: Family) -> _Sided | None:
    """None when the side can't match a packet of this family (R-30)."""
    header: list[Match] = []
    sets: list[Match] = []
    ports: list[Match] = []
    for wanted, negate in ((entity.nets, False), (entity.not_nets, True)):
        mine = of_family(wanted, family)
        if wanted and (not mine or (negate and any(nets.is_catch_all(net) for net in mine))):
            return None
        if len(mine) == 1 and not header:
            header.append(Net(side, mine[0], negate))
        elif mine:
            sets.append(InSet(set_name(NetSet(mine), family), (side,), negate))
    found = side_sets(entity, protocol)
    sets += [_in_set(match, side, family) for match in found.all_of]
    groups = [PortSet(side, group) for group in port_groups(entity.ports.ranges)]
    alternatives: list[Match] = [*groups, *(_in_set(SetMatch(ref), side, family) for ref in found.named_ports)]
    ports += [PortSet(side, group, negate=True) for group in port_groups(entity.not_ports.ranges)]
    if len(alternatives) == 1:
        (ports if groups else sets).append(alternatives.pop())
    return _Sided(tuple(header), tuple(ports), tuple(sets), tuple(alternatives))


def _in_set(match: SetMatch, side: Side, family: Family) -> InSet:
    dimensions: tuple[Side, ...] = (side, side) if holds_ports(match.ref) else (side,)
    return InSet(set_name(match.ref, family), dimensions, match.negate)


def _protocol(rule: Rule, family: Family) -> tuple[Match, ...] | None:
    """The protocol and ICMP matches; None when no packet of this family can match."""
    if rule.ip_version not in (None, family):
        return None
    matches: list[Match] = []
    if rule.protocol is not None:
        if rule.protocol == rule.not_protocol:
            return None
        matches.append(Protocol(rule.protocol))
    elif rule.not_protocol is not None:
        matches.append(Protocol(rule.not_protocol, negate=True))
    for icmp, negate in ((rule.icmp, False), (rule.not_icmp, True)):
        if icmp is not None:
            if rule.protocol != (ICMP if family == 4 else ICMPV6):
                return None
            matches.append(IcmpType(icmp.type, icmp.code, negate))
    return tuple(matches)


def _target(action: Action, table: TableName, owner: Owner, options: Options) -> Target:
    match action:
        case Action.ALLOW:
            return Jump(ALLOW, goto=True)
        case Action.PASS:
            return Jump(PASS, goto=True)
        case Action.DENY:
            return Reject() if options.filter_reject and table == "filter" else DROP
        case Action.LOG:
            return Log(log_prefix(options.log_prefix, owner))


def log_prefix(template: str, owner: Owner) -> str:
    """The prefix with its %t %k %n %p filled in, then ": ", in the 29 bytes that the kernel keeps (R-50..R-52)."""
    words = {"t": owner.tier, "k": owner.short_kind, "n": owner.name.rpartition("/")[2], "p": owner.name}
    text = re.sub(r"%([tknp])", lambda m: words[m[1]], template)
    plain = re.sub(r"[^ -~]|[\"'\\]", "_", text)
    return plain[: LOG_PREFIX_BYTES - 2] + ": "


def comment(text: str) -> str:
    """Text as a rule's comment may hold it: its alphabet, not starting with an option character, cut to size (R-60)."""
    return re.sub(r"[^A-Za-z0-9:_./-]", "_", text)[:COMMENT_CHARACTERS]


def rule_chain(rule: Rule, table: TableName, family: Family, owner: Owner, options: Options, *, first: bool = False) -> Chain:
    """One policy rule as kernel rules: one, and before it a block for each side whose ports are alternatives.

    A block's bit is cleared before the block, so that no earlier rule's match stands in for it (D9, R-46).
    """
    if rule.never:
        return ()
    protocol = _protocol(rule, family)
    source = _side(rule.source, "src", rule.protocol, family)
    destination = _side(rule.destination, "dst", rule.protocol, family)
    if protocol is None or source is None or destination is None:
        return ()
    header = (*source.header, *destination.header, *protocol)
    result: list[KernelRule] = []
    bits = 0
    for sided, bit in ((source, options.marks.source), (destination, options.marks.destination)):
        if sided.alternatives:
            bits |= bit
            result.append(KernelRule(header, clear(bit)))
            result += [KernelRule((*header, match), put(bit)) for match in sided.alternatives]
    matches: tuple[Match, ...] = (*header, *source.ports, *destination.ports)
    if bits:
        matches += (is_set(bits),)
    matches += (*source.sets, *destination.sets)
    if rule.action is Action.LOG and options.log_limit is not None:
        matches += (Limit(*options.log_limit),)
    notes = [owner.title] if first else []
    notes += [f"{key}:{value}" for key, value in rule.annotations]
    target = _target(rule.action, table, owner, options)
    counter = f"policy {owner.direction} {rule.action.lower()} {owner.title}"
    result.append(KernelRule(matches, target, comment("/".join(notes)), counter))
    return tuple(result)


def rules_chain(rules: Iterable[Rule], table: TableName, family: Family, owner: Owner, options: Options) -> Chain:
    """All rules of a policy or profile, one direction. The first kernel rule's comment says whose chain it is (R-40)."""
    result: list[KernelRule] = []
    for rule in merged_rules(rules):
        result += rule_chain(rule, table, family, owner, options, first=not result)
    return tuple(result)


def net_sets(rules: Iterable[Rule], family: Family) -> dict[str, NetSet]:
    """The sets of CIDRs that these rules name themselves, by kernel name."""
    found = {}
    for rule in merged_rules(rules):
        for entity in (rule.source, rule.destination):
            for wanted in (entity.nets, entity.not_nets):
                mine = of_family(wanted, family)
                if mine:
                    found[set_name(NetSet(mine), family)] = NetSet(mine)
    return found
