"""Edge nodes as the only entrance: the section of docs/recipes.md, command by command, and packets after each step.

Three workers with an agent each, the controller, pods behind services of every kind. What a cell says goes for IPv4 and IPv6.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import cluster as c
from tests.e2e.edge import BIGFIX, DNS_PORT, KUBELET, NEAR_PORT, NODE_PORT, VRRP, WORKERS, EdgeSite

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]

PAGE = Path(__file__).parents[2] / "docs/recipes.md"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PODS = {"shop/web": "w2", "shop/near": "w1", "shop/frontend": "w3", "other/job": "w3"}


class Recipe:
    """The commands of the section in their order; all manifests of the page lie in `folder`."""

    def __init__(self, site: EdgeSite, folder: Path) -> None:
        self.site, self.folder = site, folder
        page = PAGE.read_text(encoding="utf-8")
        for _, title, body in BLOCK.findall(page):
            if title:
                (folder / title).write_text(body, encoding="utf-8")
        section = page.split("\n## Make edge nodes the only entrance\n")[1].split("\n## ")[0]
        self.steps = [
            step
            for language, _, body in BLOCK.findall(section)
            if language == "console"
            for step in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
        ]

    def run(self, begins: str) -> None:
        """The next command, which begins like this; it prints what the page says, at the latest when the controller is done.

        The agents have applied it when this returns.
        """
        command, _, expected = self.steps.pop(0).partition("\n")
        assert command.removeprefix("hostward ").startswith(begins), command
        if begins.startswith("get "):
            self.site.until(command, lambda: self._printed(command) == expected.rstrip("\n"))
        else:
            assert self._printed(command) == expected.rstrip("\n"), command
            self.site.applied(self.site.etcd.revision())

    def _printed(self, command: str) -> str:
        out, err = "", ""
        for part in command.split(" | "):
            program, *arguments = shlex.split(part)
            assert program == "hostward"
            out, err = self.site.operate(arguments, out, self.folder)
        return "\n".join(line.rstrip() for line in (out + err).splitlines()).rstrip("\n")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[EdgeSite]:
    """Nothing is guarded; all services can be reached on all workers, which was tried."""
    with ExitStack() as stack:
        site = EdgeSite(stack, tmp_path)
        for number, (name, node) in enumerate(PODS.items(), 5):
            where, own = name.split("/")
            site.pod(where, own, node, number, app=own, role=own)
        site.serve("shop/web", "shop/near")
        site.settle()
        site.register()
        site.control()
        for key, document in site.endpoints().items():
            site.etcd.put(key, document)
        site.until("the namespaces have profiles", lambda: len(site.etcd.list(profiles())) >= 2)
        site.start()
        site.judge(dict.fromkeys((*node_ports("client"), *node_ports("balancer"), *BALANCED, *PRIVATE, *BETWEEN_PODS), True))
        site.judge(dict.fromkeys(node_ports("client", DNS_PORT), True), "udp")
        yield site


def profiles() -> str:
    return c.keys.path(c.ResourceKey("Profile", "", "kns."))


def node_ports(sender: str, port: int = NODE_PORT) -> list[str]:
    """A node port of every worker's public address."""
    return [f"{sender} > {node}-public {port}" for node in WORKERS]


BALANCED = ["client > vip 80", "balancer > vip 80"]
PRIVATE = [f"outside > {node} {NODE_PORT}" for node in WORKERS]
BETWEEN_PODS = ["shop/frontend > shop/web 9090", "other/job > shop/web 8080", "shop/web > other/job 80", "w3 > shop/web 8080"]


def entrances(*edge: str) -> dict[str, bool]:
    """The node ports: of edge nodes to the load balancer, of none to the client; what isn't shut by that."""
    cells = dict.fromkeys(node_ports("client"), False)
    cells |= {f"balancer > {node}-public {NODE_PORT}": node in edge for node in WORKERS}
    return cells | dict.fromkeys((*BALANCED, *PRIVATE), True)


def hold(site: EdgeSite, sender: str, node: str) -> None:
    assert site.probers[sender].hold(f"{sender}-{node}", site.targets[f"{node}-public"][0], NODE_PORT, 3) == "ok"


def still(site: EdgeSite, sender: str, node: str) -> str:
    return site.probers[sender].still(f"{sender}-{node}", 3)


