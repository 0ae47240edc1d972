"""The newest alerts of an observer: kept, logged, and handed to a callback that can hurt nobody."""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from callpyback.core.configuration import checked_count, looking_at, refuse
from callpyback.core.functions import FunctionKind, kind_of, signature_of
from callpyback.core.reporting import Interval, log
from callpyback.core.safe_repr import safe_text
from callpyback.core.time_sources import SYSTEM
from callpyback.observers.parts.tally import Tally

Alert = dict[str, Any]
"""Plain data: `json.dumps` takes it."""

OnAlert = Callable[[Alert], object]

HIGH: Final = "HIGH"
MEDIUM: Final = "MEDIUM"


class AlertLog:
    """Keeps the newest alerts and counts all of them, in any number of threads without a lock.

    An alert is a dictionary that its observer may go on changing while the episode lasts; readers get copies.

    Args:
        max_alerts: How many are kept.
        on_alert: Called with a copy of each alert, in the thread that reports it, after it is kept and logged. What it
            raises is logged and counted, and goes no further.
        parameter: Under which name `on_alert` was given.
    """

    def __init__(self, max_alerts: int, on_alert: OnAlert | None = None, parameter: str = "on_alert") -> None:
        self._kept: deque[Alert] = deque(maxlen=checked_count("max_alerts", max_alerts))
        self._on_alert = checked_callback(parameter, on_alert)
        self._reported = Tally()
        self._failed = Tally()
        self._interval = Interval()

    def report(self, alert: Alert, text: str | None) -> None:
        """Keep an alert, log its text, if there is one, as a warning on the logger `callpyback`, and hand it on."""
        next(self._reported)
        self._kept.append(alert)
        if text is not None:
            log(logging.WARNING, "%s", text)
        self.tell(alert)

    def tell(self, alert: Alert) -> None:
        """Hand a copy of an alert to the callback."""
        callback = self._on_alert
        if callback is None:
            return
        try:
            callback(dict(alert))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - it is the user's code, in the midst of a call that goes on
            next(self._failed)
            if self._interval.begins(SYSTEM.monotonic()):
                log(logging.ERROR, "%r failed: %s%s", callback, safe_text(error), self._interval.held_back())

    @property
    def total(self) -> int:
        """How many were reported, those that are no longer kept included."""
        return self._reported.count

    @property
    def failed_callbacks(self) -> int:
        """How often the callback raised."""
        return self._failed.count

    def kept(self) -> list[Alert]:
        """Return copies of those that are kept, the newest last."""
        return [dict(alert) for alert in tuple(self._kept)]

    def since(self, timestamp: float) -> list[Alert]:
        """Return copies of those that are kept and were reported, or reported again, at this time or later."""
        return [alert for alert in self.kept() if (_last_timestamp(alert) or 0.0) >= timestamp]

    def copied(self, memo: dict[int, Any]) -> AlertLog:
        """Return another one with copies of the alerts, and the same callback.

        Args:
            memo: Of `copy.deepcopy`, by which others that hold an alert find its copy.
        """
        copied = copy.copy(self)
        known = {"_kept": copy.deepcopy(self._kept, memo), "_interval": Interval()}
        vars(copied).update(known, _reported=Tally(self.total), _failed=Tally(self.failed_callbacks))
        return copied

    def clear(self) -> None:
        """Forget all alerts and counts."""
        self._kept.clear()
        self._reported, self._failed = Tally(), Tally()


def _last_timestamp(alert: Alert) -> float | None:
    last: float | None = alert.get("last_timestamp", alert["timestamp"])
    return last


def checked_callback(parameter: str, callback: Any) -> OnAlert | None:
    """Return a function that takes one alert, or refuse it by name."""
    if callback is None:
        return None
    expected = f"a plain function that takes one alert, such as {parameter}=print"
    with looking_at(parameter, callback):
        if not callable(callback) or kind_of(callback) is not FunctionKind.FUNCTION:
            refuse(parameter, callback, expected)
        signature = signature_of(callback)
        try:
            if signature is not None:
                signature.bind({})
        except TypeError as wrong:
            refuse(parameter, callback, f"{expected}; called so, it has {wrong}")
        return callback  # type: ignore[no-any-return]
