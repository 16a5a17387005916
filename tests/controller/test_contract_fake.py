"""The fake API server gives the answers that were recorded of real ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.controller.contract")

from tests.controller.contract import Contract, Target  # noqa: E402 # its asserts are rewritten only if that was asked for before
from tests.lab.kubeapi import FakeApi  # noqa: E402 # the same


class TestFake(Contract):
    @pytest.fixture(params=["1.20", "1.36"])
    def server(self, request: pytest.FixtureRequest) -> Iterator[Target]:
        with FakeApi(release=request.param) as api:
            major, minor = map(int, request.param.split("."))
            yield Target(api.url, api.token, api.compact, release=(major, minor))
