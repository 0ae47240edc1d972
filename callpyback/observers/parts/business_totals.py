"""What `BusinessMetricsObserver` adds up: totals by function, a moving window, and days."""

from __future__ import annotations

import copy
import math
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from callpyback.observers.parts.sums import CompensatedSum
from callpyback.observers.parts.windows import TimeBuckets

if TYPE_CHECKING:
    from callpyback.observers.parts.by_function import FunctionName

DAY: Final = 86_400
"""Seconds of a day."""

_STEPS: Final = 60


Sample = tuple["FunctionTotals", float, bool, list[tuple[str, float]]]
"""One call: its function, when it ended, whether it succeeded, and values by metric. Nothing of its objects."""


class FunctionTotals:
    """What the calls of one function have been worth so far."""

    def __init__(self, name: FunctionName) -> None:
        self.name = name.name
        self.calls = 0
        self.successes = 0
        self.value = CompensatedSum()
        self.metrics: dict[str, CompensatedSum] = {}


class Recent:
    """What fell into one step of the moving window."""

    def __init__(self) -> None:
        self.events = 0
        self.metrics: dict[str, float] = {}


class Trends:
    """All totals of one observer. Calls append to `waiting`; `fold` adds up what waits, in one thread at a time."""

    def __init__(self, *, max_events: int, window: float, max_days: int) -> None:
        self.waiting: list[Sample] = []
        self.events: deque[tuple[float, str, str, float, bool]] = deque(maxlen=min(max_events, sys.maxsize))
        self.recent = TimeBuckets(window, _STEPS, Recent)
        self.days: dict[int, dict[str, CompensatedSum]] = {}
        self._max_days = max_days

    def fold(self) -> None:
        """Add up what waits."""
        number = len(self.waiting)
        batch = self.waiting[:number]
        del self.waiting[:number]
        for sample in batch:
            self._add(*sample)

    def _add(self, function: FunctionTotals, timestamp: float, success: bool, values: list[tuple[str, float]]) -> None:  # noqa: FBT001 - of a record
        function.calls += 1
        function.successes += success
        if not values:
            return
        recent, day = self.recent.at(timestamp), self._day(timestamp)
        for metric, value in values:
            _sum_of(metric, function.metrics).add(value)
            if success:
                function.value.add(value)
            self.events.append((timestamp, function.name, metric, value, success))
            recent.events += 1
            recent.metrics[metric] = recent.metrics.get(metric, 0.0) + value
            if day is not None:
                _sum_of(metric, day).add(value)

    def _day(self, timestamp: float) -> dict[str, CompensatedSum] | None:
        if not math.isfinite(timestamp):
            return None
        number = int(timestamp // DAY)
        day = self.days.get(number)
        if day is None:
            day = self.days[number] = {}
            while len(self.days) > self._max_days:
                del self.days[min(self.days)]
        return day

    def copied(self) -> Trends:
        """Return a copy, after a fold."""
        trends = copy.copy(self)
        for name in ("waiting", "events", "recent", "days"):
            setattr(trends, name, copy.deepcopy(getattr(self, name)))
        return trends

    def clear(self) -> None:
        """Forget everything."""
        self.waiting.clear()
        self.events.clear()
        self.recent.clear()
        self.days.clear()


def _sum_of(metric: str, sums: dict[str, CompensatedSum]) -> CompensatedSum:
    known = sums.get(metric)
    if known is None:
        known = sums[metric] = CompensatedSum()
    return known
