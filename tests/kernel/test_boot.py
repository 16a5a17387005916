"""`hostward boot` on a real packet filter: what it puts there, what it leaves alone, and when it does nothing."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from hostward.cli.boot import _guard
from hostward.dataplane import boot
from hostward.dataplane.kernel import KernelError
from hostward.dataplane.linux import LinuxKernel
from hostward.dataplane.saved_rules import FILE, of_ruleset, pieces
from hostward.engine.applier import Applier
from hostward.engine.memory import Memory
from hostward.model import keys
from hostward.model.keys import ResourceKey
from hostward.model.resolved import Resolved
from hostward.model.settings import BUILT_IN
from hostward.render.minimum import minimum
from hostward.render.options import Options, options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import Family, IPSet, Ruleset, TableName
from hostward.report.agent_lock import AgentLock
from tests.lab import saved
from tests.lab.agent import COMMAND, ROOT, clean_environment
from tests.lab.netns import Namespace
from tests.unit import worlds

pytestmark = pytest.mark.kernel
SEED = 11  # a world with three endpoints, workloads, and sets of both kinds and families
ORIGIN = "revision 7 of 2026-01-31T12:00:00Z"
FOREIGN = """\
*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -j KUBE-SERVICES
COMMIT
*filter
:cali-INPUT - [0:0]
-A INPUT -s 203.0.113.99/32 -j DROP
-A INPUT -j cali-INPUT
-A cali-INPUT -m set --match-set theirs src -j DROP
COMMIT
"""


class Machine:
    """A host that boots: its packet filter in a namespace of its own, its state directory, and its settings."""

    def __init__(self, home: Path) -> None:
        self.namespace = Namespace("boot")
        self.state, self.lock = home / "state", home / "xtables.lock"
        self.state.mkdir()
        self.settings: dict[str, str] = {}

    def keep(self, ruleset: Ruleset) -> None:
        (self.state / FILE).write_bytes(b"".join(pieces(ruleset, ORIGIN)))

    def boot(self, *, expect: int = 0) -> str:
        """Runs it; all that it said."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace.name, *COMMAND, "boot"],
            env=clean_environment() | {
                "PYTHONPATH": str(ROOT / "agent"),
                "HOSTWARD_STATE_DIR": str(self.state),
                "HOSTWARD_IPTABLES_LOCK_FILE_PATH": str(self.lock),
            } | self.settings,
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == expect, said
        assert "internal error" not in said
        return said

    def kernel(self) -> LinuxKernel:
        return LinuxKernel(self.lock, 10.0)

    def filter(self) -> dict[str, list[str]]:
        """All rules and sets."""
        return saved.everything(self.namespace)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.namespace.close()


WORLD = worlds.world(random.Random(SEED))


def guarding(families: tuple[Family, ...] = (4, 6)) -> tuple[Ruleset, Options]:
    """The rules of that world, and what they were rendered with."""
    assert set(WORLD.endpoints) == {"eth0", "eth1", "*"}
    chosen = replace(options(BUILT_IN, ()), families=families)
    return Renderer(chosen).render(WORLD), chosen


def hooked(ruleset: Ruleset) -> set[str]:
    """The kernel's chains that are to lead to ours."""
    return {f"{where} {chain}" for where, table in ruleset.tables.items() for chain in table.hooks}


def hooks(rules: Mapping[str, list[str]]) -> set[str]:
    """The kernel's chains that lead to ours."""
    lead = [(table, line.split()) for table, lines in rules.items() for line in lines if " -j hw-" in line]
    return {f"{table} {words[1]}" for table, words in lead if not words[1].startswith("hw-")}


