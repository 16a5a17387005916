"""What an agent says when it starts and something is missing: each is really taken away from a real agent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hostward.dataplane import needs
from tests.lab.agent import COMMAND, ROOT, clean_environment
from tests.lab.netns import Namespace

pytestmark = pytest.mark.kernel
CAPABILITIES = "-all,+net_admin,+net_raw"
NO_TABLES4, NO_TABLES6 = "getsockopt,1=0,2=64:ENOPROTOOPT", "getsockopt,1=41,2=64:ENOPROTOOPT"
NO_MATCHES4, NO_MATCHES6 = "getsockopt,1=0,2=66:ENOENT", "getsockopt,1=41,2=68:ENOENT"
NO_NETFILTER = "socket,0=16,2=12:EPROTONOSUPPORT"
ENDPOINT = """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: worker-lan}
spec: {node: worker, interfaceName: lan}
"""


@dataclass
class Place:
    """Where an agent may be started: a namespace, and a directory that every user can enter."""

    namespace: Namespace
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        (self.home / "manifests").mkdir(exist_ok=True)
        (self.home / "manifests" / "all.yaml").write_text(ENDPOINT, encoding="utf-8")
        return clean_environment() | {
            "NODENAME": "worker",
            "HOSTWARD_DATASTORE": f"dir:{self.home / 'manifests'}",
            "HOSTWARD_STATE_DIR": str(self.home / "state"),
            "HOSTWARD_IPTABLES_LOCK_FILE_PATH": str(self.home / "xtables.lock"),
            "HOSTWARD_LOG_FORMAT": "json",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{ROOT / 'agent'}:{ROOT}",
        } | more  # fmt: skip

    def start(self, *wrapper: str, **environ: str) -> subprocess.Popen[str]:
        with (self.home / "log").open("w") as log:
            command = (*wrapper, *COMMAND, "agent")
            return self.namespace.popen(
                *command, env=self.environment(**environ), cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def said(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in (self.home / "log").read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line["level"] in ("error", "warning")]

    def fails(self, *wrapper: str, **environ: str) -> list[dict[str, Any]]:
        """The errors of an agent that ends by itself, and must."""
        agent = self.start(*wrapper, **environ)
        try:
            code = agent.wait(60)
        finally:
            agent.kill()
            agent.wait(10)
        text = (self.home / "log").read_text()
        assert code == 1, text
        assert "Traceback" not in text
        errors = [line for line in self.said() if line["level"] == "error"]
        assert errors, text
        assert all(line["what"] and line["do"] for line in errors), text
        return errors

    def enforces(self, *wrapper: str, **environ: str) -> list[dict[str, Any]]:
        """What an agent said that enforces all the same."""
        agent = self.start(*wrapper, **environ)
        try:
            deadline = time.monotonic() + 60
            while "hw-fh-lan" not in self.rules():
                assert agent.poll() is None, (self.home / "log").read_text()
                assert time.monotonic() < deadline, (self.home / "log").read_text()
                time.sleep(0.05)
        finally:
            agent.kill()
            agent.wait(10)
        return self.said()

    def rules(self) -> str:
        return self.namespace.run("iptables-legacy-save") + self.namespace.run("ip6tables-legacy-save")


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="hostward-start-") as name:
        Path(name).chmod(0o755)
        namespace = Namespace("start")
        try:
            namespace.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "other")
            yield Place(namespace, Path(name))
        finally:
            namespace.close()


def confined(capabilities: str) -> tuple[str, ...]:
    return "setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"


def refusing(*rules: str) -> tuple[str, ...]:
    return sys.executable, "-m", "tests.lab.refusing", *rules, "--"


def hiding(*paths: Path) -> tuple[str, ...]:
    """With an empty file in the place of each, in a mount namespace of its own."""
    binds = " && ".join(f"mount --bind /dev/null '{path}'" for path in paths)
    return "unshare", "-m", "sh", "-c", f'{binds} && exec "$@"', "sh"


@pytest.mark.parametrize("missing", ["net_admin", "net_raw"])
def test_a_capability(place: Place, missing: str) -> None:
    (error,) = place.fails(*confined(CAPABILITIES.replace(f",+{missing}", "")))
    assert error["what"] == f"this process lacks CAP_{missing.upper()}"
    assert "CAP_NET_ADMIN and CAP_NET_RAW" in error["do"]
    assert "hw-" not in place.rules()


def test_capabilities_that_are_another_user_namespaces(place: Place) -> None:
    errors = place.fails("unshare", "--user", "--map-root-user")
    assert {error["check"] for error in errors} == {"tables, IPv4", "tables, IPv6"}
    assert "user namespace" in errors[0]["do"] or "CAP_NET_ADMIN" in errors[0]["do"]


def test_a_lock_that_is_a_directory(place: Place) -> None:
    (place.home / "xtables.lock").mkdir()
    (error,) = place.fails()
    assert "is a directory" in error["what"]
    assert "FileOrCreate" in error["do"]


@pytest.mark.parametrize("made", [True, False])
def test_a_lock_that_is_not_ours_to_open(place: Place, made: bool) -> None:
    lock = place.home / "run" / "xtables.lock"
    lock.parent.mkdir()
    if made:
        lock.touch(mode=0o600)
        shutil.chown(lock, "nobody")
    else:
        lock.parent.chmod(0o700)
        shutil.chown(lock.parent, "nobody")
    (error,) = place.fails(*confined(CAPABILITIES), HOSTWARD_IPTABLES_LOCK_FILE_PATH=str(lock))
    assert str(lock) in error["what"]
    assert "iptablesLockFilePath" in error["do"]


def test_a_state_directory_that_is_not_ours_to_write(place: Place) -> None:
    (place.home / "state").mkdir(mode=0o755)
    shutil.chown(place.home / "state", "nobody")
    (error,) = place.fails(*confined(CAPABILITIES))
    assert "state" in error["what"]
    assert "stateDir" in error["do"]
    assert "Errno" not in error["what"]


def test_a_second_agent(place: Place) -> None:
    (place.home / "state").mkdir()
    holder = subprocess.Popen(
        ["flock", str(place.home / "state" / "agent.lock"), "sh", "-c", "echo held; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        (error,) = place.fails()
    finally:
        holder.communicate("", timeout=10)
    assert "an agent is running already" in error["what"]
    assert "stop that agent" in error["do"]


def test_no_datastore_of_that_name(place: Place) -> None:
    (error,) = place.fails(HOSTWARD_DATASTORE="floppy:a")
    assert "floppy" in error["what"]
    assert "HOSTWARD_DATASTORE" in error["do"]


def test_the_tool_for_large_writes_is_not_needed(place: Place) -> None:
    said = place.enforces("env", f"PATH={Path(COMMAND[0]).parent}")
    assert {line["check"] for line in said if line["event"] == "something is missing"} == {
        "iptables tool, IPv4", "iptables tool, IPv6",
    }  # fmt: skip
    assert not [line for line in said if line["level"] == "error"]


@pytest.mark.parametrize("name", ["libxtables.so.12", "libip4tc.so.2"])
def test_a_library(place: Place, name: str) -> None:
    (path,) = {path.resolve() for path in Path("/usr/lib").glob(f"*/{name}")}
    (error,) = place.fails(*hiding(path))
    assert name.split(".", maxsplit=1)[0] in error["what"]
    assert "python-iptables 1.2.0" in error["do"]


def test_a_plug_in_of_the_library(place: Place) -> None:
    """The self-test of the libraries meets it before anything is written."""
    (path,) = Path("/usr/lib").glob("*/xtables/libxt_multiport.so")
    (error,) = place.fails(*hiding(path))
    assert "self-test" in error["what"]
    assert "XTABLES_LIBDIR" in error["do"]
    assert "hw-" not in place.rules()


def test_a_kernel_without_legacy_iptables(place: Place) -> None:
    errors = place.fails(*refusing(NO_TABLES4, NO_TABLES6))
    assert [error["check"] for error in errors] == ["tables, IPv4", "tables, IPv6"]
    assert "no legacy iptables" in errors[0]["what"]
    assert "modprobe -a ip_tables iptable_raw iptable_mangle iptable_filter" in errors[0]["do"]
    assert "modprobe -a ip6_tables" in errors[1]["do"]


def test_a_kernel_without_it_for_one_ip_version_guards_the_other(place: Place) -> None:
    said = place.enforces(*refusing(NO_TABLES6))
    (error,) = [line for line in said if line["event"] == "the agent can't enforce"]
    assert error["check"] == "tables, IPv6"
    assert "hw-" not in place.namespace.run("ip6tables-legacy-save")


def test_a_kernel_without_matches(place: Place) -> None:
    errors = place.fails(*refusing(NO_MATCHES4, NO_MATCHES6))
    assert [error["check"] for error in errors] == ["matches and targets, IPv4", "matches and targets, IPv6"]
    assert "match multiport revision 1" in errors[0]["what"]
    assert "xt_multiport" in errors[0]["do"]


def test_a_kernel_without_sets(place: Place) -> None:
    errors = place.fails(*refusing(NO_NETFILTER))
    assert [error["check"] for error in errors] == ["sets, IPv4", "sets, IPv6"]
    assert "ip_set_hash_net" in errors[0]["do"]


def test_nothing_is_missing(place: Place) -> None:
    assert not [line for line in place.enforces(*confined(CAPABILITIES)) if "do" in line]


def test_a_match_that_only_some_policies_need_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (*needs._PARTS, needs._Part("match", "nosuch", 0, "{}t_nosuch", "dreams"))
    monkeypatch.setattr(needs, "_PARTS", parts)
    found = [finding for finding in needs.of_kernel(6) if finding.level != "ok"]
    assert [finding.level for finding in found] == ["warn"]
    assert "match nosuch revision 0 (for dreams)" in found[0].finding
    assert "modprobe -a ip6t_nosuch" in found[0].do


def test_no_lock_file_is_made_by_looking(tmp_path: Path) -> None:
    assert needs.lock_file(tmp_path / "xtables.lock").level == "ok"
    assert os.listdir(tmp_path) == []


def test_connections_that_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel answers as it does without nf_conntrack_netlink: nobody knows this message."""
    assert needs.connections().level == "ok"
    monkeypatch.setattr(needs, "_COUNT_FLOWS", 1 << 8 | 99)
    found = needs.connections()
    assert (found.level, "nf_conntrack_netlink" in found.do) == ("warn", True)


def test_the_tool_of_the_other_variant_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = {variant: shutil.which(f"iptables-{variant}-restore") for variant in ("nft", "legacy")}
    plain = tmp_path / "iptables-restore"
    monkeypatch.setenv("PATH", str(tmp_path))
    for variant, level in (("nft", "warn"), ("legacy", "ok")):
        plain.unlink(missing_ok=True)
        plain.symlink_to(Path(programs[variant] or "").resolve())
        assert needs.tool(4).level == level, variant
    plain.unlink()
    plain.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    plain.chmod(0o755)
    assert needs.tool(4).level == "warn"
