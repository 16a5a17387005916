"""docs/security.md and docs/upgrade.md: every command in them is run beside a guarded host, every test they name is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import ALL_OPEN, GUARDED, Site

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ("security.md", "upgrade.md", "reliability.md")


def steps(page: str) -> list[tuple[str, str]]:
    """The commands of a page in order, with what they print."""
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    found = [step.partition("\n") for block in blocks for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, expected) for command, _, expected in found]


def run(site: Site, command: str, folder: Path) -> str:
    """What a command prints on the guarded host."""
    program, *words = shlex.split(command)
    if program == "hostward":
        done = site.agent.command(*words)
    else:
        assert program == "etcdctl"
        env = os.environ | {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": site.etcd.url}
        inside = ["ip", "netns", "exec", site.worker.name, program, *words]
        done = subprocess.run(inside, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def matches(expected: str, printed: str) -> bool:
    """Whether something was printed as the page says; `…` stands for anything, alone in a line for any lines."""
    pattern = re.escape(expected.strip()).replace(re.escape("\n…"), "(?:\n.*)*").replace("…", ".*")
    return re.fullmatch(pattern, printed.strip()) is not None


@pytest.mark.kernel
@pytest.mark.etcd
def test_the_pages_on_upgrades(guarded: Site, tmp_path: Path) -> None:
    for command, expected in steps("upgrade.md"):
        if command == "hostward cleanup":
            guarded.agent.stop()
        printed = run(guarded, command, tmp_path)
        assert matches(expected, printed), f"{command}: {printed}"
        assert guarded.reached() == (ALL_OPEN if command == "hostward cleanup" else GUARDED)
    assert (tmp_path / "before-upgrade.db").stat().st_size
    unknown = guarded.agent.command("agent", "--show-config", HOSTWARD_NO_SUCH_THING="1")
    assert (unknown.returncode, "HOSTWARD_NO_SUCH_THING" in unknown.stderr) == (1, True)


@pytest.mark.kernel
@pytest.mark.etcd
def test_an_agent_whose_user_may_only_read(guarded: Site, tmp_path: Path) -> None:
    """As docs/security.md makes it."""
    for command, expected in steps("security.md"):
        printed = run(guarded, command, tmp_path)
        assert matches(expected, printed), f"{command}: {printed}"
    guarded.etcd.ctl("user", "add", "root:root")
    guarded.etcd.ctl("user", "grant-role", "root", "root")
    guarded.etcd.ctl("auth", "enable")
    guarded.etcd.user = "root:root"
    guarded.agent.stop()
    guarded.agent.env |= {"ETCD_USERNAME": "agent", "ETCD_PASSWORD": "choose-another"}
    guarded.agent.start()
    guarded.agent.wait_applied(guarded.etcd.put(d.policy_key("web"), d.policy("web", 10, [d.to_ports("Deny", [80], "TCP")])))
    assert guarded.reached() == {"v4": (22, 81), "v6": (22, 81)}
    refused = guarded.agent.command("delete", "gnp", "web")
    assert (refused.returncode, "permission denied" in refused.stderr) == (1, True)


@pytest.mark.kernel
@pytest.mark.etcd
def test_what_other_users_of_the_host_can_read(guarded: Site) -> None:
    """Nothing in the state directory is for everybody, nor can its lock be opened by them."""
    for path in (guarded.agent.state, *guarded.agent.state.iterdir()):
        assert not path.stat().st_mode & 0o007, path


@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_leads_to_is_there(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (DOCS / page).read_text(encoding="utf-8")):
        assert (DOCS / target).resolve().exists(), target


@pytest.fixture
def guarded(site: Site) -> Site:
    revision = site.guard()
    site.agent.start()
    site.agent.wait_applied(revision)
    return site


def test_placeholders() -> None:
    assert matches("Agent: …\n…\nend", "Agent: x\na\nb\nend")
    assert matches("ok …\n…", "ok a\nok b")
    assert not matches("Saved at x", "Saved at x.y")
