"""Reflectors against a server that fails, forgets and lies: the rules of kubernetes 4.2 by number, then fault by fault."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hostward.kube import reflector as module
from hostward.kube.access import Access, Source
from hostward.kube.client import Client
from hostward.kube.reflector import Reflector
from hostward.kube.watching import Name, Object, Resource
from tests.controller.recorder import Recorder, Time, until
from tests.lab.kubeapi import TOKEN, FakeApi
from tests.lab.kubeapi_objects import ADMIN_POLICIES, SLICES

MAPS = Resource("/api/v1", "configmaps", "ConfigMap")
POLICIES = Resource("/apis/policy.networking.k8s.io/v1alpha1", "adminnetworkpolicies", "AdminNetworkPolicy", namespaced=False)
ENDPOINTS = Resource(SLICES["v1"].path, "endpointslices", "EndpointSlice", older=(SLICES["v1beta1"].path,))


class Following:
    """One reflector of a fake server, in a thread, in a time of its own."""

    def __init__(self, api: FakeApi, folder: Path) -> None:
        self.api, self.time, self.seen = api, Time(), Recorder()
        self.token = folder / "token"
        self.token.write_text(f"{TOKEN}\n")
        self.access = Access("127.0.0.1", api.port, tls=False, token=Source("token file", self.token))
        self.client = Client(self.access, now=self.time.pace.now)
        self.stop = threading.Event()
        self.problem: BaseException | None = None
        self.thread: threading.Thread | None = None

    def start(self, resource: Resource = MAPS, project: Callable[[Object], Object] | None = None) -> Reflector:
        self.reflector = Reflector(self.client, resource, self.seen, project=project, pace=self.time.pace)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self.reflector

    def _run(self) -> None:
        try:
            self.reflector.run(self.stop)
        except BaseException as error:  # noqa: BLE001 # shown at the end
            self.problem = error

    def end(self) -> None:
        self.stop.set()
        self.client.close()
        if self.thread:
            self.thread.join(20)
            assert not self.thread.is_alive()
        if self.problem:
            raise self.problem

    # --- what tests wait for
    def watching(self, watches: int = 1) -> None:
        """A stream is open, and it's at least the so manieth."""
        until(lambda: self.reflector.watches >= watches and self.api.open_watches == 1, "a watch")

    def names(self) -> set[str]:
        return {name.name for name in self.seen.objects}

    def sees(self, *names: str) -> None:
        until(lambda: self.names() == set(names), f"{names} in {self.names()}")

    def hold(self) -> None:
        """From now on a failed try is followed by another one only after `time.step`."""
        self.time.flows = False

    def waited(self, times: int) -> None:
        until(lambda: len(self.time.waits) >= times, f"{times} waits in {self.time.waits}")


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as one:
        yield one


@pytest.fixture
def follow(api: FakeApi, tmp_path: Path) -> Iterator[Following]:
    one = Following(api, tmp_path)
    yield one
    one.end()


def cmap(name: str, value: str = "1") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}}


def admin_policy(name: str) -> dict[str, Any]:
    return {"apiVersion": ADMIN_POLICIES.api_version, "kind": "AdminNetworkPolicy", "metadata": {"name": name}}


# --- 1: pages --------------------------------------------------------------------------------------------------------------
def test_a_list_comes_in_pages_and_whole(api, follow):
    for number in range(1201):
        api.create(cmap(f"m{number:04}"))
    follow.start()
    follow.watching()
    assert [len(found) for found in follow.seen.lists] == [1201]
    assert (api.count("list"), api.count("continue")) == (1, 2)
    assert api.last("list").query == {"limit": "500"}
    assert api.last("continue").query["limit"] == "500"
    assert api.last("watch").query["resourceVersion"] == str(api.objects.revision)


