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
