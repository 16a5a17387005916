"""When changed settings make the agent begin anew: not before they hold still, not too often, not again for nothing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hostward.engine import restarts
from hostward.engine.restarts import LEAST_SECONDS, STILL_SECONDS, Restart
from hostward.model.settings import BUILT_IN, Settings

OTHER = replace(BUILT_IN, felix_metrics_enabled=False)
LIVE = replace(BUILT_IN, health_port=1, log_severity_screen="DEBUG", host_forward_policy="ApplyOnForward")


class Process:
    """A process that took settings, looked at every half second of a clock of its own."""

    def __init__(self, taken: Settings = BUILT_IN, **environ: str) -> None:
        self.now = 1000.0
        self.restart = Restart(taken, environ, lambda: self.now)

    def is_due_within(self, settings: Settings, seconds: float) -> bool:
        until = self.now + seconds
        while self.now < until:
            if self.restart.is_due(settings):
                return True
            self.now += 0.5
        return False


def test_settings_that_are_followed_begin_nothing() -> None:
    process = Process()
    process.restart.applied()
    assert not process.is_due_within(BUILT_IN, 100)
    assert not process.is_due_within(LIVE, 100)


def test_a_change_has_to_stand_still() -> None:
    process = Process()
    process.restart.applied()
    assert not process.is_due_within(BUILT_IN, 100)
    for seconds in range(1, 50):
        assert not process.is_due_within(replace(OTHER, iptables_lock_timeout=float(seconds)), STILL_SECONDS - 0.5)
    assert not process.is_due_within(BUILT_IN, 100), "what was changed back"
    assert not process.is_due_within(OTHER, STILL_SECONDS)
    assert process.is_due_within(OTHER, 1)


def test_nothing_begins_before_everything_was_applied_for_a_while() -> None:
    process = Process()
    assert not process.is_due_within(OTHER, 100)
    process.restart.applied()
    assert not process.is_due_within(OTHER, LEAST_SECONDS)
    assert process.is_due_within(OTHER, 1)


def test_a_process_that_was_begun_for_settings_that_it_did_not_get_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does one that can't keep over a restart what the datastore said: it would begin anew for ever."""
    given: dict[str, str] = {}
    monkeypatch.setattr(restarts.os, "execve", lambda _program, _arguments, environ: given.update(environ))
    first = Process()
    first.restart.applied()
    assert first.is_due_within(OTHER, 100)
    first.restart.begin_anew()
    mark = {restarts.DONE_FOR: given[restarts.DONE_FOR]}
    assert not restarts.DONE_FOR.startswith("HOSTWARD_"), "it would be a setting that isn't known"

    forgetful = Process(**mark)
    forgetful.restart.applied()
    assert not forgetful.is_due_within(OTHER, 100)
    assert forgetful.is_due_within(replace(OTHER, iptables_lock_timeout=3.0), 100), "other settings are another matter"

    second = Process(OTHER, **mark)
    second.restart.applied()
    assert not second.is_due_within(OTHER, 100)
    assert second.is_due_within(BUILT_IN, 100), "and so is the way back"
