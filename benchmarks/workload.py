"""What is stored for a benchmark: host and workload endpoints, network sets, and policies of fixed shapes. And what is changed.

The same size gives the same documents. Nothing here knows how they are enforced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import documents as d
from benchmarks.documents import Document, Stored
from benchmarks.sizes import Size

PORT, MEMBER_PORT = 7777, 7778
"""The UDP ports that the changed policy, and the changed member, open and close."""
CLIENT = "203.0.113.9"
"""Whose datagrams are timed: the member that comes and goes."""
HOSTS = "role == 'worker'"
APPS = 5  # a pod of a namespace has one of so many labels `app`
PODS = 10  # of a namespace
HOST_SHARE = 50  # one policy in so many is for host endpoints
GLOBAL_SHARE = 3  # of ten policies for workloads, so many are global; the others are of a namespace
CIDR_LISTS = 20  # distinct ones: rules with the same list share a set
FIRST, MIDDLE = 100.0, 1000.5


# --- endpoints -----------------------------------------------------------------------------------------------------------
def namespaces(size: Size) -> int:
    """How many namespaces have pods."""
    return -(-size.workloads // PODS)


def pod(size: Size, number: int, **labels: str) -> Stored:
    """Workload endpoint `number`. `labels` replace its own."""
    namespace = f"ns-{number % namespaces(size)}"
    third, fourth = number // 250, number % 250 + 1
    nth = number // namespaces(size)
    own = {"app": f"a{nth % APPS}", "tier": f"t{number % _tiers(size)}", **labels}
    return d.workload_endpoint(namespace, f"pod-{number}", [f"10.244.{third}.{fourth}", f"fd00:244::{number + 1:x}"], own)


def _tiers(size: Size) -> int:
    """Labels `tier` so that two global policies select each pod."""
    return max(1, _workload_policies(size) * GLOBAL_SHARE // 10 // 2)


def endpoints(size: Size) -> Iterator[Stored]:
    """Host endpoints on eth0, eth1, …, the namespaces' profiles and their pods."""
    for number in range(size.hosts):
        yield d.host_endpoint(f"worker-eth{number}", {"role": "worker"}, interfaceName=f"eth{number}")
    for number in range(namespaces(size)):
        yield d.profile(f"ns-{number}")
    for number in range(size.workloads):
        yield pod(size, number)


# --- network sets --------------------------------------------------------------------------------------------------------
def _member(number: int, last: int) -> str:
    """The IPv4 member `last` of a set: 8,192 addresses are the set's own."""
    value = (10 << 24) + (1 << 23) + (number % 512 << 14) + last + (number // 512 << 13)
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}/32"


def network_set(size: Size, number: int, *, more: Sequence[str] = ()) -> Stored:
    """Network set `number`: half its members of either family."""
    half = size.members // size.sets // 2
    nets = [_member(number, last) for last in range(half)] + [f"fd99:{number:x}:{last:x}::/64" for last in range(half)]
    return d.network_set(f"s{number}", {"set": f"s{number}"}, [*nets, *more])


def member_set(size: Size, *, opened: bool) -> Stored:
    """Network set 0, as large as the others, with the client in it or not."""
    return network_set(size, 0, more=[f"{CLIENT}/32"] if opened else [])


