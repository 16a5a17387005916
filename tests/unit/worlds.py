"""Random small worlds: what governs a host's interfaces, rendered, and packets that tell such worlds apart."""

from __future__ import annotations

import random

from msgspec.structs import replace

from hostward.model.failsafe import FailsafePort
from hostward.model.keys import ResourceKey
from hostward.model.resolved import PolicyLists, Resolved, ResolvedEndpoint, ResolvedWorkload, TierPolicies
from hostward.model.resources import Policy, Profile
from hostward.model.rules import Action, Entity, PortRange, Ports, Rule
from hostward.model.sets import NamedPortSet, SetRef, rule_refs
from hostward.render.evaluate import Packet
from hostward.render.marks import Marks
from hostward.render.options import Options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import Family, Ruleset

MARKS = Marks.from_mask(0x3F0000)
OPTIONS = Options(
    MARKS,
    families=(4,),
    failsafe_in=(FailsafePort(6, 22),),
    failsafe_out=(FailsafePort(17, 53),),
    allow_spoofing=True,
    to_host="ACCEPT",  # so that what workloads' policies say of this host is seen
)
SELECTORS = ("role == 'a'", "role == 'b'")
POLICIES = ("deny", "allow", "mixed")
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.5")
NETS = ("10.0.0.1", "10.0.0.2", "10.0.0.0/30", "10.0.0.4/30", "fd00::1", "fd00::/64")
PORTS = (22, 53, 80, 443)
WORKLOADS = tuple(f"cali{n}" for n in "123456789ab")  # more than stand in a row: dispatch becomes a tree, and no tree again
INTERFACES = ("eth0", "eth0", "eth0", "eth1", "eth1", "eth1", "cali1", "cali1", "cali2", "cali2", *WORKLOADS[2:])


def key(name: str) -> ResourceKey:
    return ResourceKey("GlobalNetworkPolicy", "", name)


def _entity(rng: random.Random, *, ports: bool) -> Entity:
    kind = rng.randrange(6)
    wanted = Ports()
    if ports and rng.random() < 0.5:
        wanted = Ports((PortRange(p := rng.choice(PORTS), p),)) if rng.random() < 0.7 else Ports(names=("http",))
    if kind == 0:
        return Entity(nets=(f"{rng.choice(ADDRESSES)}/32",), ports=wanted)
    if kind == 1:
        return Entity(not_selector=rng.choice(SELECTORS), ports=wanted)
    if kind == 2:
        return Entity(nets=tuple(f"{a}/32" for a in sorted(rng.sample(ADDRESSES, 2))), ports=wanted)
    if kind <= 4:
        return Entity(selector=rng.choice(SELECTORS), ports=wanted)
    return Entity(ports=wanted)


def rule(rng: random.Random) -> Rule:
    action = rng.choice((Action.ALLOW, Action.ALLOW, Action.DENY, Action.DENY, Action.PASS))
    return Rule(action, protocol=6, source=_entity(rng, ports=False), destination=_entity(rng, ports=True))


def policy(rng: random.Random, name: str) -> Policy:
    rules = tuple(tuple(rule(rng) for _ in range(rng.randrange(3))) for _ in range(2))
    return Policy(key(name), name, "default", None, "all()", True, True, rules[0], rules[1])


def _tiers(rng: random.Random, likely: float) -> tuple[TierPolicies, ...]:
    if rng.random() > likely:
        return ()
    names = [key(name) for name in rng.sample(POLICIES, rng.randrange(1, 3))]
    return (TierPolicies("default", Action.DENY, tuple(names), tuple(reversed(names))),)


def _lists(rng: random.Random) -> PolicyLists:
    untracked, pre_dnat, normal, forward = (_tiers(rng, likely) for likely in (0.3, 0.4, 0.9, 0.5))
    return PolicyLists(untracked, pre_dnat, normal, forward)


def _endpoint(rng: random.Random, interface: str) -> ResolvedEndpoint:
    return ResolvedEndpoint(interface, interface, _lists(rng), ("open",) if rng.random() < 0.3 else (), rng.random() < 0.05)


def _workload(rng: random.Random, interface: str) -> ResolvedWorkload:
    return ResolvedWorkload(
        interface,
        f"default/{interface}",
        (rng.choice(ADDRESSES),),
        _tiers(rng, 0.6),
        ("open",) if rng.random() < 0.6 else (),
        tuple(f"{address}/32" for address in rng.sample(ADDRESSES, 2)) if rng.random() < 0.5 else (),
        rng.random() < 0.1,
    )


def _members(rng: random.Random, ref: SetRef) -> frozenset[str]:
    chosen = rng.sample(NETS, rng.randrange(4))
    return (
        frozenset(f"{net},tcp:80" for net in chosen if "/" not in net) if isinstance(ref, NamedPortSet) else frozenset(chosen)
    )


