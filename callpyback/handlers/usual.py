"""The usual handlers: each is a `Handler` set up for one sort of error."""

from __future__ import annotations

import errno
import inspect
import socket
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.decisions import Answered
from callpyback.core.policy import Default
from callpyback.errors import NO_VALUE
from callpyback.handlers.chain import BaseHandler, adopted
from callpyback.handlers.handler import Handler
from callpyback.handlers.matching import Classes, Matching, Predicate, Question, checked_classes
from callpyback.handlers.retry import Retry

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.decisions import Deciding

_NETWORK_CLASSES: Final = (ConnectionError, TimeoutError, socket.gaierror, socket.herror)
_NETWORK_ERRNOS: Final = frozenset(
    getattr(errno, name)
    for name in ("ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH", "EADDRNOTAVAIL", "ENONET")
    if hasattr(errno, name)  # not every system has them all
)


def is_network_error(error: Exception) -> bool:
    """Return whether an error came from the network, by its class or its `errno`, never by its text.

    These are: ConnectionError and TimeoutError with their subclasses, errors of name resolution (`socket.gaierror`,
    `socket.herror`), and an OSError that says that a network or host is down or cannot be reached. Not among them are
    `ssl.SSLError`, which another attempt seldom mends, and the errors that some libraries derive from Exception alone:
    name those by `Retry(on=...)`.

    Example:
        >>> is_network_error(ConnectionRefusedError()), is_network_error(FileNotFoundError())
        (True, False)
    """
    return isinstance(error, _NETWORK_CLASSES) or getattr(error, "errno", None) in _NETWORK_ERRNOS


class TimeoutErrorHandler(Handler):
    """Gives a default when something took too long: TimeoutError, which is asyncio's too, and `ExecutionTimeout`.

    Args:
        default_return: What the caller gets; the error itself if this is left out.
        name: What `context.decided_by` shows.

    Example:
        >>> TimeoutErrorHandler(default_return="later").handle_error(TimeoutError(), context=None)
        'later'
    """

    def __init__(self, *, default_return: Any = NO_VALUE, name: str = "timeout") -> None:
        super().__init__(TimeoutError, value=default_return, reraise=default_return is NO_VALUE, name=name)


class ValidationErrorHandler(Handler):
    """Lets errors about wrong input go on to the caller, or gives a default.

    Args:
        on: The classes that mean wrong input.
        reraise: False for a default of None; with a `default_return` it may be left out.
        default_return: What the caller gets in place of the error.
        name: What `context.decided_by` shows.

    Example:
        >>> ValidationErrorHandler(default_return=0).handle_error(ValueError("no number"), context=None)
        0
    """

    def __init__(
        self,
        on: Classes = (ValueError, TypeError),
        *,
        reraise: bool | None = None,
        default_return: Any = NO_VALUE,
        name: str = "validation",
    ) -> None:
        if reraise is False and default_return is NO_VALUE:
            default_return = None
        reraises = default_return is NO_VALUE if reraise is None else reraise
        super().__init__(on, value=default_return, reraise=reraises, name=name)


class NetworkErrorHandler(Handler):
    """Runs the body again after an error of the network; when that does not help, gives a default or lets it go on.

    What is an error of the network says `is_network_error`.

    Args:
        retry_count: How often the body is run again at most.
        default_return: What the caller gets when every attempt failed; the last error itself if this is left out.
        wait: As of `Retry`.
        timeout: As of `Retry`.
        name: What `context.decided_by` shows.

    Example:
        >>> from callpyback import CallPyBack
        >>> attempts = []
        >>> @CallPyBack(error_handler=NetworkErrorHandler(retry_count=2, default_return="offline", wait=0))
        ... def fetch():
        ...     attempts.append("attempt")
        ...     raise ConnectionResetError
        >>> fetch(), len(attempts)
        ('offline', 3)
    """

    def __init__(
        self,
        *,
        retry_count: int = 2,
        default_return: Any = NO_VALUE,
        wait: Any = None,
        timeout: float | None = None,
        name: str = "network",
    ) -> None:
        given: Any = retry_count
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            refuse("retry_count", given, "a whole number, 0 or more")
        super().__init__(
            OSError,  # the base of all of them
            when=is_network_error,
            value=default_return,
            reraise=default_return is NO_VALUE,
            retry=Retry(given + 1, Exception, wait, timeout),
            name=name,
        )


