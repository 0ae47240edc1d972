"""What the library itself has to say, on the stdlib logger `callpyback`; saying it can hurt nobody."""

from __future__ import annotations

import logging
from typing import Final

from callpyback.core.safe_repr import safe_text

_logger: Final = logging.getLogger("callpyback")


def log(level: int, message: str, *args: object) -> None:
    """Log a message, whatever the user's handlers and filters do about it."""
    try:
        _logger.log(level, message, *args)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001, S110 - there is nobody left to tell
        pass


class Interval:
    """Lets one report through in so many seconds, and says how many it held back.

    Comparisons are written so that a clock that failed (nan) means "not yet".

    Args:
        seconds: The least time between two reports.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._last: float | None = None
        self._held_back = 0

    def begins(self, now: float) -> bool:
        """Return whether a report may be made now; count it as held back if not."""
        if self._last is not None and not now - self._last >= self._seconds:
            self._held_back += 1
            return False
        self._last = now
        return True

    def held_back(self) -> str:
        """Return how many were held back before the report that is made now, as the end of its text."""
        number, self._held_back = self._held_back, 0
        return f" ({number} more since the last report)" if number else ""


def report(fault: BaseException) -> None:
    """Log an error of the library itself, whatever state the program is in."""
    try:
        log(logging.ERROR, "callpyback itself failed, and the call went on without it: %s", safe_text(fault))
    except Exception:  # noqa: BLE001, S110 - near the recursion limit even a function call may fail
        pass