def _filled(resolved: Resolved, rng: random.Random) -> Resolved:
    tiers = [tier for e in resolved.endpoints.values() for tier in _all_tiers(e)]
    tiers += [tier for workload in resolved.workloads.values() for tier in workload.tiers]
    used = {name for tier in tiers for name in (*tier.ingress, *tier.egress)}
    policies = {name: p for name, p in resolved.policies.items() if name in used}
    refs = {ref for p in policies.values() for r in (*p.ingress_rules, *p.egress_rules) for ref in rule_refs(r)}
    sets = {ref: resolved.sets.get(ref, _members(rng, ref)) for ref in sorted(refs, key=repr)}
    return replace(resolved, policies=policies, sets=sets)


def _all_tiers(endpoint: ResolvedEndpoint) -> tuple[TierPolicies, ...]:
    lists = endpoint.policies
    return (*lists.untracked, *lists.pre_dnat, *lists.normal, *lists.forward)


def world(rng: random.Random) -> Resolved:
    """A host with up to three endpoints, and some workloads."""
    endpoints = {name: _endpoint(rng, name) for name in ("eth0", "eth1", "*") if rng.random() < 0.6}
    many = rng.randrange(7, len(WORKLOADS)) if rng.random() < 0.3 else rng.randrange(4)
    workloads = {name: _workload(rng, name) for name in rng.sample(WORKLOADS, many)}
    policies = {key(name): policy(rng, name) for name in POLICIES}
    open_ = Profile("open", (Rule(Action.ALLOW),), (Rule(Action.ALLOW),))
    return _filled(Resolved(endpoints, policies, {"open": open_}, workloads=workloads), rng)


def neighbour(rng: random.Random, old: Resolved) -> Resolved:
    """A world after a few changes: of policies, set members, endpoints, workloads."""
    endpoints, workloads, sets = dict(old.endpoints), dict(old.workloads), dict(old.sets)
    policies = {key(name): old.policies.get(key(name), policy(rng, name)) for name in POLICIES}
    for _ in range(rng.randrange(1, 4)):
        kind = rng.randrange(6)
        if kind == 0:
            name = rng.choice(POLICIES)
            policies[key(name)] = policy(rng, name)
        elif kind == 1 and sets:
            for ref in rng.sample(sorted(sets, key=repr), rng.randrange(1, len(sets) + 1)):
                sets[ref] = _members(rng, ref)
        elif kind == 2 and endpoints:
            interface = rng.choice(sorted(endpoints))
            endpoints[interface] = replace(endpoints[interface], policies=_lists(rng))
        elif kind == 3:
            interface = rng.choice(("eth0", "eth1", "*"))
            if endpoints.pop(interface, None) is None:
                endpoints[interface] = _endpoint(rng, interface)
        elif kind == 4 and workloads:
            interface = rng.choice(sorted(workloads))
            workloads[interface] = _workload(rng, interface)
        elif kind == 5:  # a burst, too
            for interface in rng.sample(WORKLOADS, rng.choice((1, 1, 1, 4))):
                if workloads.pop(interface, None) is None:
                    workloads[interface] = _workload(rng, interface)
    return _filled(Resolved(endpoints, policies, old.profiles, sets, workloads), rng)


def other_members(rng: random.Random, old: Resolved) -> Resolved:
    """The world after its sets have changed, and nothing else."""
    return replace(old, sets={ref: _members(rng, ref) for ref in old.sets})


def ruleset(resolved: Resolved, options: Options = OPTIONS) -> Ruleset:
    """The world as it should be in the kernel."""
    return Renderer(options).render(resolved)


def packet(rng: random.Random, family: Family = 4) -> Packet:
    """A packet on any path, that carries any mark."""
    path = rng.choice(("input", "forward", "output"))
    addresses = ADDRESSES if family == 4 else ("fd00::1", "fd00::2", "fd01::1")
    enters = "" if path == "output" else rng.choice(INTERFACES)
    dnat = (rng.choice(addresses), rng.choice(PORTS)) if rng.random() < 0.3 else None
    return Packet(
        family,
        path,
        rng.choice(addresses),
        rng.choice(addresses),
        protocol=17 if rng.random() < 0.1 else 6,
        source_port=rng.choice(PORTS),
        destination_port=rng.choice(PORTS),
        in_interface=enters,
        out_interface="" if path == "input" else rng.choice(INTERFACES),
        state=rng.choice(("NEW", "NEW", "NEW", "NEW", "ESTABLISHED", "INVALID")),
        dnat=dnat,
        mark=rng.getrandbits(32),
        spoofed=enters in WORKLOADS and rng.random() < 0.4,
    )
