"""The etcd feed through everything that happens to servers: nothing missed, nothing twice."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datastore.connection import Connection, from_environment
from hostward.datastore.etcd import client as etcd_client
from hostward.datastore.etcd.errors import EtcdError, Trouble
from hostward.datastore.etcd.feed import EtcdFeed
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.store import AlreadyExistsError, StoreError
from hostward.model.keys import ROOT, ResourceKey
from tests.datastore.recorder import WITHIN, Recorder, running
from tests.lab.etcd import Etcd, free_ports
from tests.lab.etcd_cluster import EtcdCluster

pytestmark = pytest.mark.etcd


def connection(*servers: Etcd) -> Connection:
    return from_environment(servers[0].env | {"ETCD_ENDPOINTS": ",".join(one.url for one in servers)})


def feed(*servers: Etcd, page: int = 1000) -> EtcdFeed:
    """A feed that looks after a silent server sooner than the agent's."""
    return EtcdFeed(connection(*servers), page=page, probe_after=0.5, probe_deadline=1.0)


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    with Etcd() as server:
        yield server


@contextmanager
def out_of_reach(server: Etcd) -> Iterator[None]:
    """The server works, for etcdctl, but where the feed doesn't look."""
    port = server.port
    server.stop()
    server.port = free_ports(1)[0]
    server.start()
    try:
        yield
    finally:
        server.stop()
        server.port = port
        server.start()


class Writer:
    """Writes new keys as fast as the store lets it, and remembers the revisions that were confirmed."""

    def __init__(self, *servers: Etcd) -> None:
        self.confirmed: dict[str, int] = {}
        self._store, self._stop = EtcdStore(replace(connection(*servers), timeout=1.0)), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for number in range(100_000):
            if self._stop.wait(0.005):
                break
            key = ResourceKey("GlobalNetworkSet", "", f"w{number}")
            try:
                revision = self._store.create(key, {"spec": {}})
            except AlreadyExistsError:
                continue
            except StoreError:
                self._stop.wait(0.05)
            else:
                self.confirmed[f"{ROOT}globalnetworksets/w{number}"] = revision
        self._store.close()

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


def seen(heard: Recorder) -> list[tuple[str, int]]:
    """All values that came as changes, with the revisions that wrote them."""
    return [(key, stored.revision) for one in heard.changed for key, stored in one.objects.items() if stored]


def grown(heard: Recorder, size: int) -> Callable[[], bool]:
    return lambda: len(heard.state) >= size


def has_snapshot(heard: Recorder) -> Callable[[], bool]:
    return lambda: bool(heard.snapshots)


def caught_up(heard: Recorder, writer: Writer) -> Callable[[], bool]:
    return lambda: set(writer.confirmed) <= heard.state.keys()


def test_pages_are_all_of_one_revision(etcd: Etcd) -> None:
    # The writer's keys sort after these: a later page that isn't of the first one's revision holds too many of them.
    lines = [f'put {ROOT}a{number:03} "0"' for number in range(100)]
    etcd.ctl("txn", data="\n".join(["", *lines, "", "", ""]).encode())
    with Writer(etcd) as writer:
        for _ in range(5):
            with running(feed(etcd, page=7)) as heard:
                heard.wait(has_snapshot(heard))
            snapshot = heard.snapshots[0]
            answer = json.loads(etcd.ctl("get", "--prefix", ROOT, "--rev", str(snapshot.revision), "-w", "json"))
            stored = {base64.b64decode(kv["key"]).decode(): kv["mod_revision"] for kv in answer["kvs"]}
            assert {key: one.revision for key, one in snapshot.objects.items()} == stored
    assert len(writer.confirmed) > 5


def test_changes_between_snapshot_and_watch_are_not_missed(etcd: Etcd) -> None:
    with Writer(etcd) as writer:
        for _ in range(5):
            with running(feed(etcd)) as heard:
                wanted = len(writer.confirmed) + 10
                heard.wait(grown(heard, wanted))
                heard.wait(caught_up(heard, writer))


def test_a_revision_is_never_split(etcd: Etcd) -> None:
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        etcd.transaction({f"{ROOT}many/{number}": "x" for number in range(100)})
        heard.wait(lambda: len(heard.state) == 100)
        assert [len(one.objects) for one in heard.changed] == [100]
        with out_of_reach(etcd):
            for again in "abc":
                etcd.transaction({f"{ROOT}many/{number}": again for number in range(100)})
        heard.wait(lambda: {one.value for one in heard.state.values()} == {b"c"})
        assert {len(one.objects) for one in heard.changed} == {100}
        assert len(heard.snapshots) == 1