def test_pages_that_expire_start_the_list_again(api, follow):
    for number in range(501):
        api.create(cmap(f"m{number:04}"))
    api.fail("continue", 410)
    follow.start()
    follow.watching()
    assert (api.count("list"), api.count("continue")) == (2, 2)
    assert [len(found) for found in follow.seen.lists] == [501]
    assert follow.reflector.errors == {"Expired": 1}
    assert len(follow.seen.lost_reasons) == 1, "a list that isn't complete is told"


def test_pages_without_an_end(api, follow, monkeypatch):
    monkeypatch.setattr(module, "MOST_PAGES", 3)
    page = {"kind": "ConfigMapList", "metadata": {"resourceVersion": "7", "continue": "again"}, "items": []}
    api.answer("list", json.dumps(page).encode())
    api.answer("continue", json.dumps(page).encode(), times=3)
    follow.start()
    follow.watching()
    assert follow.reflector.errors == {"TooLarge": 1}


# --- 2: replace ------------------------------------------------------------------------------------------------------------
def test_what_vanished_meanwhile_is_gone(api, follow):
    kept, gone = api.create(cmap("kept")), api.create(cmap("gone"))
    follow.start()
    follow.watching()
    follow.hold()
    api.stop()
    follow.waited(1)
    api.delete(gone)
    api.update(kept | {"data": {"value": "2"}})
    api.create(cmap("new"))
    api.compact()
    api.start()
    follow.time.flows = True
    follow.sees("kept", "new")
    assert follow.seen.objects[Name("default", "kept")]["data"] == {"value": "2"}
    assert follow.seen.events == [], "a list says it all"


# --- 3: the watch ----------------------------------------------------------------------------------------------------------
def test_what_a_watch_asks_for(api, follow):
    follow.start()
    follow.watching()
    query = dict(api.last("watch").query)
    assert query == {
        "watch": "true",
        "resourceVersion": str(api.objects.revision),
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "590",
    }
    assert (290.0, 590.0) in follow.time.ranges


def test_a_watch_that_says_nothing_is_given_up(api, follow, monkeypatch):
    monkeypatch.setattr(module, "WATCH", (1.0, 1.0))
    monkeypatch.setattr(module, "GRACE", 0.5)
    api.create(cmap("a"))
    api.stall("watch")
    follow.start()
    until(lambda: follow.reflector.errors["Stalled"] == 1, "the end of silence")
    follow.watching()
    assert follow.names() == {"a"}
    assert api.count("list") == 2, "the server may be another one by now"


def test_a_watch_that_outlives_its_time_is_given_up(api, follow):
    follow.start()
    follow.watching()
    follow.time.pass_(590 + 15 + 1)
    api.create(cmap("late"))
    until(lambda: follow.reflector.errors["Stalled"] == 1, "the end")
    follow.sees("late")


def test_the_kernel_looks_after_silent_connections(api, follow):
    follow.start()
    follow.watching()
    ss = shutil.which("ss")
    assert ss, "iproute2 is among what `make setup` installs"
    shown = subprocess.run([ss, "-tnoH", f"dport = :{api.port}"], capture_output=True, text=True, check=True).stdout
    timers = [line.split("timer:(keepalive,")[1] for line in shown.splitlines() if "timer:(keepalive," in line]
    assert timers, shown
    assert all(float(timer.split("sec")[0]) <= 30 for timer in timers), shown


# --- 4: versions -----------------------------------------------------------------------------------------------------------
def test_a_watch_goes_on_after_the_last_event(api, follow):
    follow.start()
    follow.watching()
    made = api.create(cmap("a"))
    follow.sees("a")
    follow.time.pass_(20)
    api.end_watches()
    follow.watching(2)
    assert api.last("watch").query["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert (api.count("list"), follow.time.waits) == (1, []), "a proper end is no error"
    assert follow.seen.lost_reasons == []


def test_a_watch_goes_on_after_a_bookmark(api, follow):
    follow.start()
    follow.watching()
    api.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}} | {"kind": "Service"})
    before = follow.seen.contacts
    api.bookmark()
    until(lambda: follow.seen.contacts > before, "contact by the bookmark")
    follow.time.pass_(20)
    api.end_watches()
    follow.watching(2)
    assert api.last("watch").query["resourceVersion"] == str(api.objects.revision)
    assert follow.seen.events == [], "a bookmark is no object"


