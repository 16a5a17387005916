"""A real API server gives the answers that the fake one is held to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.controller.contract")

from tests.controller.contract import Contract, Target  # noqa: E402 # its asserts are rewritten only if that was asked for before
from tests.lab.kubernetes import ADMIN, ApiServer  # noqa: E402 # the same


@pytest.fixture(scope="module")
def real() -> Iterator[Target]:
    with ApiServer() as api:

        def restart() -> None:
            api.end()
            api.start()

        yield Target(api.url, ADMIN, restart, ca=api.ca)


class TestReal(Contract):
    @pytest.fixture
    def server(self, real: Target) -> Target:
        return real