# --- policies ------------------------------------------------------------------------------------------------------------
def host_policies(size: Size) -> int:
    """How many policies are for host endpoints, those that are changed among them."""
    return max(4, size.policies // HOST_SHARE)


def _workload_policies(size: Size) -> int:
    return size.policies - host_policies(size)


def _cidrs(number: int) -> list[str]:
    number %= CIDR_LISTS
    third, fourth = number // 250 % 250, number % 250
    return [f"198.19.{third}.{fourth}/32", "10.200.0.0/16", f"fd77:{number:x}::/64", "fd78::/64"]


def _from_set(size: Size, number: int) -> Document:
    return {"selector": f"set == 's{number % size.sets}'"}


def host_policy(size: Size, number: int, *, port: int = 0) -> Stored:
    """Host policy `number` of one of five shapes: a port, CIDRs, a network set, preDNAT, untracked."""
    port = port or 10_000 + number
    order = FIRST + number * (2 * MIDDLE - FIRST) / max(1, host_policies(size))
    name = f"h{number:05}"
    match number % 5:
        case 0:
            rules = [d.rule("Allow", "TCP", [port, f"{port + 100}:{port + 110}"])]
        case 1:
            rules = [d.rule("Allow", "TCP", [port], source={"nets": _cidrs(number)})]
        case 2:
            rules = [d.rule("Allow", "TCP", [port], source=_from_set(size, number))]
        case 3:
            rules = [d.rule("Deny", "TCP", [port], source={"nets": _cidrs(number)})]
            return d.global_policy(name, order, HOSTS, preDNAT=True, applyOnForward=True, ingress=rules)
        case _:
            out = [d.rule("Allow", "UDP", source={"ports": [port]})]
            rules = [d.rule("Allow", "UDP", [port])]
            return d.global_policy(name, order, HOSTS, doNotTrack=True, applyOnForward=True, ingress=rules, egress=out)
    return d.global_policy(name, order, HOSTS, ingress=rules)


def workload_policy(size: Size, number: int, *, port: int = 0) -> Stored:
    """Workload policy `number`: of ten, three are global, four are Calico's and three are copies of Kubernetes policies."""
    port = port or 20_000 + number % 30_000
    if number % 10 < GLOBAL_SHARE:
        nth = number // 10 * GLOBAL_SHARE + number % 10
        rules = [d.rule("Allow", "TCP", [port, port + 1], source=_from_set(size, nth)), d.rule("Deny", "UDP", [port])]
        return d.global_policy(f"g{number:05}", 200 + nth, f"tier == 't{nth % _tiers(size)}'", ingress=rules)
    nth = number // 10 * (10 - GLOBAL_SHARE) + number % 10 - GLOBAL_SHARE
    namespace = f"ns-{nth % namespaces(size)}"
    round_ = nth // namespaces(size)
    app = f"app == 'a{round_ % APPS}'"
    if number % 2:
        who = app if round_ % 8 else "all()"
        peer = {"selector": f"{d.ORCHESTRATOR} == 'k8s' && app == 'a{(round_ + 1) % APPS}'"}
        rules = [d.rule("Allow", "TCP", [port], source=peer)]
        ways = {"ingress": rules} if round_ % 4 else {"ingress": rules, "egress": [d.rule("Allow")]}
        return d.policy(namespace, f"knp.default.p{number:05}", 1000, f"{d.ORCHESTRATOR} == 'k8s' && {who}", **ways)
    from_set = {**_from_set(size, number), "namespaceSelector": "global()"}
    source = {"nets": _cidrs(number)} if round_ % 3 else from_set
    rules = [d.rule("Allow", "TCP", [port, f"{port + 100}:{port + 110}"], source=source)]
    return d.policy(namespace, f"default.n{number:05}", 300 + nth, app, ingress=rules)


def changed_policy(*, opened: bool) -> Stored:
    """The policy in the middle of those for hosts that lets the port's datagrams in, or not."""
    action = "Allow" if opened else "Deny"
    return d.global_policy("changed", MIDDLE, HOSTS, ingress=[d.rule(action, "UDP", [PORT])])


def _fixed(size: Size) -> Iterator[Stored]:
    yield changed_policy(opened=False)
    yield d.global_policy(
        "members", MIDDLE + 1, HOSTS, ingress=[d.rule("Allow", "UDP", [MEMBER_PORT], source=_from_set(size, 0))]
    )
    yield d.global_policy("outbound", 2 * MIDDLE, HOSTS, egress=[d.rule()])


def policies(size: Size) -> Iterator[Stored]:
    """All of them, the changed one among them and closed."""
    fixed = list(_fixed(size))
    yield from fixed
    for number in range(host_policies(size) - len(fixed)):
        yield host_policy(size, number)
    for number in range(_workload_policies(size)):
        yield workload_policy(size, number)


def documents(size: Size) -> Iterator[Stored]:
    """Everything."""
    yield d.cluster()
    for number in range(size.sets):
        yield network_set(size, number)
    yield from policies(size)
    yield from endpoints(size)
