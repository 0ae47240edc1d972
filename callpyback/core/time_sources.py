"""The only place that reads a clock, and where time passes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

from callpyback.core.waiting import slept

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
        self._alarms: list[Alarm] = []
        self._lock = threading.Lock()

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
        with self._lock:
            self._now += seconds
        self._ring()

    def set_time(self, seconds: float) -> None:
        """Set the clock, backwards if need be, as a stepped system clock would."""
        self._now = float(seconds)
        self._ring()

    def sleep(self, seconds: float) -> None:
        """Let time pass at once: the waits between retries."""
        self.advance(max(seconds, 0.0))

    async def sleep_async(self, seconds: float) -> None:
        """Let time pass at once, giving other tasks a turn."""
        self.sleep(seconds)
        await slept(0)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Alarm:
        """Call back, in the thread that moves the clock, once it has come so far: deadlines.

        Returns:
            An object with `cancel()`.
        """
        alarm = Alarm(self._now + seconds, callback)
        with self._lock:
            self._alarms.append(alarm)
        self._ring()
        return alarm

    def _ring(self) -> None:
        with self._lock:
            due = [alarm for alarm in self._alarms if alarm.due <= self._now]
            self._alarms = [alarm for alarm in self._alarms if not (alarm.is_cancelled or alarm in due)]
        for alarm in due:
            if not alarm.is_cancelled:
                alarm.callback()

    def __getstate__(self) -> dict[str, Any]:
        # Alarms belong to calls under way here.
        return {"_now": self._now}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_now"])  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"MockTimeSource(initial_time={self._now!r})"


class Alarm:
    """A callback that a `MockTimeSource` is to make."""

    __slots__ = ("callback", "due", "is_cancelled")

    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due = due
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not call back."""
        self.is_cancelled = True


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


def elapsed_between(started: float, ended: float) -> float:
    """Return a duration by a clock that may have gone back; a clock that failed gives nan."""
    return 0.0 if ended < started else ended - started


def clocks_of(source: TimeSource | None) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return the wall clock and the monotonic clock of a source, guarded unless they are the system's.

    A source without `monotonic` measures durations with `now`.
    """
    if source is None or type(source) is SystemTimeSource:
        return SYSTEM.now, SYSTEM.monotonic  # as they were at the import: nothing frozen since
    now, monotonic = source.now, getattr(source, "monotonic", None)
    steady: Any = monotonic if callable(monotonic) else now
    return GuardedClock(now), GuardedClock(steady)


class Sleeper:
    """How calls wait: by the time source's own `sleep` and `sleep_async`, where it has them.

    Args:
        source: The decorator's time source; None for the system's.
    """

    def __init__(self, source: TimeSource | None) -> None:
        block: Any = getattr(source, "sleep", None)
        wait: Any = getattr(source, "sleep_async", None)
        self.block: Callable[[float], object] = block if callable(block) else time.sleep
        self.wait = cast("Callable[[float], Awaitable[object]]", wait) if callable(wait) else slept