@pytest.mark.parametrize("seed", range(6))
def test_an_agent_finds_what_it_would_have_written(machine: Machine, seed: int) -> None:
    ruleset = worlds.ruleset(worlds.world(random.Random(seed)))
    with machine.namespace.entered():
        kernel = machine.kernel()
        with kernel.lock():
            boot.put(kernel, 4, of_ruleset(ruleset, ORIGIN).families[4])
        other = machine.kernel()
        outcome = Applier(other).bring(ruleset, worlds.MARKS)
        assert (outcome.commits, outcome.set_steps) == (0, 0)
        for opened in (kernel, other):
            opened.close()


def test_the_last_rules_are_put_back_among_others(machine: Machine) -> None:
    ruleset, chosen = guarding()
    machine.namespace.run("ipset", "create", "theirs", "hash:ip")
    machine.namespace.run("iptables-legacy-restore", data=FOREIGN)
    foreign = machine.filter()
    machine.keep(ruleset)
    said = machine.boot()
    assert f"IPv4: the rules of {ORIGIN} are in force" in said
    assert f"IPv6: the rules of {ORIGIN} are in force" in said
    rules = machine.filter()
    assert hooks(rules) == hooked(ruleset)
    first = next(line for line in rules["filter/v4"] if line.startswith("-A INPUT"))
    assert first == "-A INPUT -j hw-INPUT"
    for table, lines in foreign.items():
        assert [line for line in lines if line not in rules[table]] == []
    with machine.namespace.entered():
        kernel = machine.kernel()
        outcome = Applier(kernel).bring(ruleset, chosen.marks)
        assert (outcome.commits, outcome.set_steps) == (0, 0)
        Applier(kernel).bring(Ruleset(), chosen.marks)
        kernel.close()
    assert machine.filter() == foreign


def test_nothing_is_done_where_our_rules_are(machine: Machine) -> None:
    ruleset, _ = guarding()
    machine.keep(ruleset)
    machine.boot()
    before = machine.filter()
    (machine.state / FILE).unlink()
    machine.settings["HOSTWARD_BOOT_INTERFACES"] = "eth9"
    assert machine.boot().count("are there already") == 2
    assert machine.filter() == before


def test_nothing_is_done_beside_a_running_agent(machine: Machine) -> None:
    machine.keep(guarding()[0])
    memory = machine.state / "memory.db"
    memory.write_bytes(b"not to be touched")
    lock = AgentLock(str(machine.state))
    try:
        assert "an agent is running already" in machine.boot(expect=1)
    finally:
        lock.release()
    assert memory.read_bytes() == b"not to be touched"
    assert machine.filter() == {"sets": []}


@pytest.mark.parametrize("midway", ["sets", "raw", "mangle", "one family"])
def test_an_attempt_that_was_ended_midway_is_carried_out_whole(machine: Machine, midway: str) -> None:
    ruleset, chosen = guarding()
    machine.keep(ruleset)
    whole = of_ruleset(ruleset, ORIGIN).families[4]
    assert whole.sets
    name = next(iter(whole.sets))
    with machine.namespace.entered():
        kernel = machine.kernel()
        if midway == "one family":
            boot.put(kernel, 4, whole)
        else:
            filled = {name: IPSet("hash:net", 4, frozenset({"198.51.100.0/24"}))}
            done: dict[str, tuple[TableName, ...]] = {"sets": (), "raw": ("raw",), "mangle": ("raw", "mangle")}
            scripts = {table: whole.scripts[table] for table in done[midway]}
            boot.put(kernel, 4, replace(whole, sets={**whole.sets, **filled}, scripts=scripts))
        kernel.close()
    said = machine.boot()
    assert ("there already" in said) == (midway == "one family")
    with machine.namespace.entered():
        kernel = machine.kernel()
        outcome = Applier(kernel).bring(ruleset, chosen.marks)
        assert (outcome.commits, outcome.set_steps) == (0, 0)
        kernel.close()


