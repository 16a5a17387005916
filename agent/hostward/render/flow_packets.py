"""The first packet of an open connection, as it would meet the hooks if it came anew: what `evaluate` judges. Pure; any thread.

Conntrack doesn't keep interfaces. They are those that lead back to either end, which `way` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from ipaddress import ip_address

from hostward.model.flow import Flow
from hostward.render.evaluate import Packet, Path
from hostward.render.ruleset import Family


def first_packet(flow: Flow, local: Set[str], way: Callable[[str], str]) -> Packet | None:
    """`local`: this host's own addresses; `way`: the interface that leads to an address, "" for none.

    None: it doesn't leave this host, or nobody knows where to.
    """
    here, there = _is_local(flow.source, local), _is_local(flow.answer, local)
    path: Path = "output" if here else "input" if there else "forward"
    into = "" if here else way(flow.source)
    out = "" if there else way(flow.answer)
    if (here and there) or not (here or into) or not (there or out):
        return None
    family: Family = 6 if ":" in flow.source else 4
    translated = (flow.answer, flow.answer_port) != (flow.destination, flow.destination_port)
    return Packet(
        family,
        path,
        flow.source,
        flow.destination,
        flow.protocol,
        flow.source_port,
        flow.destination_port,
        into,
        out,
        flow.icmp_type,
        flow.icmp_code,
        dnat=(flow.answer, flow.answer_port) if translated else None,
    )


def _is_local(address: str, local: Set[str]) -> bool:
    return address in local or ip_address(address).is_loopback
