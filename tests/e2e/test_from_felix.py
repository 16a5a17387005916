"""From Felix to Hostward and back under traffic: ours in place first, then theirs removed; nothing leaks, nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import GUARDED, Site
from tests.e2e.disturbance import LostError
from tests.lab.felix import SET, Felix
from tests.lab.probes import ClassReport, Stream, StreamClass

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
IN_OPEN, IN_SHUT, OUT_OPEN, OUT_SHUT, THROUGH = 5000, 5001, 53, 5001, 7000


def felix_guards(site: Site, masquerade: tuple[str, str] = ("", ""), variant: str = "legacy") -> Felix:
    """Felix enforces what `Site.guard` stores, and UDP to one more port; forwarding is ApplyOnForward's, its meaning."""
    site.guard()
    rules = [d.to_ports("Allow", [80], "TCP"), d.to_ports("Allow", [IN_OPEN], "UDP")]
    site.etcd.put(d.policy_key("web"), d.policy("web", 10, rules))
    site.agent.env["HOSTWARD_HOST_FORWARD_POLICY"] = "ApplyOnForward"
    felix = Felix(site.worker, site.agent.lock_file, udp=(IN_OPEN,), masquerade=masquerade, variant=variant)
    felix.start(site.CLIENT[0])
    return felix


def traces(site: Site) -> list[str]:
    """What Felix left; pods' interfaces have "cali" in their names, too, which ours ask for."""
    ours = ("hw-", "hw:")
    lines = (line for part in site.everything().values() for line in part)
    return [line for line in lines if "cali" in line and not any(mark in line for mark in ours)]


def streams(site: Site, stack: ExitStack) -> list[tuple[Stream, dict[str, bool]]]:
    """In, out and through the worker, both IP versions: what may pass all the time, and what may never."""
    site.worker.forward()
    for number, client in enumerate((site.hosts["client0"], site.hosts["client1"])):
        client.ip(*(f"route add default via {address}" for address in site.WORKER[number]))
    inward, outward = [], []
    for version in (0, 1):
        inward += [
            StreamClass(f"in-open-{version}", site.WORKER[0][version], IN_OPEN),
            StreamClass(f"in-shut-{version}", site.WORKER[0][version], IN_SHUT),
            StreamClass(f"through-open-{version}", site.CLIENT[1][version], THROUGH),
        ]
        outward += [
            StreamClass(f"out-open-{version}", site.CLIENT[0][version], OUT_OPEN),
            StreamClass(f"out-shut-{version}", site.CLIENT[0][version], OUT_SHUT),
        ]
    client0, client1 = site.hosts["client0"], site.hosts["client1"]
    found = [
        Stream(client0, inward, {site.worker: [IN_OPEN, IN_SHUT], client1: [THROUGH]}, rate=200),
        Stream(site.worker, outward, {client0: [OUT_OPEN, OUT_SHUT]}, rate=200),
    ]
    return [(stack.enter_context(stream), {one.name: "open" in one.name for one in stream.classes}) for stream in found]


def move(site: Site, felix: Felix) -> None:
    """There and back."""
    start_guarding_again(site)
    done = site.agent.command("cleanup", "--felix")
    assert (done.returncode, done.stderr) == (0, "")
    assert traces(site) == []
    assert site.reached() == GUARDED
    felix.start(site.CLIENT[0])
    site.agent.stop()
    assert site.agent.command("cleanup").returncode == 0
    assert not [line for line in str(site.everything()).split() if "hw-" in line]
    assert site.reached() == GUARDED


def start_guarding_again(site: Site) -> None:
    site.agent.start()
    site.agent.wait_applied(site.etcd.revision())


def judge(name: str, report: ClassReport, *, may_pass: bool) -> None:
    if not may_pass:
        assert not report.arrived, f"{name}: {len(report.arrived)} of {report.sent} leaked"
    elif report.lost or report.refused:
        raise LostError(f"{name}: {len(report.lost)} of {report.sent} lost")


def test_there_and_back_under_traffic(site: Site) -> None:
    felix = felix_guards(site)
    for attempt in range(2):
        try:
            with ExitStack() as stack:
                running = streams(site, stack)
                for stream, _ in running:
                    stream.start()
                move(site, felix)
                for stream, expected in running:
                    for name, report in stream.finish().items():
                        assert report.sent > 100, name
                        judge(name, report, may_pass=expected[name])
        except LostError:
            if attempt:
                raise
        else:
            return


