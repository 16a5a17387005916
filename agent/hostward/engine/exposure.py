"""How long what others changed may have stood, at most: from the last look that found the kernel in order to the repair.

Engine thread only.
"""

from __future__ import annotations

from collections.abc import Callable

from hostward.report.metrics import Metrics


class Exposure:
    """Adds up in metrics, also while a repair fails again and again."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._in_order_at: float | None = None
        self._drifted = False

    def in_order(self, began: float) -> None:
        """A look that began then found nothing, or what it found was put right. What it saw first may be long ago by now."""
        self._in_order_at, self._drifted = max(began, self._in_order_at or began), False

    def drifted(self) -> None:
        """Others changed something; it is being put back."""
        self._drifted = True

    def ended(self) -> None:
        """Something was put back just now."""
        now = self._clock()
        if self._in_order_at is not None:
            self._metrics.exposed(now - self._in_order_at)
        self._in_order_at = now

    def failed(self) -> None:
        """A look or a repair failed. Where nothing is known to be changed, nothing counts until it is."""
        if self._drifted:
            self.ended()
