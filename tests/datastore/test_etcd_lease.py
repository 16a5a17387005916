"""Leadership by lease, and the fence: whoever was deposed, or only sleeps too long, writes nothing any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hostward.datastore.connection import Connection, from_environment
from hostward.datastore.etcd.lease import Fence, Leadership
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.store import ConflictError, FencedError, NotFoundError
from hostward.model.keys import ROOT, ResourceKey
from tests.controller.recorder import until
from tests.lab.etcd import Etcd

pytestmark = pytest.mark.etcd

KEY = "/hostward/test/leader"
SET = ResourceKey("GlobalNetworkSet", "", "x")


@pytest.fixture(scope="module")
def server() -> Iterator[Etcd]:
    with Etcd() as one:
        yield one


@pytest.fixture
def etcd(server: Etcd) -> Etcd:
    server.delete("/", prefix=True)
    return server


def connection(etcd: Etcd) -> Connection:
    return from_environment(etcd.env)


@contextmanager
def campaigning(etcd: Etcd, name: str, *, ttl: int = 2) -> Iterator[Leadership]:
    leadership, stop = Leadership(connection(etcd), KEY, name, ttl=ttl), threading.Event()
    thread = threading.Thread(target=leadership.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield leadership
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def store(etcd: Etcd, fence: Callable[[], Fence | None]) -> EtcdStore:
    return EtcdStore(connection(etcd), fence=fence)


def leads(one: Leadership) -> Callable[[], bool]:
    return lambda: one.fence() is not None


def test_one_leads_the_other_waits_and_takes_over(etcd: Etcd) -> None:
    with campaigning(etcd, "second") as second:
        with campaigning(etcd, "first") as first:
            until(lambda: first.fence() or second.fence(), "a leader")
            leader, follower = (first, second) if first.fence() else (second, first)
            until(lambda: follower.leader == leader.leader, "the other knows who leads")
            assert follower.fence() is None
        until(leads(second), "the one that is left")
        assert etcd.get(KEY) == b"second"
    assert etcd.get(KEY) is None, "given back at the end"


def test_the_lease_is_kept_alive(etcd: Etcd) -> None:
    with campaigning(etcd, "a", ttl=2) as one:
        until(leads(one), "a leader")
        fence = one.fence()
        # Three lives of the lease, by etcd's own word: a second key under a lease of the same length expires thrice.
        for _ in range(3):
            lease = etcd.ctl("lease", "grant", "2").split()[1].decode()
            etcd.ctl("put", f"--lease={lease}", "/clock", "x")
            until(lambda: etcd.get("/clock") is None, "another lease expires")
        assert one.fence() == fence
        assert one.terms == 1


def test_a_leader_whose_key_is_gone_steps_down_and_comes_back(etcd: Etcd) -> None:
    with campaigning(etcd, "a") as one:
        until(leads(one), "a leader")
        before = one.fence()
        lease = etcd.ctl("lease", "list").split()[-1].decode()
        etcd.ctl("lease", "revoke", lease)
        until(lambda: one.terms == 2 and one.fence(), "another term")
        assert one.fence() != before


def test_writes_pass_the_fence_of_the_present_term_only(etcd: Etcd) -> None:
    with campaigning(etcd, "a") as one:
        until(leads(one), "a leader")
        mine = store(etcd, one.fence)
        revision = mine.create(SET, {"spec": {"nets": ["10.0.0.0/8"]}})
        revision = mine.update(SET, {"spec": {}}, revision)
        stale = store(etcd, lambda: Fence(KEY.encode(), 1))
        for write in (
            lambda: stale.create(ResourceKey("GlobalNetworkSet", "", "y"), {}),
            lambda: stale.update(SET, {"spec": {"nets": ["0.0.0.0/0"]}}, revision),
            lambda: stale.delete(SET, revision),
            lambda: stale.delete(SET),
        ):
            with pytest.raises(FencedError):
                write()
        assert mine.get(SET).revision == revision
        assert stale.list("GlobalNetworkSet")[1] == mine.list("GlobalNetworkSet")[1], "reading is free"
        with pytest.raises(ConflictError):
            mine.update(SET, {}, revision - 1)
        with pytest.raises(NotFoundError):
            mine.update(ResourceKey("GlobalNetworkSet", "", "y"), {}, 7)
        mine.delete(SET, revision)
        mine.close()
        stale.close()


def test_a_leader_that_slept_is_fenced_off(etcd: Etcd) -> None:
    """Its lease expires while it isn't running; somebody else leads; what it does when it wakes up has no effect."""
    clock = [0.0]
    sleeper = Leadership(connection(etcd), KEY, "sleeper", ttl=2, now=lambda: clock[0])
    sleeper._term = sleeper._campaign()
    fence = sleeper.fence()
    assert fence is not None
    with campaigning(etcd, "other") as other:
        until(leads(other), "the other, once the lease has expired")
        # By its own clock no time has passed: only the fence is left.
        assert sleeper.fence() == fence
        asleep = store(etcd, sleeper.fence)
        with pytest.raises(FencedError):
            asleep.create(SET, {"spec": {}})
        sleeper.deposed()
        with pytest.raises(FencedError):
            asleep.create(SET, {"spec": {}})
        asleep.close()
        assert store(etcd, other.fence).create(SET, {"spec": {}})


def test_a_leader_that_cant_reach_etcd_knows_when_its_time_is_up(etcd: Etcd) -> None:
    clock = [0.0]
    one = Leadership(connection(etcd), KEY, "one", ttl=2, now=lambda: clock[0])
    one._term = one._campaign()
    clock[0] = 1.9
    assert one.fence()
    clock[0] = 2.0
    assert one.fence() is None


def test_a_server_that_comes_back(etcd: Etcd) -> None:
    with campaigning(etcd, "a", ttl=5) as one:
        until(leads(one), "a leader")
        etcd.kill()
        until(lambda: one.trouble, "the loss is noticed")
        etcd.start()
        until(lambda: not one.trouble and one.fence(), "it leads again")


def test_a_user_with_just_these_rights_leads_and_writes_for_longer_than_its_token_lives() -> None:
    with Etcd(options=["--auth-token-ttl", "1"]) as guarded:
        guarded.ctl("user", "add", "root:secret")
        guarded.ctl("user", "grant-role", "root", "root")
        guarded.ctl("role", "add", "controller")
        for prefix in (ROOT, "/hostward/"):
            guarded.ctl("role", "grant-permission", "controller", "--prefix=true", "readwrite", prefix)
        guarded.ctl("user", "add", "controller:secret")
        guarded.ctl("user", "grant-role", "controller", "controller")
        guarded.ctl("auth", "enable")
        guarded.user = "controller:secret"
        with campaigning(guarded, "a", ttl=2) as one:
            until(leads(one), "a leader")
            mine = store(guarded, one.fence)
            revision = mine.create(SET, {"spec": {}})
            guarded.user = "root:secret"
            for number in range(3):
                lease = guarded.ctl("lease", "grant", "2").split()[1].decode()
                guarded.ctl("put", f"--lease={lease}", "/clock", "x")
                until(lambda: guarded.get("/clock") is None, "another lease expires")
                revision = mine.update(SET, {"metadata": {"labels": {"n": str(number)}}}, revision)
            assert one.terms == 1
            mine.close()
        assert guarded.get(KEY) is None, "given back"
