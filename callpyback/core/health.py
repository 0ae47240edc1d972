"""How those who are told are doing: failures counted and logged, pausing, and being tried again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

import msgspec

from callpyback.core.reporting import Interval, log
from callpyback.core.safe_repr import safe_text

COOL_DOWN: Final = 30.0
"""Seconds a failing observer stays paused before one call tries it again."""


class ObserverHealth(msgspec.Struct, frozen=True):
    """How one observer is doing on one decorator or function.

    Args:
        name: The observer's name.
        failures: Exceptions it raised, all told.
        failures_in_a_row: Calls in a row in which it failed; a whole call without a failure sets it to 0.
        paused: Whether it is told nothing because it failed too often.
        skipped: Times it was not told because it could not be: an async observer while a coroutine is being closed.
        last_error: The last exception, as one bounded line of text.
    """

    name: str
    failures: int
    failures_in_a_row: int
    paused: bool
    skipped: int
    last_error: str | None


class Ward:
    """What the observers of one decorator have in common when they fail.

    Attributes:
        ailing: Those that failed in their last call or are paused; while there are any, calls look after them.
        clock: The decorator's monotonic clock.
        limit: After so many calls in a row with a failure an observer is paused.
        lost: Whether a weakly held observer has gone since the lists were last cleared of those.
    """

    def __init__(self, clock: Callable[[], float], limit: int) -> None:
        self.ailing: set[Patient] = set()
        self.clock = clock
        self.limit = limit
        self.lost = False


class Condition:
    """The failures of one observer, and when it may be tried again.

    Comparisons are written so that a clock that failed (nan) means "not yet".
    """

    __slots__ = ("_reports", "_retry_at", "failures", "in_a_row", "last_error", "paused", "skipped")

    def __init__(self) -> None:
        self.failures = self.in_a_row = self.skipped = 0
        self.last_error: str | None = None
        self.paused = False
        self._retry_at = math.inf
        self._reports = Interval()

    def count(self, error: BaseException, *, again: bool) -> None:
        """Count a failure; `again` if it does not add to the calls in a row."""
        self.failures += 1
        self.last_error = safe_text(error)
        if not again:
            self.in_a_row += 1

    def pause(self, now: float, name: str) -> None:
        """Be tried again by one call after the cool-down."""
        self._retry_at = now + COOL_DOWN
        if not self.paused:
            self.paused = True
            log(logging.WARNING, "observer %s is paused after failing in %d calls in a row", name, self.in_a_row)

    def may_retry(self, now: float) -> bool:
        """Return whether the cool-down is over, and if so claim the one call that tries the observer again."""
        if not self.paused:
            return False
        is_over = now >= self._retry_at
        if is_over or math.isnan(self._retry_at):  # the clock failed at the pause: the cool-down begins now
            self._retry_at = now + COOL_DOWN
        return is_over

    def report(self, now: float, name: str, where: str) -> None:
        """Log the last failure, unless one was logged within the last minute."""
        if self._reports.begins(now):
            more = self._reports.held_back()
            log(logging.WARNING, "observer %s failed at %s: %s%s", name, where, self.last_error, more)

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        return None, {name: getattr(self, name) for name in self.__slots__}

    def pass_over(self, error: BaseException) -> None:
        """Count that it could not be told, which is no failure of its own."""
        self.skipped += 1
        self.last_error = safe_text(error)


class Patient:
    """Whoever is told something and may fail at it: of a call, of an event, by a hook. Compared by identity.

    Attributes:
        name: How it is called where it is told.
        active: Whether it is told: neither removed nor paused.
        retired: Whether it was removed.
        critical: Whether it is never paused.
        condition: Its failures.
    """

    __slots__ = ("_ward", "active", "condition", "critical", "name", "retired")

    def __init__(self, ward: Ward) -> None:
        self._ward = ward
        self.condition = Condition()
        self.active = True
        self.critical = self.retired = False
        self.name = ""

    @property
    def clock(self) -> Callable[[], float]:
        """The monotonic clock by which it is paused."""
        return self._ward.clock

    @property
    def health(self) -> ObserverHealth:
        """The counters, as they are now."""
        state = self.condition
        return ObserverHealth(self.name, state.failures, state.in_a_row, state.paused, state.skipped, state.last_error)

    def count_failure(self, error: BaseException, where: str, *, again: bool) -> None:
        """Count and log a failure; pause when there are too many.

        Args:
            error: What it raised.
            where: What it was told, for the log.
            again: Whether it does not add to the failures in a row: it has already failed in this call, or for a reason
                that belongs to this call alone.
        """
        condition, ward, now = self.condition, self._ward, self._ward.clock()
        condition.count(error, again=again)
        if not self.retired:
            ward.ailing.add(self)
            if condition.in_a_row >= ward.limit and not self.critical:
                self.active = False
                condition.pause(now, self.name)
        condition.report(now, self.name, where)

    def pass_over(self, error: BaseException, where: str) -> None:
        """Count and log that it could not be told."""
        self.condition.pass_over(error)
        self.condition.report(self._ward.clock(), self.name, where)

    def may_retry(self) -> bool:
        """Return whether this is the one time that it is tried again, paused as it is."""
        return self.condition.may_retry(self._ward.clock())

    def recover(self) -> None:
        """Forget the failures in a row, and be told again if paused."""
        self._ward.ailing.discard(self)
        self.condition.in_a_row = 0
        self.condition.paused = False
        self.active = not self.retired

    def retire(self) -> None:
        """Be told nothing any more, in what is under way too."""
        self.retired = True
        self.active = self.condition.paused = False
        self._ward.ailing.discard(self)
