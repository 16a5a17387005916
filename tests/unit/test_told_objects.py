"""What metrics say of endpoints and selectors that do nothing, of exposure, and of how long a change took."""

from __future__ import annotations

import time
from types import MappingProxyType

import pytest

from hostward.datastore.feed import Changes, Snapshot
from hostward.engine.exposure import Exposure
from hostward.engine.mailbox import Mailbox
from hostward.engine.schedule import COUNT_INTERVAL, MOST_FOR_COUNTS, Checks
from hostward.model.resolved import Resolved
from hostward.model.resources import HostEndpoint
from hostward.model.sets import NamedPortSet, SelectorSet
from hostward.render.ruleset import IPSet, Ruleset
from hostward.report.metrics import Metrics
from hostward.report.sizes import measured
from tests.unit.test_report_metrics import Clock, scrape


def test_selectors_that_match_nothing_and_endpoints_that_they_mean_in_vain() -> None:
    resolved = Resolved(
        sets={
            SelectorSet("role == 'web'"): frozenset(),
            SelectorSet("role == 'db'"): frozenset({"10.0.0.1"}),
            NamedPortSet("!has(role)", 6, "http"): frozenset(),
        }
    )
    own = (
        HostEndpoint("a", "w1", "eth0", labels=MappingProxyType({"role": "web"})),
        HostEndpoint("b", "w1", "eth1", ("10.0.0.2",), labels=MappingProxyType({"role": "web"})),
        HostEndpoint("c", "w1", "eth2", labels=MappingProxyType({"role": "nobody's"})),
    )
    activity = measured(resolved, Ruleset(), own).activity
    assert (activity.empty_selectors, activity.without_addresses) == (1, 1)
    assert activity.selectors == {True: 2, False: 1}


def test_the_fullest_set_counts() -> None:
    sets = {
        "hw4-s-a": IPSet("hash:net", 4, frozenset({"10.0.0.0/8"}), 10),
        "hw4-s-b": IPSet("hash:net", 4, frozenset({"10.0.0.0/8", "11.0.0.0/8"}), 4),
    }
    sizes = measured(Resolved(), Ruleset({}, sets)).sets
    assert (sizes[4].fullest, sizes[6].fullest) == (0.5, 0)


def test_exposure_is_counted_from_the_last_look_that_found_all_in_order() -> None:
    clock = Clock()
    metrics = Metrics(version="1", node="w1", clock=clock)
    exposure = Exposure(metrics, clock)

    def seconds() -> float:
        return scrape(metrics)["hostward_exposure_seconds_total"]

    exposure.ended()  # before the first look: nothing is known
    assert seconds() == 0
    exposure.in_order(clock.now)
    clock.now += 2
    exposure.failed()  # the look failed: nothing says that something was changed
    clock.now += 1
    exposure.drifted()
    exposure.failed()  # something was, and can't be put back
    assert seconds() == 3
    clock.now += 4
    exposure.ended()
    exposure.in_order(clock.now)
    assert seconds() == 7
    clock.now += 5
    began = clock.now
    clock.now += 2
    exposure.in_order(began)
    assert seconds() == 7
    clock.now += 1
    exposure.ended()  # it may have been changed as soon as the look had seen it
    assert seconds() == 7 + 3
    exposure.in_order(began)  # a look that found something, and put it right at its end
    exposure.ended()
    assert seconds() == 7 + 3


def test_a_batch_knows_when_the_first_of_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    mailbox = Mailbox()
    mailbox.changes(Changes(1, {"a": None}))
    clock.now += 3
    mailbox.changes(Changes(2, {"b": None}))
    mailbox.links({})
    mailbox.snapshot(Snapshot(3, {}))
    batch = mailbox.take(0)
    assert batch is not None
    assert batch.since == 1000
    clock.now += 1
    mailbox.links({})
    batch = mailbox.take(0)
    assert batch is not None
    assert batch.since == 1004


def test_counters_are_read_as_far_apart_as_keeps_that_cheap() -> None:
    counts = Checks(COUNT_INTERVAL, MOST_FOR_COUNTS)
    counts.done(100.0, 0.01)
    assert counts.due == 100 + COUNT_INTERVAL
    counts.done(100.0, 0.2)
    assert counts.due == 100 + 0.2 / MOST_FOR_COUNTS == 120