def test_what_is_left_of_others_names_goes_with_the_jumps_that_lead_there(machine: Machine) -> None:
    ruleset, chosen = guarding()
    machine.keep(ruleset)
    run = machine.namespace.run
    run("iptables-legacy", "-t", "raw", "-N", "hw-of-another-version")
    run("iptables-legacy", "-t", "raw", "-A", "hw-of-another-version", "-j", "ACCEPT")
    for chain in ("theirs", "PREROUTING"):
        if chain == "theirs":
            run("iptables-legacy", "-t", "raw", "-N", chain)
        run("iptables-legacy", "-t", "raw", "-A", chain, "-j", "hw-of-another-version")
    machine.boot()
    assert "another-version" not in run("iptables-legacy", "-t", "raw", "-S")
    with machine.namespace.entered():
        kernel = machine.kernel()
        assert Applier(kernel).bring(ruleset, chosen.marks).commits == 0
        kernel.close()


def test_without_saved_rules_the_named_interfaces_are_closed(machine: Machine) -> None:
    machine.settings["HOSTWARD_BOOT_INTERFACES"] = "eth0,bond0.7"
    machine.settings["ETCD_ENDPOINTS"] = "http://192.0.2.9:4001,https://etcd.example:4002"
    said = machine.boot()
    assert said.count("closed but for failsafe ports until the agent runs: eth0, bond0.7") == 2
    rules = machine.filter()
    for version in (4, 6):
        lines = rules[f"filter/v{version}"]
        for interface in ("eth0", "bond0.7"):
            assert f"-A hw-INPUT -i {interface} -g hw-fh-{interface}" in lines
            assert [line for line in lines if line.startswith(f"-A hw-fh-{interface} ")][-1].endswith("-j DROP")
        etcd = [line for line in lines if line.startswith("-A hw-failsafe-out") and "4002" in line]
        assert etcd, "a name can't be looked up yet: its port is open to all"
        assert " -d " not in etcd[0]
    to_etcd = [line for line in rules["filter/v4"] if line.startswith("-A hw-failsafe-out") and "4001" in line]
    assert ["192.0.2.9" in line for line in to_etcd] == [True]


def test_without_saved_rules_and_interfaces_nothing_is_guarded_and_that_is_said(machine: Machine) -> None:
    assert machine.boot().count("nothing is guarded until the agent runs") == 2
    assert machine.filter() == {"sets": []}


def test_failsafe_ports_are_those_that_the_agent_knew_last(machine: Machine) -> None:
    spec = {"failsafeInboundHostPorts": [{"protocol": "tcp", "port": 2222}], "bootInterfaces": ["eth5"]}
    memory = Memory(machine.state)
    key = keys.path(ResourceKey("FelixConfiguration", "", "default"))
    memory.remember({key: json.dumps({"metadata": {"name": "default"}, "spec": spec}).encode()})
    memory.close()
    machine.settings["HOSTWARD_BOOT_INTERFACES"] = "eth0"
    machine.boot()
    lines = machine.filter()["filter/v4"]
    assert "-A hw-failsafe-in -p tcp -m multiport --dports 2222 -j ACCEPT" in lines
    assert not [line for line in lines if "eth5" in line], "which interfaces is this host's own word"


