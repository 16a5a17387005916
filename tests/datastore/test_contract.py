"""What every datastore promises: the same tests on etcd and on a directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostward.datastore.connection import from_environment
from hostward.datastore.directory.store import DirStore
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.feed import Feed
from hostward.datastore.opening import open_feed, open_store
from hostward.datastore.store import AlreadyExistsError, ConflictError, NotFoundError, Store
from hostward.model import keys
from hostward.model.keys import ResourceKey
from tests.datastore.recorder import running
from tests.lab.etcd import Etcd

POLICY = ResourceKey("GlobalNetworkPolicy", "", "one")
OTHER = ResourceKey("GlobalNetworkPolicy", "", "two")


def policy(order: int) -> dict[str, object]:
    return {"spec": {"order": order, "selector": "all()", "types": ["Ingress"]}}


@dataclass
class Backend:
    """A datastore under test; every call opens it anew."""

    store: Callable[[], Store]
    feed: Callable[[], Feed]


@pytest.fixture(scope="module")
def server() -> Iterator[Etcd]:
    with Etcd() as etcd:
        yield etcd


@pytest.fixture(params=[pytest.param("etcd", marks=pytest.mark.etcd), "dir"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "dir":
        (tmp_path / "none.yaml").write_text("# an empty directory could be one that isn't mounted\n")
        url = f"dir:{tmp_path}"
        return Backend(lambda: open_store(url, None, False, {}), lambda: open_feed(url, {}))
    server: Etcd = request.getfixturevalue("server")
    server.delete(keys.ROOT, prefix=True)
    return Backend(lambda: EtcdStore(from_environment(server.env)), lambda: open_feed("etcd", server.env))


def _order(value: bytes) -> object:
    return json.loads(value)["spec"]["order"]


def test_a_snapshot_holds_everything_and_nothing_else(backend: Backend) -> None:
    store = backend.store()
    store.create(POLICY, policy(1))
    store.create(OTHER, policy(2))
    store.delete(OTHER)
    with running(backend.feed()) as heard:
        heard.wait(lambda: heard.contacts)
        found = {key: _order(stored.value) for key, stored in heard.state.items() if "networkpolicies" in key}
        assert found == {keys.path(POLICY): 1}
    store.close()


def test_each_change_comes_once_and_in_order(backend: Backend) -> None:
    store = backend.store()
    path = keys.path(POLICY)
    with running(backend.feed()) as heard:
        heard.wait(lambda: heard.snapshots)
        revision = store.create(POLICY, policy(1))
        heard.wait(lambda: path in heard.state)
        assert _order(heard.state[path].value) == 1
        revision = store.update(POLICY, policy(2), revision)
        heard.wait(lambda: _order(heard.state[path].value) == 2)
        store.delete(POLICY, revision)
        heard.wait(lambda: path not in heard.state)
        said = [one.objects[path] for one in heard.changed if path in one.objects]
        assert [stored and _order(stored.value) for stored in said] == [1, 2, None]
        assert len(heard.snapshots) == 1
    store.close()


def test_what_the_feed_says_adds_up_to_what_is_stored(backend: Backend) -> None:
    store = backend.store()
    names = [ResourceKey("GlobalNetworkSet", "", f"set-{number}") for number in range(20)]
    with running(backend.feed()) as heard:
        heard.wait(lambda: heard.snapshots)
        for key in names:
            store.create(key, {"spec": {"nets": ["192.0.2.0/24"]}})
        for key in names[::2]:
            store.update(key, {"spec": {"nets": ["198.51.100.0/24"]}}, store.get(key).revision)
        for key in names[::3]:
            store.delete(key)
        stored = {keys.path(one.key): one.document for one in store.list("GlobalNetworkSet")[1]}
        assert len(stored) == 13

        def told() -> dict[str, object]:
            return {key: json.loads(one.value) for key, one in heard.state.items() if "/globalnetworksets/" in key}

        heard.wait(lambda: told() == stored)
    store.close()


def test_create_update_and_delete_compare_before_they_write(backend: Backend) -> None:
    store = backend.store()
    with pytest.raises(NotFoundError):
        store.get(POLICY)
    with pytest.raises(NotFoundError):
        store.update(POLICY, policy(1), 1)
    with pytest.raises(NotFoundError):
        store.delete(POLICY)
    with pytest.raises(NotFoundError):
        store.delete(POLICY, 1)
    first = store.create(POLICY, policy(1))
    with pytest.raises(AlreadyExistsError):
        store.create(POLICY, policy(9))
    assert store.get(POLICY).revision == first
    second = store.update(POLICY, policy(2), first)
    assert second != first
    with pytest.raises(ConflictError):
        store.update(POLICY, policy(9), first)
    with pytest.raises(ConflictError):
        store.delete(POLICY, first)
    assert store.get(POLICY).document["spec"]["order"] == 2
    store.delete(POLICY, second)
    with pytest.raises(NotFoundError):
        store.get(POLICY)
    store.close()


def test_lists_hold_one_kind_and_one_namespace(backend: Backend) -> None:
    store = backend.store()
    for key in (
        ResourceKey("NetworkSet", "shop", "b"),
        ResourceKey("NetworkSet", "shop", "a"),
        ResourceKey("NetworkSet", "shopping", "c"),
        ResourceKey("GlobalNetworkSet", "", "d"),
    ):
        store.create(key, {"spec": {"nets": ["192.0.2.0/24"]}})
    assert [str(one.key) for one in store.list("NetworkSet")[1]] == [
        "NetworkSet(shop/a)",
        "NetworkSet(shop/b)",
        "NetworkSet(shopping/c)",
    ]
    assert [one.key.name for one in store.list("NetworkSet", "shop")[1]] == ["a", "b"]
    assert [one.key.name for one in store.list("GlobalNetworkSet")[1]] == ["d"]
    assert store.list("Tier")[1] == []
    store.close()


def test_the_stored_form_is_calicos(backend: Backend) -> None:
    store = backend.store()
    given = {
        "spec": {"order": 5.0, "selector": "a == 'ü'"},
        "kind": "Wrong",
        "metadata": {
            "resourceVersion": "1",
            "selfLink": "x",
            "name": "one",
            "labels": {"port": "53:54", "n": "0112", "e": "1e3", "y": "on"},
        },
    }
    revision = store.create(POLICY, given)
    found = store.get(POLICY)
    assert found.revision == revision
    assert list(found.document)[:3] == ["kind", "apiVersion", "metadata"]
    assert found.document["kind"] == "GlobalNetworkPolicy"
    assert found.document["apiVersion"] == keys.API_VERSION
    assert not {"resourceVersion", "selfLink"} & set(found.document["metadata"])
    labels = found.document["metadata"]["labels"]
    assert {name: labels[name] for name in ("port", "n", "e", "y")} == {"port": "53:54", "n": "0112", "e": "1e3", "y": "on"}
    assert found.document["spec"]["selector"] == "a == 'ü'"
    assert type(found.document["spec"]["order"]) is int
    store.close()


def test_ten_writers_with_compare_and_swap_lose_nothing(backend: Backend) -> None:
    writers, rounds = 10, 5
    store = backend.store()
    store.create(POLICY, policy(0))

    def add(_: int) -> int:
        mine, conflicts = backend.store(), 0
        for _round in range(rounds):
            for _try in range(1000):
                found = mine.get(POLICY)
                try:
                    mine.update(POLICY, policy(found.document["spec"]["order"] + 1), found.revision)
                except ConflictError:
                    conflicts += 1
                else:
                    break
        mine.close()
        return conflicts

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(add, range(writers)))
    assert store.get(POLICY).document["spec"]["order"] == writers * rounds
    store.close()


def test_dir_names_are_not_taken_for_paths(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="can't be that of a file"):
        DirStore(tmp_path).create(ResourceKey("GlobalNetworkPolicy", "", "../../etc/x"), policy(1))
