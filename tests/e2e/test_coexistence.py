"""Others write to the same tables, again and again: ours stay first and in force, theirs stay as they are, and it is said."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import GUARDED, Site, start_guarding
from tests.lab import kubeproxy
from tests.lab.felix import Felix

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
BUILT_IN = re.compile(r" :[A-Z]+ ACCEPT$")
LIMIT = 20.0  # seconds; one on an idle machine
SERVICES = [
    kubeproxy.Service("A4", "tcp", "10.244.1.5", 8080, 30080),
    kubeproxy.Service("A6", "tcp", "fd00:10:244:1::5", 8080, 30080),
]
FIREWALLD = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:INPUT_direct - [0:0]
:INPUT_ZONES - [0:0]
:IN_public - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A INPUT -j INPUT_direct
-A INPUT -j INPUT_ZONES
-A INPUT_ZONES -i eth0 -g IN_public
-A IN_public -p tcp -m tcp --dport 82 -j ACCEPT
COMMIT
"""
OTHERS = """\
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:ufw-before-input - [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-before-input
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A DOCKER-USER -j RETURN
-A ufw-before-input -j ufw-user-input
-A ufw-user-input -p tcp -m tcp --dport 82 -j ACCEPT
COMMIT
"""


def theirs(site: Site) -> list[str]:
    """All rules, chains and sets that aren't ours, and policies that aren't the kernel's own."""
    lines = [f"{where} {line}" for where, part in site.everything().items() for line in part]
    return sorted(
        line for line in lines if not any(text in line for text in ("hw-", "hw4", "hw6", "hw:")) and not BUILT_IN.search(line)
    )


def are_first(site: Site) -> bool:
    """Whether ours come first in every chain of the kernel that they are in."""
    hooks = (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("filter", "INPUT"), ("filter", "FORWARD"), ("filter", "OUTPUT"))
    return all(
        re.match(rf"-A {chain} (-i cali\+ .*)?-j hw-", site.agent.iptables("-t", table, "-S", chain, "1", family=family))
        for table, chain in hooks
        for family in (4, 6)
    )


@contextmanager
def again_and_again(write: Callable[[], object], every: float) -> Iterator[list[BaseException]]:
    """Somebody writes every so many seconds, in a thread; what went wrong with that."""
    stop, trouble = threading.Event(), []

    def run() -> None:
        try:
            while not stop.wait(every):
                write()
        except BaseException as error:  # noqa: BLE001 # handed to the test
            trouble.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield trouble
    finally:
        stop.set()
        thread.join()


def stays_guarded(site: Site, seconds: float) -> tuple[float, float]:
    """Asks for that long who reaches what; how many repairs, and which share of a core, a second cost."""
    repairs, cpu, began = site.agent.metric("hostward_repairs_total"), site.agent.cpu_seconds(), time.monotonic()
    while time.monotonic() < began + seconds:
        assert site.reached() == GUARDED
        time.sleep(0.1)
    lasted = time.monotonic() - began
    return (site.agent.metric("hostward_repairs_total") - repairs) / lasted, (site.agent.cpu_seconds() - cpu) / lasted


def test_kube_proxy_writes_every_second(site: Site) -> None:
    kubeproxy.install(site.worker, SERVICES, ("10.244.0.0/16", "fd00:10:244::/48"))
    before = theirs(site)
    start_guarding(site)
    assert theirs(site) == before

    def sync() -> None:
        """All of its chains anew without a flush, and its jumps prepended, as it does when it starts."""
        for version, tool in ((4, "iptables"), (6, "ip6tables")):
            pod_range = "10.244.0.0/16" if version == 4 else "fd00:10:244::/48"
            lines = kubeproxy.text(version, SERVICES, pod_range, "ACCEPT").splitlines()
            hooked = tuple(f"-A {chain} " for chain in ("INPUT", "FORWARD", "PREROUTING", "OUTPUT", "POSTROUTING"))
            kept = [line for line in lines if not line.startswith((*hooked, ":FORWARD "))]
            at = kept.index("*filter") + 1
            hooks = (("INPUT", "KUBE-FIREWALL"), ("FORWARD", "KUBE-FORWARD"))
            jumps = [f"-{verb} {chain} -j {to}" for chain, to in hooks for verb in "DI"]
            chains = [at + n for n, line in enumerate(kept[at:]) if line.startswith(":")]
            kept[max(chains) + 1 : max(chains) + 1] = jumps
            restore = (f"{tool}-legacy-restore", "--noflush", "-w", "10")
            site.worker.run("env", f"XTABLES_LOCKFILE={site.agent.lock_file}", *restore, data="\n".join([*kept, ""]))

    with again_and_again(sync, 1.0) as trouble:
        repairs, cpu = stays_guarded(site, 3)
    assert not trouble
    site.until("ours are first", lambda: are_first(site), LIMIT)
    print(f"{repairs:.1f} repairs a second, {cpu:.3f} of a core")
    assert repairs <= 4  # a table a version a second
    assert theirs(site) == before
    assert site.agent.metric("hostward_other_firewall", program="kube-proxy") == 1
    assert not any("kube-proxy:" in text for text in site.agent.status()["warnings"])


