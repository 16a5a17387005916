"""One resource of a Kubernetes API server, listed and watched for ever (kubernetes 4.2). Runs in a thread of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from hostward.kube.absence import is_absent
from hostward.kube.answers import Bookmark, Page, read_event, read_page
from hostward.kube.client import Client
from hostward.kube.errors import ApiError
from hostward.kube.lines import lines
from hostward.kube.pace import HEALTHY, Backoff, Pace
from hostward.kube.watching import Name, Object, Resource, Sink

LIMIT: Final = 500  # objects of a page
MOST_PAGES: Final = 2000
WATCH: Final = (290.0, 590.0)  # seconds that a watch lasts
GRACE: Final = 15.0  # seconds that a server may be late to end it
RELIST: Final = (540.0, 660.0)  # seconds: a server may hold a watch and never say anything (rule 7)
ABSENT_RETRY: Final = (60.0, 90.0)
FORBIDDEN_EVERY: Final = 60.0  # seconds

_RESUMES: Final = frozenset({"Unauthorized", "Forbidden", "TooManyRequests"})
"""After these a watch goes on where it was: the same server said no. After anything else it must not: the server may have
forgotten, or not understand our version, or have gone away and come back with an older store. It would accept our version then,
as one from the future, and stay silent."""


class Reflector:
    """Tells a sink what a server has of one resource. `run` does the work; the counters may be read from any thread.

    `project` cuts an object down to what is needed, before it's kept anywhere; it must not raise.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        sink: Sink,
        *,
        project: Callable[[Object], Object] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.resource = resource
        self.lists = 0
        """Complete lists."""
        self.watches = 0
        """Streams that the server opened."""
        self.errors: Counter[str] = Counter()
        """Failed tries by reason, such as `Unreachable`, `Expired`, `Forbidden`, `Malformed`; see `ApiError`."""
        self.absent = False
        """The server doesn't serve this resource; it's asked again every minute."""
        self.forbidden = False
        """The last try failed for a missing permission."""
        self._client, self._sink, self._project, self._pace = client, sink, project, pace or Pace()
        self._backoff = Backoff(self._pace)
        self._path = resource.path
        self._version: str | None = None
        self._relist_at = 0.0
        self._forbidden_told: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Lists and watches until `stop` is set. `Client.close`, called after that, ends a request that is under way."""
        while not stop.is_set():
            try:
                self._step(stop)
            except ApiError as error:
                if not stop.is_set():
                    self._pace.wait(stop, self._failed(error))

    def _step(self, stop: threading.Event) -> None:
        if self._version is None or self._pace.now() + WATCH[0] > self._relist_at:
            self._version = None
            self._list(stop)
        elif self.absent:
            self._pace.wait(stop, self._pace.uniform(*ABSENT_RETRY))
            self._version = None
        else:
            self._watch(self._version, stop)

    # --- lists

    def _list(self, stop: threading.Event) -> None:
        """All pages, at one version; then, and only then, the sink hears of them."""
        page = self._first_page()
        if page is None:
            objects, version = {}, ""
        else:
            objects, version = dict(self._projected(page)), page.version
            for _ in range(MOST_PAGES):
                if not page.more or stop.is_set():
                    break
                page = self._page(self._path, page.more)
                objects.update(self._projected(page))
            if stop.is_set():
                return
            if page.more:
                raise ApiError("TooLarge", f"a list of {self.resource.plural} has more than {MOST_PAGES} pages")
        self.absent = page is None
        self.lists += 1
        self._sink.replaced(self.resource, objects)
        self._version, self._relist_at = version, self._pace.now() + self._pace.uniform(*RELIST)

    def _first_page(self) -> Page | None:
        """From the first path that is served, beginning with the last one that was; None: shown to be absent."""
        missing: ApiError | None = None
        for path in dict.fromkeys((self._path, self.resource.path, *self.resource.older)):
            try:
                page = self._page(path, "")
            except ApiError as error:
                if error.status != 404:
                    raise
                missing = missing or error
            else:
                self._path = path
                return page
        self._path = self.resource.path
        if missing is not None and not is_absent(self._client, self.resource):
            raise missing
        self._heard()
        return None

    def _page(self, path: str, token: str) -> Page:
        query = {"limit": str(LIMIT)} | ({"continue": token} if token else {})
        page = read_page(self._client.get(f"{path}/{self.resource.plural}", query), self.resource)
        self._heard()
        return page

    def _projected(self, page: Page) -> Iterator[tuple[Name, Object]]:
        for name, value in page.objects.items():
            yield name, self._project(value) if self._project else value

    # --- watches

    def _watch(self, version: str, stop: threading.Event) -> None:
        """One stream, to its end. Versions come from its events, bookmarks too, and are never compared."""
        began = self._pace.now()
        seconds = int(min(self._pace.uniform(*WATCH), self._relist_at - began))
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        path = f"{self._path}/{self.resource.plural}"
        with self._client.stream(path, query, seconds + GRACE) as pieces:
            self.watches += 1
            self._heard()
            for line in lines(self._until(began + seconds + GRACE, pieces)):
                if stop.is_set():
                    return
                self._take(line)
        if self._pace.now() - began < HEALTHY:
            raise ApiError("Closed", "the server ended a watch as soon as it had begun")

    def _until(self, end: float, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """A server that goes on past its time has missed it, whether it says something or not."""
        for piece in pieces:
            yield piece
            if self._pace.now() > end:
                raise ApiError("Stalled", "a watch outlived its time")

    def _take(self, line: bytes) -> None:
        event = read_event(line, self.resource)
        if not isinstance(event, Bookmark):
            value = event.value if event.value is None or self._project is None else self._project(event.value)
            self._sink.changed(self.resource, event.name, value)
        self._version = event.version
        self._heard()

    # --- what came of it

    def _heard(self) -> None:
        self.forbidden = False
        self._backoff.answered()
        self._sink.contact(self.resource)

    def _failed(self, error: ApiError) -> float:
        """Seconds until the next try. What the sink knows stays: an error is never an empty answer."""
        self.errors[error.reason] += 1
        forgotten = self._version is not None and error.reason in {"Expired", "Timeout"}
        if error.reason not in _RESUMES:
            self._version = None
        self.forbidden = error.reason == "Forbidden"
        if not forgotten and self._worth_telling():
            self._sink.lost(self.resource, str(error))
        return self._backoff.failed(error.retry_after)

    def _worth_telling(self) -> bool:
        """A missing permission stays missing: once a minute is enough. Anything else is told each time."""
        if not self.forbidden:
            return True
        now = self._pace.now()
        if self._forbidden_told is not None and now - self._forbidden_told < FORBIDDEN_EVERY:
            return False
        self._forbidden_told = now
        return True