def test_versions_are_the_lists_own_and_opaque(api, follow):
    item = {"metadata": {"name": "a", "namespace": "default", "resourceVersion": "99999"}}
    page = {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "v/7 &x=é"}, "items": [item]}
    api.answer("list", json.dumps(page).encode())
    api.stall("watch")
    follow.start()
    until(lambda: api.count("watch"), "the watch")
    assert api.last("watch").query["resourceVersion"] == "v/7 &x=é"


# --- 5: forgotten ----------------------------------------------------------------------------------------------------------
def test_an_expired_watch_lists_again(api, follow):
    api.create(cmap("a"))
    follow.start()
    follow.watching()
    follow.time.pass_(20)
    api.expire_watches()
    follow.watching(2)
    assert (api.count("list"), follow.reflector.errors) == (2, {"Expired": 1})
    assert follow.time.waits == [1.0], "with back-off"
    assert follow.seen.lost_reasons == [], "the server is there, and it will be asked at once"


@pytest.mark.parametrize(("code", "reason"), [(410, "Expired"), (504, "Timeout"), (500, "InternalError")])
def test_a_watch_that_is_refused_lists_again(api, follow, code, reason):
    api.fail("watch", code)
    follow.start()
    follow.watching()
    assert (api.count("list"), follow.reflector.errors) == (2, {reason: 1})


def test_any_error_in_a_stream_lists_again(api, follow):
    follow.start()
    follow.watching()
    error = {"kind": "Status", "code": 500, "message": "etcd event received with PrevKv=nil"}
    api.send(json.dumps({"type": "ERROR", "object": error}).encode() + b"\n")
    follow.watching(2)
    assert (api.count("list"), follow.reflector.errors) == (2, {"ErrorEvent": 1})


def test_a_server_that_always_forgets_is_asked_more_and_more_rarely(api, follow):
    api.fail("watch", 410, times=6)
    follow.start()
    follow.watching()
    assert follow.time.waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]


# --- 6: back-off -----------------------------------------------------------------------------------------------------------
def test_back_off_doubles_with_full_jitter(api, follow):
    api.fail("list", 503, times=8)
    follow.start()
    follow.watching()
    assert follow.time.waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert follow.time.ranges[:3] == [(0.0, 1.0), (0.0, 2.0), (0.0, 4.0)]


@pytest.mark.parametrize(("healthy", "next_wait"), [(9.0, 4.0), (10.0, 1.0)])
def test_back_off_begins_anew_after_a_healthy_while(api, follow, healthy, next_wait):
    api.fail("list", 503, times=2)
    follow.start()
    follow.watching()
    follow.time.pass_(healthy)
    api.cut_watches()
    follow.watching(2)
    assert follow.time.waits == [1.0, 2.0, next_wait]


@pytest.mark.parametrize(
    ("asked", "wait"), [("7", 7.0), ("0", 1.0), ("999999", 300.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0), ("-5", 1.0)]
)
@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_honoured(api, follow, code, asked, wait):
    api.fail("list", code, retry_after=asked)
    follow.start()
    follow.watching()
    assert follow.time.waits == [wait]


def test_a_new_token_is_read_as_soon_as_the_old_one_is_refused(api, follow):
    follow.start()
    follow.watching()
    follow.hold()
    api.token = "renewed-token"
    follow.time.pass_(11)
    api.cut_watches()
    follow.waited(1)
    follow.time.step()
    follow.waited(2)
    assert follow.reflector.errors == {"Cut": 1, "Unauthorized": 1}
    follow.token.write_text("renewed-token")
    follow.time.step()
    follow.watching(2)
    assert follow.names() == set()


