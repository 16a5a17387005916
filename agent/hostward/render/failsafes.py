"""The ports that no policy can shut: the failsafes (`statements.md` enforcement 4.7; D8). Pure functions; any thread."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from hostward.model.failsafe import FailsafePort
from hostward.model.nets import family as family_of
from hostward.model.rules import PortRange
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.policy import port_groups
from hostward.render.ruleset import ACCEPT, Chain, Family, Net, PortSet, Protocol, Rule, Side, TableName

_WORDS: Final = {6: "tcp", 17: "udp"}


def _open(ports: Iterable[FailsafePort], port_side: Side, remote: Side, family: Family, counter: str = "") -> list[Rule]:
    by_peer: dict[tuple[int, str | None], list[PortRange]] = {}
    for item in ports:
        if item.net is None or family_of(item.net) == family:
            by_peer.setdefault((item.protocol, item.net), []).append(PortRange(item.port, item.port))
    return [
        Rule(
            (*((Net(remote, net),) if net else ()), Protocol(protocol), PortSet(port_side, group)),
            ACCEPT,
            counter=counter and f"{counter} {_WORDS.get(protocol, protocol)}",
        )
        for (protocol, net), ranges in by_peer.items()
        for group in port_groups(ranges)
    ]


@lru_cache(maxsize=64)
def failsafe_rules(table: TableName, direction: Direction, family: Family, options: Options) -> Chain:
    """The failsafe ports of one direction; in raw also the other's replies, which no state tells apart there (H-60, H-61)."""
    inbound = direction == "ingress"
    mine, others = (options.failsafe_in, options.failsafe_out)[:: 1 if inbound else -1]
    remote: Side = "src" if inbound else "dst"
    replies = _open(others, "src", remote, family) if table == "raw" else []
    counter = f"failsafe {direction}" if table == "filter" else ""  # elsewhere packets of open connections come by, too
    return (*_open(mine, "dst", remote, family, counter), *replies)
