"""The reconcile thread against a real etcd that others write to at the worst moment, refuse, or take the lead from."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from hostward.controller.facts import Facts
from hostward.controller.inbox import Inbox
from hostward.controller.items import Decision, Item, Write
from hostward.controller.reconciler import Reconciler
from hostward.controller.resources import CONTROLLERS, projected
from hostward.controller.rounds import Retries, emptied, ordered
from hostward.controller.telling import Teller
from hostward.datastore.connection import from_environment
from hostward.datastore.encode import stored_form
from hostward.datastore.etcd.feed import EtcdFeed
from hostward.datastore.etcd.lease import Leadership
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.initialise import initialise
from hostward.model import keys
from hostward.model.keys import ResourceKey
from hostward.report.health import HealthBoard
from tests.controller import world
from tests.controller.recorder import until
from tests.lab.etcd import Etcd

WEB = ResourceKey("NetworkPolicy", "shop", "knp.default.web")
LEADER = "/hostward/test/leader"
POLICIES = CONTROLLERS["policy"][0]
NODES = CONTROLLERS["node"][0]


class Racing(EtcdStore):
    """A store in which somebody else is faster: `before_write` runs once before a write of its key."""

    before_write: Mapping[ResourceKey, Callable[[], object]] = {}

    def _race(self, key: ResourceKey) -> None:
        race = dict(self.before_write)
        if action := race.pop(key, None):
            self.before_write = race
            action()

    def create(self, key: ResourceKey, document: Mapping[str, Any]) -> int:
        self._race(key)
        return super().create(key, document)

    def update(self, key: ResourceKey, document: Mapping[str, Any], revision: int) -> int:
        self._race(key)
        return super().update(key, document, revision)

    def delete(self, key: ResourceKey, revision: int | None = None) -> None:
        self._race(key)
        super().delete(key, revision)


class Running:
    """Everything of the controller but its reflectors, which the test stands for."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        connection = from_environment(etcd.env)
        kinds = [POLICIES.kind, NODES.kind]
        self.inbox = Inbox(kinds)
        self.leadership = Leadership(connection, LEADER, "here", ttl=2)
        self.store = Racing(connection, fence=self.leadership.fence)
        self.teller = Teller(HealthBoard(time.monotonic), self.inbox, self.leadership, ())
        self.reconciler = Reconciler(Facts(kinds), self.inbox, self.store, self.leadership, self.teller)
        self.feed = EtcdFeed(connection)

    @contextmanager
    def run(self) -> Iterator[None]:
        stop, failures = threading.Event(), []

        def body(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 # shown at the end
                failures.append(error)

        works = [
            lambda: self.feed.run(self.inbox.store, stop),
            lambda: self.leadership.run(stop),
            lambda: self.reconciler.run(stop),
        ]
        threads = [threading.Thread(target=body, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            self.inbox.nudge()
            for thread in threads:
                thread.join(30)
            self.store.close()
        assert not failures, failures

    def list(self, *policies: Mapping[str, Any]) -> None:
        self.inbox.replaced(POLICIES, {world.name_of(one): projected(one) for one in policies})

    def put(self, policy: Mapping[str, Any]) -> None:
        self.inbox.changed(POLICIES, world.name_of(policy), projected(policy))

    def read(self, key: ResourceKey) -> dict[str, Any] | None:
        raw = self.etcd.get(keys.path(key))
        return None if raw is None else json.loads(raw)

    def write(self, key: ResourceKey, document: Mapping[str, Any]) -> None:
        self.etcd.put(keys.path(key), stored_form(key, document))

    def metric(self, name: str) -> float:
        lines = self.teller.text().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"hostward_controller_{name}"))


@pytest.fixture(scope="module")
def server() -> Iterator[Etcd]:
    with Etcd(options=["--max-request-bytes", "20000"]) as one:
        yield one


@pytest.fixture
def here(server: Etcd) -> Iterator[Running]:
    server.delete("/", prefix=True)
    store = EtcdStore(from_environment(server.env))
    initialise(store)
    store.close()
    running = Running(server)
    with running.run():
        until(running.leadership.fence, "leadership")
        yield running


@pytest.mark.etcd
def test_a_conflict_is_read_again_and_decided_again(here: Running) -> None:
    here.list(world.policy("web"))
    until(lambda: here.read(WEB), "the policy")
    theirs = {"metadata": {"name": WEB.name, "namespace": "shop", "labels": {"theirs": "1"}}, "spec": {"order": 3}}
    here.store.before_write = {WEB: lambda: here.write(WEB, theirs)}
    here.put(world.policy("web", policyTypes=["Egress"]))
    until(lambda: here.read(WEB)["spec"].get("types") == ["Egress"], "the change")
    assert here.read(WEB)["metadata"]["labels"] == {"theirs": "1"}
    assert here.metric("conflicts_total") == 1


@pytest.mark.etcd
def test_somebody_else_created_or_deleted_it_first(here: Running) -> None:
    theirs = {"metadata": {"name": WEB.name, "namespace": "shop"}, "spec": {"order": 3}}
    here.store.before_write = {WEB: lambda: here.write(WEB, theirs)}
    here.list(world.policy("web"))
    until(lambda: (here.read(WEB) or theirs)["spec"]["order"] == 1000, "ours in place of theirs")
    here.store.before_write = {WEB: lambda: here.etcd.delete(keys.path(WEB))}
    here.list()
    until(lambda: here.metric("conflicts_total") == 2, "the second conflict")
    here.put(world.policy("next"))
    until(lambda: here.read(ResourceKey("NetworkPolicy", "shop", "knp.default.next")), "the next policy")
    assert here.read(WEB) is None


@pytest.mark.etcd
def test_an_object_that_etcd_refuses_holds_nobody_up_and_is_never_given_up(here: Running) -> None:
    many = [{"podSelector": {"matchLabels": {f"label-{number}": "x" * 40}}} for number in range(300)]
    huge = ResourceKey("NetworkPolicy", "shop", "knp.default.a-huge")
    here.list(world.policy("a-huge", ingress=[{"from": many}]), world.policy("web"))
    until(lambda: here.read(WEB), "the other policy")
    until(lambda: here.metric("write_failures_total") > 2, "it's tried again")
    assert here.metric("failing_objects") == 1
    assert here.read(huge) is None
    here.put(world.policy("later"))
    until(lambda: here.read(ResourceKey("NetworkPolicy", "shop", "knp.default.later")), "a later one")
    here.put(world.policy("a-huge"))
    until(lambda: here.read(huge), "it fits now")
    until(lambda: here.metric("failing_objects") == 0, "nothing fails any more")


@pytest.mark.etcd
def test_who_was_deposed_in_the_middle_of_a_round_writes_no_more(here: Running) -> None:
    policies = [world.policy(f"p{number}") for number in range(5)]
    third = ResourceKey("NetworkPolicy", "shop", "knp.default.p2")
    shown: list[int] = []

    def depose() -> None:
        lease = here.etcd.ctl("lease", "list").split()[-1].decode()
        here.etcd.ctl("lease", "revoke", lease)
        here.etcd.put(LEADER, "other")
        shown.append(1)

    here.store.before_write = {third: depose}
    here.list(*policies)
    until(lambda: here.metric("fenced_writes_total") == 1, "the fence")
    assert here.metric("writes_total") == 2
    assert here.read(third) is None
    until(lambda: here.leadership.leader == "other", "it knows who leads")
    here.put(world.policy("meanwhile"))
    until(lambda: here.metric("pending_objects") >= 4, "what is left to do is kept")
    assert here.metric("writes_total") == 2
    here.etcd.delete(LEADER)
    until(lambda: all(here.read(ResourceKey("NetworkPolicy", "shop", f"knp.default.p{n}")) for n in range(5)), "the rest")


@pytest.mark.etcd
def test_another_cluster_behind_the_same_address_gets_nothing(here: Running) -> None:
    here.list(world.policy("web"))
    until(lambda: here.read(WEB), "the policy")
    information = here.read(world.CLUSTER)
    assert information is not None
    here.write(world.CLUSTER, information | {"spec": information["spec"] | {"clusterGUID": "other"}})
    until(lambda: here.metric("can_write") == 0, "it stops")
    here.list()
    until(lambda: here.metric("pending_objects") == 1, "the change is seen")
    assert here.read(WEB) is not None
    here.write(world.CLUSTER, information)
    until(lambda: here.read(WEB) is None, "it goes on")


# --- rounds, without anything running
def task(kind: str, name: str, *, remove: bool = False) -> tuple[Item, Decision]:
    key = ResourceKey(kind, "shop" if keys.KINDS[kind].namespaced else "", name)
    return Item("Node", "", f"{kind}{name}"), Decision((Write(key, None if remove else {}, 1),))


def test_what_others_refer_to_is_made_first_and_removed_last() -> None:
    kinds = ["HostEndpoint", "GlobalNetworkPolicy", "Profile", "Tier", "Node"]
    made = ordered(dict(task(kind, "x") for kind in kinds))
    assert [one.write.key.kind for one in made] == ["Tier", "Profile", "GlobalNetworkPolicy", "Node", "HostEndpoint"]
    both = ordered(dict([*(task(kind, "x", remove=True) for kind in kinds), task("HostEndpoint", "y")]))
    assert [one.write.key.kind for one in both] == ["HostEndpoint", *reversed([one.write.key.kind for one in made])]


@pytest.mark.parametrize(("removed", "left", "warned"), [(11, 0, {"Node": 11}), (10, 0, {}), (11, 1, {})])
def test_when_a_removal_is_worth_a_warning(removed: int, left: int, warned: dict[str, int]) -> None:
    tasks = ordered(dict(task("HostEndpoint", f"n{number}", remove=True) for number in range(removed)))
    assert emptied(tasks, lambda _: left) == warned


def test_pauses_grow_and_end() -> None:
    now = [0.0]
    retries = Retries(lambda: now[0], lambda _, high: high)
    item = Item("Node", "", "a")
    assert retries.pause(5.0) == 5.0
    pauses = []
    for number in range(9):
        assert retries.failed(item) == (number == 0)
        assert not retries.due()
        pauses.append(retries.pause(1000.0))
        now[0] += pauses[-1]
        assert retries.due() == {item}
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    retries.succeeded(item)
    assert not retries
    assert not retries.due()
