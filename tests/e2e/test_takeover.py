"""An agent comes and goes: nothing is felt, nothing is written twice, nothing of ours is left when we are asked to go."""

from __future__ import annotations

import os

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import ALL_OPEN, GUARDED, Site
from tests.lab import saved

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
FOREIGN = """\
*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -j KUBE-SERVICES
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:cali-INPUT - [0:0]
-A INPUT -s 203.0.113.99/32 -j DROP
-A INPUT -j cali-INPUT
-A FORWARD -j KUBE-FORWARD
-A cali-INPUT -m set --match-set theirs src -j DROP
COMMIT
*mangle
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
"""


def install_foreign(site: Site) -> None:
    """Rules and sets of others."""
    site.worker.run("ipset", "create", "theirs", "hash:ip")
    site.worker.run("ipset", "add", "theirs", "203.0.113.98")
    site.worker.run("iptables-legacy-restore", data=FOREIGN)


def test_a_new_agent_writes_no_rule(guarded: Site) -> None:
    assert guarded.reached() == GUARDED
    before = guarded.everything()
    rule = "-A hw-fh-eth0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    count = saved.packets(guarded.worker, rule)
    assert count
    for end in (guarded.agent.stop, guarded.agent.kill):
        end()
        assert guarded.everything() == before
        assert guarded.reached() == GUARDED
        told = len(guarded.agent.log_lines("applied"))
        guarded.agent.start()
        guarded.agent.wait_applied(guarded.etcd.revision())
        assert guarded.everything() == before
        guarded.until("it is in the log, too", lambda told=told: len(guarded.agent.log_lines("applied")) > told)
        assert guarded.agent.log_lines("applied")[-1]["commits"] == 0
        assert guarded.agent.log_lines("applied")[-1]["set_changes"] == 0
        assert guarded.reached() == GUARDED
        # A table that is written anew starts its counters from what was read before: packets in between would be missing,
        # a rule that was replaced starts at 0.
        before_that, count = count, saved.packets(guarded.worker, rule)
        assert count > before_that
    assert guarded.agent.metric("hostward_repairs_total") == 0


def test_sigterm_ends_the_agent_in_order(guarded: Site) -> None:
    before = guarded.everything()
    assert guarded.agent.stop() == 0
    assert guarded.everything() == before
    assert guarded.agent.log_lines()[-1]["event"] == "agent stops, the rules stay in place"
    assert not [line for line in guarded.agent.log_lines() if line.get("raw") or line["level"] in ("error", "critical")]


def test_cleanup_leaves_not_one_trace(site: Site) -> None:
    install_foreign(site)
    before = site.everything()
    assert site.reached() == ALL_OPEN
    revision = site.guard()
    site.agent.start()
    site.agent.wait_applied(revision)
    assert site.reached() == GUARDED
    beside = site.everything()
    refused = site.agent.command("cleanup")
    assert refused.returncode == 1
    assert f"an agent is running already (process {site.agent.pid} holds" in refused.stderr
    assert site.everything() == beside
    site.agent.stop()
    done = site.agent.command("cleanup")
    assert (done.returncode, done.stderr) == (0, "")
    assert site.everything() == before
    assert not os.path.exists(site.agent.state)
    assert site.reached() == ALL_OPEN
    again = site.agent.command("cleanup")
    assert again.returncode == 0
    assert site.everything() == before


def test_cleanup_after_a_kill_midway(site: Site) -> None:
    """What an interrupted change leaves behind is ours too."""
    site.guard()
    site.worker.run("iptables-legacy-restore", "--noflush", data="*filter\n:hw~INPUT - [0:0]\n-A hw~INPUT -j DROP\nCOMMIT\n")
    site.worker.run("ipset", "create", "hw4~left", "hash:net")
    assert site.agent.command("cleanup").returncode == 0
    assert site.everything() == {"sets": []}


def test_one_agent_per_state_directory(guarded: Site) -> None:
    second = guarded.agent.command("agent")
    assert second.returncode == 1
    assert f"an agent is running already (process {guarded.agent.pid} holds" in second.stderr
    assert guarded.agent.alive
    revision = guarded.etcd.put(d.policy_key("web"), d.policy("web", 10, [d.to_ports("Allow", [82], "TCP")]))
    guarded.agent.wait_applied(revision)


def test_a_policy_that_changed_while_no_agent_ran(guarded: Site) -> None:
    guarded.agent.kill()
    guarded.etcd.delete(d.policy_key("web"))
    assert guarded.reached() == GUARDED
    guarded.agent.start()
    guarded.agent.wait_applied(guarded.etcd.revision())
    assert guarded.reached() == {"v4": (22, 81), "v6": (22, 81)}


def test_the_last_understood_version_outlives_the_agent(guarded: Site) -> None:
    """D4: a policy that was broken while no agent ran stays in force as it was."""
    guarded.agent.kill()
    broken = d.policy("web", 10, [d.to_ports("Allow", [80, 81, 82], "TCP")])
    broken["spec"]["unheardOf"] = True
    revision = guarded.etcd.put(d.policy_key("web"), broken)
    guarded.agent.start()
    guarded.agent.wait_applied(revision)
    assert guarded.reached() == GUARDED
    (aside,) = guarded.agent.status()["setAside"]
    assert (aside["path"], aside["olderInForce"]) == ("spec.unheardOf", True)
