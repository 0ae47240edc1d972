"""What becomes of a mistake in a handler's own code: it is logged, and hides nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from callpyback.core.reporting import Interval, log
from callpyback.core.safe_repr import one_line, safe_text, type_name
from callpyback.core.time_sources import SYSTEM


class Faults:
    """The exceptions that one handler's own code raised by mistake, logged at most once a minute.

    Args:
        name: The handler's name.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = SYSTEM.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._reports = Interval()

    def report(self, fault: Exception, error: BaseException) -> None:
        """Log what the handler raised while it was asked about `error`, of which only the type is told."""
        if not self._reports.begins(self._clock()):
            return
        more = self._reports.held_back()
        name, kind, text = one_line(self._name), one_line(type_name(error)), safe_text(fault)
        log(
            logging.WARNING,
            "error handler %r failed, and %s is dealt with as if it did not match: %s%s",
            name,
            kind,
            text,
            more,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Faults, (self._name,)  # another process has another clock
