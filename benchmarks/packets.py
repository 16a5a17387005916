"""What a packet pays, and a connection: ours beside an empty router, the hand-written optimum and Felix-shaped chains.

CPU time of the sending thread, in whose softirq everything happens. A new flow is one that is never answered: conntrack calls
each of its packets new. A drop meets all policies and none allows it.
"""

from __future__ import annotations

from benchmarks.found import Found
from benchmarks.helper import Helper, Path5
from benchmarks.packet_policies import MIX, MIXES, PORT, shapes
from benchmarks.routers import KINDS, MIDDLE, PLACES, Routers
from benchmarks.sizes import Size
from hostward.render.ruleset import Family

NEW, ESTABLISHED, DROP = "new", "established", "drop"
TRAFFIC = (ESTABLISHED, NEW, DROP)
PACKETS, CONNECTIONS = 256, 16  # of a block
ROUNDS, CONNECTION_ROUNDS = 120, 60
HOST = "host itself"
MIDDLE_SIX, HOST_SIX = f"{MIDDLE}, IPv6", f"{HOST}, IPv6"
MEASURED = (
    *((mix, where, traffic) for mix in MIXES for where in (*PLACES, HOST) for traffic in TRAFFIC),
    *((MIX, where, traffic) for where in (MIDDLE_SIX, HOST_SIX) for traffic in (ESTABLISHED, NEW)),
)
PORT_OF_ESTABLISHED = 9_999  # the other port that the last policy allows, in both mixes
SOURCE_PORTS = {ESTABLISHED: 40_001, NEW: 40_002, DROP: 40_003}


def name(mix: str, where: str, traffic: str, kind: str) -> str:
    """What samples are called."""
    return f"{mix}, {where}, {traffic}: {kind}"


def packets(size: Size, found: Found, *, number: int, quick: bool) -> None:
    """One repetition of datagrams."""
    with Helper() as helper, Routers(size, number) as routers:
        for mix in MIXES:
            routers.fill(shapes(mix, "UDP"))
            groups = [(where, traffic) for found_in, where, traffic in MEASURED if found_in == mix]
            flows = [_flow(routers, kind, where, traffic) for where, traffic in groups for kind in KINDS]
            measured = helper.run(flows, rounds=8 if quick else ROUNDS, block=PACKETS, group=len(KINDS))
            names = [name(mix, where, traffic, kind) for where, traffic in groups for kind in KINDS]
            found.times.update(zip(names, measured, strict=True))


def _flow(routers: Routers, kind: str, where: str, traffic: str) -> Path5:
    allowed = traffic != DROP
    family: Family = 6 if where in (MIDDLE_SIX, HOST_SIX) else 4
    if where in (HOST, HOST_SIX):
        (source, to), server = routers.into(kind, family, allowed=allowed), routers.routers[kind]
    else:
        place = MIDDLE if family == 6 else where
        (source, to), server = routers.through(kind, place, family, allowed=allowed), routers.server
    # Nothing is dropped by an empty router. Each flow of a place has a socket of its own on the server.
    told = NEW if kind.startswith("empty") and not allowed else traffic
    port = PORT if traffic != ESTABLISHED else PORT_OF_ESTABLISHED
    return Path5(told, routers.client.name, server.name, source, SOURCE_PORTS[traffic], to, port)


def connections(size: Size, found: Found, *, number: int, quick: bool) -> None:
    """One repetition of connections, through the interface in the middle and to the host."""
    with Helper() as helper, Routers(size, number) as routers:
        for mix in MIXES:
            routers.fill(shapes(mix, "TCP"))
            flows = []
            for where in (MIDDLE, HOST):
                for kind in KINDS:
                    source, to = routers.into(kind) if where == HOST else routers.through(kind, where)
                    server = routers.routers[kind] if where == HOST else routers.server
                    flows.append(Path5("connect", routers.client.name, server.name, source, 0, to, PORT))
            measured = helper.run(flows, rounds=6 if quick else CONNECTION_ROUNDS, block=CONNECTIONS, group=len(KINDS))
            names = [name(mix, where, "connection", kind) for where in (MIDDLE, HOST) for kind in KINDS]
            found.times.update(zip(names, measured, strict=True))
