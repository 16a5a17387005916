"""The image in the pod of deploy/daemonset.yaml: not root, a read-only root, no shell, and everything is enforced."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.datastore.test_etcd_security import authority, issue
from tests.e2e import documents as d
from tests.e2e.conftest import ALL_OPEN, GUARDED, Site
from tests.image.conftest import ROOT
from tests.lab.etcd import Tls
from tests.lab.image import Image
from tests.lab.pod import Node, containers
from tests.lab.podagent import PodAgent

pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(900)]
SHELLS = ("/bin/sh", "/bin/bash", "/bin/dash")
BY_A_CHILD = """
from hostward.dataplane.privileges import take_up
from hostward.dataplane.xtables import restore
from hostward.render.ruleset import TableId
take_up()
restore.run(TableId(4, "filter"), "*filter\\n:by-a-child - -\\nCOMMIT\\n")
"""
NET = 1 << 12 | 1 << 13


def documented() -> list[tuple[bool, bool, bool]]:
    """The table of docs/install.md: what a runtime hands over, whether a process may gain more, whether the agent works."""
    table = (ROOT / "docs/install.md").read_text(encoding="utf-8").split("| the agent |\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]
    return [(hands == "yes", denies == "yes", agent == "works") for _, hands, denies, agent in rows]


def config_maps(site: Site) -> dict[str, dict[str, str]]:
    """Calico's own, as its manifest for etcd writes it."""
    return {
        "calico-config": {
            "etcd_endpoints": site.etcd.url,
            "etcd_ca": "/calico-secrets/etcd-ca",
            "etcd_cert": "/calico-secrets/etcd-cert",
            "etcd_key": "/calico-secrets/etcd-key",
        }
    }


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    home = tmp_path_factory.mktemp("tls")
    ca = authority(home, "ca")
    return Tls(ca, *issue(home, ca, "server"), *issue(home, ca, "client"))


@pytest.fixture
def site(pod: dict[str, Any], built: Image, tls: Tls) -> Iterator[Site]:
    """A site whose etcd asks for certificates, and whose agent runs in the pod."""
    texts = {"etcd-ca": tls.ca.read_text(), "etcd-cert": tls.client_cert.read_text(), "etcd-key": tls.client_key.read_text()}
    with ExitStack() as stack:
        site = Site(stack, tls=tls)
        secrets = {"calico-etcd-secrets": texts}
        site.agent = stack.enter_context(
            PodAgent(site.worker, pod, built, config_maps=config_maps(site), secrets=secrets, without=SHELLS)
        )
        yield site


def start(site: Site) -> PodAgent:
    revision = site.guard()
    site.agent.start()
    site.agent.wait_applied(revision)
    assert isinstance(site.agent, PodAgent)
    return site.agent


