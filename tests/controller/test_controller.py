"""The whole controller, as a process, between a fake API server and a real etcd: what it writes, and what it survives."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hostward.controller.process import LEADER
from hostward.datastore.connection import from_environment
from hostward.datastore.encode import stored_form
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.initialise import initialise
from hostward.model import keys
from hostward.model.keys import ROOT, ResourceKey
from tests.controller import world
from tests.controller.recorder import until
from tests.lab.controller import Controller, kubeconfig
from tests.lab.etcd import Etcd
from tests.lab.kubeapi import FakeApi
from tests.lab.kubeapi_objects import ADMIN_POLICIES

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(240)]

WEB = ResourceKey("NetworkPolicy", "shop", "knp.default.web")
SHOP = ResourceKey("Profile", "", "kns.shop")


class Cluster:
    """A fake API server, an etcd, and the controllers between them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.api = stack.enter_context(FakeApi())
        self.etcd = stack.enter_context(Etcd())
        self.store = EtcdStore(from_environment(self.etcd.env))
        stack.callback(self.store.close)
        self._kubeconfig, self._stack = kubeconfig(folder, self.api.url, self.api.token), stack

    def initialise(self) -> None:
        initialise(self.store)

    def controller(self, *options: str, name: str = "one", wait: bool = True) -> Controller:
        made = self._stack.enter_context(Controller(self.etcd.env, self._kubeconfig, *options, name=name))
        if wait:
            made.wait_ready()
        return made

    def read(self, key: ResourceKey) -> dict[str, Any] | None:
        raw = self.etcd.get(keys.path(key))
        return None if raw is None else json.loads(raw)

    def write(self, key: ResourceKey, document: dict[str, Any] | bytes) -> None:
        self.etcd.put(keys.path(key), document if isinstance(document, bytes) else stored_form(key, document))

    def remove(self, key: ResourceKey) -> None:
        self.etcd.delete(keys.path(key))

    def has(self, *wanted: ResourceKey) -> None:
        for key in wanted:
            until(lambda key=key: self.read(key) is not None, f"{key}")

    def lacks(self, *gone: ResourceKey) -> None:
        for key in gone:
            until(lambda key=key: self.read(key) is None, f"{key} to go")

    def space(self, name: str) -> None:
        self.api.create(world.namespace(name))

    def until_written(self, marker: str) -> None:
        """What came before a change is done when that change is."""
        self.api.create(world.namespace(marker))
        self.has(ResourceKey("Profile", "", f"kns.{marker}"))

    def leader(self) -> str:
        return (self.etcd.get(LEADER) or b"").decode().partition(" ")[0]


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


@pytest.fixture
def cluster(bare: Cluster) -> Cluster:
    bare.initialise()
    bare.space("shop")
    return bare


