"""Every test here needs the real programs; without them it is skipped, and says how to build them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.kube.cluster import Cluster
from tests.lab import kubernetes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/kube/" in item.nodeid:
            item.add_marker(pytest.mark.kube)
            item.add_marker(pytest.mark.timeout(600))
            if not kubernetes.is_built():
                item.add_marker(pytest.mark.skip(reason="no kube-apiserver in .cache/kube: `make kube` builds it, in minutes"))


@pytest.fixture(scope="session")
def whole_cluster() -> Iterator[Cluster]:
    """One cluster for all tests: two Kubernetes namespaces, a server pod and a client in `shop`, another client in `guests`."""
    with ExitStack() as stack:
        cluster = Cluster(stack)
        cluster.start_controller()
        cluster.namespace("shop", team="x")
        cluster.namespace("guests", team="y")
        cluster.schedule_pod("shop", "web", app="web")
        cluster.schedule_pod("shop", "front", app="front")
        cluster.schedule_pod("guests", "guest", app="guest")
        yield cluster


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster without any policy."""
    yield whole_cluster
    whole_cluster.delete_policies()