def test_a_token_is_read_again_every_minute(api, follow):
    follow.start()
    follow.watching()
    follow.token.write_text("renewed-token")
    follow.time.pass_(30)
    api.end_watches()
    follow.watching(2)
    assert api.last("watch").token == TOKEN, "not with every request"
    api.token = "renewed-token"
    follow.time.pass_(31)
    api.end_watches()
    follow.watching(3)
    assert follow.reflector.errors == {}


def test_a_missing_permission_is_told_once_a_minute(api, follow):
    api.create(cmap("a"))
    follow.start()
    follow.watching()
    follow.hold()
    api.fail("watch", 403, times=9)
    follow.time.pass_(20)
    api.end_watches()
    told = []
    for number in range(1, 9):
        follow.waited(number)
        assert follow.reflector.forbidden
        told.append(len(follow.seen.lost_reasons))
        follow.time.step()
    follow.waited(9)
    assert follow.time.waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
    assert told == [1, 1, 1, 1, 1, 1, 2, 2], "after 61 s"
    assert follow.names() == {"a"}
    follow.time.step()
    follow.watching(2)
    assert not follow.reflector.forbidden


# --- 7: lists now and then -------------------------------------------------------------------------------------------------
def test_a_server_that_went_back_and_stays_silent_is_found_out(api, follow):
    saved = api.objects.saved()
    api.create(cmap("undone"))
    follow.start()
    follow.watching()
    api.objects = saved  # behind everybody's back: no connection breaks
    follow.time.pass_(300)
    api.end_watches()
    follow.watching(2)
    api.create(cmap("unseen"))
    assert follow.names() == {"undone"}, "a version from the future is silence"
    follow.time.pass_(300)
    api.end_watches()
    follow.sees("unseen")
    assert follow.reflector.errors == {}


def test_lists_come_at_least_every_eleven_minutes(api, follow):
    follow.start()
    follow.watching()
    for number in range(1, 7):
        asked = int(api.last("watch").query["timeoutSeconds"])
        assert 290 <= asked <= 590
        follow.time.pass_(asked)
        api.end_watches()
        follow.watching(number + 1)
    assert (540.0, 660.0) in follow.time.ranges
    assert api.count("list") == 7, "after 590 s there is no time for another watch before the list is due"


def test_a_shorter_watch_is_followed_by_one_that_ends_before_a_list_is_due(api, follow):
    follow.start()
    follow.watching()
    follow.time.pass_(300)
    api.end_watches()
    follow.watching(2)
    assert api.count("list") == 1
    assert api.last("watch").query["timeoutSeconds"] == "360"


def test_a_restored_server_that_was_away_is_listed_at_once(api, follow):
    saved = api.objects.saved()
    api.create(cmap("undone"))
    follow.start()
    follow.watching()
    follow.hold()
    api.stop()
    follow.waited(1)
    follow.time.step()
    follow.waited(2)
    assert follow.reflector.errors == {"Cut": 1, "Unreachable": 1}
    api.restore(saved)
    follow.time.flows = True
    follow.sees()
    follow.watching(2)


# --- 8: an error is never empty --------------------------------------------------------------------------------------------
def _list(**changed: Any) -> bytes:
    page = {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": []} | changed
    return json.dumps({name: value for name, value in page.items() if value != "absent"}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"<html>Please log in</html>",
        b'{"kind":"ConfigMapList","metadata":{"resourceVersion":"7"},"items":[',
        b'{"kind":"ConfigMapList","metadata":{"resourceVersion":"7"},"items":[' + b"[" * 100_000,
        b"\xff\xfe",
        _list(kind="Status"),
        _list(kind="SecretList"),
        _list(items="absent"),
        _list(items={}),
        _list(items=[7]),
        _list(items=[{}]),
        _list(items=[{"metadata": {"name": "a"}}]),
        _list(items=[{"metadata": {"name": 7, "namespace": "x"}}]),
        _list(metadata={}),
        _list(metadata="absent"),
        _list(metadata={"resourceVersion": 7}),
        _list(metadata={"resourceVersion": "7", "continue": 7}),
    ],
)
def test_an_answer_that_is_no_list_changes_nothing(api, follow, body):
    api.create(cmap("a"))
    follow.start()
    follow.watching()
    follow.time.pass_(20)
    api.answer("list", body)
    api.expire_watches()
    follow.watching(2)
    assert follow.reflector.errors == {"Expired": 1, "Malformed": 1}
    assert [set(found) for found in follow.seen.lists] == [{Name("default", "a")}] * 2
    assert len(follow.seen.lost_reasons) == 1