def test_every_kind_comes_follows_and_goes(cluster: Cluster) -> None:
    cluster.api.serve(ADMIN_POLICIES)
    node, pod = ResourceKey("Node", "", "w1"), ResourceKey("WorkloadEndpoint", "shop", "w1-k8s-web--0-eth0")
    users, slice_ = ResourceKey("GlobalNetworkPolicy", "", "users"), ResourceKey("KubernetesEndpointSlice", "shop", "web-1")
    admin = ResourceKey("GlobalNetworkPolicy", "", "kanp.adminnetworkpolicy.a")
    auto = ResourceKey("HostEndpoint", "", "w1-auto-hep")
    account = ResourceKey("Profile", "", "ksa.shop.bot")
    cluster.write(node, world.calico_node("w1", labels={"mine": "1"}))
    cluster.write(pod, {"metadata": {"labels": {}}, "spec": {"node": "w1", "pod": "web-0"}})
    cluster.write(users, world.naming("web", "shop"))
    cluster.write(world.CONFIGURATION, world.configuration())
    spec = {"priority": 1, "subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]}
    admin_policy = {
        "apiVersion": ADMIN_POLICIES.api_version,
        "kind": "AdminNetworkPolicy",
        "metadata": {"name": "a"},
        "spec": spec,
    }
    version = "v1beta1"  # what this release serves
    for one in (
        world.policy("web") | {"metadata": {"name": "web", "namespace": "shop"}},
        world.account("bot"),
        world.pod("web-0", labels={"app": "web"}),
        world.node("w1", {"role": "edge"}, "10.0.0.1"),
        world.slice_("web-1", "web", "10.1.0.1", version=version),
        admin_policy,
    ):
        cluster.api.create(one)
    cluster.controller()
    cluster.has(WEB, SHOP, account, slice_, admin, auto, ResourceKey("Tier", "", "adminnetworkpolicy"))
    until(lambda: cluster.read(pod)["metadata"]["labels"].get("app") == "web", "labels of the pod")
    until(lambda: cluster.read(node)["metadata"]["labels"] == {"mine": "1", "role": "edge"}, "labels of the node")
    assert cluster.read(auto)["metadata"]["labels"]["role"] == "edge"

    cluster.api.update(world.node("w1", {"role": "worker"}, "10.0.0.1"))
    cluster.api.update(world.policy("web", policyTypes=["Egress"]) | {"metadata": {"name": "web", "namespace": "shop"}})
    until(lambda: cluster.read(auto)["metadata"]["labels"]["role"] == "worker", "new labels of the endpoint")
    until(lambda: cluster.read(WEB)["spec"]["types"] == ["Egress"], "the changed policy")

    cluster.remove(users)
    cluster.lacks(slice_)
    cluster.write(users, world.naming("web", "shop"))
    cluster.has(slice_)
    cluster.api.delete(world.policy("web"))
    cluster.api.delete(world.account("bot"))
    cluster.api.delete(world.slice_("web-1", "web", version=version))
    cluster.api.delete(admin_policy)
    cluster.lacks(WEB, account, slice_, admin)
    cluster.write(world.CONFIGURATION, world.configuration(create="Disabled"))
    cluster.lacks(auto)
    cluster.api.delete(world.node("w1"))
    cluster.lacks(node)
    cluster.api.delete(world.namespace("shop"))
    cluster.lacks(SHOP)
    assert cluster.read(pod) is not None, "its network plugin removes it"


def test_an_etcd_that_nobody_initialised_gets_nothing(bare: Cluster) -> None:
    bare.space("shop")
    controller = bare.controller(wait=False)
    until(lambda: "nobody has initialised this etcd" in controller.readiness()[1], "it to say so")
    assert not controller.readiness()[0]
    assert bare.etcd.list(ROOT) == {}
    bare.initialise()
    bare.has(SHOP)
    controller.wait_ready()
    information = bare.store.get(world.CLUSTER)
    bare.store.update(world.CLUSTER, information.document | {"spec": {"datastoreReady": False}}, information.revision)
    until(lambda: "datastoreReady isn't true" in controller.readiness()[1], "it to stop")
    bare.space("later")
    until(lambda: controller.metric("hostward_controller_pending_objects") > 0, "the namespace to be seen")
    assert bare.read(ResourceKey("Profile", "", "kns.later")) is None


def test_the_api_server_is_lost_and_comes_back(cluster: Cluster) -> None:
    cluster.api.create(world.policy("web") | {"metadata": {"name": "web", "namespace": "shop"}})
    controller = cluster.controller()
    cluster.has(WEB, SHOP)
    before = cluster.etcd.list(ROOT)
    cluster.api.stop()
    until(lambda: not controller.readiness()[0], "the loss is told")
    assert "lost: " in controller.readiness()[1]
    # Without the server etcd is still kept as it was last.
    cluster.remove(WEB)
    cluster.has(WEB)
    assert cluster.etcd.list(ROOT).keys() == before.keys()
    cluster.api.objects.delete(next(one for one in cluster.api.kinds if one.kind == "NetworkPolicy"), ("shop", "web"))
    cluster.api.start()
    cluster.lacks(WEB)
    controller.wait_ready()
    assert cluster.read(SHOP) is not None


def test_a_server_that_isnt_reached_deletes_nothing(cluster: Cluster) -> None:
    """Before the first complete list nothing goes, whatever stands there from before."""
    cluster.write(WEB, {"metadata": {"name": WEB.name, "namespace": "shop"}, "spec": {}})
    cluster.api.fail("list", 500, times=10_000)
    controller = cluster.controller(wait=False)
    until(lambda: controller.metric("hostward_controller_api_errors") > 5, "it to have tried")
    assert cluster.read(WEB) is not None
    assert not controller.readiness()[0]
    cluster.api.faults.clear()
    cluster.lacks(WEB)


def test_a_forgotten_version_leads_to_a_list(cluster: Cluster) -> None:
    controller = cluster.controller()
    lists = controller.metric("hostward_controller_lists")
    cluster.api.compact()
    cluster.api.expire_watches()
    until(lambda: controller.metric("hostward_controller_lists") > lists, "another list")
    cluster.until_written("after")


def test_a_missing_permission_stops_one_kind_only(cluster: Cluster) -> None:
    cluster.api.fail("list", 403, times=1)
    controller = cluster.controller(wait=False)
    cluster.until_written("after")
    controller.wait_ready()


def test_a_leader_that_dies_is_replaced(cluster: Cluster) -> None:
    first = cluster.controller(name="first")
    second = cluster.controller(name="second")
    assert cluster.leader() == "first"
    assert "first" in second.readiness()[1]
    first.kill()
    cluster.until_written("after")
    assert cluster.leader() == "second"
    assert second.metric("hostward_controller_leader") == 1


def test_a_leader_that_is_told_to_end_hands_over(cluster: Cluster) -> None:
    first = cluster.controller("--lease", "300", name="first")
    second = cluster.controller(name="second")
    assert cluster.leader() == "first"
    assert first.stop() == 0
    until(lambda: cluster.leader() == "second", "the lease was given back")
    cluster.until_written("after")
    assert second.readiness()[0]


def test_a_paused_leader_writes_nothing_when_it_wakes_up(cluster: Cluster) -> None:
    first = cluster.controller(name="first")
    cluster.until_written("before")
    first.signal(signal.SIGSTOP)
    try:
        second = cluster.controller(name="second")
        until(lambda: cluster.leader() == "second", "the other takes over")
        cluster.api.create(world.policy("web") | {"metadata": {"name": "web", "namespace": "shop"}})
        cluster.has(WEB)
    finally:
        first.signal(signal.SIGCONT)
    wrote = first.metric("hostward_controller_writes_total")
    until(lambda: "second" in first.readiness()[1], "it has noticed")
    cluster.until_written("after")
    assert first.metric("hostward_controller_writes_total") == wrote
    assert second.metric("hostward_controller_leader") == 1


def test_etcd_restarts(cluster: Cluster) -> None:
    controller = cluster.controller()
    cluster.etcd.kill()
    cluster.space("meanwhile")
    until(lambda: not controller.readiness()[0], "the loss is told")
    cluster.etcd.start()
    cluster.has(ResourceKey("Profile", "", "kns.meanwhile"))
    controller.wait_ready()


def test_bad_objects_hold_nobody_up(cluster: Cluster) -> None:
    bad_rule = {"ingress": [{"from": [{"ipBlock": {"cidr": "nonsense"}}]}, {"ports": [{"port": 80}]}]}
    for name, spec in (("a-bad", {"podSelector": 7}), ("half", bad_rule), ("web", {}), ("z-huge", {})):
        cluster.api.create(world.policy(name, **spec) | {"metadata": {"name": name, "namespace": "shop"}})
    many = [{"ipBlock": {"cidr": f"10.{number // 256}.{number % 256}.0/24"}} for number in range(900)]
    huge = {"ingress": [{"from": many, "ports": [{"port": number} for number in range(2, 2000, 2)]}]}
    cluster.api.update(world.policy("z-huge", **huge) | {"metadata": {"name": "z-huge", "namespace": "shop"}})
    controller = cluster.controller()
    cluster.has(WEB, ResourceKey("NetworkPolicy", "shop", "knp.default.half"))
    problems = controller.logged("not understood")
    assert {(one["object"], one["field"]) for one in problems} >= {
        ("NetworkPolicy(shop/a-bad)", "spec.podSelector"),
        ("NetworkPolicy(shop/half)", "spec.ingress[0].from[0].ipBlock.cidr"),
    }
    assert len([one for one in problems if one["object"] == "NetworkPolicy(shop/half)"]) == 1, "once"
    assert controller.metric("hostward_controller_objects_not_understood") >= 2
    cluster.until_written("after")
    cluster.api.delete(world.policy("half"))
    cluster.lacks(ResourceKey("NetworkPolicy", "shop", "knp.default.half"))


def test_what_somebody_else_does_is_put_right_and_users_objects_stay(cluster: Cluster) -> None:
    user = ResourceKey("NetworkPolicy", "shop", "web")
    cluster.write(user, {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"selector": "all()"}})
    cluster.api.create(world.policy("web") | {"metadata": {"name": "web", "namespace": "shop"}})
    controller = cluster.controller()
    cluster.has(WEB)
    cluster.write(WEB, {"metadata": {"name": WEB.name, "namespace": "shop", "labels": {"theirs": "1"}}, "spec": {"order": 1}})
    until(lambda: cluster.read(WEB)["spec"].get("order") == 1000, "it is put right")
    assert cluster.read(WEB)["metadata"]["labels"] == {"theirs": "1"}
    assert cluster.read(WEB)["metadata"]["uid"]
    orphan = ResourceKey("NetworkPolicy", "shop", "knp.default.orphan")
    cluster.write(orphan, {"metadata": {"name": orphan.name, "namespace": "shop"}, "spec": {}})
    cluster.lacks(orphan)
    cluster.remove(WEB)
    cluster.has(WEB)
    assert cluster.read(user)["spec"] == {"selector": "all()"}
    assert controller.metric("hostward_controller_failing_objects") == 0