def facts(agent: PodAgent) -> dict[str, str]:
    """What the kernel says of the agent's process."""
    lines = Path(f"/proc/{agent.inside}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_it_enforces_without_root_and_writes_only_where_the_manifest_lets_it(site: Site, pod: dict[str, Any]) -> None:
    agent = start(site)
    assert site.reached() == GUARDED
    assert site.reached(1) == ALL_OPEN

    found = facts(agent)
    (container,) = pod["containers"]
    user, group = (container["securityContext"][name] for name in ("runAsUser", "runAsGroup"))
    assert user > 0
    assert (found["Uid"].split(), found["Gid"].split()) == ([str(user)] * 4, [str(group)] * 4)
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(found[kind], 16) == NET, kind
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")

    mounts = [line.split() for line in Path(f"/proc/{agent.inside}/mountinfo").read_text(encoding="utf-8").splitlines()]
    writable = {mount[4] for mount in mounts if "rw" in mount[5].split(",")}
    assert {path for path in writable if not path.startswith(("/proc", "/dev", "/sys"))} == {
        "/run/xtables.lock", "/var/lib/hostward", "/tmp",
    }  # fmt: skip
    assert stat.S_IMODE(agent.lock_file.stat().st_mode) == 0o660
    assert agent.lock_file.stat().st_gid == group

    checked = {one["check"]: one for one in json.loads(agent.execute("hostward", "doctor", "-o", "json").stdout)}
    assert checked["capabilities"]["level"] == "ok", "a command that is executed in the pod takes up what it was given, too"

    # And every later change: of tables and sets, and by a program that the agent starts where there is very much to write.
    for number in range(200):
        site.etcd.put(
            d.policy_key(f"more-{number}"), d.policy(f"more-{number}", 30, [d.to_ports("Allow", [82 + number], "TCP")])
        )
    site.etcd.put(d.set_key("friends"), d.network_set("friends", {"who": "friend"}, ["10.9.0.0/16"]))
    agent.wait_applied(site.etcd.delete(d.policy_key("early")))
    assert site.reached() == {"v4": (22, 80, 82), "v6": (22, 80, 82)}
    written = agent.execute("/opt/hostward/bin/python3", "-c", BY_A_CHILD)
    assert written.returncode == 0, written.stderr
    assert "-N by-a-child" in site.worker.run("iptables-legacy", "-S")


def test_a_new_pod_takes_over_and_an_exec_cleans_up(site: Site) -> None:
    agent = start(site)
    before = site.everything()
    agent.kill()
    assert site.reached() == GUARDED
    agent.start()
    agent.wait("the new agent has applied", lambda: len(agent.log_lines("applied")) > 1)
    assert site.everything() == before
    assert agent.stop() == 0, "it ends in order by SIGTERM, as process 1 too"
    assert site.reached() == GUARDED
    done = agent.execute("hostward", "cleanup")
    assert done.returncode == 0, done.stderr
    assert site.reached() == ALL_OPEN
    assert not [line for lines in site.everything().values() for line in lines if "hw-" in line or "hw4-" in line]


@pytest.mark.parametrize(("handed_over", "no_new_privileges", "works"), documented())
def test_what_runtimes_hand_over(site: Site, handed_over: bool, no_new_privileges: bool, works: bool) -> None:
    """Docker's engine keeps the capabilities back; then only the file's mark gives them, to who may gain some."""
    agent = site.agent
    assert isinstance(agent, PodAgent)
    agent.spec = replace(agent.spec, handed_over=handed_over, no_new_privileges=no_new_privileges, seccomp=no_new_privileges)
    if works:
        assert start(site) is agent
        assert site.reached() == GUARDED
    else:
        site.guard()
        agent.start()
        assert agent.process is not None
        assert agent.process.wait(30) == 1
        assert "CAP_NET_ADMIN" in agent.log_end()


def test_the_controller_runs_without_any_capability(built: Image, tmp_path: Path, site: Site) -> None:
    """Had the file's mark the flag "effective", a container that isn't given both could not start the program at all."""
    documents = [
        one for one in yaml.safe_load_all((ROOT / "deploy/kube-controller.yaml").read_text()) if one["kind"] == "Deployment"
    ]
    template = documents[0]["spec"]["template"]["spec"]
    (spec,) = containers(template, built, Node("worker", tmp_path, config_maps(site))).values()
    assert not spec.capabilities
    assert isinstance(site.agent, PodAgent)
    done = site.agent.run(replace(spec, command=[*spec.command, "--help"]))
    assert done.returncode == 0, done.stderr
    assert "kube-controller" in done.stdout


def test_the_image_holds_the_agent_and_no_tool_that_builds(built: Image) -> None:
    for path in ("usr/bin/gcc", "usr/bin/pip", "usr/bin/pip3", "opt/hostward/bin/pip", "usr/include/stdio.h", "src", "build"):
        assert not (built.root / path).exists(), path
    installed = sorted((built.root / "opt/hostward/lib").glob("python3*/site-packages/*.dist-info"))
    assert not [path.name for path in installed if path.name.startswith(("pip", "pytest", "mypy", "ruff"))]
    assert not list((built.root / "var/lib/apt/lists").iterdir())
    owner = (built.root / "opt/hostward/bin/python3").stat()
    assert (owner.st_uid, stat.S_IMODE(owner.st_mode)) == (0, 0o755)
    assert f"{built.user}:{built.group}" == "10001:10001"


def test_image_and_manifest_agree_on_the_user(built: Image, pod: dict[str, Any]) -> None:
    context = pod["containers"][0]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (built.user, built.group)
    passwd = (built.root / "etc/passwd").read_text(encoding="utf-8")
    assert f"\nhostward:x:{built.user}:{built.group}:" in passwd, "`hostward prepare` gives the lock and the state to this name"


def test_it_begins_anew_with_all_that_it_was_given(site: Site) -> None:
    """It executes itself again for settings that a process takes at its start: as process 1, without root; and goes on."""
    agent = start(site)
    inside, began = agent.inside, agent.status()["startedAt"]
    configuration = {"metadata": {"name": "default"}, "spec": {"felixMetricsEnabled": False}}
    site.etcd.put(f"{d.ROOT}felixconfigurations/default", configuration)
    agent.wait("another program runs", lambda: agent.status()["startedAt"] != began)
    assert agent.inside == inside
    for kind in ("CapEff", "CapPrm", "CapAmb"):
        assert int(facts(agent)[kind], 16) == NET, kind
    agent.wait_applied(site.etcd.delete(d.policy_key("early")))
    assert site.reached() == {"v4": (22, 80, 81), "v6": (22, 80, 81)}
    agent.wait("it answers where the probes ask", lambda: answers(agent))


def answers(agent: PodAgent) -> bool:
    with suppress(OSError):
        return agent.health("readiness")[0] == 200
    return False
