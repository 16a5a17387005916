"""A fake Kubernetes API server: answers as the real one was seen to (`statements.md` kubernetes 3.5), and fails on demand.

`release` chooses between the recorded behaviours of 1.20 and 1.36. Only to inject what a real server can't be told to do;
`tests/controller/contract.py` holds both to the same answers. One thread a connection, on loopback.
"""

from __future__ import annotations

import json
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.lab.etcd import free_ports
from tests.lab.kubeapi_objects import BUILT_IN, NAMESPACES, SLICES, Document, Event, Kind, Objects, Refused, status

TOKEN = "lab-token"
_WATCH_PAUSE = 0.1  # seconds between looks at whether the server was told to end
_END, _CUT = b"", None


@dataclass(frozen=True, slots=True)
class Request:
    """One that came in: `verb` is get, list, continue, watch, post, put or delete."""

    verb: str
    path: str
    query: Mapping[str, str]
    token: str | None


@dataclass
class Fault:
    """What the next `times` requests with this verb, or this path, get instead of an answer."""

    verb: str
    times: int
    status: int | None = None
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """An answer of 200 with any content at all."""
    stalls: bool = False
    """Never an answer."""


@dataclass(eq=False)
class Watcher:
    """An open stream. Lines to be sent; `_END` ends it properly, `_CUT` breaks it."""

    kind: Kind
    namespace: str | None
    after: int
    bookmarks: bool
    lines: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)


