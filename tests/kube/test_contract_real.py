"""The real API server gives the answers that the fake one gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.controller.contract")

from tests.controller.contract import Contract, Target  # noqa: E402 # its asserts are rewritten only if that was asked for before
from tests.lab.kubernetes import ADMIN, ApiServer  # noqa: E402 # the same


def forget(api: ApiServer) -> None:
    """The server forgets its history: what its store has of it, and, started anew, its own memory of it."""
    assert api.etcd is not None
    api.etcd.compact()
    api.end()
    api.start()


class TestReal(Contract):
    @pytest.fixture(scope="class")
    def server(self) -> Iterator[Target]:
        with ApiServer() as api:
            yield Target(api.url, ADMIN, lambda: forget(api), api.ca)
