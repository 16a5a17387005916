"""The 20 policies that packets meet, as values: for the agent as documents, for hand-written chains as matches. Pure.

Two mixes. Worst case: every policy names the protocol, ports that match, and a network set that doesn't, except the last.
Mix: shapes as in the workloads; most fail earlier. In both only the last policy allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import documents as d
from benchmarks.documents import Document, Stored
from hostward.render.ruleset import Family

POLICIES = 20
PORT = 7777
SET_MEMBERS = 100
WORST, MIX = "worst case", "mix"
MIXES = (WORST, MIX)
NAMESPACE = "packets"


@dataclass(frozen=True)
class Shape:
    """One policy with one rule that allows. `number` names its set; `nets` are a list of CIDRs, which makes a set too."""

    number: int
    protocol: str
    ports: tuple[int | str, ...]
    uses_set: bool = False
    nets: tuple[str, ...] = ()

    def set_name(self, family: Family) -> str:
        """The kernel's name on the hand-written routers."""
        name = f"p{self.number}" if self.uses_set else f"c{self.number}" if len(self.nets) > 1 else ""
        return f"{name}-six" if name and family == 6 else name


def shapes(mix: str, protocol: str) -> list[Shape]:
    """The policies in order."""
    other = "TCP" if protocol == "UDP" else "UDP"
    last = Shape(POLICIES - 1, protocol, (PORT, 9_999), uses_set=True)
    if mix == WORST:
        return [*(Shape(n, protocol, (PORT, 10_000 + n), uses_set=True) for n in range(POLICIES - 1)), last]
    found = []
    for number in range(POLICIES - 1):
        port = 10_000 + number
        match number % 5:
            case 0:
                found.append(Shape(number, protocol, (port, port + 100), uses_set=True))
            case 1:
                found.append(Shape(number, other, (port,), uses_set=True))
            case 2:
                found.append(Shape(number, protocol, (port,), nets=("198.19.1.1/32", "198.18.0.0/16")))
            case 3:
                found.append(Shape(number, protocol, (port, f"{port + 100}:{port + 110}")))
            case _:
                found.append(Shape(number, protocol, (PORT,), nets=(f"198.19.2.{number}/32",)))
    return [*found, last]


def six(net: str) -> str:
    """An IPv4 network's counterpart: its four bytes as the four numbers after the first."""
    address, length = net.split("/")
    return f"fd19:{':'.join(address.split('.'))}::/{16 + 2 * int(length)}"


def members(number: int, allowed: tuple[str, ...], family: Family) -> list[str]:
    """What network set `number` holds of an IP version: the last one's also who is allowed."""
    nets = [f"10.{100 + number}.{last}.0/24" for last in range(SET_MEMBERS)]
    if family == 6:
        nets = [six(net) for net in nets]
    mine = [address for address in allowed if (":" in address) is (family == 6)]
    return [*nets, *(f"{address}/{32 if family == 4 else 128}" for address in mine)] if number == POLICIES - 1 else nets


def sets(chosen: list[Shape], allowed: tuple[str, ...], family: Family) -> dict[str, list[str]]:
    """The sets of the hand-written routers, by name."""
    found = {}
    for shape in chosen:
        if name := shape.set_name(family):
            nets = list(shape.nets) if family == 4 else [six(net) for net in shape.nets]
            found[name] = members(shape.number, allowed, family) if shape.uses_set else nets
    return found


# --- for the agent -------------------------------------------------------------------------------------------------------
def _rule(shape: Shape, side: str) -> Document:
    fields: Document = {}
    if shape.uses_set:
        fields = {"selector": f"packets == 'p{shape.number}'"}
        if side == "destination":
            fields["namespaceSelector"] = "global()"
    elif shape.nets:
        fields = {"nets": [*shape.nets, *map(six, shape.nets)]}
    given = {side: fields} if fields else {}
    return d.rule("Allow", shape.protocol, shape.ports, **given)


def stored(chosen: list[Shape], allowed: tuple[str, ...]) -> Iterator[Stored]:
    """Network sets and policies: egress for the pods of a namespace, ingress for host endpoints of a role."""
    for number in range(POLICIES):
        yield d.network_set(
            f"packets-{number}", {"packets": f"p{number}"}, [*members(number, allowed, 4), *members(number, allowed, 6)]
        )
    for shape in chosen:
        name, order = f"packets{shape.number:02}", float(shape.number)
        yield d.policy(NAMESPACE, f"default.{name}", order, "all()", egress=[_rule(shape, "destination")])
        yield d.global_policy(name, order, "role == 'packets'", ingress=[_rule(shape, "source")])


# --- for hand-written chains ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Words:
    """A rule's matches as iptables-restore takes them. `side`: the set's and the CIDR's, `src` or `dst`."""

    header: str
    ports: str
    in_set: str


def words(shape: Shape, side: str, family: Family) -> Words:
    """The matches of a policy's rule."""
    option = "-d" if side == "dst" else "-s"
    nets = shape.nets if family == 4 else tuple(map(six, shape.nets))
    net = f"{option} {nets[0]} " if len(nets) == 1 else ""
    listed = ",".join(str(port) for port in shape.ports)
    name = shape.set_name(family)
    in_set = f" -m set --match-set {name} {side}" if name else ""
    return Words(f"{net}-p {shape.protocol.lower()}", f" -m multiport --dports {listed}", in_set)
