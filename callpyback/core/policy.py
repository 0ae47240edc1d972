"""What happens to an error of the body: which are expected, and what the caller gets instead, if anything."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from callpyback.core.decisions import Again, Answered, Deciding, Decision, Reraised
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.raised import ObserverExit
from callpyback.core.reporting import log
from callpyback.core.safe_repr import safe_repr, safe_text, type_name
from callpyback.errors import NO_VALUE, ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext

_SHARED_BY_MISTAKE: Final = (list, dict, set, bytearray, deque)


class factory:  # noqa: N801 - read as a word: default_return=factory(dict)
    """A default made anew each time it is needed.

    Args:
        make: Called without arguments.

    Example:
        >>> from callpyback import CallPyBack, factory
        >>> @CallPyBack(default_return=factory(dict))
        ... def settings():
        ...     raise FileNotFoundError
        >>> settings() == {} and settings() is not settings()
        True
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        given: Any = make
        if not callable(given):
            message = f"factory({make!r}): expected something to call without arguments, such as list or dict"
            raise ConfigurationError(message)
        self.make = make

    def __repr__(self) -> str:
        return f"factory({self.make!r})"


class Default:
    """The value that goes to a caller in place of an error, if there is one.

    A list, dict or set is copied for each caller, since callers may change what they get; a `factory` makes it anew.

    Args:
        value: The value; `NO_VALUE` for none.
        parameter: What it is called in errors.

    Raises:
        ConfigurationError: It is a container that cannot be copied.
    """

    def __init__(self, value: Any, parameter: str = "default_return") -> None:
        if isinstance(value, _SHARED_BY_MISTAKE):
            _check_copies(value, parameter)
        self._value = value

    @property
    def is_given(self) -> bool:
        """Whether there is a value."""
        return self._value is not NO_VALUE

    def get(self) -> Any:
        """Return the value for one caller."""
        if isinstance(self._value, factory):
            return self._value.make()
        return _copied(self._value) if isinstance(self._value, _SHARED_BY_MISTAKE) else self._value

    def __repr__(self) -> str:
        return safe_repr(self._value)


class ErrorPolicy:
    """The decorator's `exception_classes`, `retry`, `error_handler` and `default_return`.

    Attributes:
        answers: Whether somebody is asked about errors: a value may go to the caller, or the body run again.
        retries: Whether the body may run again.
        is_async: Whether asking may mean awaiting.
    """

    def __init__(self, classes: tuple[type[Exception], ...], handler: Any, default: Any, retry: Any = None) -> None:
        self._classes = classes
        self._handler = handler
        self._default = Default(default)
        self._retry = retry
        decides = callable(getattr(handler, "decide", None))
        self.retries = retry is not None or (decides and getattr(handler, "retries", True) is not False)
        self.is_async = handler is not None and (
            getattr(handler, "is_async", False) is True or kind_of(handler.handle_error) is FunctionKind.COROUTINE
        )
        self.answers = handler is not None or self._default.is_given or self.retries

    def expects(self, error: Exception) -> bool:
        """Return whether this error is one of those named; every one is, if none were."""
        return not self._classes or isinstance(error, self._classes)

    def deciding(self, error: Exception, context: ExecutionContext) -> Deciding:
        """Ask, in this order, `retry`, for errors that are expected the handler and the default; None for nobody."""
        if self._retry is not None and not context.items:  # what a generator has given away can't be given anew
            decision = self._asked_to_retry(error, context.attempt, context.lifetime)
            try:
                if decision is not None:
                    return decision
            finally:
                decision = None  # the traceback of an exception in it may hold this frame
        if not self.expects(error):
            return None
        if self._handler is not None:
            decided = yield from asked(self._handler, error, context)
            try:
                if decided is not None:
                    return decided
            finally:
                decided = None
        return self._default_answer() if self._default.is_given else None

    def _asked_to_retry(self, error: Exception, attempt: int, elapsed: float | None) -> Decision:
        name = type_name(self._retry)
        try:
            wait = self._retry.next_wait(error, attempt, elapsed)
        except Exception as raised:  # noqa: BLE001 - as what a handler raises
            return None if raised is error else Reraised(raised, name)
        return again(wait, name)

    def _default_answer(self) -> Decision:
        try:
            value = self._default.get()
        except Exception as raised:  # noqa: BLE001 - what makes the default is the user's, and what it raises too
            return Reraised(raised, "default_return")
        return Answered(value, "default_return")


def again(wait: Any, by: str) -> Again | None:
    """Return that the body is to run again after a wait, unless that is None, or no number of seconds."""
    if wait is None:
        return None
    is_number = isinstance(wait, float | int) and not isinstance(wait, bool)
    if is_number and 0 <= wait <= sys.float_info.max:
        return Again(float(wait), by)
    expected = "%s wants to wait %s before the next attempt: expected a finite number of seconds from 0 on, or None"
    log(logging.ERROR, f"{expected}; nothing is retried", by, safe_repr(wait))
    return None


def asked(handler: Any, error: Exception, context: ExecutionContext) -> Deciding:
    """Ask one handler: by its `decide`, or by `handle_error` where it has no more.

    `handle_error` answers by what it returns, raises `error` itself to pass, or raises what goes to the caller.
    """
    if callable(getattr(handler, "decide", None)):
        decided = cast("Decision", (yield from handler.decide(error, context)))
        try:
            return again(decided.wait, decided.by) if isinstance(decided, Again) else decided
        finally:
            decided = None
    is_async = kind_of(handler.handle_error) is FunctionKind.COROUTINE
    name = type_name(handler)
    try:
        value = handler.handle_error(error, context)
        if is_async:
            value = yield value  # refused around what can't await it
    except ObserverExit:
        raise
    except Exception as raised:  # noqa: BLE001 - what a handler raises goes to the caller
        return None if raised is error else Reraised(raised, name)
    return Answered(value, name)


def _copied(default: Any) -> Any:
    import copy  # noqa: PLC0415 - few defaults are mutable

    return copy.deepcopy(default)


def _check_copies(default: Any, parameter: str) -> None:
    try:
        _copied(default)
    except Exception as error:
        message = (
            f"{parameter}={safe_repr(default)}: each caller gets a copy, and copying it raised {safe_text(error)}; "
            f"use {parameter}=factory(make), with a function that makes it anew"
        )
        raise ConfigurationError(message) from error
