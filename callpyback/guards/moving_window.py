"""The permits of a rate limit: each is free again a period after it was taken."""

from __future__ import annotations

import math
import sys
from bisect import insort
from collections import deque
from collections.abc import Callable
from itertools import repeat


class MovingWindow:
    """Gives out `max_calls` permits, each of which is free again when a `period` has passed since it was taken.

    In no window of a period are more than `max_calls` taken, because no permit is taken twice in it. Threads need no
    lock for that: one step in C takes a permit out of the deque, and whoever has it in hand looks at it alone.

    A limit that several processes share is another class with this `take`.

    Args:
        max_calls: The number of permits.
        period: Seconds.
        clock: Gives monotonic seconds; nan when it fails.

    Example:
        >>> from callpyback import MockTimeSource
        >>> time = MockTimeSource()
        >>> window = MovingWindow(1, 10.0, time.monotonic)
        >>> print(window.take())
        None
        >>> time.advance(4.0)
        >>> window.take()
        6.0
    """

    __slots__ = ("__weakref__", "_clock", "_free_at", "_max_calls", "_period", "_unused")

    def __init__(self, max_calls: int, period: float, clock: Callable[[], float]) -> None:
        self._max_calls = min(max_calls, sys.maxsize)
        self._period = period
        self._clock = clock
        # When each permit is free again, the soonest first. Those that nobody has taken yet take no memory.
        self._free_at: deque[float] = deque([-math.inf])
        self._unused = repeat(None, self._max_calls - 1)

    def take(self) -> float | None:
        """Take a permit; return None, or if there is none the seconds until one is free.

        Raises:
            ValueError: The clock failed.
        """
        free_at = self._free_at
        while True:
            now = self._clock()
            try:
                soonest = free_at[0]
                if now >= soonest:
                    taken = free_at.popleft()
                    if now >= taken:
                        free_at.append(now + self._period)
                        return None
                    insort(free_at, taken)  # another thread was faster, and this one is not free yet
                elif now < soonest:
                    if next(self._unused, self) is None:
                        free_at.append(now + self._period)
                        return None
                    wait = self._until_free()
                    if wait > 0:
                        return wait
                else:
                    message = "the clock failed: without the time a rate limit can't be kept"
                    raise ValueError(message)
            except IndexError:  # the last permits are in other threads' hands, which take them now
                return self._period

    def _until_free(self) -> float:
        """Return the seconds until a permit is free, as they are to be added to the time now; at most a period."""
        soonest, newest = self._free_at[0], self._free_at[-1]
        now = self._clock()  # read after those were noted, so it is no earlier by any clock that goes forward
        latest = now + self._period
        if newest > latest or soonest > latest:
            self._go_back(latest)
            soonest = min(soonest, latest)
        wait = soonest - now
        while now + wait < soonest:  # it was rounded down: after waiting so long, the permit would not be free yet
            wait = math.nextafter(wait, math.inf)
        return wait

    def _go_back(self, latest: float) -> None:
        """Follow a clock that went back: what seems to be taken in the future counts as taken now."""
        for _ in range(len(self._free_at)):
            self._free_at.append(min(self._free_at.popleft(), latest))

    def is_idle(self) -> bool:
        """Return whether every permit is free, as in a new window."""
        now = self._clock()
        try:
            # The last is nearly always the one to be free last; only all of them make it sure.
            return self._free_at[-1] <= now and max(self._free_at) <= now
        except (IndexError, ValueError):  # in another thread's hands
            return False

    def split(self) -> MovingWindow:
        """Return a window of which as much is used up as of this one."""
        window = MovingWindow(self._max_calls, self._period, self._clock)
        window._free_at = self._free_at.copy()
        window.count_unused()
        return window

    def count_unused(self) -> None:
        """Take for unused what is not in the deque; only while no other thread can have a permit in hand."""
        self._unused = repeat(None, self._max_calls - len(self._free_at))
