"""All kinds of traffic of `shapes` on a worker lab: the services behind them, and a stream of datagrams of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.shapes import FAILSAFE_PORT, TRAFFIC
from tests.lab import kubeproxy
from tests.lab.probes import Stream, StreamClass
from tests.lab.topology import WorkerLab


@contextmanager
def served() -> Iterator[WorkerLab]:
    """A lab with the services of all kinds of traffic."""
    with WorkerLab() as lab:
        services = [
            kubeproxy.Service(f"{traffic.name.upper()}{version}", "udp", pod, traffic.inner, traffic.port)
            for version, pod in zip((4, 6), lab.POD, strict=True)
            for traffic in TRAFFIC
            if traffic.forwarded
        ]
        # A datagram a port and no answers: conntrack keeps half a minute of them unless told otherwise.
        lab.worker.sysctl({"net/netfilter/nf_conntrack_udp_timeout": "5"})
        kubeproxy.install(lab.worker, services, lab.POD_RANGE)
        yield lab


def classes(lab: WorkerLab) -> list[StreamClass]:
    """A class of datagrams for each kind of traffic, per family."""
    ports = {traffic.name: traffic.port for traffic in TRAFFIC} | {"failsafe": FAILSAFE_PORT}
    return [StreamClass(f"{name} v{v}", lab.PUBLIC[v == 6], port) for name, port in ports.items() for v in (4, 6)]


def stream(lab: WorkerLab, rate: int, *more: StreamClass) -> Stream:
    """All classes, and `more` to the worker, from the internet; counted at the worker and, after DNAT, at the pod."""
    local = [traffic.inner for traffic in TRAFFIC if not traffic.forwarded]
    remote = [traffic.inner for traffic in TRAFFIC if traffic.forwarded]
    local += [FAILSAFE_PORT, *(each.port for each in more)]
    return Stream(lab.internet, [*classes(lab), *more], {lab.worker: local, lab.pod: remote}, rate=rate)
