"""One resource of a Kubernetes API server, listed and watched for ever. Runs in a thread of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from hostward.kube.client import Client
from hostward.kube.watching import Object, Resource, Sink


class Reflector:
    """Tells a sink what a server has of one resource. `run` does the work; the counters may be read from any thread."""

    def __init__(
        self, client: Client, resource: Resource, sink: Sink, *, project: Callable[[Object], Object] | None = None
    ) -> None:
        self.resource = resource
        self.lists = 0
        """Complete lists."""
        self.watches = 0
        """Streams that the server opened."""
        self.errors: Counter[str] = Counter()
        """Failed tries by reason, such as `Unreachable`, `Expired`, `Forbidden`, `Malformed`."""
        self.absent = False
        """The server doesn't serve this resource; it's asked again every minute."""
        self._client, self._sink, self._project = client, sink, project

    def run(self, stop: threading.Event) -> None:
        """Lists and watches until `stop` is set. `Client.close`, called after that, ends a request that is under way."""
        raise NotImplementedError
