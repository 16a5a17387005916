"""Another program holds the xtables lock: L1."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.agent import Agent
from tests.lab.figures import Figures, sizes
from tests.reliability.rig import Rig, once_more

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]


@sizes("seconds", short=3, full=60)
@once_more
def test_l1_the_lock_is_held(figures: Figures, seconds: float) -> None:
    """The agent lives, says what it waits for and for whom, piles nothing up, and goes on as soon as it can."""
    with Rig() as rig, rig.held():
        # A short attempt, so that the short form sees several.
        rig.agent.stop()
        rig.agent.env["HOSTWARD_IPTABLES_LOCK_TIMEOUT"] = "10" if figures.full else "1"
        rig.agent.start()
        rig.agent.wait_applied(rig.revision)
        before = rig.fingerprint()
        threads = set(Path(f"/proc/{rig.agent.pid}/task").iterdir())
        holder = rig.lab.worker.popen("flock", str(rig.agent.lock_file), "cat", stdin=subprocess.PIPE)
        try:
            rig.until("somebody holds the lock", lambda: is_locked(rig.agent))
            with rig.traffic("L1", figures, 100):
                revision = rig.change()
                rig.agent.wait_received(revision)
                began = time.monotonic()
                share = rig.share_of_a_core(seconds, lambda: live(rig.agent))
                rig.until("it is told", lambda: "xtables lock" in rig.agent.health("readiness")[1])
                assert f"(pid {holder.pid})" in rig.agent.health("readiness")[1]
                assert rig.agent.health("readiness")[0] == 503
                assert rig.agent.metric("hostward_applied_revision") < revision
                assert rig.agent.metric("hostward_apply_failures_total") > 0
                more = len(set(Path(f"/proc/{rig.agent.pid}/task").iterdir()) - threads)
                held = time.monotonic() - began
                holder.communicate("", timeout=20)
                after = rig.until("it is done", lambda: rig.agent.status().get("appliedRevision", 0) >= revision)
        finally:
            holder.kill()
            holder.wait(10)
        assert rig.fingerprint() != before
        rig.until("it is ready", lambda: rig.agent.health("readiness")[0] == 200)
    figures.tell("L1", "seconds held", held, "s")
    figures.below("L1", "share of a core meanwhile", share, 0.05, "")
    figures.below("L1", "applied after release", after, 2)
    figures.tell("L1", "more threads", more)
    assert more <= 1, "threads pile up"


def live(agent: Agent) -> None:
    """It answers, and says that it is alive."""
    assert agent.health("liveness")[0] == 200


def is_locked(agent: Agent) -> bool:
    """Whether somebody holds the lock, as the kernel says."""
    inode = str(os.stat(agent.lock_file).st_ino)
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return any(line.split()[5].rpartition(":")[2] == inode for line in lines)