@pytest.mark.parametrize("code", [301, 302, 400, 401, 403, 404, 410, 418, 429, 500, 502, 503, 504])
def test_a_refused_list_changes_nothing(api, follow, code):
    api.create(cmap("a"))
    follow.start()
    follow.watching()
    follow.hold()
    follow.time.pass_(20)
    api.fail("list", code, times=2)
    api.expire_watches()
    for number in range(1, 4):
        follow.waited(number)
        assert follow.names() == {"a"}
        follow.time.step()
    follow.watching(2)
    assert len(follow.seen.lists) == 2
    assert follow.seen.lost_reasons
    assert sum(follow.reflector.errors.values()) == 3


def test_a_list_that_fails_on_its_second_page_changes_nothing(api, follow):
    for number in range(501):
        api.create(cmap(f"m{number:04}"))
    follow.start()
    follow.watching()
    api.fail("continue", 503)
    follow.time.pass_(20)
    api.expire_watches()
    follow.watching(2)
    assert [len(found) for found in follow.seen.lists] == [501, 501]


def test_null_items_are_an_empty_list(api, follow):
    """As Go writes a list that was never filled."""
    api.answer("list", _list(items=None, metadata={"resourceVersion": str(api.objects.revision)}))
    follow.start()
    follow.watching()
    assert follow.seen.lists == [{}]


# --- faults ----------------------------------------------------------------------------------------------------------------
def test_a_server_that_refuses_connections(api, follow):
    api.stop()
    follow.start()
    follow.waited(3)
    assert set(follow.reflector.errors) == {"Unreachable"}
    assert follow.seen.lists == []
    assert follow.seen.lost_reasons[0] == f"http://127.0.0.1:{api.port}: Connection refused"
    api.start()
    follow.watching()


def test_a_stream_that_breaks_in_the_middle_of_a_line(api, follow):
    follow.start()
    follow.watching()
    api.create(cmap("a"))
    follow.sees("a")
    api.cut_watches()
    follow.watching(2)
    assert (api.count("list"), follow.reflector.errors) == (2, {"Cut": 1})
    assert len(follow.seen.events) == 1
    assert follow.names() == {"a"}


def test_a_server_that_came_back_with_an_older_store_before_the_next_try(api, follow):
    """It would take our version for one from the future, and say nothing (rule 7)."""
    saved = api.objects.saved()
    api.create(cmap("undone"))
    follow.start()
    follow.watching()
    follow.hold()
    api.cut_watches()
    follow.waited(1)
    api.restore(saved)
    follow.time.flows = True
    follow.sees()


def test_a_stream_that_ends_properly_in_the_middle_of_a_line(api, follow):
    """Whatever stands there could be JSON by chance: only a line with its end is an event."""
    api.create(cmap("a"))
    follow.start()
    follow.watching()
    gone = {
        "type": "DELETED",
        "object": cmap("a") | {"metadata": {"name": "a", "namespace": "default", "resourceVersion": "9"}},
    }
    api.send(json.dumps(gone).encode())
    api.end_watches()
    follow.watching(2)
    assert follow.names() == {"a"}
    assert follow.reflector.errors == {"Cut": 1}


def test_a_line_that_comes_in_parts(api, follow):
    follow.start()
    follow.watching()
    about = cmap("a") | {"metadata": {"name": "a", "namespace": "default", "resourceVersion": "900"}}
    line = json.dumps({"type": "ADDED", "object": about}).encode() + b"\n"
    for position in range(0, len(line), 7):
        api.send(line[position : position + 7])
    follow.sees("a")


