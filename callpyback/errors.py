"""The exceptions a user of CallPyBack meets, and the two with which an observer decides a call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final


class CallPyBackError(Exception):
    """Base of every error this library raises on its own account."""


class ConfigurationError(CallPyBackError, ValueError):
    """Something was set up wrongly; raised when decorating or registering, never when calling.

    The message names the parameter, the value, what was expected and the way out.
    """


class StateTransitionError(CallPyBackError):
    """A `StateMachine` was asked for a step that its table does not have."""


class CallVetoed(CallPyBackError):
    """Raised by an observer at PRE_EXECUTION: the body does not run, and the caller gets this exception.

    Raised by the body of a function, or by an observer at any other state, it is an ordinary exception.

    Example:
        >>> from callpyback import CallPyBack, CallVetoed, on_call
        >>> def office_hours(arguments):
        ...     if arguments["hour"] > 17:
        ...         raise CallVetoed("the office is closed")
        >>> @CallPyBack(observers=[on_call(office_hours)])
        ... def visit(hour):
        ...     return "welcome"
        >>> visit(9)
        'welcome'
        >>> visit(18)
        Traceback (most recent call last):
        ...
        callpyback.errors.CallVetoed: the office is closed

    Args:
        message: What the caller reads.
        retry_after: Seconds after which a call may be admitted again, where the guard knows.
    """

    def __init__(self, *message: object, retry_after: float | None = None) -> None:
        super().__init__(*message)
        self.retry_after = retry_after


class RateLimitExceeded(CallVetoed):
    """Refused by `RateLimitObserver`: too many calls within its period. `retry_after` says when one is free again."""


class ConcurrencyLimitExceeded(CallVetoed):
    """Refused by `ConcurrencyLimitObserver`: as many calls as it allows are running."""


class CircuitOpen(CallVetoed):
    """Refused by `CircuitBreakerObserver`: the function failed too often. `retry_after` says when it is tried again."""


class ExecutionTimeout(CallPyBackError, TimeoutError):
    """A call took longer than its `max_execution_time`.

    Args:
        function: The qualified name of the function.
        limit: The limit in seconds.
    """

    def __init__(self, function: str, limit: float) -> None:
        super().__init__(function, limit)
        self.function = function
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.function} took longer than its limit of {self.limit:g} s"


class AccessDenied(CallPyBackError, PermissionError):
    """What a caller gets in place of a security error: an incident's number, and nothing else.

    Args:
        incident_id: Found again in the audit log.
    """

    def __init__(self, incident_id: str) -> None:
        super().__init__(incident_id)
        self.incident_id = incident_id

    def __str__(self) -> str:
        return f"access denied (incident {self.incident_id})"


class EndlessEvents(CallPyBackError, RecursionError):
    """Handlers of an event bus return events, which are handled by returning events, without end.

    It counts as the failure of the handler that returned the last one.
    """


class _NoValue:
    """The type of `NO_VALUE`: a parameter was not given, where None is a value like any other."""

    def __repr__(self) -> str:
        return "<not given>"

    def __reduce__(self) -> str:
        return "NO_VALUE"


NO_VALUE: Final = _NoValue()


class StopProcessing(CallPyBackError):
    """Raised by an observer at PRE_EXECUTION to answer the call itself, or to end the telling of this state.

    With a value (None included) the body does not run and the caller gets the value. Around a generator or an
    async generator the value is an iterable of the items the caller gets. Without a value only the plain observers
    of lower priority are skipped, for this state alone; the call goes on.

    Args:
        value: What the caller gets in place of the body's result.

    Example:
        >>> from callpyback import CallPyBack, StopProcessing, on_call
        >>> def answer_from_memory(arguments):
        ...     if arguments["n"] == 2:
        ...         raise StopProcessing(4)
        >>> @CallPyBack(observers=[on_call(answer_from_memory)])
        ... def square(n):
        ...     print("computing")
        ...     return n * n
        >>> square(2)
        4
        >>> square(3)
        computing
        9
    """

    def __init__(self, value: Any = NO_VALUE) -> None:
        super().__init__(*(() if value is NO_VALUE else (value,)))
        self.value = value

    @property
    def has_value(self) -> bool:
        """Whether the call is answered; otherwise only the telling ends."""
        return self.value is not NO_VALUE


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` - did you mean 'x'?`` for the closest known name, or an empty string."""
    import difflib  # noqa: PLC0415 - only when something is wrong

    close = difflib.get_close_matches(name, list(known), n=1)
    return f" - did you mean {close[0]!r}?" if close else ""
