"""A reflector beside a real API server: what it hands over is what the server has, whatever happened to both."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hostward.kube.client import Client
from hostward.kube.kubeconfig import read_kubeconfig
from hostward.kube.reflector import Reflector
from hostward.kube.watching import Name, Resource
from tests.controller.recorder import Recorder, until
from tests.lab.kubernetes import ADMIN, ApiServer

POLICIES = Resource("/apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
NOBODYS, NOBODY = "nobodys-token", "system:serviceaccount:kube-system:nobody"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer(users={NOBODYS: NOBODY}) as api:
        yield api


@pytest.fixture
def recorder(server: ApiServer) -> Iterator[Recorder]:
    with following(server, ADMIN) as recorder:
        yield recorder


@contextmanager
def following(server: ApiServer, token: str) -> Iterator[Recorder]:
    client, recorder, stop = Client(read_kubeconfig(server.kubeconfig(token))), Recorder(), threading.Event()
    thread = threading.Thread(target=Reflector(client, POLICIES, recorder).run, args=(stop,))
    thread.start()
    try:
        yield recorder
    finally:
        stop.set()
        client.close()
        thread.join(20)
    assert not thread.is_alive()


def write(server: ApiServer, name: str, **labels: str) -> None:
    server.apply({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"podSelector": {}},
    })  # fmt: skip


def holds(recorder: Recorder, **labels: str) -> None:
    """Waits until these policies are known and no others, each with the label `v`."""

    def known() -> dict[Name, Any]:
        return {name: value["metadata"].get("labels") for name, value in recorder.objects.items()}

    wanted = {Name("default", name): {"v": value} for name, value in labels.items()}
    until(lambda: recorder.lists and known() == wanted, f"{wanted}", seconds=180)


def test_follows_changes(server: ApiServer, recorder: Recorder) -> None:
    holds(recorder)
    write(server, "a", v="1")
    write(server, "b", v="1")
    holds(recorder, a="1", b="1")
    write(server, "a", v="2")
    holds(recorder, a="2", b="1")
    server.kubectl("delete", "networkpolicy", "b")
    holds(recorder, a="2")
    (known,) = recorder.objects.values()
    assert (known["apiVersion"], known["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert not recorder.lost_reasons


def test_a_server_that_went_away_is_found_again_with_what_it_has_then(server: ApiServer, recorder: Recorder) -> None:
    write(server, "a", v="1")
    write(server, "b", v="1")
    holds(recorder, a="1", b="1")
    server.end()
    until(lambda: recorder.lost_reasons, "word of the loss")
    # Behind the server's back, and with all history forgotten: nobody will ever hear of this deletion.
    assert server.etcd is not None
    server.etcd.delete("/registry/networkpolicies/default/a")
    server.etcd.compact()
    holds(recorder, a="1", b="1")
    server.start()
    holds(recorder, b="1")
    write(server, "c", v="1")
    holds(recorder, b="1", c="1")


def test_a_store_put_back_to_an_earlier_time_is_believed(server: ApiServer, recorder: Recorder, tmp_path: Path) -> None:
    etcd = server.etcd
    assert etcd is not None
    write(server, "a", v="1")
    holds(recorder, a="1")
    server.end()
    etcd.stop()
    etcd.backup(tmp_path / "backup")
    etcd.start()
    server.start()
    for version in range(2, 30):
        write(server, "a", v=str(version))
    write(server, "b", v="1")
    holds(recorder, a="29", b="1")
    told = len(recorder.lost_reasons)
    server.end()
    # Whoever only heard the connection break, and asks again once the server is back, is answered with silence.
    until(lambda: any("refused" in reason for reason in recorder.lost_reasons[told:]), "word that nobody listens")
    etcd.stop()
    etcd.restore(tmp_path / "backup")
    shutil.rmtree(tmp_path / "backup")
    etcd.start()
    server.start()
    holds(recorder, a="1")
    write(server, "c", v="1")
    holds(recorder, a="1", c="1")


def test_without_permission_nothing_is_handed_over_until_it_is_granted(server: ApiServer) -> None:
    write(server, "a", v="1")
    rules = ["--verb=list,watch", "--resource=networkpolicies.networking.k8s.io"]
    server.kubectl("create", "clusterrole", "reader", *rules)
    with following(server, NOBODYS) as recorder:
        until(lambda: recorder.lost_reasons, "word of the refusal")
        assert not recorder.lists
        server.kubectl("create", "clusterrolebinding", "reader", "--clusterrole=reader", f"--user={NOBODY}")
        holds(recorder, a="1")
