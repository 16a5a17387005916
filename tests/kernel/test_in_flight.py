"""The wait for packets that are on their way: by the kernel's word, or else by time."""

from __future__ import annotations

import time

import pytest

from hostward.dataplane import in_flight

pytestmark = pytest.mark.kernel


def test_the_kernel_is_asked() -> None:
    assert in_flight.let_pass()


def test_time_goes_by_where_it_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight.platform, "machine", lambda: "another")
    began = time.monotonic()
    assert not in_flight.let_pass()
    assert time.monotonic() - began >= in_flight._INSTEAD
