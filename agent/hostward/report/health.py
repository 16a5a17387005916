"""Is the agent alive, and is the host guarded as the datastore says: components that report, and a verdict over them.

As Felix does it (`statements.md` L-30, L-31): a component that has not reported for its timeout is bad. Knows no HTTP. The
clock is given. Any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from hostward.report.secrets import scrub


class Health(NamedTuple):
    """A verdict, and the table of components that it comes from, as plain text."""

    ok: bool
    text: str


class _Component(Struct):
    name: str
    reports_live: bool
    reports_ready: bool
    timeout: float | None
    since: float
    live: bool = True
    ready: bool = False
    detail: str = ""


_HEAD: Final = ("component", "timeout", "liveness", "readiness", "detail")


class HealthBoard:
    """The components of one agent. Times are the clock's seconds; `overrides` are timeouts by component name."""

    def __init__(self, clock: Callable[[], float], overrides: Mapping[str, float] | None = None) -> None:
        self._clock = clock
        self._overrides = dict(overrides or {})
        self._components: dict[str, _Component] = {}
        self._lock = threading.Lock()

    def register(self, name: str, *, live: bool = False, ready: bool = False, timeout: float | None = None) -> None:
        """Adds a component that will report these qualities at least every `timeout` seconds; None or 0: whenever it likes.

        Until its first report it counts as live and not ready.
        """
        timeout = self._overrides.get(name, timeout) or None
        with self._lock:
            self._components[name] = _Component(name, live, ready, timeout, self._clock())

    def report(self, name: str, *, live: bool = True, ready: bool = True, detail: str = "") -> None:
        """What a registered component is now; `detail` is one line for the operator. KeyError for one that isn't registered."""
        with self._lock:
            component = self._components[name]
            component.live, component.ready = live, ready
            component.detail = scrub(" ".join(detail.split())) if detail else ""
            component.since = self._clock()

    def liveness(self) -> Health:
        """Whether the process works; a supervisor restarts one that doesn't."""
        with self._lock:
            bad = [c for c in self._components.values() if c.reports_live and not (c.live and self._is_recent(c))]
            return Health(not bad, self._table())

    def readiness(self) -> Health:
        """Whether what the datastore says is in force. Without components nothing is ready."""
        with self._lock:
            judged = [c for c in self._components.values() if c.reports_ready]
            bad = [c for c in judged if not (c.ready and self._is_recent(c))]
            return Health(bool(judged) and not bad, self._table())

    def unready(self) -> list[str]:
        """What keeps `readiness` from being given: each component that isn't ready, with what it says."""
        with self._lock:
            judged = [c for c in self._components.values() if c.reports_ready]
            bad = [f"{c.name}: {c.detail or 'not ready yet'}" for c in judged if not (c.ready and self._is_recent(c))]
            return bad if judged else ["starting"]

    def _is_recent(self, component: _Component) -> bool:
        return component.timeout is None or self._clock() - component.since <= component.timeout

    def _table(self) -> str:
        rows = [_HEAD]
        for c in self._components.values():
            late = "" if self._is_recent(c) else "timed out"
            rows.append(
                (
                    c.name,
                    f"{c.timeout:g}s" if c.timeout else "-",
                    (late or ("reporting live" if c.live else "reporting non-live")) if c.reports_live else "-",
                    (late or ("reporting ready" if c.ready else "reporting non-ready")) if c.reports_ready else "-",
                    c.detail or "-",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        return "".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
        )
