"""When an agent looks for garbage: as a whole before freed memory is given back, and not while it is starting."""

from __future__ import annotations

import gc

import pytest

from hostward import daemon


def whole_collections():
    return gc.get_stats()[2]["collections"]


@pytest.fixture
def starting():
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def test_garbage_is_left_until_the_start_is_over_and_then_collected_whole(starting):
    before = whole_collections()
    daemon._trim()
    assert whole_collections() == before, "a start makes a million values that are no garbage"
    daemon._trim()
    assert whole_collections() == before + 1
