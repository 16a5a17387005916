"""Quantiles over a sliding window, as Felix's summaries show them (observability 5.2: the client library has none).

The clock is given. One value may be used by any thread.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

QUANTILES: Final = (0.5, 0.9, 0.99)
WINDOW: Final = 600.0
MAX_SAMPLES: Final = 1000


class Quantiles:
    """Observations: their count and sum since the start, their quantiles over the last ten minutes (or 1000 of them)."""

    def __init__(self, clock: Callable[[], float], window: float = WINDOW, max_samples: int = MAX_SAMPLES) -> None:
        self._clock = clock
        self._window = window
        self._samples: deque[tuple[float, float]] = deque(maxlen=max_samples)
        self._count = 0
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Adds one observation."""
        with self._lock:
            self._samples.append((self._clock(), value))
            self._count += 1
            self._sum += value

    def read(self) -> tuple[int, float, dict[float, float]]:
        """Count, sum, and the value at each of QUANTILES (nearest rank; NaN without a recent observation)."""
        with self._lock:
            oldest = self._clock() - self._window
            while self._samples and self._samples[0][0] < oldest:
                self._samples.popleft()
            values = sorted(value for _, value in self._samples)
            count, total = self._count, self._sum
        if not values:
            return count, total, dict.fromkeys(QUANTILES, float("nan"))
        return count, total, {q: values[math.ceil(round(q * len(values), 6)) - 1] for q in QUANTILES}