def test_many_revisions_behind(etcd: Etcd) -> None:
    """A server sends at most 1000 revisions at once to a watch that lags."""
    etcd.put(f"{ROOT}first", "x")
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        with out_of_reach(etcd):
            moved = EtcdStore(connection(etcd))
            for number in range(1200):
                moved.create(ResourceKey("GlobalNetworkSet", "", f"s{number}"), {})
            moved.close()
        heard.wait(lambda: len(heard.state) == 1201)
        assert len(heard.snapshots) == 1
        assert len(seen(heard)) == len(set(seen(heard))) == 1200


def test_revisions_elsewhere_advance_ours(etcd: Etcd) -> None:
    etcd.stop()
    etcd.options += ["--experimental-watch-progress-notify-interval", "200ms"]
    etcd.start()
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        revision = etcd.put("/calico/ipam/v2/x", "1")
        heard.wait(lambda: heard.revision >= revision)
        assert all(not one.objects for one in heard.changed)


def test_three_kills_under_writes(etcd: Etcd) -> None:
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        with Writer(etcd) as writer:
            for _ in range(3):
                heard.wait(grown(heard, len(heard.state) + 20))
                etcd.kill()
                etcd.start()
        heard.wait(caught_up(heard, writer))
        assert len(heard.snapshots) == 1, "resumed, not read again"
        told = seen(heard)
        assert len(told) == len(set(told))
        assert set(writer.confirmed.items()) <= set(told)
        assert heard.losses


def test_a_frozen_server_is_noticed(etcd: Etcd) -> None:
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        contacts = heard.contacts
        heard.wait(lambda: heard.contacts > contacts + 2, "an idle server confirms itself")
        etcd.freeze()
        heard.wait(lambda: heard.losses)
        etcd.thaw()
        etcd.put(f"{ROOT}x", "after")
        heard.wait_for(f"{ROOT}x", b"after")


def test_a_server_frozen_from_the_start_does_not_hold_the_stop_up(etcd: Etcd) -> None:
    etcd.freeze()
    with running(feed(etcd)) as heard:
        time.sleep(0.3)
    assert not heard.snapshots
    etcd.thaw()


def test_a_compaction_while_away_leads_to_a_snapshot(etcd: Etcd) -> None:
    etcd.transaction({f"{ROOT}stays": "1", f"{ROOT}goes": "1", f"{ROOT}changes": "1"})
    with running(feed(etcd)) as heard:
        heard.wait(lambda: len(heard.state) == 3)
        with out_of_reach(etcd):
            etcd.delete(f"{ROOT}goes")
            etcd.put(f"{ROOT}changes", "2")
            etcd.put(f"{ROOT}comes", "1")
            etcd.compact()
        heard.wait(lambda: len(heard.snapshots) == 2)
        assert {key.removeprefix(ROOT): one.value for key, one in heard.state.items()} == {
            "stays": b"1",
            "changes": b"2",
            "comes": b"1",
        }
        assert not heard.changed
        etcd.put(f"{ROOT}comes", "2")
        heard.wait_for(f"{ROOT}comes", b"2")


