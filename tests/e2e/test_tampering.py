"""Others change what is ours: noticed, put right, counted, and theirs left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import GUARDED, Site
from tests.lab import saved

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
LIMIT = 10.0  # seconds; half a second on an idle machine
FOREIGN = "*filter\n:THEIRS - [0:0]\n-A INPUT -j THEIRS\n-A THEIRS -s {net} -j DROP\nCOMMIT\n"
Tamper = Callable[[Site], None]


@pytest.fixture(scope="module")
def worker() -> Iterator[Site]:
    """A guarded site with rules of others."""
    with ExitStack() as stack:
        site = Site(stack)
        revision = site.guard()
        site.worker.run("iptables-legacy-restore", "--noflush", data=FOREIGN.format(net="203.0.113.9"))
        site.worker.run("ip6tables-legacy-restore", "--noflush", data=FOREIGN.format(net="2001:db8:99::9"))
        site.worker.run("ipset", "create", "theirs", "hash:ip")
        site.agent.start()
        site.agent.wait_applied(revision)
        yield site


def both(site: Site, *arguments: str) -> None:
    for family in (4, 6):
        site.agent.iptables(*arguments, family=family)


def our_set(site: Site, family: int) -> str:
    """The set of the selector in the policy `friends`."""
    (name,) = (line.split()[1] for line in site.everything()["sets"] if line.startswith(f"create hw{family}-"))
    return name


def flush_ours(site: Site) -> None:
    for table in ("raw", "mangle", "filter"):
        for family in (4, 6):
            chains = [line.split()[0][1:] for line in saved.rules(site.worker)[f"{table}/v{family}"] if line.startswith(":hw-")]
            for chain in chains:
                site.agent.iptables("-t", table, "-F", chain, family=family)


def delete_jumps(site: Site) -> None:
    both(site, "-D", "INPUT", "-j", "hw-INPUT")
    both(site, "-t", "mangle", "-D", "PREROUTING", "-j", "hw-PREROUTING")
    both(site, "-t", "raw", "-D", "PREROUTING", "-i", "cali+", "-m", "rpfilter", "--validmark", "--invert", "-j", "hw-wl-raw")


def change_a_rule(site: Site) -> None:
    """The one that denies at the end of the tier lets everything through instead, under the same chain."""
    for family in (4, 6):
        rules = [line for line in saved.rules(site.worker)[f"filter/v{family}"] if line.startswith("-A hw-fh-eth0 ")]
        site.agent.iptables("-R", "hw-fh-eth0", str(len(rules)), "-j", "ACCEPT", family=family)
        site.agent.iptables("-R", "hw-fh-eth0", str(len(rules) - 1), "-j", "ACCEPT", family=family)


def insert_into_a_chain(site: Site) -> None:
    both(site, "-I", "hw-fh-eth0", "-j", "ACCEPT")


def delete_a_chain(site: Site) -> None:
    """The one that has the rules of the policy."""
    for family in (4, 6):
        rules = saved.rules(site.worker)[f"filter/v{family}"]
        chain = next(line.split()[1] for line in rules if line.startswith("-A hw-") and "--comment" in line and "web" in line)
        for line in rules:
            words = line.split()
            if words[0] == "-A" and words[-2:] in (["-j", chain], ["-g", chain]):
                site.agent.iptables("-D", *words[1:], family=family)
        site.agent.iptables("-F", chain, family=family)
        site.agent.iptables("-X", chain, family=family)


def empty_the_sets(site: Site) -> None:
    for family in (4, 6):
        site.worker.run("ipset", "flush", our_set(site, family))


def widen_the_sets(site: Site) -> None:
    for family, net in ((4, "0.0.0.0/1"), (6, "2000::/3")):
        site.worker.run("ipset", "add", our_set(site, family), net)


def destroy_everything(site: Site) -> None:
    """As an operator does who wants to be rid of us: rules, chains, then sets."""
    names = [our_set(site, family) for family in (4, 6)]
    for table in ("raw", "mangle", "filter"):
        for family in (4, 6):
            rules = saved.rules(site.worker)[f"{table}/v{family}"]
            mine = [line for line in rules if line.startswith("-A ") and not line.startswith("-A hw-") and "hw" in line]
            lines = [line.replace("-A", "-D", 1) for line in mine]
            chains = [line.split()[0][1:] for line in rules if line.startswith(":hw-")]
            script = [f"*{table}", *lines, *(f"-F {name}" for name in chains), *(f"-X {name}" for name in chains), "COMMIT", ""]
            tool = "iptables-legacy-restore" if family == 4 else "ip6tables-legacy-restore"
            site.worker.run(tool, "--noflush", "-w", data="\n".join(script))
    for name in names:
        site.worker.run("ipset", "destroy", name)


@pytest.mark.parametrize(
    ("tamper", "counted"),
    [
        (flush_ours, ("raw", "mangle", "filter")),
        (delete_jumps, ("raw", "mangle", "filter")),
        (change_a_rule, ("filter",)),
        (insert_into_a_chain, ("filter",)),
        (delete_a_chain, ("filter",)),
        (empty_the_sets, ("sets",)),
        (widen_the_sets, ("sets",)),
        (destroy_everything, ("raw", "mangle", "filter", "sets")),
    ],
)  # fmt: skip
def test_put_right_and_counted(worker: Site, tamper: Tamper, counted: tuple[str, ...]) -> None:
    before = worker.everything()
    counts = repairs(worker)
    tamper(worker)
    assert worker.everything() != before
    seconds = worker.until("it is as it was", lambda: worker.everything() == before, LIMIT)
    print(f"{tamper.__name__}: put right after {seconds:.2f} s")
    worker.until("it is counted", lambda: repairs(worker) != counts, LIMIT)
    grown = {key for key, count in repairs(worker).items() if count > counts[key]}
    assert grown == {(table, version) for table in counted for version in "46"}
    assert worker.reached() == GUARDED
    assert worker.reached(1)["v4"] == (22, 80, 81, 82)  # an interface without an endpoint
    assert worker.agent.log_lines("repaired what another program had changed")


def test_a_foreign_rule_before_ours(worker: Site) -> None:
    """Ours go before it; it stays."""
    before, counts = worker.everything(), repairs(worker)
    both(worker, "-I", "INPUT", "-p", "tcp", "--dport", "82", "-j", "ACCEPT")
    worker.until("ours are first", lambda: first_rule(worker, 4) == first_rule(worker, 6) == "-A INPUT -j hw-INPUT", LIMIT)
    assert worker.reached() == GUARDED
    worker.until("it is counted", lambda: repairs(worker) != counts, LIMIT)
    both(worker, "-D", "INPUT", "-p", "tcp", "--dport", "82", "-j", "ACCEPT")
    assert worker.everything() == before


def test_what_others_do_with_their_own_is_no_tampering(worker: Site) -> None:
    counts = repairs(worker)
    both(worker, "-A", "INPUT", "-p", "tcp", "--dport", "9999", "-j", "DROP")
    both(worker, "-N", "KUBE-NEW")
    both(worker, "-t", "nat", "-N", "KUBE-NEW")
    worker.worker.run("ipset", "add", "theirs", "203.0.113.77")
    changed = worker.everything()
    checks = worker.agent.metric("hostward_drift_check_seconds_count")
    worker.until("checked twice", lambda: worker.agent.metric("hostward_drift_check_seconds_count") >= checks + 2, LIMIT)
    assert worker.everything() == changed
    assert repairs(worker) == counts


def test_noticed_among_ten_thousand_rules(site: Site) -> None:
    revision = site.guard()
    lines = [f"-A MANY -s 10.{n >> 8}.{n & 255}.0/24 -p tcp -m tcp --dport {n} -j RETURN" for n in range(1, 10_000)]
    site.worker.run("iptables-legacy-restore", data="\n".join(["*filter", ":MANY - [0:0]", *lines, "COMMIT", ""]))
    site.agent.start()
    site.agent.wait_applied(revision)
    before = site.everything()
    worst = 0.0
    for _ in range(3):
        time.sleep(0.4)
        site.agent.iptables("-D", "INPUT", "-j", "hw-INPUT")
        worst = max(worst, site.until("ours is back", lambda: first_rule(site, 4) == "-A INPUT -j hw-INPUT", LIMIT))
    interval = site.agent.metric("hostward_drift_check_interval_seconds")
    print(f"{len(lines)} foreign rules: put right within {worst:.2f} s, checked every {interval:.2f} s")
    assert site.everything() == before
    assert interval >= 1
    assert repairs(site)["filter", "4"] == 3


def first_rule(site: Site, family: int) -> str:
    return site.agent.iptables("-S", "INPUT", "1", family=family).strip()


def repairs(site: Site) -> dict[tuple[str, str], float]:
    """hostward_repairs_total by table ("sets" for sets) and IP version."""
    return {
        (table, version): site.agent.metric("hostward_repairs_total", table=table, ip_version=version)
        for table in ("raw", "mangle", "filter", "sets")
        for version in "46"
    }


def test_repairs_go_on_while_etcd_is_down(site: Site) -> None:
    revision = site.guard()
    site.agent.start()
    site.agent.wait_applied(revision)
    before = site.everything()
    site.etcd.kill()
    flush_ours(site)
    site.until("it is as it was", lambda: site.everything() == before, LIMIT)
    assert site.reached() == GUARDED
    # A stored policy must not come back later from an outdated memory of the kernel.
    site.etcd.start()
    site.agent.wait_applied(site.etcd.put(d.policy_key("web"), d.policy("web", 10, [d.to_ports("Allow", [82], "TCP")])))


def test_repairs_go_on_while_the_store_is_in_doubt(guarded: Site) -> None:
    before = guarded.everything()
    guarded.agent.wait_received(guarded.etcd.delete(d.CLUSTER))
    flush_ours(guarded)
    guarded.until("it is as it was", lambda: guarded.everything() == before, LIMIT)