class FakeApi:
    """Started by its making, ended by `close`; usable in a `with` statement. All methods from any thread."""

    def __init__(self, *, release: str = "1.20", tls: ssl.SSLContext | None = None) -> None:
        assert release in {"1.20", "1.36"}
        self.release, self.token = release, TOKEN
        self.objects = Objects()
        self.kinds = [*BUILT_IN, SLICES["v1beta1" if release == "1.20" else "v1"]]
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.twice = False
        """Sends every event twice."""
        self._tls = tls
        self._lock = threading.RLock()
        self._watchers: list[Watcher] = []
        self._sockets: set[socket.socket] = set()
        self._server: _Server | None = None
        (self.port,) = free_ports(1)
        for name in ("default", "kube-system"):
            self.objects.create(NAMESPACES, "", {"metadata": {"name": name}})
        self.objects.compact()
        self.start()

    def __enter__(self) -> FakeApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    # --- the process
    def start(self) -> None:
        """Listens, on the same port as before."""
        self._server = _Server(self, self.port)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="fake-api", daemon=True).start()

    def stop(self) -> None:
        """Connections break and new ones are refused, as when the process is killed."""
        if self._server is None:
            return
        self._server.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self._lock:
            for one in self._sockets:
                _shut(one)

    close = stop

    # --- content, as by a client
    def create(self, document: Mapping[str, Any]) -> Document:
        """Creates what `apiVersion` and `kind` say, in the namespace `default` if it names none."""
        kind, key = self._place(document)
        return self._published(lambda: self.objects.create(kind, key[0], document))

    def update(self, document: Mapping[str, Any]) -> Document:
        kind, key = self._place(document)
        return self._published(lambda: self.objects.update(kind, key, document))

    def delete(self, document: Mapping[str, Any], *, wholly: bool = True) -> Document:
        kind, key = self._place(document)
        return self._published(lambda: self.objects.delete(kind, key, wholly=wholly))

    def serve(self, kind: Kind) -> None:
        """As when a CustomResourceDefinition is created."""
        with self._lock:
            self.kinds.append(kind)

    def unserve(self, kind: Kind) -> None:
        """As when it's deleted: its objects go, and its watches end."""
        with self._lock:
            self.kinds.remove(kind)
            self.objects.kept.pop(kind, None)
        self.end_watches()

    def _place(self, document: Mapping[str, Any]) -> tuple[Kind, tuple[str, str]]:
        wanted = (document["apiVersion"], document["kind"])
        kind = next(kind for kind in self.kinds if (kind.api_version, kind.kind) == wanted)
        metadata = document["metadata"]
        return kind, (metadata.get("namespace", "default") if kind.namespaced else "", metadata["name"])

    def _published(self, change: Any) -> Document:
        with self._lock:
            seen = len(self.objects.history)
            made: Document = change()
            for event in self.objects.history[seen:]:
                for watcher in self._watchers:
                    self._tell(watcher, event)
            return made

    def _tell(self, watcher: Watcher, event: Event) -> None:
        in_namespace = watcher.namespace in {None, event.object["metadata"].get("namespace")}
        if event.kind == watcher.kind and in_namespace and event.revision > watcher.after:
            for _ in range(2 if self.twice else 1):
                watcher.lines.put(_line(event.type, event.object))

    # --- faults
    def fail(self, verb: str, code: int, *, times: int = 1, retry_after: str | None = None, message: str = "") -> None:
        """The next requests with this verb, or this path, (`any`: all) get this status."""
        headers = {"Retry-After": retry_after} if retry_after else {}
        self.faults.append(Fault(verb, times, status=code, message=message or f"injected {code}", headers=headers))

    def answer(self, verb: str, body: bytes, *, times: int = 1) -> None:
        """The next requests with this verb, or this path, get 200 and this."""
        self.faults.append(Fault(verb, times, body=body))

    def stall(self, verb: str, *, times: int = 1) -> None:
        """The next requests with this verb are read and never answered; so looks a half-open connection to its client."""
        self.faults.append(Fault(verb, times, stalls=True))

    def take_fault(self, request: Request) -> Fault | None:
        """What this request gets instead of an answer."""
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.verb in {request.verb, request.path, "any"}:
                    fault.times -= 1
                    return fault
        return None

    def compact(self) -> None:
        """Older versions are forgotten, and pages of lists that aren't read to their end."""
        with self._lock:
            self.objects.compact()

    def restore(self, saved: Objects) -> None:
        """The store becomes what it was, and its revision lower than what clients have seen; the server starts again."""
        self.stop()
        self.objects = saved.saved()
        self.objects.compact()
        self.start()

    def send(self, line: bytes) -> None:
        """Sends bytes to every open watch, as they are."""
        with self._lock:
            for watcher in self._watchers:
                watcher.lines.put(line)

    def bookmark(self) -> None:
        """A bookmark to every watch that asked for bookmarks."""
        with self._lock:
            for watcher in self._watchers:
                if watcher.bookmarks:
                    about = {"kind": watcher.kind.kind, "apiVersion": watcher.kind.api_version}
                    metadata = {"resourceVersion": str(self.objects.revision), "creationTimestamp": None}
                    watcher.lines.put(_line("BOOKMARK", about | {"metadata": metadata}))

    def expire_watches(self) -> None:
        """An ERROR line with 410 to every open watch, and its end."""
        self.send(_line("ERROR", status(410, "Expired", "too old resource version: 1 (2)")))
        self.end_watches()

    def end_watches(self) -> None:
        """As when `timeoutSeconds` have passed."""
        with self._lock:
            for watcher in self._watchers:
                watcher.lines.put(_END)

    def cut_watches(self, begun: bytes = b'{"type":"ADDED","object":{"kind":"Po') -> None:
        """Breaks every watch in the middle of a line."""
        with self._lock:
            for watcher in self._watchers:
                watcher.lines.put(begun)
                watcher.lines.put(_CUT)

    # --- what was asked
    def count(self, verb: str, plural: str = "") -> int:
        """How many requests with this verb came in."""
        with self._lock:
            return sum(one.verb == verb and plural in one.path for one in self.requests)

    def last(self, verb: str) -> Request:
        with self._lock:
            return next(one for one in reversed(self.requests) if one.verb == verb)

    @property
    def open_watches(self) -> int:
        with self._lock:
            return len(self._watchers)

    # --- for the handler
    def note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    @contextmanager
    def connected(self, one: socket.socket) -> Iterator[None]:
        with self._lock:
            self._sockets.add(one)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(one)

    @contextmanager
    def locked(self) -> Iterator[Objects]:
        with self._lock:
            yield self.objects

    def wrapped(self, one: socket.socket) -> socket.socket:
        return self._tls.wrap_socket(one, server_side=True, do_handshake_on_connect=False) if self._tls else one

    def publish(self, change: Any) -> Document:
        return self._published(change)

    @contextmanager
    def watching(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Iterator[Watcher]:
        """A registered watcher, with what it missed. Refused for versions that the server doesn't know any more."""
        asked = query.get("resourceVersion", "")
        with self._lock:
            if asked in {"", "0"} or query.get("sendInitialEvents") == "true":
                if self.release == "1.36":  # over an etcd as old as ours
                    raise Refused(500, "InternalError", "Internal error occurred: etcd event received with PrevKv=nil")
                backlog = [
                    Event(int(one["metadata"]["resourceVersion"]), "ADDED", kind, one)
                    for _, one in sorted(self.objects.kept.get(kind, {}).items())
                ]
                watcher = Watcher(kind, namespace, 0, query.get("allowWatchBookmarks") == "true")
            else:
                if int(asked) < self.objects.compacted:
                    raise Refused(410, "Expired", f"too old resource version: {asked} ({self.objects.compacted})")
                backlog = self.objects.history
                watcher = Watcher(kind, namespace, int(asked), query.get("allowWatchBookmarks") == "true")
            for event in backlog:
                self._tell(watcher, event)
            self._watchers.append(watcher)
        try:
            yield watcher
        finally:
            with self._lock:
                self._watchers.remove(watcher)


def _line(type_: str, value: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": type_, "object": value}).encode() + b"\n"


def _shut(one: socket.socket) -> None:
    with suppress(OSError):  # the client was faster
        socket.socket.shutdown(one, socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a stalled one would hold it

    def __init__(self, api: FakeApi, port: int) -> None:
        self.api, self.ended = api, threading.Event()
        super().__init__(("127.0.0.1", port), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self.api.wrapped(request) as one, self.api.connected(one):
                super().finish_request(one, client_address)
        except OSError:
            pass  # the client is gone, or doesn't trust our certificate


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class's name
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 # the base class's names

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        said = self.headers.get("Authorization")
        place = _locate(self.server.api.kinds, url.path)
        request = Request(self._verb(query, place), url.path, query, said.removeprefix("Bearer ") if said else None)
        self.server.api.note(request)
        try:
            if (fault := self.server.api.take_fault(request)) is not None:
                self._misbehave(fault)
                return
            self._authorise(request)
            if request.verb == "watch" and place is not None:
                self._watch(place, query)
            else:
                self._answer(request, place, body)
        except Refused as refused:
            self._send(refused.status["code"], refused.status)

    def _verb(self, query: Mapping[str, str], place: _Place | None) -> str:
        if self.command != "GET" or place is None or place.name:
            return self.command.lower()
        if query.get("watch") in {"true", "1"}:
            return "watch"
        return "continue" if query.get("continue") else "list"

    def _authorise(self, request: Request) -> None:
        if request.token is None:
            if request.path in {"/readyz", "/version"}:
                return
            raise Refused(403, "Forbidden", f'forbidden: User "system:anonymous" cannot get path "{request.path}"')
        if request.token != self.server.api.token:
            raise Refused(401, "Unauthorized", "Unauthorized")

    def _misbehave(self, fault: Fault) -> None:
        if fault.stalls:
            self.server.ended.wait(60)
            self.close_connection = True
        elif fault.body is not None:
            self._send_bytes(200, fault.body, "application/json")
        else:
            assert fault.status is not None
            self._send(fault.status, status(fault.status, "Injected", fault.message), fault.headers)

    def _answer(self, request: Request, place: _Place | None, body: bytes) -> None:
        api = self.server.api
        if place is None:
            self._answer_about(request.path)
            return
        kind, key = place.kind, (place.namespace or "", place.name)
        document = json.loads(body) if body else {}
        with api.locked() as objects:
            match request.verb:
                case "get":
                    answer = objects.get(kind, key)
                case "list" | "continue":
                    asked = request.query.get("resourceVersion", "")
                    if asked and int(asked) > objects.revision:
                        causes = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
                        raise Refused(504, "Timeout", f"Too large resource version: {asked}", details=causes)
                    limit = 0 if asked == "0" else int(request.query.get("limit", 0))
                    answer = objects.list(kind, place.namespace, limit, request.query.get("continue", ""))
                case "post":
                    answer = api.publish(lambda: objects.create(kind, key[0], document))
                case "put":
                    answer = api.publish(lambda: objects.update(kind, key, document))
                case _:
                    answer = api.publish(lambda: objects.delete(kind, key))
        self._send(201 if request.verb == "post" else 200, answer)

    def _answer_about(self, path: str) -> None:
        """Everything that is no resource."""
        kinds = self.server.api.kinds
        if path in {"/readyz", "/livez", "/healthz"}:
            return self._send_bytes(200, b"ok", "text/plain; charset=utf-8")
        if path == "/version":
            major, minor = self.server.api.release.split(".")
            return self._send(200, {"major": major, "minor": minor, "gitVersion": f"v{self.server.api.release}.2"})
        if path == "/apis":
            versions = sorted({kind.api_version for kind in kinds if kind.path.startswith("/apis/")})
            groups = [{"name": one.split("/")[0], "versions": [{"groupVersion": one}]} for one in versions]
            return self._send(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        if served := [kind for kind in kinds if kind.path == path]:
            resources = [{"name": one.plural, "kind": one.kind, "namespaced": one.namespaced} for one in served]
            return self._send(200, {"kind": "APIResourceList", "groupVersion": served[0].api_version, "resources": resources})
        return self._send_bytes(404, b"404 page not found\n", "text/plain; charset=utf-8")

    def _watch(self, place: _Place, query: Mapping[str, str]) -> None:
        api = self.server.api
        if query.get("sendInitialEvents") == "true" and api.release == "1.20":
            what = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch"
            raise Refused(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {what}')
        if not query.get("resourceVersion", "0").isdigit():
            raise Refused(500, None, "resourceVersion: Invalid value")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        ends = time.monotonic() + int(query.get("timeoutSeconds") or 1800)
        try:
            with api.watching(place.kind, place.namespace, query) as watcher:
                while not self.server.ended.is_set() and (left := ends - time.monotonic()) > 0:
                    try:
                        line = watcher.lines.get(timeout=min(left, _WATCH_PAUSE))
                    except queue.Empty:
                        if select.select([self.connection], [], [], 0)[0]:
                            self.close_connection = True  # a client says nothing more unless it goes
                            return
                        continue
                    if line is _CUT:
                        _shut(self.connection)
                        self.close_connection = True
                        return
                    if line == _END:
                        break
                    self._chunk(line)
        except Refused as refused:
            self._chunk(_line("ERROR", refused.status))
        if self.server.ended.is_set():
            self.close_connection = True
            return
        self._chunk(b"")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def _send(self, code: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self._send_bytes(code, json.dumps(document).encode(), "application/json", headers)

    def _send_bytes(self, code: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@dataclass(frozen=True, slots=True)
class _Place:
    kind: Kind
    namespace: str | None
    name: str


def _locate(kinds: list[Kind], path: str) -> _Place | None:
    """What a path means; None: no resource that is served."""
    for kind in kinds:
        if not path.startswith(f"{kind.path}/"):
            continue
        parts = path.removeprefix(f"{kind.path}/").split("/")
        namespace = None
        if kind.namespaced and len(parts) >= 3 and parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
        if parts[0] == kind.plural and len(parts) <= 2:
            return _Place(kind, namespace, parts[1] if len(parts) == 2 else "")
    return None