def test_a_stream_that_ends_as_soon_as_it_begins(api, follow):
    follow.hold()
    follow.start()
    follow.watching()
    api.end_watches()
    follow.waited(1)
    assert follow.reflector.errors == {"Closed": 1}
    follow.time.step()
    follow.watching(2)
    assert api.count("list") == 2


def test_events_that_come_twice(api, follow):
    api.twice = True
    follow.start()
    follow.watching()
    made = api.create(cmap("a"))
    api.delete(made)
    until(lambda: len(follow.seen.events) == 4, "four events")
    follow.sees()
    assert follow.reflector.errors == {}


def test_a_deletion_carries_the_last_state_and_is_still_one(api, follow):
    made = api.create(cmap("a"))
    follow.start()
    follow.watching()
    api.delete(made)
    follow.sees()
    assert follow.seen.events == [(Name("default", "a"), None)]


def test_a_line_without_an_end(api, follow):
    api.create(cmap("a"))
    follow.start()
    follow.watching()
    api.send(b"x" * (17 << 20))
    until(lambda: follow.reflector.errors["TooLarge"] == 1, "the end of patience")
    follow.watching(2)
    assert follow.names() == {"a"}


@pytest.mark.parametrize(
    "line",
    [
        b"strange",
        b"[]",
        b"{}",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":{"kind":"Secret","metadata":{"name":"b","namespace":"x","resourceVersion":"900"}}}',
        b'{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"b","resourceVersion":"900"}}}',
        b'{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"b","namespace":"x"}}}',
        b'{"type":"GONE","object":{"kind":"ConfigMap","metadata":{"name":"a","namespace":"default","resourceVersion":"900"}}}',
        b'{"type":["ADDED"],"object":{"kind":"ConfigMap","metadata":{"name":"a","namespace":"default","resourceVersion":"900"}}}',
        b'{"type":"ERROR","object":{"code":["x"],"message":7}}',
        b'{"type":"ERROR","object":{"code":{}}}',
    ],
)
def test_a_line_that_is_no_event_lists_again(api, follow, line):
    api.create(cmap("a"))
    follow.start()
    follow.watching()
    api.send(line + b"\n")
    follow.watching(2)
    assert (api.count("list"), sum(follow.reflector.errors.values())) == (2, 1)
    assert follow.seen.events == []
    assert follow.names() == {"a"}


def test_a_stream_that_is_a_page_of_a_proxy(api, follow):
    api.answer("watch", b"<html>Please log in</html>")
    follow.start()
    follow.watching()
    assert follow.reflector.errors == {"Malformed": 1}


# --- absent resources and versions -----------------------------------------------------------------------------------------
def test_a_resource_that_is_not_served_is_empty_and_asked_for_slowly(api, follow):
    follow.hold()
    follow.start(POLICIES)
    follow.waited(1)
    assert follow.reflector.absent
    assert follow.seen.lists == [{}]
    assert follow.seen.lost_reasons == []
    assert follow.seen.contacts
    assert follow.time.waits == [90.0]
    assert follow.time.ranges[-1] == (60.0, 90.0)
    assert follow.reflector.errors == {}
    api.serve(ADMIN_POLICIES)
    api.create(admin_policy("p"))
    follow.time.step()
    follow.sees("p")
    assert not follow.reflector.absent


def test_a_definition_that_is_removed_takes_its_objects_along(api, follow):
    api.serve(ADMIN_POLICIES)
    api.create(admin_policy("p"))
    follow.start(POLICIES)
    follow.watching()
    assert follow.names() == {"p"}
    follow.hold()
    follow.time.pass_(20)
    api.unserve(ADMIN_POLICIES)
    follow.waited(1)
    follow.time.step()
    follow.sees()
    assert follow.reflector.absent


