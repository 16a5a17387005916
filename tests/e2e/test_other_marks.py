"""Other bits of the packet mark while FORWARD drops what nobody accepts: no packet is lost, and none leaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e import documents as d
from tests.lab import kubeproxy
from tests.lab.agent import Agent
from tests.lab.etcd import Etcd
from tests.lab.probes import Stream, StreamClass
from tests.lab.topology import WorkerLab

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
MASKS = ("0x3f000000", "0x1f800000", "0x7e000000", "0x3f0000", "0xff000000")
"""A bit has another end from each to the next: the sixth of 0x1f800000 is the fifth of 0x3f000000."""
SETTINGS = f"{d.ROOT}felixconfigurations/default"
THROUGH = {"open": 9081, "shut": 9080}
SERVICE = {"open": (30081, 8081), "shut": (30080, 8080)}  # node port, and the pod's
EARLY = {"preDNAT": True, "applyOnForward": True}


@contextmanager
def drops() -> Iterator[WorkerLab]:
    """A lab whose FORWARD drops what nobody accepts. Pods are reached from outside, and by the worker as services."""
    with WorkerLab() as lab:
        services = [
            kubeproxy.Service(f"{name.upper()}{version}", "udp", pod, inner, outer, local=True)
            for version, pod in zip((4, 6), lab.POD, strict=True)
            for name, (outer, inner) in SERVICE.items()
        ]
        lab.worker.sysctl({"net/netfilter/nf_conntrack_udp_timeout": "5"})  # a datagram a port and no answers
        kubeproxy.install(lab.worker, services, lab.POD_RANGE, "DROP")
        lab.public_router.ip(f"route add {lab.POD_RANGE[0]} via 192.0.2.10", f"route add {lab.POD_RANGE[1]} via 2001:db8:2::10")
        yield lab


def documents() -> dict[str, d.Document]:
    """What lets `open` pass and nothing else; one policy more for mangle to judge, too."""
    rules = [d.to_ports("Allow", [THROUGH["open"], SERVICE["open"][1]])]
    return {
        d.CLUSTER: d.cluster(),
        d.policy_key("open"): d.policy("open", 20, rules, types=["Ingress", "Egress"], egress=rules),
        d.policy_key("early"): d.policy("early", 10, [d.to_ports("Deny", [9999])], **EARLY),
        d.endpoint_key("public"): d.endpoint("public", "eth1"),
        d.endpoint_key("inside"): d.endpoint("inside", "pods"),
    }


@pytest.mark.parametrize("means", ["restart", "live"])
def test_no_packet_feels_which_bits_of_its_mark_are_ours(means: str) -> None:
    with drops() as lab, Etcd(lab.store, lab.STORE[0]) as etcd:
        for key, document in documents().items():
            revision = etcd.put(key, document)
        through = [StreamClass(f"{n} v{v}", lab.POD[v == 6], port) for n, port in THROUGH.items() for v in (4, 6)]
        service = [StreamClass(f"{n} v{v}", lab.PUBLIC[v == 6], port) for n, (port, _) in SERVICE.items() for v in (4, 6)]
        at_pod = [inner for _, inner in SERVICE.values()]
        with (
            Agent(lab.worker, env=etcd.env) as agent,
            Stream(lab.internet, through, {lab.pod: list(THROUGH.values())}, rate=1000) as from_outside,
            Stream(lab.worker, service, {lab.pod: at_pod}, rate=1000) as from_worker,
        ):
            agent.wait_applied(revision)
            from_outside.start()
            from_worker.start()
            for mask in MASKS * (2 if means == "restart" else 8):
                if means == "live":
                    revision = etcd.put(SETTINGS, {"metadata": {"name": "default"}, "spec": {"markMask": mask}})
                else:
                    agent.env["HOSTWARD_MARK_MASK"] = mask
                    agent.restart()
                agent.wait_applied(revision)
                used = lab.worker.run("iptables-legacy-save", "-t", "filter")
                assert f"-A FORWARD -m mark --mark {(accept := lowest(mask))}/{accept} " in used, f"not {mask}: {used}"
            reports = [*from_outside.finish().items(), *from_worker.finish().items()]
    for name, report in reports:
        assert report.sent > 1000
        if name.startswith("open"):
            assert len(report.lost) <= 1, f"{name}: {len(report.lost)} of {report.sent} are lost"  # a busy machine's own
        else:
            assert not report.arrived, f"{name}: {len(report.arrived)} of {report.sent} leaked"


def lowest(mask: str) -> str:
    """The first bit of a mask."""
    bits = int(mask, 16)
    return hex(bits & -bits)