def test_a_damaged_file_is_none_and_is_told(machine: Machine) -> None:
    machine.keep(guarding()[0])
    content = (machine.state / FILE).read_bytes()
    (machine.state / FILE).write_bytes(content[: len(content) // 2])
    machine.settings["HOSTWARD_BOOT_INTERFACES"] = "*"
    said = machine.boot(expect=1)
    assert "rules.saved is not used: it is damaged" in said
    assert "-A hw-INPUT -g hw-fh-_any" in "\n".join(machine.filter()["filter/v4"])


def test_rules_that_the_kernel_refuses_leave_what_they_guarded_closed(machine: Machine) -> None:
    ruleset, _ = guarding()
    missing = next(name for name in ruleset.sets if name.startswith("hw4"))
    machine.keep(Ruleset(ruleset.tables, {name: held for name, held in ruleset.sets.items() if name != missing}))
    said = machine.boot(expect=1)
    assert missing in said
    assert "IPv4: closed but for failsafe ports until the agent runs" in said
    assert f"IPv6: the rules of {ORIGIN} are in force" in said
    lines = machine.filter()["filter/v4"]
    for interface in WORLD.endpoints:
        matches = "" if interface == "*" else f"-i {interface} "
        chain = "_any" if interface == "*" else interface
        assert f"-A hw-INPUT {matches}-g hw-fh-{chain}" in lines
        assert [line for line in lines if line.startswith(f"-A hw-fh-{chain} ")][-1].endswith("-j DROP")


def test_bad_settings_keep_nothing_from_being_put_back(machine: Machine) -> None:
    ruleset, _ = guarding()
    machine.keep(ruleset)
    machine.settings |= {"HOSTWARD_MARK_MASK": "0x3", "HOSTWARD_BOOT_INTERFACES": "a name"}
    assert "HOSTWARD_MARK_MASK" in machine.boot(expect=1)
    assert hooks(machine.filter()) == hooked(ruleset)


def test_an_ip_version_without_saved_rules_is_closed_where_interfaces_are_named(machine: Machine) -> None:
    ruleset, _ = guarding((4,))
    machine.keep(ruleset)
    machine.settings["HOSTWARD_BOOT_INTERFACES"] = "eth7"
    said = machine.boot()
    assert "IPv4: the rules of" in said
    assert "IPv6: closed but for failsafe ports until the agent runs: eth7" in said
    assert not [line for line in machine.filter()["filter/v4"] if "eth7" in line]


def test_a_table_that_cannot_be_read_just_now_is_not_emptied(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(family: Family) -> bool:
        raise KernelError(f"table filter/v{family}: it changes all the time", retry=True)

    with machine.namespace.entered():
        kernel = machine.kernel()
        boot.put(kernel, 4, of_ruleset(guarding()[0], ORIGIN).families[4])
        before = machine.filter()
        monkeypatch.setattr(boot, "is_guarded", busy)
        assert not _guard(kernel, 4, None, BUILT_IN, "etcd")
        kernel.close()
    assert machine.filter() == before


def test_ipv6_is_left_alone_where_it_is_not_guarded(machine: Machine) -> None:
    machine.settings |= {"HOSTWARD_IPV6_SUPPORT": "false", "HOSTWARD_BOOT_INTERFACES": "eth0"}
    assert "IPv6" not in machine.boot()
    assert not [table for table in machine.filter() if table.endswith("/v6")]


def test_a_held_xtables_lock_is_waited_for(machine: Machine) -> None:
    machine.keep(guarding()[0])
    machine.lock.touch()
    holder = subprocess.Popen(["flock", str(machine.lock), "sleep", "1"])
    try:
        assert "are in force" in machine.boot()
    finally:
        holder.wait(20)


def test_a_hole_in_the_minimum_would_be_seen(machine: Machine) -> None:
    """What an agent would render for an endpoint that isn't understood: it takes over without a write."""
    machine.settings["HOSTWARD_BOOT_INTERFACES"] = "eth0"
    machine.settings["HOSTWARD_DATASTORE"] = "dir:/nonexistent"
    machine.boot()
    with machine.namespace.entered():
        kernel = machine.kernel()
        wanted = minimum(replace(BUILT_IN, boot_interfaces=("eth0",)), (), (4, 6))
        outcome = Applier(kernel).bring(wanted, options(BUILT_IN, ()).marks)
        assert (outcome.commits, outcome.set_steps) == (0, 0)
        assert Applier(kernel).bring(Renderer(options(BUILT_IN, ())).render(Resolved()), options(BUILT_IN, ()).marks).commits
        kernel.close()


def test_a_lock_that_cannot_be_taken_is_told(machine: Machine) -> None:
    machine.keep(guarding()[0])
    machine.lock.mkdir()
    assert "cannot open the xtables lock" in machine.boot(expect=1)
    assert machine.filter() == {"sets": []}
