"""The controller's composition root: every thread and queue on one screen.

    a reflector thread per resource ──▶ inbox ◀── feed thread          metrics and health: a thread each
                                          │
               leadership thread ──▶ reconcile thread ──▶ etcd          log writer: a thread of its own
                                          │
                                    main thread: waits for SIGTERM, SIGINT, or a thread that died of a bug

Nothing is removed at the end: what stands in etcd stays in force. The lease is given back, so that another takes over at once.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

import hostward
from hostward.controller.facts import Facts
from hostward.controller.inbox import Inbox
from hostward.controller.reconciler import Reconciler
from hostward.controller.resources import CONTROLLERS, projected
from hostward.controller.telling import Teller
from hostward.datastore.connection import from_environment
from hostward.datastore.etcd.feed import EtcdFeed
from hostward.datastore.etcd.lease import Leadership
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.store import StoreError
from hostward.kube.access import Access, in_cluster
from hostward.kube.client import Client
from hostward.kube.errors import ApiError
from hostward.kube.kubeconfig import read_kubeconfig
from hostward.kube.reflector import Reflector
from hostward.report import logs, secrets
from hostward.report.endpoints import health_route, metrics_route
from hostward.report.health import HealthBoard
from hostward.report.server import Server
from hostward.report.threads import Threads

log = logs.get_logger()
LEADER: Final = "/hostward/kube-controller/leader"
"""The key in etcd that the leader holds; outside of the resources, so that nobody takes it for one."""


class Options(Struct, frozen=True):
    """How the controller runs. `api_server`: host and port in place of those that a pod is told. Addresses as (host, port)."""

    environ: Mapping[str, str]
    controllers: tuple[str, ...]
    kubeconfig: Path | None
    context: str | None
    api_server: tuple[str, int] | None
    health: tuple[str, int]
    metrics: tuple[str, int]
    lease: int
    log_severity: str
    log_format: str


def run(options: Options) -> int:
    """Runs the controller until a signal; the exit status: 0 after a signal, 1 when it can't start or a bug ended it."""
    writer = logs.configure(options.log_severity, options.log_format)
    for name in ("ETCD_PASSWORD", "CALICO_ETCD_PASSWORD"):
        secrets.hide(options.environ.get(name, ""))
    try:
        return _run(options)
    except (StoreError, ApiError) as error:
        log.error("the controller can't start", error=str(error))
        return 1
    finally:
        writer.close()


def _access(options: Options) -> Access:
    if options.kubeconfig is not None:
        return read_kubeconfig(options.kubeconfig, options.context)
    host, port = options.api_server or (None, None)
    return in_cluster(options.environ, host=host, port=port)


def _run(options: Options) -> int:
    connection = from_environment(options.environ)
    for notice in connection.notices:
        log.warning("settings", notice=notice)
    client = Client(_access(options))
    resources = [resource for name in options.controllers for resource in CONTROLLERS[name]]
    kinds = [resource.kind for resource in resources]
    inbox, feed = Inbox(kinds), EtcdFeed(connection)
    name = f"{options.environ.get('HOSTNAME') or socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
    leadership = Leadership(connection, LEADER, name, ttl=options.lease)
    reflectors = [Reflector(client, resource, inbox, project=projected) for resource in resources]
    health = HealthBoard(time.monotonic)
    teller = Teller(health, inbox, leadership, reflectors)
    store = EtcdStore(connection, fence=leadership.fence)
    reconciler = Reconciler(Facts(kinds), inbox, store, leadership, teller)
    judged = {"/liveness": health_route(health.liveness), "/readiness": health_route(health.readiness)}
    servers = [
        Server("health", *options.health, judged),
        Server("metrics", *options.metrics, {"/metrics": metrics_route(teller.text)}),
    ]

    threads = Threads("a bug ends the controller; what stands in etcd stays in force")
    threads.end_on_signals()
    log.info("controller starts", version=hostward.__version__, server=client.server, controllers=",".join(options.controllers))
    for server in servers:
        server.start()
    threads.start("feed", partial(feed.run, inbox.store))
    threads.start("leadership", leadership.run)
    threads.start("reconcile", reconciler.run)
    for reflector in reflectors:
        threads.start(f"watch {reflector.resource.plural}", reflector.run)
    threads.stop.wait()
    inbox.nudge()
    client.close()
    threads.join()
    for server in servers:
        server.stop()
    store.close()
    log.info("controller stops, what stands in etcd stays in force")
    return 1 if threads.failed else 0
