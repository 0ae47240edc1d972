"""The failure rate of a function in a moving window, and whether it is an alert."""

from __future__ import annotations

import copy
import math
from collections import deque
from typing import Any, Final

from callpyback.observers.parts.windows import Hysteresis, TimeBuckets

_STEPS: Final = 60

Turn = tuple[bool, int, int]
"""Whether an alert began or ended, and the failures and calls in the window then."""


class Counts:
    """What fell into one step of the window."""

    __slots__ = ("calls", "failures")

    def __init__(self) -> None:
        self.calls = self.failures = 0


class FailureRate:
    """The failures and calls of one function in a moving window.

    Calls that end append their time to `fine` or to `failed` and do nothing else on their way. `fold` counts them, in
    one thread at a time, and puts what is to be reported into `turns`.

    Args:
        window: Seconds.
        min_calls: With fewer calls in the window no alert begins.
        above: An alert begins when the rate is greater.
        until: It ends when the rate is this or less.

    Attributes:
        turns: Alerts that have just begun or ended.
        alert: The one that is going on.
        is_close: Whether the next call may begin or end an alert, and so is not to wait for others.
    """

    def __init__(self, window: float, min_calls: int, above: float, until: float) -> None:
        self.fine: list[float] = []
        self.failed: list[float] = []
        self.turns: deque[Turn] = deque()
        self.switch = Hysteresis(above, until)
        self.calls = self.failures = 0
        self.is_close = False
        self.alert: dict[str, Any] | None = None
        self._min_calls = min_calls
        self._window = TimeBuckets(window, _STEPS, Counts)

    def fold(self) -> None:
        """Count what waits, each in its step."""
        number = len(self.failed)
        failed = self.failed[:number]
        del self.failed[:number]
        number = len(self.fine)
        fine = self.fine[:number]
        del self.fine[:number]
        if not failed:
            self._count_fine(fine)
            return
        # In the order of time, so that no alert is missed because what came after it is counted first.
        ends = sorted([(now, 0) for now in fine] + [(now, 1) for now in failed], key=_by_time)
        for now, failure in ends:
            self._count(now, 1, failure)

    def _count_fine(self, fine: list[float]) -> None:
        if (
            len(fine) > 1
            and not self.failures
            and not self.switch.is_on
            and self._window.are_one_step(min(fine), max(fine))
        ):
            self._count(fine[-1], len(fine), 0)
        else:
            for now in fine:
                self._count(now, 1, 0)

    def _count(self, now: float, calls: int, failures: int) -> None:
        self._drop(now)
        counts = self._window.at(now)
        counts.calls += calls
        counts.failures += failures
        self.calls += calls
        self.failures += failures
        self._look()

    def expire(self, now: float) -> None:
        """Forget what is too old by now, and look again."""
        self._drop(now)
        self._look()

    def _drop(self, now: float) -> None:
        for counts in self._window.expire(now):
            self.calls -= counts.calls
            self.failures -= counts.failures

    def _look(self) -> None:
        switch, rate = self.switch, self.rate or 0.0
        if (switch.is_on or self.calls >= self._min_calls) and switch.turns(rate):
            self.turns.append((switch.is_on, self.failures, self.calls))
        self.is_close = switch.is_on or rate > switch.until

    @property
    def rate(self) -> float | None:
        """Failures by calls in the window; None without calls."""
        return self.failures / self.calls if self.calls else None

    def copied(self, memo: dict[int, Any]) -> FailureRate:
        """Return a copy, after a fold."""
        return copy.deepcopy(self, memo)

    def clear(self) -> None:
        """Forget everything; an alert that is going on ends without a word."""
        self.calls = self.failures = 0
        self.switch.is_on = self.is_close = False
        self.alert = None
        self._window.clear()


def _by_time(end: tuple[float, int]) -> float:
    return end[0] if math.isfinite(end[0]) else -math.inf
