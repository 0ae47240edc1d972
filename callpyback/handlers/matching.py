"""Which errors a handler is for: some classes, narrowed by a function of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_exception_classes, looking_at, refuse
from callpyback.core.functions import FunctionKind, kind_of, signature_of

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.handlers.faults import Faults

Classes = type[Exception] | Iterable[type[Exception]]
Predicate = Callable[..., Any]

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_EXPECTED: Final = "a function of (error, context), or of the error alone"


class Question:
    """A function of the user's that is asked about an error.

    Args:
        parameter: What it was given as.
        function: The function.
        takes: How many of `(error, context)` it may take.
        expected: What would do, said where it is refused.
    """

    def __init__(self, parameter: str, function: Any, takes: int = 2, expected: str = _EXPECTED) -> None:
        with looking_at(parameter, function):
            kind = kind_of(function) if callable(function) else None
            if kind not in (FunctionKind.FUNCTION, FunctionKind.COROUTINE):
                refuse(parameter, function, expected)
            self.function: Callable[..., Any] = function
            self.is_async = kind is FunctionKind.COROUTINE
            self._takes = _taken(function, takes) or refuse(parameter, function, expected)

    def ask(self, error: Exception, context: ExecutionContext) -> Generator[Awaitable[Any], Any, Any]:
        """Return what the function answers, after yielding what is to be awaited for it."""
        given: Any = self.function(*(error, context)[: self._takes])
        return (yield given) if self.is_async else given


def _taken(function: Callable[..., Any], most: int) -> int:
    """Return how many of `(error, context)` a function is given; 0 if it can't be called with them."""
    signature = signature_of(function)
    if signature is None:
        return 1  # a builtin, such as `str`
    parameters = signature.parameters.values()
    positional = [known for known in parameters if known.kind in _POSITIONAL]
    takes_any = any(known.kind is known.VAR_POSITIONAL for known in parameters)
    required = sum(known.default is known.empty for known in positional)
    # A second parameter with a default is somebody's own, as in `lambda error, code=code: ...`.
    wants_context = required > 1 or [known.name for known in positional[1:2]] == ["context"] or takes_any
    taken = most if wants_context else 1
    has_keywords = any(known.kind is known.KEYWORD_ONLY and known.default is known.empty for known in parameters)
    fits = required <= taken and (takes_any or len(positional) >= taken) and not has_keywords
    return taken if fits else 0


class Matching:
    """Says whether a handler is for an error. A predicate that raises says no.

    Args:
        on: Exception classes, or a predicate.
        when: What narrows the classes.
        faults: Where a predicate that raises is reported.
    """

    def __init__(self, on: Any, when: Question | None, faults: Faults) -> None:
        is_predicate = not isinstance(on, type) and callable(on)
        if is_predicate and when is not None:
            refuse("when", when.function, "nothing beside a predicate as `on`; or exception classes as `on`")
        self.classes = (Exception,) if is_predicate else checked_classes("on", on)
        self.when = Question("on", on) if is_predicate else when
        self.is_async = self.when is not None and self.when.is_async
        self._faults = faults

    def holds(self, error: Exception, context: ExecutionContext) -> Generator[Awaitable[Any], Any, bool]:
        """Return whether the handler is for this error."""
        try:
            if not isinstance(error, self.classes):
                return False
            return self.when is None or bool((yield from self.when.ask(error, context)))
        except Exception as fault:  # noqa: BLE001 - a mistake of a predicate must not hide the user's error
            self._faults.report(fault, error)
            return False


def checked_classes(parameter: str, classes: Any) -> tuple[type[Exception], ...]:
    """Return exception classes as a tuple, at least one and each once."""
    with looking_at(parameter, classes):
        listed = checked_exception_classes(classes, parameter=parameter)
        return tuple(dict.fromkeys(listed)) or refuse(parameter, classes, "at least one exception class")
