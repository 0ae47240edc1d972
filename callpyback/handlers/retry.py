"""Running the body again after an error: how often, after which errors, and how long to wait between."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_count, checked_seconds, looking_at, refuse
from callpyback.core.safe_repr import safe_repr, type_name
from callpyback.handlers.chain import BaseHandler, run_again
from callpyback.handlers.matching import Classes, Predicate, Question, checked_classes

if TYPE_CHECKING:
    from tenacity.wait import wait_base

    from callpyback.core.context import ExecutionContext
    from callpyback.core.decisions import Deciding

_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 20.0

_EXPECTED_ON: Final = "exception classes, or a plain function of the error alone"
_EXPECTED_WAIT: Final = "seconds, a wait strategy of tenacity, or a plain function from an attempt's number to seconds"


class Retry(BaseHandler):
    """Runs the body again after an error, as `CallPyBack(retry=...)`, in a chain, or as `Handler(retry=...)`.

    Between the attempts it waits, by default for a random time between 0 and 1 s before the second attempt, 2 s before
    the third, and so on, doubled up to 20 s: exponential backoff with full jitter (AWS Architecture Blog, "Exponential
    Backoff And Jitter", with the base and limit of the AWS SDKs' standard retry mode), drawn by
    `tenacity.wait_random_exponential` from the `random` module. When it gives up, the error goes the way it would have
    gone without: to the next handler, or as itself to the caller.

    KeyboardInterrupt, SystemExit, GeneratorExit and asyncio's CancelledError are never retried, whatever `on` says.
    Nothing of a call is kept here, so one object may serve many functions and threads.

    Args:
        attempts: How often the body runs at most, the first time included.
        on: The exception classes after which it runs again, or a function of the error that says so. To ask the
            context too, put the `Retry` into a `ConditionalErrorHandler`.
        wait: Seconds; a wait strategy of tenacity, such as `tenacity.wait_fixed(1) + tenacity.wait_random(0, 0.5)`; or
            a function from the number of the attempt that failed (1 for the first) to seconds.
        timeout: Seconds from the beginning of the call after which no attempt begins: it gives up rather than wait
            beyond that.
        name: What `context.decided_by` shows.

    Raises:
        ConfigurationError: An argument is none of these.

    Example:
        >>> retry = Retry(attempts=3, on=ConnectionError, wait=lambda attempt: 0.1 * attempt)
        >>> retry.next_wait(ConnectionResetError(), attempt=2, elapsed=0.5)
        0.2
        >>> retry.next_wait(ConnectionResetError(), attempt=3, elapsed=0.9) is None
        True
    """

    retries = True

    def __init__(
        self,
        attempts: int = 3,
        on: Classes | Predicate = (ConnectionError, TimeoutError),
        wait: float | wait_base | Callable[[int], float] | None = None,
        timeout: float | None = None,
        *,
        name: str = "retry",
    ) -> None:
        super().__init__(name)
        self.attempts = checked_count("attempts", attempts)
        self.timeout = None if timeout is None else checked_seconds("timeout", timeout)
        is_predicate = not isinstance(on, type) and callable(on)
        self._predicate = _plain("on", on, _EXPECTED_ON) if is_predicate else None
        self.classes = (Exception,) if is_predicate else checked_classes("on", on)
        self._wait = _checked_wait(wait)

    def next_wait(self, error: BaseException, attempt: int, elapsed: float | None) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        Args:
            error: What the last attempt raised.
            attempt: The number of the last attempt, 1 for the first.
            elapsed: Seconds since the call began; None or nan if unknown, then only `attempts` is the limit.
        """
        if attempt >= self.attempts:
            return None
        try:
            is_for = isinstance(error, self.classes) and (self._predicate is None or self._predicate(error))
            wait = self._waiting(error, attempt, elapsed or 0.0) if is_for else None
        except Exception as fault:  # noqa: BLE001 - a mistake in a function of the user's must not hide the error
            self.faults.report(fault, error)
            return None
        too_late = wait is not None and self.timeout is not None and (elapsed or 0.0) + wait > self.timeout
        return None if too_late else wait

    def _waiting(self, error: BaseException, attempt: int, elapsed: float) -> float:
        given: Any = self._wait(error, attempt, elapsed)
        if isinstance(given, float | int) and 0 <= given < math.inf:
            return float(given)
        message = f"wait= gave {safe_repr(given)} after attempt {attempt}, expected seconds"
        raise ValueError(message)

    def consider(self, error: Exception, context: ExecutionContext) -> Deciding:
        """Have the body run again, or pass the error on."""
        yield from ()
        return run_again(self, error, context, self.name)

    def __repr__(self) -> str:
        classes = " | ".join(cls.__name__ for cls in self.classes)
        on = classes if self._predicate is None else getattr(self._predicate, "__name__", type_name(self._predicate))
        return f"<Retry {self.name!r} attempts={self.attempts} on={on}>"


class _Fixed:
    """Waits as long each time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, *_: Any) -> float:
        return self._seconds


class _ByAttempt:
    """Waits as long as a function of the user's says."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, error: BaseException, attempt: int, elapsed: float) -> Any:  # noqa: ARG002 - asked like the others
        return self._function(attempt)


class _Strategy:
    """Waits as long as a strategy of tenacity says."""

    def __init__(self, strategy: wait_base) -> None:
        self._strategy = strategy

    def __call__(self, error: BaseException, attempt: int, elapsed: float) -> Any:
        import tenacity  # noqa: PLC0415 - imported when the strategy was made

        state = tenacity.RetryCallState(retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        state.set_exception((type(error), error, error.__traceback__))
        state.start_time, state.outcome_timestamp = 0.0, elapsed
        return self._strategy(state)


def _checked_wait(wait: Any) -> _Fixed | _ByAttempt | _Strategy:
    with looking_at("wait", wait):
        if isinstance(wait, float | int):
            return _Fixed(checked_seconds("wait", wait, zero=True))
        import tenacity  # noqa: PLC0415 - takes as long to import as all of this package, and few need it

        if wait is None:
            return _Strategy(tenacity.wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT))
        if isinstance(wait, tenacity.wait.wait_base):
            return _Strategy(wait)
        return _ByAttempt(_plain("wait", wait, _EXPECTED_WAIT))


def _plain(parameter: str, function: Any, expected: str) -> Any:
    """Return a plain function of one argument, as it was given."""
    if isinstance(function, type) or Question(parameter, function, 1, expected).is_async:
        refuse(parameter, function, f"{expected}; nothing is awaited to decide about a retry")
    return function
