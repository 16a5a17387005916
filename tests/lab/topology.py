"""Networks of namespaces: hosts, routers, links between them, addresses of both families, routes; and the usual worker.

Nothing here touches the machine's own network: every link has both ends in namespaces that this module made. Knows nothing
of Hostward.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.netns import Namespace, run

# Before any link exists: no duplicate address detection (an address works at once), no router advertisements, no random
# addresses. Forwarding is set per host.
QUIET = {
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/router_solicitations": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    # Probe after probe asks for an ICMP error or a ping reply; under the kernel's rate limit, results would depend on haste.
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv6/icmp/ratelimit": "0",
}


POD_GATEWAY4, POD_GATEWAY6 = "169.254.1.1", "fe80::1"  # what every pod has for its router


class Host(Namespace):
    """A namespace with a name in its network."""

    def sysctl(self, settings: dict[str, str]) -> None:
        """Writes /proc/sys entries of this namespace (paths with slashes); entries that this kernel lacks are an error."""
        with self.entered():
            for name, value in settings.items():
                Path("/proc/sys", name).write_text(value)

    def ip(self, *commands: str) -> None:
        """Several `ip` commands at once, each without the leading `ip`."""
        run("ip", "-netns", self.name, "-force", "-batch", "-", data="".join(f"{command}\n" for command in commands))

    def forward(self) -> None:
        """Routes packets of others."""
        self.sysctl({"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})

    def forget_flows(self) -> None:
        """Empties conntrack, so that the next packet of anything is a new flow."""
        self.run("conntrack", "-F", check=False)


class Network:
    """Hosts and the links between them. A context manager: leaving it removes everything."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}

    def host(self, label: str, *, router: bool = False) -> Host:
        """A new host, `lo` up."""
        host = self.hosts[label] = Host(label)
        host.sysctl(QUIET)
        if router:
            host.forward()
        return host

    def link(  # two ends, each a host, a name and addresses: reads like a drawing
        self, a: Host, a_name: str, a_addresses: Iterable[str], b: Host, b_name: str, b_addresses: Iterable[str]
    ) -> None:
        """A veth pair between two hosts. Addresses with prefix length, e.g. "192.0.2.1/24", "2001:db8::1/64"."""
        run("ip", "-netns", a.name, "link", "add", a_name, "type", "veth", "peer", "name", b_name, "netns", b.name)
        for host, name, addresses in ((a, a_name, a_addresses), (b, b_name, b_addresses)):
            host.ip(
                *(f"address add {address} dev {name}{' nodad' if ':' in address else ''}" for address in addresses),
                f"link set {name} up",
            )

    def client(self, label: str, router: Host, *subnets: str) -> Host:
        """A host behind a router on subnets of its own: the router has each subnet's first address, the host the fifth.

        Its interface is eth0, its default routes go to the router.
        """
        host = self.host(label)
        nets = [ipaddress.ip_network(subnet) for subnet in subnets]
        self.link(
            host, "eth0", [f"{net[5]}/{net.prefixlen}" for net in nets],
            router, f"to-{label}"[:15], [f"{net[1]}/{net.prefixlen}" for net in nets],
        )  # fmt: skip
        host.ip(*(f"route add {'::/0' if net.version == 6 else '0.0.0.0/0'} via {net[1]}" for net in nets))
        return host

    def add_pod(self, label: str, node: Host, interface: str, *addresses: str) -> Host:
        """A host wired to a node (`wire`)."""
        host = self.host(label)
        self.wire(host, node, interface, *addresses)
        return host

    def wire(self, pod: Host, node: Host, interface: str, *addresses: str) -> None:
        """Wires a pod as Calico's network plugin does: `eth0` with addresses of its own, everything else behind the node.

        The node answers for the pod's IPv4 gateway by proxy ARP, for which it needs a route to it, say its default route.
        """
        run("ip", "-netns", node.name, "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", pod.name)
        conf = f"net/ipv4/conf/{interface}/proxy_arp", f"net/ipv4/neigh/{interface}/proxy_delay"
        node.sysctl({conf[0]: "1", conf[1]: "0"})
        full = [f"{address}/{128 if ':' in address else 32}" for address in addresses]
        node.ip(
            f"address add {POD_GATEWAY6}/64 dev {interface} nodad",
            f"link set {interface} up",
            *(f"route add {address} dev {interface}" for address in full),
        )
        pod.ip(
            *(f"address add {address} dev eth0{' nodad' if ':' in address else ''}" for address in full),
            "link set eth0 up",
            f"route add {POD_GATEWAY4} dev eth0 scope link",
            f"route add default via {POD_GATEWAY4}",
            f"route add ::/0 via {POD_GATEWAY6} dev eth0",
        )

    def settle(self) -> None:
        """Returns when every interface is running and every IPv6 address usable."""
        for host in self.hosts.values():
            for _ in range(500):
                if not host.run("ip", "-6", "address", "show", "tentative") and "NO-CARRIER" not in host.run("ip", "link"):
                    break
                time.sleep(0.01)
            else:
                raise TimeoutError(f"{host.name}: {host.run('ip', 'address')}")

    def close(self) -> None:
        """Removes all namespaces and with them all links."""
        for host in self.hosts.values():
            host.close()
        self.hosts.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class WorkerLab(Network):
    """A worker as on the classic infrastructure: `eth1` public, `eth0` private, pods behind `pods`, and who talks to it.

    ```
    internet 203.0.113.5  ─┐                                     ┌─ peer 10.0.20.5
    office   203.0.113.133 ─┼─ public router ── eth1 WORKER eth0 ── private router
    manager  198.51.100.133┘    192.0.2.1       pods │   10.0.10.1 └─ store 10.0.30.5 (etcd)
                                                 pod 172.30.1.5
    ```

    Pods have no workload prefix: to the worker they are as if on another node. The router sends the load balancer's addresses
    (LB) to the worker's public interface. IPv6 twins throughout.
    """

    PUBLIC = ("192.0.2.10", "2001:db8:2::10")
    PRIVATE = ("10.0.10.10", "fd00:10::10")
    INTERNET = ("203.0.113.5", "2001:db8:5::5")
    OFFICE = ("203.0.113.133", "2001:db8:133::5")
    MANAGER = ("198.51.100.133", "2001:db8:51::5")
    PEER = ("10.0.20.5", "fd00:20::5")
    STORE = ("10.0.30.5", "fd00:30::5")
    POD = ("172.30.1.5", "fd00:172:30:1::5")
    POD_RANGE = ("172.30.0.0/16", "fd00:172:30::/48")
    LB = ("198.51.100.7", "2001:db8:198::7")

    def __init__(self) -> None:
        super().__init__()
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self) -> None:
        """Makes every host and link."""
        self.worker = self.host("worker", router=True)
        public, private = self.host("public", router=True), self.host("private", router=True)
        self.public_router, self.private_router = public, private
        self.internet = self.client("internet", public, "203.0.113.0/25", "2001:db8:5::/64")
        self.office = self.client("office", public, "203.0.113.128/25", "2001:db8:133::/64")
        self.manager = self.client("manager", public, "198.51.100.128/25", "2001:db8:51::/64")
        self.peer = self.client("peer", private, "10.0.20.0/24", "fd00:20::/64")
        self.store = self.client("store", private, "10.0.30.0/24", "fd00:30::/64")
        self.link(
            self.worker, "eth1", ["192.0.2.10/24", "2001:db8:2::10/64"],
            public, "to-worker", ["192.0.2.1/24", "2001:db8:2::1/64"],
        )  # fmt: skip
        self.link(
            self.worker, "eth0", ["10.0.10.10/24", "fd00:10::10/64"],
            private, "to-worker", ["10.0.10.1/24", "fd00:10::1/64"],
        )  # fmt: skip
        self.pod = self.host("pod")
        self.link(
            self.worker, "pods", ["172.30.1.1/24", "fd00:172:30:1::1/64"],
            self.pod, "eth0", ["172.30.1.5/24", "fd00:172:30:1::5/64"],
        )  # fmt: skip
        self.pod.ip("route add default via 172.30.1.1", "route add ::/0 via fd00:172:30:1::1")
        self.worker.ip(
            "route add default via 192.0.2.1", "route add ::/0 via 2001:db8:2::1",
            "route add 10.0.0.0/8 via 10.0.10.1", "route add fd00::/16 via fd00:10::1",
        )  # fmt: skip
        public.ip(
            "route add 198.51.100.7 via 192.0.2.10", "route add 2001:db8:198::7 via 2001:db8:2::10",
        )  # fmt: skip
        private.ip("route add default via 10.0.10.10", "route add ::/0 via fd00:10::10")
        self.settle()
