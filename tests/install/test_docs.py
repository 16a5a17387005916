"""docs/install.md agrees with what is there: every command in it is run by a test, here or beside it, or is named here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import hostward

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/install.md").read_text(encoding="utf-8")


def commands(heading: str) -> list[str]:
    """The lines of the shell blocks in a section."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)).splitlines()


def test_no_block_is_left_out() -> None:
    """Those under "A host" are what test_install.py runs."""
    assert len(re.findall(r"^```", PAGE, flags=re.MULTILINE)) == 2 * 6
    assert len(commands("A host")) == 9


def test_the_image_is_what_the_manifests_run() -> None:
    build, push = commands("Kubernetes")
    assert build == f"docker build -t registry.example.com/hostward:{hostward.__version__} ."
    assert push == f"docker push registry.example.com/hostward:{hostward.__version__}"
    assert "ARG PIP_INDEX_URL" in (ROOT / "Dockerfile").read_text(encoding="utf-8"), "tests/image builds from this very file"
    (daemon_set,) = yaml.safe_load_all((ROOT / "deploy/daemonset.yaml").read_text(encoding="utf-8"))
    pod = daemon_set["spec"]["template"]["spec"]
    assert {one["image"] for one in (*pod["initContainers"], *pod["containers"])} == {f"hostward:{hostward.__version__}"}


def test_the_machines_are_those_of_the_tutorial() -> None:
    assert commands("Three virtual machines") == ["cd vagrant", "vagrant up", "./tutorial.sh", "vagrant destroy -f"]
    assert "cd vagrant && vagrant up && ./tutorial.sh" in (ROOT / "vagrant/Vagrantfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((\w[^)#]*)\)", PAGE))))
def test_what_it_points_to_exists(link: str) -> None:
    assert (ROOT / "docs" / link).exists()
