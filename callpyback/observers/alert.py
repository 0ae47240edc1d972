"""An alert when too many calls fail, and its end when they no longer do."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import (
    checked_clocks,
    checked_count,
    checked_seconds,
    checked_switch,
    looking_at,
    refuse,
)
from callpyback.core.forks import reset_after_fork
from callpyback.core.functions import FunctionSignature
from callpyback.core.reporting import log
from callpyback.core.safe_repr import safe_repr
from callpyback.core.state_machine import TERMINAL_STATES, Outcome
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.alert_log import HIGH, Alert, AlertLog, OnAlert
from callpyback.observers.parts.by_function import ByFunction, FunctionName
from callpyback.observers.parts.failure_rates import FailureRate
from callpyback.observers.parts.folding import Folding

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.protocols import End, TimeSource

FIRING: Final = "FIRING"
RESOLVED: Final = "RESOLVED"

_BATCH: Final = 256
_ANSWERED: Final = frozenset({Outcome.SUCCESS, Outcome.HANDLED})
_FAILURES: Final = (Outcome.FAILURE, Outcome.TIMED_OUT)
_ALL: Final = FunctionSignature("<all functions>")


class Watched:
    """One function, or all of them together, and its failure rate."""

    def __init__(self, name: FunctionName, make_rate: Callable[[], FailureRate]) -> None:
        self.name = name
        self.rate = make_rate()


class AlertObserver(BaseObserver):
    """Alerts when more than a part of the calls of a function failed within a window of time.

    An alert begins (FIRING) when at least `min_calls` calls ended in the last `window` seconds and more than
    `threshold` of them failed; it ends (RESOLVED) when the part is `resolve` or less, whatever the number of calls. In
    between nothing changes, so a rate that hovers about the threshold is one alert. The window moves in steps of a
    sixtieth. Failed are calls that ended with one of the outcomes `failures`; calls that succeeded or whose error was
    handled count beside them. Others, such as vetoed, cancelled and aborted ones, do not count at all.

    This is looked at when a call ends, and when somebody reads the numbers or calls `check()`: there is no thread that
    would notice that calls have stopped. Counts are exact for any number of threads. A call that ends well appends the
    time to a list, and is counted later with others, unless the rate is above `resolve`.

    An alert is a dictionary: `timestamp` (seconds since the epoch; None if the clock failed), `function` (the bare
    name), `full_name`, `type` ("FAILURE_RATE"), `severity` ("HIGH"), `state`, `message`, `failure_rate`, `failures`,
    `calls`, `window`, `threshold`, `resolved_at`. It is kept, logged as a warning on the logger `callpyback`, and
    handed to `on_alert`; its end is logged, and handed to `on_resolve`.

    Args:
        threshold: The part of the calls that may fail, from 0 to less than 1.
        window: Seconds.
        min_calls: With fewer calls in the window no alert begins.
        resolve: The part at which an alert ends; half of the threshold by default.
        on_alert: Called with an alert that begins, in the thread that notices it. What it raises is logged and goes no
            further.
        on_resolve: Called so with an alert that ends.
        per_function: Whether each function has a rate of its own; otherwise all have one together.
        failures: Outcomes that count as failed.
        max_alerts: How many alerts are kept.
        max_functions: How many functions are told apart; the others share `"<overflow>"`.
        time_source: Where times come from; the system's clocks by default.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack
        >>> alerts = AlertObserver(0.5, min_calls=4, on_alert=lambda alert: print(alert["message"]))
        >>> @CallPyBack(observers=[alerts])
        ... def fetch(works):
        ...     if not works:
        ...         raise ConnectionError
        >>> for works in (True, False, False, False):
        ...     try:
        ...         fetch(works)
        ...     except ConnectionError:
        ...         pass
        3 of 4 calls failed in 60 s (75.0%, threshold 50.0%)
        >>> alerts.firing[0]["function"]
        'fetch'
    """

    states = TERMINAL_STATES

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        window: float = 60.0,
        min_calls: int = 10,
        resolve: float | None = None,
        on_alert: OnAlert | None = None,
        on_resolve: OnAlert | None = None,
        per_function: bool = True,
        failures: Iterable[Outcome] = _FAILURES,
        max_alerts: int = 1000,
        max_functions: int = 2000,
        time_source: TimeSource | None = None,
        priority: float = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(priority, name)
        self._threshold = _checked_part("threshold", threshold, 1.0)
        self._resolve = self._threshold / 2 if resolve is None else _checked_part("resolve", resolve, self._threshold)
        self._window = checked_seconds("window", window)
        make_rate = partial(
            FailureRate, self._window, checked_count("min_calls", min_calls), self._threshold, self._resolve
        )
        self._per_function = checked_switch("per_function", per_function)
        self._failures = _checked_outcomes(failures)
        self._counted = self._failures | _ANSWERED
        self._now, self._clock = checked_clocks(time_source)
        self._log = AlertLog(max_alerts, on_alert)
        self._resolved = AlertLog(max_alerts, on_resolve, "on_resolve")
        self._watched = ByFunction(partial(Watched, make_rate=make_rate), checked_count("max_functions", max_functions))
        self._folding = Folding()
        self._renew_lock()
        reset_after_fork(self, "_renew_lock")

    @property
    def threshold(self) -> float:
        """The part of the calls that may fail."""
        return self._threshold

    @property
    def alerts(self) -> list[Alert]:
        """Copies of the alerts that are kept, those that ended included, the newest last."""
        self.check()
        return self._log.kept()

    @property
    def firing(self) -> list[Alert]:
        """Copies of the alerts that are kept and have not ended."""
        return [alert for alert in self.alerts if alert["state"] == FIRING]

    def bind(self, function_signature: FunctionSignature) -> tuple[None, End] | None:
        """Return how to be told of one function's calls without a context.

        None for a subclass with an `update` of its own, which is then told by that.
        """
        if type(self).update is not AlertObserver.update:
            return None
        return None, self._end_of(self._of(function_signature))

    def update(self, context: ExecutionContext) -> None:
        """Count the call of a context that shows a terminal state."""
        if context.outcome is not None:
            self._end_of(self._of(context.function_signature))(0.0, None, None, context.outcome)

    def check(self) -> None:
        """Look at the rates as of now, and report the alerts that begin or end with it.

        Call it from time to time where an alert must end although there are no more calls.
        """
        now = self._clock()
        for watched in self._watched:
            with self._folding:
                self._folding.fold(watched.rate)
                watched.rate.expire(now)
            self._report(watched)

    def get_metrics(self) -> dict[str, Any]:
        """Return for each function `calls`, `failures`, `failure_rate` (None without calls) and `firing`, as of now.

        And beside these `functions` the numbers `total_alerts`, `firing` and `failed_callbacks`. Functions go by their
        bare name while only one has it, else by their qualified or full name.
        """
        self.check()
        with self._folding:
            functions = {
                shown: {
                    "calls": watched.rate.calls,
                    "failures": watched.rate.failures,
                    "failure_rate": watched.rate.rate,
                    "firing": watched.rate.switch.is_on,
                }
                for shown, watched in self._watched.named().items()
            }
        return {
            "functions": functions,
            "total_alerts": self._log.total,
            "firing": sum(function["firing"] for function in functions.values()),
            "failed_callbacks": self._log.failed_callbacks + self._resolved.failed_callbacks,
        }

    def reset(self) -> None:
        """Forget calls and alerts."""
        with self._folding:
            for watched in self._watched:
                self._folding.fold(watched.rate)
                watched.rate.clear()
                watched.rate.turns.clear()
            self._log.clear()
            self._resolved.clear()

    def _of(self, signature: FunctionSignature) -> Watched:
        return self._watched.of(signature if self._per_function else _ALL)

    def _end_of(self, watched: Watched) -> End:
        rate, counted, failures, clock, settle = watched.rate, self._counted, self._failures, self._clock, self._settle
        note_fine, note_failed, fine = rate.fine.append, rate.failed.append, rate.fine

        def end(_elapsed: float, _value: Any, _exception: BaseException | None, outcome: Outcome) -> None:
            if outcome in failures:
                note_failed(clock())
            elif outcome in counted:
                note_fine(clock())
                if len(fine) < _BATCH and not rate.is_close:
                    return
            else:
                return
            settle(watched)

        return end

    def _settle(self, watched: Watched) -> None:
        self._folding.attempt(watched.rate)
        if watched.rate.failed:  # another thread counted when it came, or it came while this one did
            self._folding.attempt(watched.rate)
        self._report(watched)

    def _report(self, watched: Watched) -> None:
        """Report what has begun or ended, in that order: one thread at a time, and the others go on."""
        while watched.rate.turns and self._lock.acquire(blocking=False):
            try:
                while watched.rate.turns:
                    self._turn(watched, *watched.rate.turns.popleft())
            finally:
                self._lock.release()

    def _turn(self, watched: Watched, begins: bool, failures: int, calls: int) -> None:  # noqa: FBT001 - of a record
        now, rate = self._now(), failures / calls if calls else 0.0
        timestamp = now if math.isfinite(now) else None
        message = (
            f"{failures} of {calls} calls failed in {self._window:g} s ({rate:.1%}, threshold {self._threshold:.1%})"
        )
        if begins:
            alert = watched.rate.alert = {
                "timestamp": timestamp,
                "function": watched.name.name,
                "full_name": watched.name.full_name,
                "type": "FAILURE_RATE",
                "severity": HIGH,
                "state": FIRING,
                "message": message,
                "failure_rate": rate,
                "failures": failures,
                "calls": calls,
                "window": self._window,
                "threshold": self._threshold,
                "resolved_at": None,
            }
            self._log.report(alert, f"FAILURE_RATE of {watched.name.full_name}: {message}")
        elif watched.rate.alert is not None:
            alert, watched.rate.alert = watched.rate.alert, None
            alert.update(state=RESOLVED, resolved_at=timestamp)
            log(logging.INFO, "FAILURE_RATE of %s is over: %s", watched.name.full_name, message)
            self._resolved.tell(
                {**alert, "message": message, "failure_rate": rate, "failures": failures, "calls": calls}
            )

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        memo: dict[int, Any] = {}
        with self._folding:
            self._folding.fold(*(watched.rate for watched in self._watched))
            own = {
                "_log": self._log.copied(memo),
                "_resolved": self._resolved.copied(memo),
                "_watched": self._watched.copied(lambda known: _copied(known, memo)),
                "_folding": Folding(),
            }
        state = {**self.__dict__, **own}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew_lock()
        reset_after_fork(self, "_renew_lock")


def _copied(watched: Watched, memo: dict[int, Any]) -> Watched:
    return Watched(watched.name, partial(watched.rate.copied, memo))


def _checked_part(parameter: str, value: Any, below: float) -> float:
    with looking_at(parameter, value):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (0 <= value < below or (below < 1 and value == below)):
            top = "less than 1" if below == 1 else f"the threshold, {below:g}"
            refuse(parameter, value, f"a part of the calls, from 0 to {top}, such as {below / 2:g}")
        return float(value)


def _checked_outcomes(outcomes: Any) -> frozenset[Outcome]:
    with looking_at("failures", outcomes):
        given = [outcomes] if isinstance(outcomes, Outcome) else outcomes
        expected = f"outcomes, some of {', '.join(outcome.name for outcome in Outcome)}"
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            refuse("failures", outcomes, expected)
        listed = list(islice(given, len(Outcome) + 1))
        for outcome in listed:
            if not isinstance(outcome, Outcome) or outcome is Outcome.SUCCESS:
                refuse("failures", outcomes, f"{expected} but SUCCESS; {safe_repr(outcome)} is none")
        return frozenset(listed) or refuse("failures", outcomes, f"at least one of {expected}")
