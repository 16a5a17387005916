"""Tools are killed in the middle of a change, a host comes up with rules of long ago: K2, K3.

K1 is in tests/e2e/test_nothing_leaks.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.xtables import commit, restore, tables
from hostward.engine.applier import Outcome
from hostward.model import keys
from hostward.model.decode import decode
from hostward.model.failsafe import FailsafePort
from hostward.model.settings import BUILT_IN
from tests.e2e import documents as d
from tests.e2e.disturbance import State, difference
from tests.e2e.shapes import FAILSAFE_PORT, Shapes
from tests.e2e.traffic import served, stream
from tests.lab.figures import Figures, sizes
from tests.lab.host import HostUnderTest
from tests.lab.probes import StreamClass
from tests.lab.topology import WorkerLab
from tests.reliability.rig import FLIP, Rig, judge, once_more

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
SEED = 20261126
FLIP_PORT = 7005
TOOLS = ("iptables-legacy-restore", "ip6tables-legacy-restore")
SHIM = """#!/bin/sh
# The tool, killed after so many seconds if it still runs then. --foreground: this ends when the tool has ended, not before.
exec timeout --foreground --signal=KILL "$KILL_AFTER" {tool} "$@"
"""
KILLED, JUST_ENDED = "exit code 137", "exit code 124"


@pytest.fixture
def shims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every edit goes through the tools, and those are killed after KILL_AFTER seconds, where this is first on PATH."""
    for name in TOOLS:
        real = shutil.which(name)
        assert real is not None
        shim = tmp_path / name
        shim.write_text(SHIM.format(tool=real), encoding="ascii")
        shim.chmod(0o755)
    monkeypatch.setattr(tables, "commit", functools.partial(commit.commit, bulk_rules=0))
    restore._program.cache_clear()
    yield tmp_path
    restore._program.cache_clear()


@sizes("kills", short=15, full=1000, timeout=1800)
@once_more
def test_k2_tools_are_killed(figures: Figures, shims: Path, monkeypatch: pytest.MonkeyPatch, kills: int) -> None:
    """iptables-restore is the only program that the agent starts to write (sets go by netlink): killed at any moment."""
    rng, shapes = random.Random(SEED), Shapes(SEED)
    killed = changes = 0
    with served() as lab, HostUnderTest(lab.worker) as host:
        monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
        monkeypatch.setenv("KILL_AFTER", "60")
        bring(host, shapes.draw())
        with stream(lab, 500) as sending:
            sending.start()
            while killed < kills:
                changes += 1
                state = shapes.draw()
                for tried in itertools.count():  # as the engine does: again, until it is done
                    spared = 60 if tried % 4 == 3 else rng.uniform(0.0002, 0.01)
                    monkeypatch.setenv("KILL_AFTER", f"{spared:.4f}")
                    try:
                        bring(host, state)
                    except KernelError as error:
                        if KILLED not in str(error) and JUST_ENDED not in str(error):
                            raise
                        killed += KILLED in str(error)
                    else:
                        break
            reports = sending.finish()
        outcome = bring(host, state)
        assert (outcome.commits, outcome.set_steps) == (0, 0), "something is left of what was interrupted"
        judge("K2", figures, reports)
    figures.tell("K2", "kills of iptables-restore", killed)
    figures.tell("K2", "changes", changes)


def bring(host: HostUnderTest, state: State) -> Outcome:
    """Makes documents, by their keys, what is in force."""
    host.resources = {}
    for path, document in state.items():
        key = keys.parse(path)
        assert key is not None
        value = decode(key, json.dumps(document).encode()).value
        assert value is not None
        host.resources[key] = value
    failsafe = (FailsafePort(6, 22), FailsafePort(17, FAILSAFE_PORT))
    return host.apply(replace(BUILT_IN, failsafe_inbound_host_ports=failsafe))


def restored(rig: Rig, dump: dict[str, str]) -> None:
    """What a host finds after it lost power, where something loads the rules that were once saved: these, and no others."""
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        for table in ("raw", "mangle", "filter"):
            for verb in ("-F", "-X"):
                rig.lab.worker.run(tool, "-t", table, verb)
    rig.lab.worker.run("ipset", "destroy")
    rig.lab.worker.run("ipset", "restore", data=dump["ipset"])
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        rig.lab.worker.run(f"{tool}-restore", data=dump[tool])


def dump(rig: Rig) -> dict[str, str]:
    """What the tools save."""
    saved = {tool: rig.lab.worker.run(f"{tool}-save") for tool in ("iptables-legacy", "ip6tables-legacy")}
    return saved | {"ipset": rig.lab.worker.run("ipset", "save")}


@sizes("rounds", short=1, full=30, timeout=1800)
@once_more
def test_k3_rules_of_another_time(figures: Figures, rounds: int) -> None:
    """A host comes up with rules of an older policy set: they stay until the store has been read, and not a moment longer."""
    shapes = Shapes(SEED + 1)
    flip = [StreamClass(f"flip v{v}", address, FLIP_PORT) for v, address in zip((4, 6), WorkerLab.PUBLIC, strict=True)]
    late = stale = 0
    with Rig() as rig:
        held: State = {}
        for number in range(rounds):
            states = []
            for action in ("Allow", "Deny"):
                new = {**shapes.draw(), FLIP: d.policy("flip", 1, [d.to_ports(action, [FLIP_PORT])])}
                puts, deletes = difference(held, new)
                held = new
                states.append(rig.etcd.transaction({key: json.dumps(value) for key, value in puts.items()}, deletes))
                rig.agent.wait_applied(states[-1])
                if action == "Allow":
                    old, old_rules = dump(rig), rig.fingerprint()
            new_rules = rig.fingerprint()
            rig.agent.kill()
            restored(rig, old)
            assert rig.fingerprint() == old_rules
            if number % 2:
                shutil.rmtree(rig.agent.state)
            rig.etcd.stop()
            with rig.traffic("K3", figures, 500, *flip) as reports:
                rig.agent.start()
                rig.until(
                    "it has seen that there is no store", lambda: rig.agent.status().get("datastore", {}).get("state") == "lost"
                )
                assert rig.fingerprint() == old_rules, "nothing changes before the store was read"
                rig.etcd.start()
                rig.agent.wait_applied(states[-1])
                in_sync = time.monotonic_ns()
                assert rig.fingerprint() == new_rules
                time.sleep(0.3)
            for each in flip:
                times = reports[each.name].arrived.values()
                stale += sum(sent <= in_sync for sent, _ in times)
                late += sum(sent > in_sync for sent, _ in times)
    assert stale, "what the old rules allow never came: this shows nothing"
    figures.tell("K3", "starts with rules of another time", rounds)
    figures.tell("K3", "denied by the new rules, arrived after they were in force", late)
    assert not late