def test_firewalld_replaces_the_whole_table(site: Site) -> None:
    start_guarding(site)
    for _ in range(3):
        for tool in ("iptables-legacy-restore", "ip6tables-legacy-restore"):
            site.worker.run(tool, data=FIREWALLD)
        took = site.until("ours are first", lambda: are_first(site), LIMIT)
        print(f"put right after {took:.2f} s")
        assert site.reached() == GUARDED  # its rule for port 82 comes too late
        assert "filter/v6 -A IN_public -p tcp -m tcp --dport 82 -j ACCEPT" in theirs(site)
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        for family in (4, 6):
            site.agent.iptables("-F", chain, family=family)
    site.until("ours are first", lambda: are_first(site), LIMIT)
    for family in (4, 6):
        site.agent.iptables("-F", family=family)  # every chain, ours too
    site.until("ours are first and whole", lambda: are_first(site) and site.reached() == GUARDED, LIMIT)
    assert "filter/v4 :INPUT_ZONES -" in theirs(site)


def test_felix_is_there_and_wants_to_be_first(site: Site) -> None:
    felix = Felix(site.worker, site.agent.lock_file)
    felix.start(site.CLIENT[0])
    assert site.reached() == GUARDED
    before = theirs(site)
    start_guarding(site)
    assert site.reached() == GUARDED
    assert theirs(site) == before
    assert are_first(site)
    site.until("it is said", lambda: site.agent.metric("hostward_other_firewall", program="Felix") == 1, LIMIT)
    site.until("status shows it", lambda: any(text.startswith("Felix: ") for text in site.agent.status()["warnings"]), LIMIT)
    assert len(site.agent.log_lines("another program filters packets here")) == 1
    with felix.insisting(0.6):
        repairs, cpu = stays_guarded(site, 3)
        site.until("it is said", lambda: site.agent.metric("hostward_contested") == 1, LIMIT)
    print(f"Felix was first {felix.reinserted - 1} times; {repairs:.1f} repairs a second, {cpu:.3f} of a core")
    assert felix.reinserted > 2
    assert repairs < 8  # six tables, once a second at most
    assert cpu < 0.5
    site.until("status shows it", lambda: "keeps changing our rules" in site.agent.status()["warnings"][0], LIMIT)
    assert "Felix" in site.agent.status()["warnings"][0]
    assert len(site.agent.log_lines("others keep changing what is ours, it is put right each time")) == 1
    site.until("ours are first", lambda: are_first(site), LIMIT)
    assert theirs(site) == before
    assert site.reached() == GUARDED


def test_another_variant_of_iptables(site: Site) -> None:
    """Both are enforced: theirs can deny what ours allow, and ours stay where they are."""
    for tool in ("iptables-nft", "ip6tables-nft"):
        site.worker.run(tool, "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")
        site.worker.run(tool, "-A", "INPUT", "-p", "tcp", "--dport", "82", "-j", "ACCEPT")
    start_guarding(site)
    assert site.reached() == {"v4": (22, 81), "v6": (22, 81)}
    site.until("it is said", lambda: site.agent.metric("hostward_other_firewall", program="iptables variants") == 1, LIMIT)
    site.until("status shows it", lambda: bool(site.agent.status()["warnings"]), LIMIT)
    assert "iptables-nft holds 4 rules" in site.agent.status()["warnings"][0]
    assert "hw-" not in site.worker.run("iptables-nft-save")
    assert "--dport 80 -j DROP" in site.worker.run("ip6tables-nft", "-S")


def test_docker_and_ufw(site: Site) -> None:
    for tool in ("iptables-legacy-restore", "ip6tables-legacy-restore"):
        site.worker.run(tool, data=OTHERS)
    before = theirs(site)
    start_guarding(site)
    assert site.reached() == GUARDED
    assert theirs(site) == before
    site.until("it is said", lambda: site.agent.metric("hostward_other_firewall") == 2, LIMIT)
    names = {line["name"] for line in site.agent.log_lines("another program filters packets here")}
    assert names == {"Docker", "ufw"}
