"""What the docs show of the controller is what happens: its commands parse, and its example makes these endpoints."""

from __future__ import annotations

import re
import shlex
import subprocess
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from hostward.cli.kube_controller import CONTROLLERS, command
from hostward.datastore.connection import from_environment
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.initialise import initialise
from tests.controller import world
from tests.controller.recorder import until
from tests.lab.agent import COMMAND, ROOT, clean_environment
from tests.lab.controller import Controller, kubeconfig
from tests.lab.etcd import Etcd
from tests.lab.kubeapi import FakeApi

BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section() -> str:
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    return page.split("\n## The controller\n")[1].split("\n## ")[0]


def test_the_shown_commands_parse() -> None:
    (block,) = (body for language, _, body in BLOCK.findall(section()) if language == "sh")
    for line in block.splitlines():
        program, verb, *arguments = shlex.split(line)
        assert (program, verb) == ("hostward", command.name)
        with command.make_context(verb, arguments):
            pass


def test_the_table_names_all_controllers() -> None:
    table = section().split("| `--controllers` |")[1].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == CONTROLLERS


@pytest.mark.etcd
def test_the_example_makes_these_endpoints(tmp_path: Path) -> None:
    with ExitStack() as stack:
        api, etcd = stack.enter_context(FakeApi()), stack.enter_context(Etcd())
        store = EtcdStore(from_environment(etcd.env))
        initialise(store)
        store.close()
        for name, role, *addresses in (("w1", "worker", "10.0.0.1"), ("w2", "worker", "10.0.0.2"), ("m1", "master")):
            api.create(world.node(name, {"node-role": role}, *addresses))
        stack.enter_context(Controller(etcd.env, kubeconfig(tmp_path, api.url, api.token))).wait_ready()
        env = clean_environment() | etcd.env | {"PYTHONPATH": str(ROOT / "agent")}

        def printed(words: list[str]) -> str:
            ran = [*COMMAND, *words]
            done = subprocess.run(ran, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=True)
            return "\n".join(line.rstrip() for line in (done.stdout + done.stderr).strip().splitlines())

        def shows(words: list[str], expected: str) -> bool:
            return printed(words) == expected.strip()

        steps = 0
        for language, title, body in BLOCK.findall(section()):
            if title:
                (tmp_path / title).write_text(body)
            elif language == "console":
                for step in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                    line, _, expected = step.partition("\n")
                    words = shlex.split(line)[1:]
                    until(partial(shows, words, expected), line)
                    steps += 1
        assert steps == 3
