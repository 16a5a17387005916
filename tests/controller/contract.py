"""How a Kubernetes API server answers (kubernetes 3.5), as tests for any server: the fake one here, a real one elsewhere.

A test module takes them by a subclass of `Contract` named `Test…` and a fixture `server` that gives a `Target`; each test makes
namespaces of its own and leaves them.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from hostward.kube.access import Access, Source
from hostward.kube.client import Client
from hostward.kube.reflector import Reflector
from hostward.kube.watching import Name, Resource
from tests.controller.recorder import Recorder, until

MAPS = Resource("/api/v1", "configmaps", "ConfigMap")
ABSENT = Resource("/apis/policy.networking.k8s.io/v1alpha1", "adminnetworkpolicies", "AdminNetworkPolicy", namespaced=False)
SLICES = Resource("/apis/discovery.k8s.io/v1", "endpointslices", "EndpointSlice", older=("/apis/discovery.k8s.io/v1beta1",))
FUTURE = "999999999"


@dataclass(frozen=True)
class Target:
    """A server, and the token of one who may do all there.

    `forget` makes it forget versions of before: a real one does so when it's started again, or after minutes.
    """

    url: str
    token: str
    forget: Callable[[], object]
    ca: Path | None = None
    release: tuple[int, int] = (1, 20)

    def _pool(self) -> urllib3.PoolManager:
        return urllib3.PoolManager(ca_certs=str(self.ca) if self.ca else None, retries=False, timeout=30.0)

    def _headers(self, token: str | None) -> dict[str, str]:
        token = self.token if token is None else token
        return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, bytes]:
        """Status and body; `token` "" for none."""
        data = None if body is None else json.dumps(body).encode()
        answer = self._pool().request(method, self.url + path, body=data, headers=self._headers(token))
        return answer.status, answer.data

    def get(self, path: str) -> dict[str, Any]:
        code, body = self.ask("GET", path)
        assert code == 200, body
        return json.loads(body)

    @contextmanager
    def watch(self, path: str, version: str, seconds: int, more: str = "") -> Iterator[Iterator[dict[str, Any]]]:
        """The lines of a stream; they end when the server ends it properly, and raise otherwise."""
        url = f"{self.url}{path}?watch=true&resourceVersion={version}&timeoutSeconds={seconds}{more}"
        answer = self._pool().request("GET", url, headers=self._headers(None), preload_content=False)
        try:
            assert answer.status == 200, answer.read()
            yield _lines(answer)
        finally:
            answer.close()

    def namespace(self) -> str:
        name = f"contract-{uuid.uuid4().hex[:12]}"
        code, body = self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        assert code == 201, body
        return name

    def access(self) -> Access:
        parts = urllib3.util.parse_url(self.url)
        ca = Source("ca", self.ca) if self.ca else None
        return Access(
            parts.host or "", parts.port or 0, tls=parts.scheme == "https", ca=ca, token=Source("t", inline=self.token.encode())
        )


def _lines(answer: Any) -> Iterator[dict[str, Any]]:
    begun = b""
    for piece in answer.stream(65536):
        *whole, begun = (begun + piece).split(b"\n")
        yield from map(json.loads, whole)
    assert begun == b""


def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def one(name: str, value: str = "1") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}}


class Contract:
    @pytest.fixture
    def space(self, server: Target) -> str:
        return server.namespace()

    def create(self, server: Target, space: str, *names: str) -> list[dict[str, Any]]:
        made = []
        for name in names:
            code, body = server.ask("POST", maps(space), one(name))
            assert code == 201, body
            made.append(json.loads(body))
        return made

    # --- lists
    def test_items_of_a_list_have_no_kind(self, server, space):
        self.create(server, space, "a", "b")
        found = server.get(maps(space))
        assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
        assert found["metadata"]["resourceVersion"].isdigit()
        mine = [item for item in found["items"] if item["metadata"]["name"] in {"a", "b"}]
        assert [item["metadata"]["name"] for item in mine] == ["a", "b"]
        assert all("kind" not in item and "apiVersion" not in item for item in mine)

    def test_an_empty_list_has_items(self, server, space):
        found = server.get(f"/apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies")
        assert found["kind"] == "NetworkPolicyList"
        assert found["items"] == []

    def test_pages_show_one_version(self, server, space):
        self.create(server, space, "a", "b", "c", "d", "e")
        first = server.get(f"{maps(space)}?limit=2")
        assert first["metadata"]["remainingItemCount"] >= 3
        server.ask("DELETE", f"{maps(space)}/e")
        self.create(server, space, "f")
        names, page = [item["metadata"]["name"] for item in first["items"]], first
        while token := page["metadata"].get("continue"):
            page = server.get(f"{maps(space)}?limit=2&continue={token}")
            assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
            names += [item["metadata"]["name"] for item in page["items"]]
        assert {"a", "b", "c", "d", "e"} <= set(names)
        assert "f" not in names

    def test_a_strange_token_for_a_page(self, server, space):
        code, body = server.ask("GET", f"{maps(space)}?limit=2&continue=strange")
        assert (code, json.loads(body)["reason"]) == (400, "BadRequest")

    def test_a_list_from_the_future(self, server, space):
        code, body = server.ask("GET", f"{maps(space)}?resourceVersion={FUTURE}")
        answer = json.loads(body)
        assert (code, answer["reason"]) == (504, "Timeout")
        assert "ResourceVersionTooLarge" in [cause["reason"] for cause in answer["details"]["causes"]]

    # --- watches
    def test_a_watch_tells_of_every_change(self, server, space):
        version = server.get(maps(space))["metadata"]["resourceVersion"]
        self.create(server, space, "a")
        server.ask("PUT", f"{maps(space)}/a", one("a", "2"))
        server.ask("DELETE", f"{maps(space)}/a")
        with server.watch(maps(space), version, 30) as lines:
            added, changed, gone = next(lines), next(lines), next(lines)
        assert [line["type"] for line in (added, changed, gone)] == ["ADDED", "MODIFIED", "DELETED"]
        assert all(line["object"]["kind"] == "ConfigMap" for line in (added, changed, gone))
        assert gone["object"]["data"] == {"value": "2"}, "the last state"
        versions = [line["object"]["metadata"]["resourceVersion"] for line in (added, changed, gone)]
        assert len({version, *versions}) == 4, "a deletion has a version of its own"

    def test_a_write_that_changes_nothing_is_no_event(self, server, space):
        version = self.create(server, space, "a")[0]["metadata"]["resourceVersion"]
        server.ask("PUT", f"{maps(space)}/a", one("a"))
        self.create(server, space, "b")
        with server.watch(maps(space), version, 30) as lines:
            assert next(lines)["object"]["metadata"]["name"] == "b"

    def test_a_watch_ends_when_its_time_is_up(self, server, space):
        version = server.get(maps(space))["metadata"]["resourceVersion"]
        with server.watch(maps(space), version, 1) as lines:
            assert list(lines) == []

    def test_no_bookmarks_unasked(self, server, space):
        version = server.get(maps(space))["metadata"]["resourceVersion"]
        with server.watch(maps(space), version, 2, "&allowWatchBookmarks=false") as lines:
            assert list(lines) == []

    def test_a_forgotten_version_is_an_error_in_the_stream(self, server, space):
        server.forget()
        with server.watch(maps(space), "1", 30) as lines:
            (line,) = lines
        assert line["type"] == "ERROR"
        assert (line["object"]["kind"], line["object"]["code"], line["object"]["reason"]) == ("Status", 410, "Expired")

    def test_a_version_from_the_future_is_silence(self, server, space):
        with server.watch(maps(space), FUTURE, 2) as lines:
            self.create(server, space, "a")
            assert list(lines) == []

    def test_version_zero(self, server, space):
        self.create(server, space, "a")
        with server.watch(maps(space), "0", 30) as lines:
            line = next(lines)
        if server.release < (1, 36):
            assert (line["type"], line["object"]["metadata"]["name"]) == ("ADDED", "a")
        else:
            assert (line["type"], line["object"]["code"]) == ("ERROR", 500)

    def test_a_streaming_list_fails_in_two_ways(self, server, space):
        more = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
        code, body = server.ask("GET", f"{maps(space)}?watch=true&{more}")
        if server.release < (1, 36):
            assert (code, json.loads(body)["reason"]) == (422, "Invalid")
        else:
            assert (code, json.loads(body)["type"], json.loads(body)["object"]["code"]) == (200, "ERROR", 500)

    def test_a_version_that_is_none(self, server, space):
        code, body = server.ask("GET", f"{maps(space)}?watch=true&resourceVersion=strange&timeoutSeconds=1")
        answer = json.loads(body)
        assert (code, answer["kind"], answer["code"], answer.get("reason")) == (500, "Status", 500, None)

    # --- refusals
    def test_a_wrong_token(self, server):
        code, body = server.ask("GET", "/api/v1/configmaps", token="wrong")
        assert (code, json.loads(body)["reason"]) == (401, "Unauthorized")

    def test_no_token(self, server):
        code, body = server.ask("GET", "/api/v1/configmaps", token="")
        assert (code, json.loads(body)["reason"]) == (403, "Forbidden")

    def test_what_is_not_served_is_no_status(self, server):
        code, body = server.ask("GET", f"{ABSENT.path}/{ABSENT.plural}")
        assert (code, body) == (404, b"404 page not found\n")
        named = [version["groupVersion"] for group in server.get("/apis")["groups"] for version in group["versions"]]
        assert "networking.k8s.io/v1" in named
        assert ABSENT.path.removeprefix("/apis/") not in named
        plurals = [resource["name"] for resource in server.get("/apis/networking.k8s.io/v1")["resources"]]
        assert "networkpolicies" in plurals
        assert server.ask("GET", "/readyz") == (200, b"ok")

    def test_writes(self, server, space):
        (made,) = self.create(server, space, "a")
        assert server.ask("POST", maps(space), one("a"))[0] == 409
        assert server.ask("PUT", f"{maps(space)}/a", made | {"data": {"value": "2"}})[0] == 200
        assert server.ask("PUT", f"{maps(space)}/a", made | {"data": {"value": "3"}})[0] == 409, "by somebody who saw less"
        assert server.get(f"{maps(space)}/a")["data"] == {"value": "2"}
        assert server.ask("DELETE", f"{maps(space)}/a")[0] == 200
        assert server.ask("DELETE", f"{maps(space)}/a")[0] == 404
        assert server.ask("GET", f"{maps(space)}/a")[0] == 404
        assert server.ask("POST", maps("contract-none"), one("a"))[0] == 404

    def test_a_namespace_goes_slowly(self, server, space):
        assert server.ask("DELETE", f"/api/v1/namespaces/{space}")[0] == 200
        assert server.get(f"/api/v1/namespaces/{space}")["status"]["phase"] == "Terminating"

    # --- ours against it
    @contextmanager
    def following(self, server: Target, resource: Resource) -> Iterator[tuple[Recorder, Reflector]]:
        client, recorder, stop = Client(server.access()), Recorder(), threading.Event()
        reflector = Reflector(client, resource, recorder)
        thread = threading.Thread(target=reflector.run, args=(stop,), daemon=True)
        thread.start()
        try:
            yield recorder, reflector
        finally:
            stop.set()
            client.close()
            thread.join(30)
        assert not thread.is_alive(), "a reflector ends at once when it's told to"

    def test_a_reflector_follows(self, server, space):
        self.create(server, space, "a")
        with self.following(server, MAPS) as (recorder, reflector):
            until(lambda: reflector.watches, "a watch")
            assert recorder.objects[Name(space, "a")]["kind"] == "ConfigMap"
            self.create(server, space, "b")
            server.ask("PUT", f"{maps(space)}/b", one("b", "2"))
            server.ask("DELETE", f"{maps(space)}/a")
            until(lambda: Name(space, "a") not in recorder.objects, "the deletion")
            assert recorder.objects[Name(space, "b")]["data"] == {"value": "2"}
            assert server.get(f"{maps(space)}/b") == recorder.objects[Name(space, "b")]
            assert (reflector.lists, reflector.watches, dict(reflector.errors)) == (1, 1, {})

    def test_a_reflector_finds_the_version_that_is_served(self, server):
        with self.following(server, SLICES) as (recorder, reflector):
            until(lambda: reflector.watches, "a watch")
            assert not reflector.absent
            assert recorder.lost_reasons == []

    def test_a_reflector_finds_that_a_resource_is_absent(self, server):
        with self.following(server, ABSENT) as (recorder, reflector):
            until(lambda: reflector.absent and recorder.lists, "the absence")
            assert recorder.lists == [{}]
            assert recorder.lost_reasons == []
