"""The only place that reads a clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from callpyback.protocols import TimeSource

UNKNOWN: Final = math.nan
"""A duration that could not be measured: comparisons with it are false, sums with it are unknown too."""


class SystemTimeSource:
    """The machine's clocks: `time.time` for timestamps, `time.perf_counter` for durations."""

    __slots__ = ()

    now = staticmethod(time.time)
    monotonic = staticmethod(time.perf_counter)

    def __repr__(self) -> str:
        return "SystemTimeSource()"


class MockTimeSource:
    """A clock that stands still until it is told to move, for tests without sleeping.

    Args:
        initial_time: The first reading, in seconds.

    Example:
        >>> clock = MockTimeSource(initial_time=100.0)
        >>> clock.advance(2.5)
        >>> clock.now(), clock.monotonic()
        (102.5, 102.5)
    """

    def __init__(self, initial_time: float = 0.0) -> None:
        self._now = float(initial_time)

    def now(self) -> float:
        """Return the time set last, in seconds."""
        return self._now

    def monotonic(self) -> float:
        """Return the same time: durations follow `advance` and `set_time`."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: For a negative number of seconds; `set_time` goes back.
        """
        if not seconds >= 0:
            message = f"advance(seconds={seconds!r}) must not be negative; set_time() moves the clock back"
            raise ValueError(message)
        self._now += seconds

    def set_time(self, seconds: float) -> None:
        """Set the clock, backwards if need be, as a stepped system clock would."""
        self._now = float(seconds)

    def __repr__(self) -> str:
        return f"MockTimeSource(initial_time={self._now!r})"


class GuardedClock:
    """One reading of a user's time source that can hurt no call.

    A reading that raises, or is no finite number, becomes `UNKNOWN`; `anomalies` counts them.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self.anomalies = 0

    def __call__(self) -> float:
        """Return the reading in seconds, or nan."""
        try:
            reading: Any = self._read()
            if isinstance(reading, float | int) and math.isfinite(reading):
                return float(reading)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001, S110 - isolation is the purpose: the clock is the user's, the call goes on
            pass
        self.anomalies += 1
        return UNKNOWN


SYSTEM: Final = SystemTimeSource()


def clocks_of(source: TimeSource | None) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return the wall clock and the monotonic clock of a source, guarded unless they are the system's.

    A source without `monotonic` measures durations with `now`.
    """
    if source is None or type(source) is SystemTimeSource:
        return time.time, time.perf_counter
    now, monotonic = source.now, getattr(source, "monotonic", None)
    steady: Any = monotonic if callable(monotonic) else now
    return GuardedClock(now), GuardedClock(steady)