class BusinessLogicErrorHandler(BaseHandler):
    """Gives a value for each sort of error; of several classes that fit, the most specific one counts.

    Args:
        error_mapping: From exception classes to values. A function is called with `(error, context)` or the error
            alone, and its result is the value; a list, dict or set is copied each time; `factory(make)` makes it anew.
        name: What `context.decided_by` shows.

    Example:
        >>> stock = BusinessLogicErrorHandler({LookupError: "unknown", KeyError: lambda error: f"no {error.args[0]}"})
        >>> stock.handle_error(KeyError("tea"), context=None), stock.handle_error(IndexError(), context=None)
        ('no tea', 'unknown')
    """

    def __init__(self, error_mapping: Mapping[type[Exception], Any], *, name: str = "business") -> None:
        super().__init__(name)
        with looking_at("error_mapping", error_mapping):
            if not isinstance(error_mapping, Mapping):
                refuse("error_mapping", error_mapping, "a mapping from exception classes to values")
            self.classes = checked_classes("error_mapping", error_mapping)
            self._answers = {cls: _answering(cls, error_mapping[cls]) for cls in self.classes}
        self.is_async = any(isinstance(answer, Question) and answer.is_async for answer in self._answers.values())
        self.settled = tuple(cls for cls in self.classes if self._is_settled(cls))

    def _is_settled(self, cls: type[Exception]) -> bool:
        """Return whether every error of a class has a value; a function may fail or pass the error on."""
        return not any(isinstance(self._answers[other], Question) for other in self.classes if issubclass(other, cls))

    def consider(self, error: Exception, context: ExecutionContext) -> Deciding:
        """Answer by the most specific class."""
        for cls in type(error).__mro__:
            answer = self._answers.get(cls)
            if isinstance(answer, Question):
                return Answered((yield from answer.ask(error, context)), self.name)
            if answer is not None:
                return Answered(answer.get(), self.name)
        return None


def _answering(cls: type[Exception], value: Any) -> Question | Default:
    parameter = f"error_mapping[{cls.__name__}]"
    if inspect.isroutine(value) or isinstance(value, partial):
        return Question(parameter, value)
    return Default(value, parameter)


class ConditionalErrorHandler(BaseHandler):
    """Asks another handler if a condition holds. A condition that raises does not hold.

    Args:
        condition: A function of `(error, context)`, or of the error alone, that says whether to ask.
        handler: Any handler, a chain and a `Retry` included.
        name: What logs show; `context.decided_by` shows the other handler's.

    Example:
        >>> from callpyback import CallPyBack
        >>> def is_reading(error, context):
        ...     return context.arguments["method"] == "GET"
        >>> careful = ConditionalErrorHandler(is_reading, NetworkErrorHandler(default_return="", wait=0))
        >>> @CallPyBack(error_handler=careful)
        ... def send(method):
        ...     raise ConnectionResetError("lost")
        >>> send("GET")
        ''
        >>> send("POST")
        Traceback (most recent call last):
        ...
        ConnectionResetError: lost
    """

    def __init__(self, condition: Predicate, handler: Any, *, name: str = "conditional") -> None:
        super().__init__(name)
        self._handler = adopted("handler", handler)
        self._matching = Matching(self._handler.classes, Question("condition", condition), self.faults)
        self.classes = self._handler.classes
        self.retries = self._handler.retries
        self.is_async = self._matching.is_async or self._handler.is_async

    def consider(self, error: Exception, context: ExecutionContext) -> Deciding:
        """Ask the other handler if the condition holds."""
        if (yield from self._matching.holds(error, context)):
            return (yield from self._handler.decide(error, context))
        return None


class DefaultErrorHandler(Handler):
    """Gives a value whatever the error; nobody after it is asked.

    Args:
        default_return: What the caller gets. A list, dict or set is copied each time; `factory(make)` makes it anew.
        name: What `context.decided_by` shows.
    """

    def __init__(self, default_return: Any = None, *, name: str = "default") -> None:
        super().__init__(value=default_return, name=name)


class ReraiseErrorHandler(Handler):
    """Lets every error go on to the caller: the end of a chain, which a decorator's `default_return` does not follow.

    Args:
        name: What `context.decided_by` shows.
    """

    def __init__(self, *, name: str = "reraise") -> None:
        super().__init__(reraise=True, name=name)