@contextmanager
def process(site: Site, name: str, *arguments: str, home: Path) -> Iterator[None]:
    """Something of that name in the worker's namespace."""
    program = home / name
    program.symlink_to(sys.executable)
    running = site.worker.popen(str(program), "-S", "-c", "print('up', flush=True); input()", *arguments,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        yield
    finally:
        running.communicate("\n", timeout=10)
        program.unlink()


def refuses(site: Site) -> str:
    before = site.everything()
    done = site.agent.command("cleanup", "--felix")
    assert done.returncode == 1
    assert site.everything() == before
    return done.stderr


def test_it_refuses_what_would_open_the_host(site: Site, tmp_path: Path) -> None:
    felix_guards(site)
    assert "no agent of Hostward's runs here" in refuses(site)
    site.agent.env["HOSTWARD_NODE_NAME"] = "wroker"
    start_guarding_again(site)
    assert "Felix guards eth0, which no endpoint governs here" in refuses(site)
    site.agent.stop()
    del site.agent.env["HOSTWARD_NODE_NAME"]
    start_guarding_again(site)
    for name, arguments in (("calico-felix", ()), ("calico-node", ("-felix",))):
        with process(site, name, *arguments, home=tmp_path):
            assert f"Felix runs ({name}, process " in refuses(site)
    with process(site, "calico-node", "-confd", home=tmp_path):
        site.agent.wait_received(site.etcd.delete(d.CLUSTER))
        site.until("it is frozen", lambda: bool(site.agent.status().get("frozen")))
        assert "doesn't follow the datastore" in refuses(site)
        site.agent.wait_applied(site.etcd.put(d.CLUSTER, d.cluster()))
        assert site.agent.command("cleanup", "--felix").returncode == 0
    assert traces(site) == []
    again = site.agent.command("cleanup", "--felix")
    assert (again.returncode, again.stdout) == (0, "Nothing of Felix's is left on this host\n")
    assert site.reached() == GUARDED


def test_only_what_is_felixs(site: Site) -> None:
    """Rules of others in the same chains, others' sets, a set that somebody else uses."""
    for family in (4, 6):
        site.agent.iptables("-A", "INPUT", "-m", "comment", "--comment", "mycali: no", "-j", "ACCEPT", family=family)
        site.agent.iptables("-t", "nat", "-A", "POSTROUTING", "-j", "RETURN", family=family)
    site.worker.run("ipset", "create", "calico-like", "hash:ip")
    before = site.everything()
    felix_guards(site)
    name = SET.format(4)
    site.agent.iptables("-N", "THEIRS")
    site.agent.iptables("-A", "THEIRS", "-m", "set", "--match-set", name, "src", "-j", "DROP")
    start_guarding_again(site)
    told = site.agent.command("cleanup", "--felix")
    assert (told.returncode, "1 sets of Felix's stay" in told.stderr) == (1, True)
    site.agent.iptables("-F", "THEIRS")
    site.agent.iptables("-X", "THEIRS")
    assert site.agent.command("cleanup", "--felix").returncode == 0
    site.agent.stop()
    assert site.agent.command("cleanup").returncode == 0
    assert site.everything() == before


def test_masquerading_stays_unless_asked_for(site: Site) -> None:
    felix_guards(site, masquerade=("10.244.0.0/16", "fd00:10:244::/48"))
    start_guarding_again(site)
    done = site.agent.command("cleanup", "--felix")
    assert (done.returncode, "masquerade what pods send" in done.stdout) == (0, True)
    left = site.everything()
    assert not [line for where, lines in left.items() for line in lines if "cali-" in line and not where.startswith("nat")]
    assert [line for line in left["nat/v6"] if "-A cali-nat-outgoing" in line]
    assert site.agent.command("cleanup", "--felix", "--nat").returncode == 0
    assert traces(site) == []
    assert site.agent.command("cleanup", "--nat").returncode == 2


def test_a_star_endpoint_covers_what_felix_guards(site: Site) -> None:
    felix_guards(site)
    site.etcd.delete(d.endpoint_key("w0"))
    site.etcd.put(d.endpoint_key("all"), d.endpoint("all", "*"))
    start_guarding_again(site)
    assert site.agent.command("cleanup", "--felix").returncode == 0
    assert site.reached() == GUARDED


def test_a_felix_that_wrote_by_the_other_variant(site: Site) -> None:
    """It takes the one that it finds in use, which may be iptables-nft: there theirs go, too, and others' stay."""
    felix_guards(site, variant="nft", masquerade=("10.244.0.0/16", "fd00:10:244::/48"))
    for tool in ("iptables-nft", "ip6tables-nft"):
        site.worker.run(tool, "-A", "INPUT", "-p", "tcp", "--dport", "9999", "-j", "DROP")
    assert site.reached() == GUARDED
    start_guarding_again(site)
    assert site.reached() == GUARDED
    done = site.agent.command("cleanup", "--felix", "--nat")
    assert (done.returncode, done.stderr) == (0, "")
    for tool in ("iptables-nft-save", "ip6tables-nft-save"):
        saved = site.worker.run(tool)
        assert "cali" not in saved
        assert "-A INPUT -p tcp -m tcp --dport 9999 -j DROP" in saved
    assert site.reached() == GUARDED
