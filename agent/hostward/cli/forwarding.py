"""What `hostForwardPolicy: All` would newly deny on this host, for who runs with Felix's meaning, ApplyOnForward.

Worked out from what is stored, as the agent would render it, and from the connections that are open now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from hostward.calc.calculate import calculate
from hostward.cli.stored import Stored
from hostward.dataplane import flow_table, rtnl
from hostward.dataplane.kernel import KernelError
from hostward.dataplane.netlink import NETLINK_ROUTE, Netlink
from hostward.dataplane.ways import Ways
from hostward.model.findings import Finding, ok, warn
from hostward.model.links import Link
from hostward.model.resolved import Inputs, Resolved, Scope
from hostward.model.settings import Settings
from hostward.render import names
from hostward.render.evaluate import FilterState, Packet, evaluate, of_ruleset
from hostward.render.flow_packets import first_packet
from hostward.render.names import Direction
from hostward.render.options import options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import Ruleset

CHECK = "forwarding"
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
MOST_TOLD = 10
_DO = "allow it by a policy before you set hostForwardPolicy: All; leave it at ApplyOnForward until then"


def forwarding(stored: Stored, settings: Settings) -> Iterator[Finding]:
    """Interfaces whose forwarded traffic would be judged by more, and open connections through them that would be denied."""
    if settings.host_forward_policy == "All":
        return
    try:
        with Netlink(NETLINK_ROUTE) as netlink:
            links = rtnl.read(netlink).links()
        open_now = flow_table.flows()
    except (OSError, KernelError) as error:
        yield _unknown(error)
        return
    resolved = _resolved(stored, settings, links)
    now, then = _rendered(resolved, settings), _rendered(resolved, replace(settings, host_forward_policy="All"))
    judged = sorted(name for name in resolved.endpoints if _differ(name, now, then))
    if not judged:
        yield ok(CHECK, "hostForwardPolicy All would change nothing here")
        return
    local = frozenset(address for link in links.values() for address in link.addresses)
    before, after = of_ruleset(now), of_ruleset(then)
    try:
        with Ways() as ways:
            denied = [flow for flow in open_now if _newly_denied(first_packet(flow, local, ways.to), before, after)]
    except KernelError as error:
        yield _unknown(error)
        return
    where = f"hostForwardPolicy All would judge what is forwarded through {', '.join(judged)} by all policies"
    if not denied:
        yield ok(CHECK, f"{where}; none of the connections open now would be denied")
        return
    told = "; ".join(map(str, denied[:MOST_TOLD])) + (
        f"; and {len(denied) - MOST_TOLD} more" if len(denied) > MOST_TOLD else ""
    )
    yield warn(CHECK, f"{where}, and deny {len(denied)} of the connections that are open now: {told}", _DO)


def _unknown(error: Exception) -> Finding:
    return warn(CHECK, f"what hostForwardPolicy All would deny can't be worked out: {error}", "run this as root")


def _resolved(stored: Stored, settings: Settings, links: Mapping[str, Link]) -> Resolved:
    scope = Scope(settings.node_name, settings.interface_prefix, settings.interface_exclude)
    return calculate(Inputs(scope, stored.resources(), links))


def _rendered(resolved: Resolved, settings: Settings) -> Ruleset:
    return Renderer(options(settings, ())).render(resolved)


def _differ(interface: str, now: Ruleset, then: Ruleset) -> bool:
    """Whether the interface's chains for forwarded traffic differ."""
    chains = [names.endpoint_chain(interface, direction, "fw") for direction in DIRECTIONS]
    return any(
        now.tables[where].chains.get(name) != table.chains.get(name) for where, table in then.tables.items() for name in chains
    )


def _newly_denied(packet: Packet | None, before: FilterState, after: FilterState) -> bool:
    if packet is None or packet.path != "forward":
        return False
    return evaluate(packet, before).accepted and not evaluate(packet, after).accepted
