"""A host boots: from the first packet on nothing gets in that must not, before there is an agent, with and without etcd.

The host is a new namespace that knows nothing but the state directory and the settings of the one before it. A client sends
all the time, also before there is a link.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from hostward.dataplane.saved_rules import FILE
from tests.e2e import documents as d
from tests.lab import saved
from tests.lab.agent import Agent
from tests.lab.etcd import Etcd
from tests.lab.netns import run
from tests.lab.probes import ClassReport, Stream, StreamClass
from tests.lab.topology import Host, Network

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
HERE, THERE = ("192.0.2.10", "2001:db8:2::10"), ("192.0.2.5", "2001:db8:2::5")
FAILSAFE, ALLOWED, IN_SET, DENIED, UNTRACKED = 5022, 5080, 5081, 5082, 5083
PORTS = (FAILSAFE, ALLOWED, IN_SET, DENIED)
HOOKED = "-A INPUT -j hw-INPUT"
SETTINGS = {"HOSTWARD_FAILSAFE_INBOUND_HOST_PORTS": f"udp:{FAILSAFE}"}


class Story(Network):
    """Hosts that come after each other, with one state directory and one datastore; their clients."""

    def __init__(self, stack: ExitStack, home: Path) -> None:
        super().__init__()
        stack.callback(self.close)
        self.stack, self.home = stack, home
        self.state = home / "state"
        self.reports: dict[str, ClassReport] = {}

    def host_and_client(self) -> tuple[Host, Host]:
        number = len(self.hosts)
        return self.host(f"host{number}"), self.host(f"client{number}")

    def agent(self, host: Host, **settings: str) -> Agent:
        """The agent of a host, not started; etcd is on its loopback."""
        env = SETTINGS | {"ETCD_ENDPOINTS": "http://127.0.0.1:2379"} | settings
        return self.stack.enter_context(Agent(host, env=env, home=self.home, start=False))

    def connect(self, host: Host, client: Host) -> None:
        """Only now there is an interface of that name."""
        self.link(
            host, "eth0", (f"{HERE[0]}/24", f"{HERE[1]}/64"), client, "eth0", (f"{THERE[0]}/24", f"{THERE[1]}/64"),
        )  # fmt: skip

    def etcd(self, host: Host) -> Etcd:
        """A server that holds what guards the hosts."""
        etcd = Etcd(host)
        self.stack.callback(etcd.close)
        etcd.put(d.CLUSTER, d.cluster())
        etcd.put(d.set_key("friends"), d.network_set("friends", {"who": "friend"}, [f"{THERE[0]}/32", f"{THERE[1]}/128"]))
        etcd.put(d.policy_key("open"), d.policy("open", 10, [d.to_ports("Allow", [ALLOWED])]))
        etcd.put(d.policy_key("friends"), d.policy("friends", 20, [d.to_ports("Allow", [IN_SET], selector="who == 'friend'")]))
        never = [d.to_ports("Deny", [UNTRACKED])]
        etcd.put(d.policy_key("never"), d.policy("never", 5, never, doNotTrack=True, applyOnForward=True))
        etcd.put(d.endpoint_key("w0"), d.endpoint("w0", "eth0"))
        return etcd

    def live_before(self, *, power_cut: bool = False) -> None:
        """A host that was guarded, and whose agent was ended, some time after the last change or at once."""
        host, client = self.host_and_client()
        self.connect(host, client)
        etcd = self.etcd(host)
        agent = self.agent(host)
        agent.start()
        agent.wait_applied(etcd.revision())
        if power_cut:
            agent.wait("the rules are kept", (self.state / FILE).exists)
            agent.kill()
        else:
            assert agent.stop() == 0
        etcd.close()
        assert (self.state / FILE).exists()

    def boot(self, *, expect: int = 0, between: Callable[[Agent], None] = lambda _: None, **settings: str) -> str:
        """The next host: boots, gets its network, then an agent, then etcd; what `hostward boot` said. Leaves `reports`."""
        host, client = self.host_and_client()
        agent = self.agent(host, **settings)
        etcd = self.etcd(host)
        etcd.stop()
        classes = [StreamClass(f"{port} v{v}", HERE[v == 6], port) for port in PORTS for v in (4, 6)]
        with Stream(client, classes, {host: PORTS}, rate=200) as stream:
            stream.start()
            booted = agent.command("boot")
            assert booted.returncode == expect, booted.stderr
            self.connect(host, client)
            time.sleep(0.3)
            self.booted = time.monotonic_ns()
            between(agent)
            agent.start()
            agent.wait("it waits for etcd", lambda: bool(agent.status()))
            time.sleep(0.3)
            self.began = time.monotonic_ns()
            etcd.start()
            agent.wait_applied(etcd.revision())
            self.applied = time.monotonic_ns()
            time.sleep(0.3)
            self.reports = stream.finish()
        assert agent.stop() == 0
        return booted.stdout + booted.stderr

    def arrived(self, port: int) -> list[int]:
        """How many datagrams of a class arrived, v4 and v6."""
        return [len(self.reports[f"{port} v{v}"].arrived) for v in (4, 6)]

    def arrivals(self, port: int, since: int, until: int) -> list[int]:
        """How many that were sent between two moments arrived, v4 and v6."""
        return [sum(since <= sent < until for sent, _ in self.reports[f"{port} v{v}"].arrived.values()) for v in (4, 6)]

    def lost_since_first(self, port: int) -> list[int]:
        """How many were lost after the first that arrived, v4 and v6."""
        lost = []
        for version in (4, 6):
            report = self.reports[f"{port} v{version}"]
            assert report.arrived, f"nothing arrived at {port} v{version}"
            lost.append(sum(number > min(report.arrived) for number in report.lost))
        return lost


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with ExitStack() as stack:
        yield Story(stack, tmp_path)


def test_the_last_rules_hold_from_the_first_packet_on(story: Story) -> None:
    story.live_before(power_cut=True)

    def again(agent: Agent) -> None:
        """A second boot finds the rules, and changes nothing."""
        (story.state / FILE).unlink()
        second = agent.command("boot", HOSTWARD_BOOT_INTERFACES="eth1")
        assert (second.returncode, second.stdout.count("are there already")) == (0, 2)

    said = story.boot(between=again)
    assert len(re.findall(r"the rules of revision \d+ of \S+ are in force", said)) == 2
    assert story.arrived(DENIED) == [0, 0]
    for port in (FAILSAFE, ALLOWED, IN_SET):
        assert story.lost_since_first(port) == [0, 0], port


def test_without_them_the_named_interfaces_are_closed(story: Story) -> None:
    """The file is damaged; where there never was one it is the same."""
    story.state.mkdir()
    (story.state / FILE).write_bytes(b"hostward rules 1\nrevision 7\nfamily 4\ntable filter 9")
    story.boot(expect=1, HOSTWARD_BOOT_INTERFACES="eth0,eth7")
    assert story.arrived(DENIED) == [0, 0]
    assert story.lost_since_first(FAILSAFE) == [0, 0]
    for port in (ALLOWED, IN_SET):
        assert story.arrivals(port, 0, story.began) == [0, 0], "nothing but failsafe ports before policy is known"
        assert min(story.arrivals(port, story.applied, 1 << 62)) > 0


def test_where_the_operator_chose_nothing_all_is_open_until_the_agent_knows(story: Story) -> None:
    said = story.boot()
    assert said.count("nothing is guarded until the agent runs") == 2
    assert min(story.arrivals(DENIED, 0, story.began)) > 0, "or the other tests would prove nothing"
    assert story.arrivals(DENIED, story.applied, 1 << 62) == [0, 0]


def test_rules_of_a_version_that_names_chains_otherwise_are_taken_over_without_a_gap(story: Story) -> None:
    """Every chain of ours has another name, as if another version had written it."""
    story.live_before()
    path = story.state / FILE
    body = path.read_text().rpartition("end sha256 ")[0]
    names = dict.fromkeys(re.findall(r"^:(hw-\S+)", body, re.MULTILINE))
    others = {name: f"hw-chain-{number}" for number, name in enumerate(names)}
    renamed = re.sub(r"(?<=[: ])hw-\S+", lambda found: others[found[0]], body)
    path.write_text(f"{renamed}end sha256 {sha256(renamed.encode()).hexdigest()}\n")
    story.boot()
    assert story.arrived(DENIED) == [0, 0]
    for port in (FAILSAFE, ALLOWED, IN_SET):
        assert story.lost_since_first(port) == [0, 0], port
    left = story.hosts["host2"].run("iptables-legacy-save") + story.hosts["host2"].run("ip6tables-legacy-save")
    assert "hw-chain-" not in left


def test_they_hold_on_a_disk_that_cannot_be_written(story: Story) -> None:
    story.live_before()
    host, _ = story.host_and_client()
    state = str(story.state)
    run("mount", "--bind", state, state)
    try:
        run("mount", "-o", "remount,bind,ro", state)
        booted = story.agent(host).command("boot")
    finally:
        run("umount", state)
    assert (booted.returncode, booted.stdout.count("are in force")) == (1, 2), booted.stderr
    assert f"Error: {state}/agent.lock: Read-only file system\n" in booted.stderr
    assert all(HOOKED in host.run(tool) for tool in saved.TOOLS)


def test_an_agent_alone_puts_the_last_rules_back_while_etcd_is_away(story: Story) -> None:
    """Where nobody ran `hostward boot`: in a pod, or when somebody has flushed everything since."""
    story.live_before()
    host, client = story.host_and_client()
    story.connect(host, client)
    agent = story.agent(host)
    agent.start()
    for _ in range(2):
        agent.wait("the last rules stand in", lambda: all(HOOKED in host.run(tool) for tool in saved.TOOLS))
        classes = [StreamClass(f"{port} v{v}", HERE[v == 6], port) for port in PORTS for v in (4, 6)]
        with Stream(client, classes, {host: PORTS}, rate=100) as stream:
            stream.start(0.5)
            story.reports = stream.finish(wait=True)
        assert story.arrived(DENIED) == [0, 0]
        assert min(*story.arrived(ALLOWED), *story.arrived(IN_SET), *story.arrived(FAILSAFE)) > 0
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            host.run(tool, "-F")
            host.run(tool, "-X")
    assert agent.log_lines("the last rules stand in until the datastore has been read")
    etcd = story.etcd(host)
    agent.wait_applied(etcd.revision())


def test_what_raw_denies_stays_denied_while_the_rest_is_put_back(story: Story) -> None:
    """`iptables -F` is filter's alone."""
    story.live_before()
    host, client = story.host_and_client()
    story.connect(host, client)
    agent = story.agent(host)
    agent.start()
    agent.wait("the last rules stand in", lambda: all(HOOKED in host.run(tool) for tool in saved.TOOLS))
    ports = (DENIED, UNTRACKED)
    classes = [StreamClass(f"{port} v{v}", HERE[v == 6], port) for port in ports for v in (4, 6)]
    with Stream(client, classes, {host: ports}, rate=1000) as stream:
        stream.start()
        for _ in range(2):
            for tool in ("iptables-legacy", "ip6tables-legacy"):
                host.run(tool, "-F")
            agent.wait("they are back", lambda: all(HOOKED in host.run(tool) for tool in saved.TOOLS))
        story.reports = stream.finish()
    assert min(story.arrived(DENIED)) > 0, "filter was open, or this proves nothing"
    assert story.arrived(UNTRACKED) == [0, 0]
