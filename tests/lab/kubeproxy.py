"""Service rules as kube-proxy writes them in iptables mode: NodePorts, a load balancer address, masquerading.

The shape is kube-proxy's own (kubernetes 6.4): KUBE- chains in nat and filter, DNAT in nat PREROUTING, mark 0x4000 for
what must be masqueraded. IPv4 and IPv6.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.netns import Namespace


@dataclass(frozen=True)
class Service:
    """One port of a service with one pod. `load_balancer` "" for none. `local`: externalTrafficPolicy Local."""

    name: str
    protocol: str
    pod: str
    pod_port: int
    node_port: int
    load_balancer: str = ""
    port: int = 80
    local: bool = False

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.pod else 4

    def chains(self) -> list[str]:
        """The chains of this service."""
        return [f"KUBE-{part}-{self.name}" for part in ("EXT", "SVC", "SEP")]

    def rules(self) -> list[str]:
        """Its rules, in iptables-save form."""
        outside, inside, pod = self.chains()
        protocol = f"-p {self.protocol} -m {self.protocol}"
        target = f"[{self.pod}]:{self.pod_port}" if self.version == 6 else f"{self.pod}:{self.pod_port}"
        entry = [f"-A KUBE-NODEPORTS {protocol} --dport {self.node_port} -j {outside}"]
        if self.load_balancer:
            entry.append(f"-A KUBE-SERVICES -d {self.load_balancer} {protocol} --dport {self.port} -j {outside}")
        return [
            *entry,
            *([] if self.local else [f"-A {outside} -j KUBE-MARK-MASQ"]),
            f"-A {outside} -j {inside}",
            f"-A {inside} -j {pod}",
            f"-A {pod} -s {self.pod} -j KUBE-MARK-MASQ",
            f"-A {pod} {protocol} -j DNAT --to-destination {target}",
        ]


def text(version: int, services: list[Service], pod_range: str, forward_policy: str) -> str:
    """What iptables-restore is fed."""
    mine = [service for service in services if service.version == version]
    chains = [chain for service in mine for chain in service.chains()]
    loopback = "127.0.0.0/8" if version == 4 else "::1/128"
    fixed = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
    return "\n".join([
        "*nat",
        *(f":{chain} - [0:0]" for chain in (*fixed, *chains)),
        "-A PREROUTING -j KUBE-SERVICES",
        "-A OUTPUT -j KUBE-SERVICES",
        "-A POSTROUTING -j KUBE-POSTROUTING",
        *(rule for service in mine for rule in service.rules()),
        "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        # What the network plugin does for pods that talk to the outside.
        f"-A POSTROUTING -s {pod_range} ! -d {pod_range} -j MASQUERADE",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
        "COMMIT",
        "*filter",
        f":FORWARD {forward_policy} [0:0]",
        ":KUBE-FORWARD - [0:0]",
        ":KUBE-FIREWALL - [0:0]",
        "-A INPUT -j KUBE-FIREWALL",
        "-A FORWARD -j KUBE-FORWARD",
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
        "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"-A KUBE-FIREWALL ! -s {loopback} -d {loopback} -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        "COMMIT",
        "",
    ])  # fmt: skip


def install(host: Namespace, services: list[Service], pod_ranges: tuple[str, str], forward_policy: str = "ACCEPT") -> None:
    """Writes the rules of all services in a namespace, both families, through the legacy tools.

    Services are named and given per family. `forward_policy` DROP is what Docker hosts have.
    """
    for version, tool, pod_range in ((4, "iptables", pod_ranges[0]), (6, "ip6tables", pod_ranges[1])):
        host.run(f"{tool}-legacy-restore", "--noflush", data=text(version, services, pod_range, forward_policy))
