"""A workload in which the same few objects are changed whatever else there is: for counting what a change makes the agent do.

Pods `a`, `b` and `c` and their ten policies are always the same. The other policies, as many as wanted, are in force too, on
other pods.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import documents as d
from benchmarks.documents import Stored

PODS = 18  # that the other policies are for
OWN = 10
MEMBERS = 10_000
SETS = 10
ADDRESS, INTERFACE = "192.0.2.77", "eth1"
NAMESPACE = "counted"
RULE, ORDER, SELECTOR = "a policy's rule", "a policy's order", "a policy's selector"
LABEL, MEMBER, INTERFACE_ADDRESS = "an endpoint's label", f"one of {MEMBERS:,} members", "an interface's address"
DOCUMENTS = (RULE, ORDER, SELECTOR, LABEL, MEMBER)
"""What is changed in etcd; an interface's address isn't."""


def _own_policy(number: int, *, order: float = 0, port: int = 0, pod: str = "a") -> Stored:
    rules = [d.rule("Allow", "TCP", [port or 1_000 + number], source={"selector": f"app == 'x{number % 2}'"})]
    return d.policy(NAMESPACE, f"default.own{number}", order or 10.0 + number, f"probe == '{pod}'", ingress=rules)


def _pod(name: str, number: int, **labels: str) -> Stored:
    return d.workload_endpoint(NAMESPACE, name, [f"10.244.9.{number}", f"fd00:244:9::{number:x}"], labels)


def _big_set(more: list[str]) -> Stored:
    nets = [f"10.{64 + last // 65536}.{last // 256 % 256}.{last % 256}/32" for last in range(MEMBERS)]
    return d.network_set("big", {"set": "big"}, [*nets, *more])


def changed(kind: str, *, there: bool) -> Stored:
    """The document of a kind of change, as it is at first, or changed (`there`)."""
    match kind:
        case "a policy's rule":
            return _own_policy(5, port=9_999 if there else 0)
        case "a policy's order":
            return _own_policy(5, order=17.5 if there else 0)
        case "a policy's selector":
            return _own_policy(5, pod="b" if there else "a")
        case "an endpoint's label":
            return _pod("c", 3, app="x1" if there else "x0", probe="c")
        case _:
            return _big_set(["172.16.0.1/32"] if there else [])


def _filler(number: int) -> Stored:
    source = {"source": {"selector": f"set == 's{number % SETS}'"}} if number % 4 == 0 else {}
    rules = [d.rule("Allow", "TCP", [20_000 + number % 30_000], **source)]
    return d.global_policy(f"f{number:05}", 100 + number, f"shard == 's{number % PODS}'", ingress=rules)


def documents(policies: int) -> Iterator[Stored]:
    """Everything, with so many policies."""
    yield d.cluster()
    yield d.profile(NAMESPACE)
    yield d.host_endpoint("worker-eth0", {"role": "worker"}, interfaceName="eth0")
    yield d.host_endpoint("by-address", {"role": "worker"}, expectedIPs=[ADDRESS])
    for number, name in enumerate("abc"):
        yield _pod(name, number + 1, probe=name, app="x0")
    for number in range(PODS):
        yield _pod(f"pod-{number}", 10 + number, shard=f"s{number}")
    yield _big_set([])
    for number in range(SETS):
        yield d.network_set(f"s{number}", {"set": f"s{number}"}, [f"10.{number}.{last}.0/24" for last in range(100)])
    for number in range(OWN):
        yield _own_policy(number)
    rules = [d.rule("Allow", "TCP", [8_443], source={"selector": "set == 'big'", "namespaceSelector": "global()"})]
    yield d.policy(NAMESPACE, "default.big", 50, "probe == 'a'", ingress=rules)
    yield d.global_policy("hosts", 60, "role == 'worker'", ingress=[d.rule("Allow", "TCP", [22, 443])])
    for number in range(policies - OWN - 2):
        yield _filler(number)