def test_a_mass_removal_is_announced(cluster: Cluster) -> None:
    for number in range(12):
        cluster.api.create(world.policy(f"p{number}") | {"metadata": {"name": f"p{number}", "namespace": "shop"}})
    controller = cluster.controller()
    copies = [ResourceKey("NetworkPolicy", "shop", f"knp.default.p{number}") for number in range(12)]
    cluster.has(*copies)
    cluster.api.stop()
    cluster.api.objects.kept.pop(next(one for one in cluster.api.kinds if one.kind == "NetworkPolicy"))
    cluster.api.objects.revision += 1
    cluster.api.objects.compact()
    cluster.api.start()
    cluster.lacks(*copies)
    (warning,) = controller.logged("the API server has none left of a kind; all copies are removed")
    assert (warning["kind"], warning["copies"], warning["level"]) == ("NetworkPolicy", 12, "warning")


def test_controllers_can_be_switched_off(cluster: Cluster) -> None:
    cluster.write(WEB, {"metadata": {"name": WEB.name, "namespace": "shop"}, "spec": {}})
    cluster.controller("--controllers", "namespace")
    cluster.has(SHOP)
    assert cluster.read(WEB) is not None
    assert cluster.api.count("list", "networkpolicies") == 0


def test_it_says_why_it_cant_start(tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text("{}")
    with Controller({"ETCD_ENDPOINTS": "http://127.0.0.1:1"}, config) as one:
        assert one.process is not None
        assert one.process.wait(60) == 1
        assert "kubeconfig: current-context: missing" in one.logged("the controller can't start")[0]["error"]
        one.process = None
