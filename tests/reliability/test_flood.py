"""A flood of packets that a Log rule logs: F1, its part in the kernel. (F2, the agent's own log, is in test_logs.)"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e import documents as d
from tests.lab import saved
from tests.lab.figures import Figures, sizes
from tests.reliability.rig import SHUT, Rig, once_more

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
RATE, BURST = 10, 20  # log lines a second
FLOOD = """
import socket, sys, time
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to.connect((sys.argv[1], int(sys.argv[2])))
began = time.monotonic(); sent = 0
while time.monotonic() - began < float(sys.argv[3]):
    for _ in range(500):
        to.send(b"flood")
    sent += 500
print(sent / (time.monotonic() - began), sent)
"""


@sizes("seconds", short=2, full=60)
@once_more
def test_f1_a_flood_at_a_log_rule(figures: Figures, seconds: float) -> None:
    """Each packet is dropped and counted, few are logged, the agent doesn't feel it, nor do packets that are allowed.

    How many are logged is what the kernel's counter of the LOG rule says: the limit stands before it, in the same rule. A
    namespace's kernel log goes nowhere (`net.netfilter.nf_log_all_netns` is the machine's, and is left as it is). A commit of
    the table fills every limit up to its burst again, as the kernel then makes all rules anew.
    """
    with Rig() as rig:
        settings = {"logActionRateLimit": f"{RATE}/second", "logActionRateLimitBurst": BURST}
        rig.store.put(
            f"{d.ROOT}felixconfigurations/default",
            {
                "kind": "FelixConfiguration",
                "apiVersion": "projectcalico.org/v3",
                "metadata": {"name": "default"},
                "spec": settings,
            },
        )
        rules = [d.to_ports("Log", [SHUT]), d.to_ports("Deny", [SHUT]), d.to_ports("Deny", [SHUT], "TCP")]
        rig.agent.wait_applied(rig.store.put(d.policy_key("deny"), d.policy("deny", 10, rules)))
        log = next(line for line in rig.fingerprint()["filter/v4"] if "-j LOG" in line)
        assert f"-m limit --limit {RATE}/sec --limit-burst {BURST}" in log
        chain = log.split()[1]
        began, cpu, before, missed = time.monotonic(), rig.agent.cpu_seconds(), counted(rig, chain), overrun()
        with rig.traffic("F1", figures, 100) as reports:
            command = [sys.executable, "-S", "-E", "-c", FLOOD, rig.lab.PUBLIC[0], str(SHUT), str(seconds)]
            flood = rig.lab.internet.popen(*command, stdout=subprocess.PIPE)
            try:
                time.sleep(seconds / 2)
                asked = time.monotonic()
                rig.agent.wait_applied(rig.change())
                took = time.monotonic() - asked
                assert flood.poll() is None or not figures.full, "the flood was over before the change was in force"
                said, _ = flood.communicate(timeout=seconds + 60)
            finally:
                flood.kill()
                flood.wait(10)
            rate, sent = map(float, said.split())
        took_all = time.monotonic() - began
        commits = rig.agent.log_lines("applied")[-1]["commits"]
        share = (rig.agent.cpu_seconds() - cpu) / took_all
        logged, dropped = (now - then for now, then in zip(counted(rig, chain), before, strict=True))
        slow, missed = reports["deny v4"].sent, overrun() - missed
    figures.tell("F1", "packets a second", rate, "", "min")
    figures.tell("F1", "logged", logged)
    allowed = RATE * took_all + BURST * (1 + commits)
    figures.tell("F1", "allowed to be logged", allowed)
    figures.below("F1", "share of a core of the agent", share, 0.3, "")
    figures.below("F1", "a change meanwhile in force after", took, 2)
    assert 0 < logged <= allowed
    missing = sent + slow - dropped
    assert 0 <= missing <= missed, "every packet that came so far is dropped and counted, none twice"


def counted(rig: Rig, chain: str) -> tuple[int, int]:
    """Packets that a policy's chain has logged, and those that it has dropped (IPv4)."""
    rules = [line for line in rig.fingerprint()["filter/v4"] if line.startswith(f"-A {chain} ") and str(SHUT) in line]
    logging, dropping = (
        next(rule for rule in rules if "-p udp" in rule and f"-j {target}" in rule) for target in ("LOG", "DROP")
    )
    return saved.packets(rig.lab.worker, logging), saved.packets(rig.lab.worker, dropping)


def overrun() -> int:
    """Packets that the machine has dropped before anybody looked at them, as its queues were full."""
    lines = Path("/proc/net/softnet_stat").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1], 16) for line in lines)
