"""What `PerformanceProfileObserver` keeps of one function: a rolling window, and the alerts in progress."""

from __future__ import annotations

import copy
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from callpyback.observers.parts.alert_log import HIGH, MEDIUM, Alert

if TYPE_CHECKING:
    from callpyback.observers.parts.by_function import FunctionName
    from callpyback.observers.parts.degradation import Degradation

SLOW: Final = "SLOW_EXECUTION"
DEGRADED: Final = "PERFORMANCE_DEGRADATION"

_PERCENTILES: Final = (50, 90, 95, 99)


class Rules:
    """When a function's calls are worth an alert; shared by all functions of one observer.

    Attributes:
        threshold: Seconds; slow is more.
        min_calls: So many calls of a function come before its first slow one is an alert, that one included.
        calm: So many calls in a row must not be slow for an episode to end.
        degradation: How durations are compared.
        now: The wall clock.
    """

    __slots__ = ("calm", "degradation", "min_calls", "now", "threshold", "window_size")

    def __init__(
        self,
        *,
        window_size: int,
        threshold: float,
        min_calls: int,
        calm: int,
        degradation: Degradation | None,
        now: Callable[[], float],
    ) -> None:
        self.window_size = min(window_size, sys.maxsize // 2)
        self.threshold = threshold
        self.min_calls = min_calls
        self.calm = calm
        self.degradation = degradation
        self.now = now


class Profile:
    """The durations of one function.

    Calls that end append to `waiting` and do nothing else on their way: appending is atomic. `fold` moves what waits
    into the window, in one thread at a time, and puts what is to be reported into `news`.

    Attributes:
        waiting: Seconds of the calls that ended since the last fold.
        given: Of slow calls, their duration and their arguments as text, where these are wanted.
        news: Alerts that have just begun.
        is_slow: Whether an episode of slow calls is going on.
        is_urgent: Whether a slow call waits.
    """

    def __init__(self, name: FunctionName, rules: Rules) -> None:
        self.name = name
        self.rules = rules
        self.waiting: list[float] = []
        self.given: deque[tuple[float, dict[str, str]]] = deque(maxlen=100)
        self.news: deque[Alert] = deque()
        needed = 0 if rules.degradation is None else rules.degradation.needed
        self.times: deque[float] = deque(maxlen=max(rules.window_size, needed))
        self.cpu_times: deque[float] = deque(maxlen=rules.window_size)
        self.memory: deque[int] = deque(maxlen=rules.window_size)
        self.total_calls = 0
        self.is_slow = self.is_urgent = False
        self._calm = 0
        self._block_sum, self._block_size = 0.0, 0
        blocks = 0 if rules.degradation is None else -(-rules.degradation.history // rules.degradation.recent)
        self._sums: deque[float] = deque(maxlen=blocks)
        self._sizes: deque[int] = deque(maxlen=blocks)
        self._episodes: dict[str, Alert] = {}

    def copied(self, rules: Rules, memo: dict[int, Any]) -> Profile:
        """Return a copy under other rules, after a fold."""
        profile = copy.copy(self)
        profile.rules = rules
        for name in ("waiting", "given", "news", "times", "cpu_times", "memory", "_sums", "_sizes", "_episodes"):
            setattr(profile, name, copy.deepcopy(getattr(self, name), memo))
        return profile

    def clear(self) -> None:
        """Forget all but what waits and what is to be reported."""
        for kept in (self.given, self.times, self.cpu_times, self.memory, self._sums, self._sizes, self._episodes):
            kept.clear()
        self.total_calls = self._calm = self._block_size = 0
        self._block_sum = 0.0
        self.is_slow = self.is_urgent = False

    def fold(self) -> None:
        """Move what waits into the window, and look whether it is worth an alert."""
        self.is_urgent = False
        number = len(self.waiting)
        batch = self.waiting[:number]
        del self.waiting[:number]
        total = sum(batch)
        if self.is_slow or not total < math.inf or (batch and max(batch) > self.rules.threshold):
            for elapsed in batch:
                self.total_calls += 1
                self._look_at(elapsed)
            batch = [elapsed for elapsed in batch if math.isfinite(elapsed)]
            total = sum(batch)
        else:
            self.total_calls += number
        self.times.extend(batch)
        degradation = self.rules.degradation
        if degradation is not None:
            self._block_sum += total
            self._block_size += len(batch)
            if self._block_size >= degradation.recent:
                self._end_block(degradation)

    def _look_at(self, elapsed: float) -> None:
        if elapsed > self.rules.threshold:
            self._calm = 0
            if self.is_slow or self.total_calls >= self.rules.min_calls:
                limit = self.rules.threshold * 1000
                message = f"Execution time: {elapsed * 1000:.1f}ms (threshold: {limit:.1f}ms)"
                self._alert(SLOW, HIGH, message, elapsed)
                self.is_slow = True
        elif self.is_slow:
            self._calm += 1
            if self._calm >= self.rules.calm:
                self.is_slow = False
                self._end(SLOW)

    def _end_block(self, degradation: Degradation) -> None:
        """Compare, if the sums of the newest block and of those before it are not far from an alarm."""
        sums, sizes = self._sums, self._sizes
        if sizes and len(self.times) >= degradation.needed:
            usual = sum(sums) / sum(sizes)
            mean = self._block_sum / self._block_size
            if mean > usual * degradation.factor_of_end or DEGRADED in self._episodes:
                self._compare(degradation)
        sums.append(self._block_sum)
        sizes.append(self._block_size)
        self._block_sum, self._block_size = 0.0, 0

    def _compare(self, degradation: Degradation) -> None:
        newest_first = list(islice(reversed(self.times), degradation.needed))
        recent, history = newest_first[: degradation.recent], newest_first[degradation.recent :]
        if degradation.is_worse(recent, history):
            means = (sum(samples) / len(samples) * 1000 for samples in (recent, history))
            message = "Recent avg: {:.1f}ms vs Historical: {:.1f}ms".format(*means)
            self._alert(DEGRADED, MEDIUM, message, None)
        elif DEGRADED in self._episodes and degradation.is_over(recent, history):
            self._end(DEGRADED)

    def _alert(self, kind: str, severity: str, message: str, elapsed: float | None) -> None:
        now = self.rules.now()
        shown = now if math.isfinite(now) else None
        known = self._episodes.get(kind)
        if known is not None:
            known["repeats"] += 1
            known["last_timestamp"] = shown
            return
        alert: Alert = {
            "timestamp": shown,
            "function": self.name.name,
            "full_name": self.name.full_name,
            "type": kind,
            "message": message,
            "arguments": next((given for took, given in tuple(self.given) if took == elapsed), None),
            "severity": severity,
            "repeats": 0,
            "last_timestamp": shown,
            "ongoing": True,
        }
        self._episodes[kind] = alert
        self.news.append(alert)

    def _end(self, kind: str) -> None:
        alert = self._episodes.pop(kind, None)
        if alert is not None:
            alert["ongoing"] = False

    def report(self) -> dict[str, Any]:
        """Return the numbers, in milliseconds and bytes, of what was folded."""
        times = list(islice(reversed(self.times), self.rules.window_size))
        if not times:
            return {}
        mean = math.fsum(times) / len(times)
        ordered = sorted(times)
        report: dict[str, Any] = {
            "total_calls": self.total_calls,
            "window_calls": len(times),
            "mean_time_ms": mean * 1000,
            "median_time_ms": _median(ordered) * 1000,
            "min_time_ms": ordered[0] * 1000,
            "max_time_ms": ordered[-1] * 1000,
            "std_dev_ms": _deviation(times, mean) * 1000,
        }
        for percent in _PERCENTILES:
            quantile = _quantile(ordered, percent)
            report[f"p{percent}_time_ms"] = None if quantile is None else quantile * 1000
        cpu_times, memory = list(self.cpu_times), list(self.memory)
        if cpu_times:
            report["mean_cpu_time_ms"] = math.fsum(cpu_times) / len(cpu_times) * 1000
            report["max_cpu_time_ms"] = max(cpu_times) * 1000
        if memory:
            report["mean_memory_bytes"] = sum(memory) / len(memory)
            report["max_memory_bytes"] = max(memory)
        return report


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _deviation(samples: Sequence[float], mean: float) -> float:
    """Return the standard deviation of the sample; 0 of a single one."""
    if len(samples) == 1:
        return 0.0
    return math.sqrt(math.fsum((sample - mean) ** 2 for sample in samples) / (len(samples) - 1))


def _quantile(ordered: Sequence[float], percent: int) -> float | None:
    """Return a percentile as `statistics.quantiles` does; None of so few samples that it would be beyond them.

    The method is definition 6 of Hyndman and Fan, "Sample quantiles in statistical packages", The American
    Statistician 50(4), 1996.
    """
    number = len(ordered)
    if number * min(percent, 100 - percent) < 100 or number < 2:  # noqa: PLR2004 - percent; two for a median
        return None
    below, part = divmod(percent * (number + 1), 100)
    if below >= number:
        return ordered[-1]
    return (ordered[below - 1] * (100 - part) + ordered[below] * part) / 100