def test_a_compaction_that_only_the_watch_sees(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can come between our look at the history and the watch; without that look it always does."""
    monkeypatch.setattr(EtcdFeed, "_confirm", lambda *_: None)
    etcd.put(f"{ROOT}x", "1")
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        with out_of_reach(etcd):
            etcd.put(f"{ROOT}x", "2")
            etcd.put(f"{ROOT}x", "3")
            etcd.compact()
        heard.wait(lambda: len(heard.snapshots) == 2)
        assert heard.state[f"{ROOT}x"].value == b"3"


@pytest.mark.parametrize("written_after", [0, 1, 20], ids=["nothing", "less", "more"])
def test_a_restored_store_is_read_again(etcd: Etcd, tmp_path: Path, written_after: int) -> None:
    """Also when the restored one has reached our revision again, by other changes: then only our newest value tells."""
    etcd.put(f"{ROOT}old", "1")
    etcd.stop()
    etcd.backup(tmp_path / "backup")
    etcd.start()
    etcd.put(f"{ROOT}old", "2")
    for number in range(5):
        etcd.put(f"{ROOT}lost{number}", "1")
    with running(feed(etcd)) as heard:
        heard.wait(lambda: len(heard.state) == 6)
        port = etcd.port
        etcd.stop()
        etcd.restore(tmp_path / "backup")
        etcd.port = free_ports(1)[0]
        etcd.start()
        for number in range(written_after):
            etcd.put(f"{ROOT}new{number}", "1")
        etcd.stop()
        etcd.port = port
        etcd.start()
        heard.wait(lambda: len(heard.snapshots) == 2)
        expected = etcd.list(ROOT)
        assert {key: one.value for key, one in heard.state.items()} == expected
        assert expected[f"{ROOT}old"] == b"1"
        etcd.put(f"{ROOT}after", "1")
        heard.wait_for(f"{ROOT}after", b"1")


def test_another_cluster_is_read_from_scratch(etcd: Etcd) -> None:
    etcd.put(f"{ROOT}mine", "1")
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        with Etcd(options=["--initial-cluster-token", "other"]) as other:
            other.put(f"{ROOT}mine", "1")
            other.put(f"{ROOT}mine/too", "1")
            other.stop()
            etcd.stop()
            other.port = etcd.port
            other.start()
            heard.wait(lambda: len(heard.snapshots) == 2)
            assert any("another etcd cluster" in text for text in heard.losses)


def test_endpoints_are_tried_in_turn(etcd: Etcd) -> None:
    etcd.put(f"{ROOT}x", "1")
    for _ in range(2):
        servers = from_environment({"ETCD_ENDPOINTS": f"http://127.0.0.1:1,http://127.0.0.1:2,{etcd.url}"})
        rotating = EtcdFeed(servers)
        with running(rotating) as heard:
            heard.wait_for(f"{ROOT}x", b"1")
            assert ("127.0.0.1", etcd.port) in rotating.peers()
            assert len(rotating.peers()) == 3


def test_a_leader_that_dies() -> None:
    with EtcdCluster() as cluster, running(feed(*cluster.members)) as heard:
        heard.wait(lambda: heard.snapshots)
        with Writer(*cluster.members) as writer:
            for _ in range(2):
                heard.wait(grown(heard, len(heard.state) + 20))
                member = cluster.leader()
                member.kill()
                heard.wait(grown(heard, len(heard.state) + 20), "writes go on without the old leader")
                member.start()
        heard.wait(caught_up(heard, writer))
        assert len(heard.snapshots) == 1
        told = seen(heard)
        assert len(told) == len(set(told))
        assert set(writer.confirmed.items()) <= set(told)


def test_odd_keys_and_values(etcd: Etcd) -> None:
    root = ROOT.encode()
    odd = {
        root + b"x" * 5000: b"long",
        root + b"\xff\xfe\x01": b"\x00\xff",
        root + b"a/../b//c": b"",
        root: b"root itself",
        root + "päth\n".encode(): b"[" * 5000,
    }
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        for key, value in odd.items():
            etcd.put(key, value)
        heard.wait(lambda: len(heard.state) == len(odd))
        assert {one.value for one in heard.state.values()} == set(odd.values())
        etcd.delete(root + b"\xff\xfe\x01")
        heard.wait(lambda: len(heard.state) == len(odd) - 1)
    with running(feed(etcd, page=1)) as heard:
        heard.wait(lambda: heard.snapshots)
        assert len(heard.state) == len(odd) - 1


def test_answers_larger_than_we_accept(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_client, "RECEIVE_LIMIT", 3 << 20)
    big = b"x" * (1 << 20)
    for number in range(5):
        etcd.put(f"{ROOT}big{number}", big)
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        assert len(heard.state) == 5
        with out_of_reach(etcd):
            for number in range(5):
                etcd.put(f"{ROOT}big{number}", big + b"2")
        heard.wait(lambda: len(heard.snapshots) == 2)
        assert {len(one.value) for one in heard.state.values()} == {len(big) + 1}


def test_a_full_store_says_so(etcd: Etcd) -> None:
    etcd.stop()
    etcd.options += ["--quota-backend-bytes", str(2 << 20)]
    etcd.start()
    store = EtcdStore(connection(etcd))

    def fill() -> None:
        """etcd counts what it has written out, which it does ten times a second at most: until then it takes in what comes."""
        deadline = time.monotonic() + WITHIN
        for number in itertools.takewhile(lambda _: time.monotonic() < deadline, itertools.count()):
            try:
                store.create(ResourceKey("GlobalNetworkSet", "", f"s{number}"), {"spec": {"x": "y" * (1 << 20)}})
            except EtcdError as error:
                if error.trouble is not Trouble.UNREACHABLE:  # too slow for once
                    raise

    with pytest.raises(StoreError, match="out of space"):
        fill()
    store.close()
    with running(feed(etcd)) as heard:
        heard.wait(lambda: heard.snapshots)
        heard.wait(lambda: any("NOSPACE" in text for text in heard.losses))
        contacts = heard.contacts
        heard.wait(lambda: heard.contacts > contacts, "it can still be read")


@pytest.mark.parametrize("assumed", [True, False])
def test_an_etcd_that_nobody_named_is_said_to_be_a_guess(assumed: bool) -> None:
    nowhere = replace(from_environment({"ETCD_ENDPOINTS": "http://127.0.0.1:1"}), assumed=assumed)
    with running(EtcdFeed(nowhere)) as heard:
        heard.wait(lambda: heard.losses)
    assert ("nothing says where etcd is" in heard.losses[0]) is assumed
