"""What the two servers answer: `/liveness` and `/readiness`, and `/metrics`; and how they follow settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from hostward.model.settings import Settings
from hostward.report.health import Health, HealthBoard
from hostward.report.http import METRICS_TEXT, Response, Route
from hostward.report.metrics import Metrics
from hostward.report.server import Server
from hostward.report.tls import TlsFiles

SHARE: Final = 0.1  # of a core, that answering scrapes may take


def health_route(judge: Callable[[], Health]) -> Route:
    """Answers 200 or 503 with what `judge()` says."""

    def route() -> Response:
        ok, text = judge()
        return Response(HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, text.encode(errors="replace"))

    return route


def metrics_route(
    text: Callable[[], bytes], clock: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.thread_time
) -> Route:
    """Answers with `text()`, at most so often that it takes a tenth of a core; between that with the last one.

    A scrape that costs 1 ms of CPU is at most 10 ms old: only a flood of scrapes ever sees the same one twice.
    """
    last = b""
    until = float("-inf")

    def route() -> Response:
        nonlocal last, until
        if clock() >= until:
            begin = cpu()
            last = text()
            until = clock() + (cpu() - begin) / SHARE
        return Response(HTTPStatus.OK, last, METRICS_TEXT)

    return route


def health_server(settings: Settings, health: HealthBoard) -> Server | None:
    """The server of `/liveness` and `/readiness`, not yet started; None when it is switched off."""
    if not settings.health_enabled:
        return None
    routes = {"/liveness": health_route(health.liveness), "/readiness": health_route(health.readiness)}
    return Server("health", settings.health_host, settings.health_port, routes)


def metrics_server(settings: Settings, metrics: Metrics) -> Server | None:
    """The server of `/metrics`, not yet started, with TLS as soon as any of its files is set; None when it is switched off."""
    if not settings.prometheus_metrics_enabled:
        return None
    files = (settings.prometheus_metrics_cert_file, settings.prometheus_metrics_key_file, settings.prometheus_metrics_ca_file)
    tls = TlsFiles(*files, client_auth=settings.prometheus_metrics_client_auth) if any(files) else None
    routes = {"/metrics": metrics_route(metrics.text)}
    return Server("metrics", settings.prometheus_metrics_host, settings.prometheus_metrics_port, routes, tls=tls)


class Servers:
    """Both servers, as settings want them, from when it is made; main thread only. One whose settings change is made anew."""

    PREFIXES: Final = ("health_", "prometheus_metrics_")
    """How the attributes of their settings begin."""

    def __init__(self, settings: Settings, health: HealthBoard, metrics: Metrics) -> None:
        makers = (lambda settings: health_server(settings, health), lambda settings: metrics_server(settings, metrics))
        self._makers: Mapping[str, Callable[[Settings], Server | None]] = dict(zip(self.PREFIXES, makers, strict=True))
        self._wanted: dict[str, tuple[object, ...]] = {}
        self._running: dict[str, Server] = {}
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Makes them as the settings say; never raises."""
        for prefix, make in self._makers.items():
            wanted = tuple(getattr(settings, name) for name in Settings.__struct_fields__ if name.startswith(prefix))
            if wanted != self._wanted.get(prefix):
                self._wanted[prefix] = wanted
                self._end(prefix)
                if (server := make(settings)) is not None:
                    self._running[prefix] = server
                    server.start()

    def _end(self, prefix: str) -> None:
        if (server := self._running.pop(prefix, None)) is not None:
            server.stop()

    def stop(self) -> None:
        """Ends them."""
        for prefix in self._makers:
            self._end(prefix)