@pytest.mark.parametrize("lie", ["it isn't ready", "it names the resource", "no list of groups", "a proxy"])
def test_a_404_alone_proves_nothing(api, follow, lie):
    api.serve(ADMIN_POLICIES)
    api.create(admin_policy("p"))
    follow.start(POLICIES)
    follow.watching()
    follow.hold()
    follow.time.pass_(20)
    api.fail("list", 404)
    match lie:
        case "it isn't ready":
            api.kinds.remove(ADMIN_POLICIES)
            api.fail("/readyz", 503)
        case "no list of groups":
            api.answer("/apis", b"{}")
        case "a proxy":
            api.fail("get", 404)
    api.expire_watches()
    follow.waited(1)
    follow.time.step()
    follow.waited(2)
    assert not follow.reflector.absent
    assert follow.names() == {"p"}
    assert len(follow.seen.lists) == 1
    assert len(follow.seen.lost_reasons) == 1


def test_the_core_group_is_never_absent(api, follow):
    api.kinds = [kind for kind in api.kinds if kind.plural != "configmaps"]
    follow.start()
    follow.waited(3)
    assert follow.seen.lists == []
    assert set(follow.reflector.errors) == {"NotFound"}


def test_the_version_that_is_served_is_found_again_after_an_upgrade(api, follow):
    slice_ = {"apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice", "metadata": {"name": "s"}}
    api.create(slice_)
    follow.start(ENDPOINTS)
    follow.watching()
    assert follow.seen.objects[Name("default", "s")]["apiVersion"] == "discovery.k8s.io/v1beta1"
    assert follow.seen.lost_reasons == []
    follow.time.pass_(20)
    with api.locked():
        api.kinds[api.kinds.index(SLICES["v1beta1"])] = SLICES["v1"]
        api.objects.kept[SLICES["v1"]] = api.objects.kept.pop(SLICES["v1beta1"])
    api.end_watches()
    until(lambda: api.count("watch", SLICES["v1"].path), "a watch of the new version")
    follow.watching(2)
    assert follow.names() == {"s"}


# --- what the sink gets, and bugs ------------------------------------------------------------------------------------------
def test_objects_are_cut_down_before_they_are_kept_and_always_know_their_kind(api, follow):
    api.create(cmap("listed"))
    follow.start(project=lambda value: {name: value[name] for name in ("apiVersion", "kind", "data")})
    follow.watching()
    api.create(cmap("watched"))
    follow.sees("listed", "watched")
    assert list(follow.seen.objects.values()) == [{"apiVersion": "v1", "kind": "ConfigMap", "data": {"value": "1"}}] * 2


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError])
def test_a_bug_of_the_sinks_is_no_error_of_the_server(api, follow, error):
    """One that was taken for a broken connection would be tried again for ever."""

    def broken(*_: object) -> None:
        raise error("a bug")

    follow.seen.changed = broken
    follow.start()
    follow.watching()
    api.create(cmap("a"))
    until(lambda: follow.problem, "the end of the thread")
    assert isinstance(follow.problem, error)
    follow.problem = None


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_a_reflector_ends_in_the_middle_of_silence(api, follow, verb):
    api.stall(verb)
    follow.start()
    until(lambda: api.count(verb), "the request")
    follow.end()
    assert follow.seen.lost_reasons == [], "who was told to end has lost nothing"


def test_a_server_that_repeats_the_token_does_not_get_it_into_a_log(api, follow):
    api.fail("list", 500, message=f"who is Bearer {TOKEN}?\nno\x1b[31mbody " + "x" * 10_000)
    follow.start()
    follow.watching()
    (reason,) = follow.seen.lost_reasons
    assert TOKEN not in reason
    assert "(token)" in reason
    assert reason.isprintable()
    assert len(reason) < 400


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "secret token", "secret\x00"])
def test_a_token_file_that_holds_none(api, follow, content):
    follow.token.write_text(content)
    follow.start()
    follow.waited(1)
    assert follow.seen.lost_reasons[0] == f"token file: {follow.token}: holds no token"
    assert api.requests == []
    follow.token.write_text(TOKEN)
    follow.watching()
