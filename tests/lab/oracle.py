"""What policy says about one packet, straight from the resources: the verdict that calculation and rendering are held to.

It shares no code with `calc` or `render`: which policies judge a packet where is worked out here again, from enforcement
4 and H-10 as decision D3..D8 change them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

from hostward.model.failsafe import FailsafePort
from hostward.model.links import Link
from hostward.model.resources import HostEndpoint, Policy, Resource, WorkloadEndpoint
from hostward.model.settings import Settings
from hostward.render.evaluate import Packet
from tests.lab.oracle_policies import Answer, Direction, Endpoint, Policies, inside

Verdict = Literal["accept", "deny", "leave"]
"""`leave`: neither denied nor accepted here; whoever else is in filter's own chain decides, and then its policy."""
ND = {130, 131, 132, 133, 134, 135, 136, 143}
ND_TO_HOST = {130, 131, 132, 133, 135, 136}
OPEN = ("ESTABLISHED", "RELATED")
UDP, IPIP, ICMPV6 = 17, 4, 58


@dataclass
class Host(Policies):
    """All that the verdict depends on."""

    links: Mapping[str, Link]
    forward_all: bool = True
    failsafe_in: tuple[FailsafePort, ...] = ()
    failsafe_out: tuple[FailsafePort, ...] = ()
    workload_prefixes: tuple[str, ...] = ("cali",)
    excluded: tuple[str, ...] = ("kube-ipvs0",)
    filter_returns: bool = False
    drop_invalid: bool = True
    to_host: str = "Drop"  # or "Accept", "Return"
    allow_spoofing: bool = False
    vxlan_port: int = 4789
    allow_vxlan: bool = False
    allow_ipip: bool = False

    @classmethod
    def under(cls, settings: Settings, node: str, resources: Iterable[Resource], links: Mapping[str, Link]) -> Self:
        """A host with these settings."""
        return cls(
            node,
            list(resources),
            links,
            forward_all=settings.host_forward_policy == "All",
            failsafe_in=settings.failsafe_inbound_host_ports,
            failsafe_out=settings.failsafe_outbound_host_ports,
            workload_prefixes=settings.interface_prefix,
            filter_returns=settings.iptables_filter_allow_action == "Return",
            drop_invalid=not settings.disable_conntrack_invalid_check,
            to_host=settings.default_endpoint_to_host_action,
            allow_spoofing=settings.workload_source_spoofing == "Any",
            vxlan_port=settings.vxlan_port,
            allow_vxlan=settings.allow_vxlan_packets_from_workloads,
            allow_ipip=settings.allow_ipip_packets_from_workloads,
        )

    def is_workload(self, interface: str) -> bool:
        return interface.startswith(self.workload_prefixes)

    def governor(self, interface: str) -> HostEndpoint | None:
        """The endpoint that governs an interface by itself, else the `*` endpoint (never for lo)."""
        mine = [r for r in self.resources if isinstance(r, HostEndpoint) and r.node == self.node]
        if interface in self.excluded or self.is_workload(interface):
            own = []
        else:
            addresses = self.links[interface].addresses if interface in self.links else frozenset()
            own = [e for e in mine if e.interface == interface or (not e.interface and addresses & set(e.expected_ips))]
        if not own and interface != "lo":
            own = [e for e in mine if e.interface == "*"]
        return min(own, key=lambda e: e.name.encode(), default=None)

    def behind(self, interface: str) -> WorkloadEndpoint | None:
        """The workload endpoint behind an interface; the first by namespace and name where several claim it."""
        mine = [r for r in self.resources if isinstance(r, WorkloadEndpoint) and r.node == self.node]
        found = [e for e in mine if e.interface == interface and self.is_workload(interface)]
        return min(found, key=lambda e: (e.namespace.encode(), e.name.encode()), default=None)

    def failsafe(self, direction: Direction, packet: Packet, destination: tuple[str, int], *, raw: bool = False) -> bool:
        if _is_nd(packet):
            return True
        remote = packet.source if direction == "ingress" else destination[0]
        same, other = (self.failsafe_in, self.failsafe_out) if direction == "ingress" else (self.failsafe_out, self.failsafe_in)
        hits = [(f, destination[1]) for f in same] + ([(f, packet.source_port) for f in other] if raw else [])
        return any(
            f.protocol == packet.protocol and f.port == port and (f.net is None or inside(remote, f.net)) for f, port in hits
        )

    # --- a packet's way ---------------------------------------------------------------------------------------------------
    def accepts(self, packet: Packet) -> bool:
        """Whether the packet passes this host, where nobody else drops it."""
        return self.verdict(packet) != "deny"

    def verdict(self, packet: Packet) -> Verdict:
        """What becomes of the packet."""
        early = "deny" if self.spoofs(packet) else self.untracked(packet)
        state = "UNTRACKED" if early == "allow" else packet.state
        if early == "undecided" and packet.path != "output":
            early = self.before_dnat(packet, state)
        if early == "deny":
            return "deny"
        there = (packet.destination, packet.destination_port)
        translated = packet.dnat is not None and state not in ("UNTRACKED", "INVALID")
        if packet.dnat is not None and translated:
            there = packet.dnat
        match packet.path:
            case "input" if self.is_workload(packet.in_interface):
                return self.from_workload(packet, there, state)
            case "forward":
                return self.through(packet, there, state, vouched=early == "allow")
            case _ if early == "allow":
                return self.allowed
            case "input":
                return self.own(packet.in_interface, "ingress", packet, there, state)
        if self.is_workload(packet.out_interface):
            return "leave"
        verdict = self.own(packet.out_interface, "egress", packet, there, state)
        # Judged in mangle, on the way out; but open connections, which are accepted before that is asked.
        return "leave" if translated and verdict == "accept" and state not in OPEN else verdict

    @property
    def allowed(self) -> Verdict:
        """What an Allow comes to in filter."""
        return "leave" if self.filter_returns else "accept"

    def spoofs(self, packet: Packet) -> bool:
        """H-32, H-73: whether a workload sends from an address that isn't its own, nor lent to it."""
        if packet.path == "output" or not packet.spoofed or not self.is_workload(packet.in_interface):
            return False
        endpoint = self.behind(packet.in_interface)
        lent = () if endpoint is None or endpoint.isolated or not self.allow_spoofing else endpoint.spoofable
        return not any(inside(packet.source, net) for net in lent)

    def untracked(self, packet: Packet) -> Answer:
        """H-15, H-16: raw; what isn't tracked isn't translated either."""
        direction: Direction = "egress" if packet.path == "output" else "ingress"
        endpoint = self.governor(packet.out_interface if packet.path == "output" else packet.in_interface)
        there = (packet.destination, packet.destination_port)
        if endpoint is None or endpoint.isolated or endpoint.interface == "*":
            return "undecided"
        if self.failsafe(direction, packet, there, raw=True):
            return "undecided"
        policies = [p for p in self.policies(endpoint) if p.do_not_track]
        return self.tiers_answer(policies, direction, packet, there, tier_end=False)

    def before_dnat(self, packet: Packet, state: str) -> Answer:
        """H-11..H-14: mangle, also what workloads send, by the policies of `*`."""
        endpoint = self.governor(packet.in_interface)
        if endpoint is None or endpoint.isolated or state in OPEN:
            return "undecided"
        policies = [p for p in self.policies(endpoint) if p.pre_dnat and not p.do_not_track and p.ingress]
        there = (packet.destination, packet.destination_port)
        if policies and state == "INVALID" and self.drop_invalid and not _is_nd(packet):
            return "deny"
        if self.failsafe("ingress", packet, there):
            return "undecided"
        return self.tiers_answer(policies, "ingress", packet, there, tier_end=False)

    def own(self, interface: str, direction: Direction, packet: Packet, there: tuple[str, int], state: str) -> Verdict:
        """This host's own traffic by a host interface."""
        endpoint = self.governor(interface)
        if endpoint is None:
            return "leave"
        if state in OPEN:
            return self.allowed
        if _is_nd(packet):
            return "accept"
        if state == "INVALID" and self.drop_invalid:
            return "deny"
        if self.failsafe(direction, packet, there):
            return "accept"
        if endpoint.isolated:
            return "deny"
        answer = self.with_profiles(endpoint, _normal(self, endpoint), direction, packet, there)
        return self.allowed if answer == "allow" else "deny"

    def from_workload(self, packet: Packet, there: tuple[str, int], state: str) -> Verdict:
        """H-39: to this host; policies of host endpoints have no say, not even what they allowed before DNAT."""
        if packet.family == 6 and packet.protocol == ICMPV6 and packet.icmp_type in ND_TO_HOST:
            return self.allowed
        if self.workload(packet.in_interface, "egress", packet, there, state) == "deny":
            return "deny"
        if state in OPEN:
            return self.allowed
        verdicts: dict[str, Verdict] = {"Drop": "deny", "Accept": self.allowed, "Return": "leave"}
        return verdicts[self.to_host]

    def through(self, packet: Packet, there: tuple[str, int], state: str, *, vouched: bool) -> Verdict:
        """Forwarded: every side that has something to say must let it pass; the last of them vouches for it, or not (M-35).

        `vouched`: an untracked or preDNAT policy has allowed it, so that this host's incoming side isn't asked (H-12).
        """
        enters, leaves = packet.in_interface, packet.out_interface
        sides: tuple[tuple[str, Direction], ...] = ((enters, "egress"), (leaves, "ingress"))
        workloads = [(name, way) for name, way in sides if self.is_workload(name)]
        answers: list[Answer | None] = []
        if not vouched:
            answers.append(self.forwarded(enters, "ingress", packet, there, state, among_hosts=not workloads))
        answers += [self.workload(name, way, packet, there, state) for name, way in workloads]
        answers.append(self.forwarded(leaves, "egress", packet, there, state, among_hosts=not workloads))
        if "deny" in answers:
            return "deny"
        last = [answer for answer in ("allow" if vouched else None, *answers) if answer is not None]
        return self.allowed if last[-1:] == ["allow"] else "leave"

    def workload(self, interface: str, direction: Direction, packet: Packet, there: tuple[str, int], state: str) -> Answer:
        """H-46, H-48, H-52: what the workload behind an interface sends or gets."""
        endpoint = self.behind(interface)
        if endpoint is None or endpoint.isolated:
            return "deny"
        if state in OPEN:
            return "allow"
        if state == "INVALID" and self.drop_invalid:
            return "deny"
        if direction == "egress":
            if packet.protocol == UDP and there[1] == self.vxlan_port and not self.allow_vxlan:
                return "deny"
            if packet.protocol == IPIP and not self.allow_ipip:
                return "deny"
        return self.with_profiles(endpoint, self.policies(endpoint), direction, packet, there)

    def forwarded(
        self, interface: str, direction: Direction, packet: Packet, there: tuple[str, int], state: str, *, among_hosts: bool
    ) -> Answer | None:
        """D3, M-35: a host's side of what is forwarded, and `*` beside every workload (H-18); None where none governs."""
        endpoint = self.governor(interface)
        if endpoint is None:
            return None
        if state in OPEN:
            return "allow"
        if (state == "INVALID" and self.drop_invalid) or endpoint.isolated:
            return "deny"
        normal = _normal(self, endpoint)
        if among_hosts and self.forward_all:
            return self.with_profiles(endpoint, normal, direction, packet, there)
        applied = [p for p in normal if p.apply_on_forward and (p.ingress or p.egress)]
        if not applied:
            return "allow"
        return self.tiers_answer(applied, direction, packet, there, tier_end=True)


def _normal(host: Host, endpoint: Endpoint) -> list[Policy]:
    return [p for p in host.policies(endpoint) if not p.pre_dnat and not p.do_not_track]


def _is_nd(packet: Packet) -> bool:
    return packet.family == 6 and packet.protocol == ICMPV6 and packet.icmp_type in ND
