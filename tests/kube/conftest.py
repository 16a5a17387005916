"""Every test here needs the real programs; without them it is skipped, and says how to build them."""

from __future__ import annotations

import pytest

from tests.lab import kubernetes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if "tests/kube/" in item.nodeid]
    for item in here:
        item.add_marker(pytest.mark.kube)
        item.add_marker(pytest.mark.timeout(600))
        if not kubernetes.is_built():
            item.add_marker(pytest.mark.skip(reason="no kube-apiserver in .cache/kube: `make kube` builds it in five minutes"))
