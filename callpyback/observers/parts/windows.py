"""What happened lately: counts of a moving window of time, and a switch that does not flutter."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

B = TypeVar("B")


class TimeBuckets(Generic[B]):
    """A moving window of time in steps: what falls into one step shares a bucket, and old buckets are dropped.

    The window shows between `span - span / steps` and `span` seconds, and never holds more than `steps` buckets. A
    clock that goes back adds to the newest bucket, and so does one that failed (nan). Not safe to change from several
    threads without a lock.

    Args:
        span: Seconds.
        steps: How many buckets the window is divided into.
        make: Makes an empty bucket.

    Example:
        >>> window = TimeBuckets(60.0, 6, list)
        >>> for second in (0, 5, 31, 62):
        ...     window.at(second).append(second)
        >>> list(window), window.expire(95.0)
        ([[31], [62]], [[31]])
    """

    __slots__ = ("_buckets", "_make", "_steps", "_width", "span")

    def __init__(self, span: float, steps: int, make: Callable[[], B]) -> None:
        self.span = span
        self._steps = steps
        self._width = span / steps
        self._make = make
        self._buckets: deque[tuple[int, B]] = deque()

    def at(self, now: float) -> B:
        """Return the bucket of a time, after dropping those that are too old then."""
        buckets = self._buckets
        step = math.floor(now / self._width) if math.isfinite(now) else None
        if buckets and (step is None or step <= buckets[-1][0]):
            return buckets[-1][1]  # nothing has become too old since it was made
        self.expire(now)
        bucket = self._make()
        buckets.append((-self._steps if step is None else step, bucket))
        return bucket

    def expire(self, now: float) -> list[B]:
        """Drop the buckets that are too old at a time, and return them, the oldest first."""
        buckets, dropped = self._buckets, []
        if math.isfinite(now):
            oldest = math.floor(now / self._width) - self._steps
            while buckets and buckets[0][0] <= oldest:
                dropped.append(buckets.popleft()[1])
        return dropped

    def are_one_step(self, *times: float) -> bool:
        """Return whether these times share a bucket."""
        return len({now // self._width for now in times}) == 1

    def clear(self) -> None:
        """Drop all buckets."""
        self._buckets.clear()

    def __iter__(self) -> Iterator[B]:
        return iter([bucket for _, bucket in self._buckets])

    def __len__(self) -> int:
        return len(self._buckets)


class Hysteresis:
    """On when a value rises above one bound, off when it falls to another that is lower, and as it was in between.

    Args:
        above: On when the value is greater.
        until: Off when the value is this or less; at most `above`.

    Attributes:
        is_on: Whether it is on; off at first.

    Example:
        >>> alarm = Hysteresis(above=0.5, until=0.2)
        >>> [alarm.turns(value) for value in (0.4, 0.6, 0.4, 0.6, 0.1, 0.4)]
        [False, True, False, False, True, False]
    """

    __slots__ = ("above", "is_on", "until")

    def __init__(self, above: float, until: float) -> None:
        self.above = above
        self.until = until
        self.is_on = False

    def turns(self, value: float) -> bool:
        """Take a value, and return whether that turned it on or off. nan changes nothing."""
        turned = value <= self.until if self.is_on else value > self.above
        if turned:
            self.is_on = not self.is_on
        return turned