def test_the_recipe(site: EdgeSite, tmp_path: Path) -> None:
    recipe = Recipe(site, tmp_path)
    recipe.run("defaults")
    recipe.run("apply -f worker-endpoints.yaml")
    recipe.run("get hep")
    default_policies(site)
    hold(site, "client", "w3")
    recipe.run("apply -f allow-load-balancers.yaml")
    recipe.run("label node w1 dedicated=edge")
    site.until_edge("w1")
    hold(site, "balancer", "w1")
    recipe.run("apply -f deny-nodeports.yaml")
    site.judge(entrances("w1") | dict.fromkeys(BETWEEN_PODS, True))
    udp = dict.fromkeys(node_ports("client", DNS_PORT), False)
    site.judge(udp | {f"balancer > {node}-public {DNS_PORT}": node == "w1" for node in WORKERS}, "udp")
    # A service for the node's own pods: the same, by the public address of the node that has one.
    site.judge({f"client > w1-public {NEAR_PORT}": False, f"balancer > w1-public {NEAR_PORT}": True})

    recipe.run("label node w2 dedicated=edge")
    site.until_edge("w1", "w2")
    site.judge(entrances("w1", "w2"))
    recipe.run("label node w1 dedicated --remove")
    site.until_edge("w2")
    site.send_vip_to("w2")
    site.judge(entrances("w2"))
    assert still(site, "client", "w3") == still(site, "balancer", "w1") == "ok"

    recipe.run("apply -f edge-v1.yaml")
    recipe.run("delete -f deny-nodeports.yaml")
    site.judge(entrances("w2"))
    site.relabel("w3", dedicated="edge")  # as Kubernetes says it
    site.until_edge("w2", "w3")
    site.judge(entrances("w2", "w3"))

    pods_judge_after_translation(site, recipe)
    assert not recipe.steps


def default_policies(site: EdgeSite) -> None:
    """What the default policies promise, line by line; nothing else is open to the public, and pods are not concerned."""
    allowed = [f"client > w1-public {BIGFIX}", f"manager > w2-public {KUBELET}", "w3 > client 80", "w1 > outside 80"]
    allowed += [*node_ports("client"), *BALANCED, *PRIVATE, *BETWEEN_PODS, "outside > w1 80", "shop/web > client 80"]
    shut = [
        f"{sender} > {node}-public {port}" for sender in ("client", "balancer") for node in WORKERS for port in (80, KUBELET)
    ]
    site.judge(dict.fromkeys(allowed, True) | dict.fromkeys(shut, False))
    site.judge(
        dict.fromkeys(node_ports("client", DNS_PORT), True) | {"w2 > client 80": True, "client > w2-public 80": False}, "udp"
    )
    for protocol in ("icmp", VRRP):
        site.judge(dict.fromkeys(node_ports("client", 0), True), protocol)


def pods_judge_after_translation(site: EdgeSite, recipe: Recipe) -> None:
    """A NetworkPolicy of Kubernetes beside the hosts' policies: by the pod's port, and by the client's address or a node's."""
    document = (recipe.folder / "web.yaml").read_text(encoding="utf-8")
    pods_only = re.sub(r"    - ipBlock:\n(?:        .*\n)+", "", document)
    assert pods_only != document
    site.operate(["apply", "-f", "-"], pods_only, recipe.folder)
    site.applied(site.etcd.revision())
    inside = {
        "shop/frontend > shop/web 8080": True, "shop/frontend > shop/web 9090": False, "other/job > shop/web 8080": False,
        "shop/web > other/job 80": True, "other/job > shop/frontend 80": True,
    }  # fmt: skip
    outside = [cell for cell, passes in entrances("w2", "w3").items() if passes]
    site.judge(inside | dict.fromkeys(outside, False))
    # By nodes' addresses: where the pod's own node is asked, w2, to which the load balancer's address leads, nobody is hidden.
    blocks = "".join(f"    - ipBlock: {{cidr: '{block}'}}\n" for block in ("198.18.0.0/16", "2001:db8:18::/48"))
    site.operate(["apply", "-f", "-"], pods_only.replace("    ports:\n", f"{blocks}    ports:\n"), recipe.folder)
    site.applied(site.etcd.revision())
    hidden = (f"balancer > w3-public {NODE_PORT}", *(f"outside > {node} {NODE_PORT}" for node in ("w1", "w3")))
    site.judge(inside | c.only(outside, *hidden))
    recipe.run("apply -f web.yaml")
    recipe.run("get np -n shop")
    site.judge(inside | entrances("w2", "w3"))
