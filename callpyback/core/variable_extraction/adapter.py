"""Binding a user's extractor, which knows only the two methods of the public protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from callpyback.core.variable_extraction.binding import Arguments, Binding, nothing

if TYPE_CHECKING:
    from callpyback.protocols import VariableExtractor

Report = Callable[[str, BaseException], object]
"""Told once for each decorated function that its extractor failed: in which words, and by what."""

_Question = Callable[["PendingCall"], dict[str, Any] | None]


class PendingCall:
    """One call that a user's extractor is asked about, for the built-in extractor it may hand the question on to."""

    __slots__ = ("arguments", "bindings", "error", "extractions", "inner", "manager")

    def __init__(self, arguments: Arguments, bindings: dict[int, Binding], inner: object | None) -> None:
        self.arguments = arguments
        self.bindings = bindings  # by the id of the built-in extractor; kept for the next call
        self.inner = inner
        self.error: BaseException | None = None
        self.manager: AbstractContextManager[Any] | None = None
        self.extractions: dict[int, Any] = {}  # open ones, by the id of the built-in extractor


pending_call: Final[ContextVar[PendingCall | None]] = ContextVar("callpyback_pending_call", default=None)


class ExtractorBinding:
    """Asks a user's extractor at the end of each call, inside its context. Nothing it does reaches the call.

    Args:
        extractor: An object of the public protocol.
        arguments: The function, the names and the kind.
        report: Told of the first failure; by default it is logged.
    """

    def __init__(
        self,
        extractor: VariableExtractor,
        arguments: Arguments,
        report: Report | None = None,
    ) -> None:
        self._extractor = extractor
        self._arguments = arguments
        self._names = arguments[1]
        self._report = report
        self._bindings: dict[int, Binding] = {}
        self._has_failed = False

    def begin(self, inner: object | None = None) -> PendingCall:
        """Open an extraction context."""
        call = PendingCall(self._arguments, self._bindings, inner)
        self._ask(self._open, call)
        call.inner = None
        return call

    def returned(self, call: PendingCall) -> dict[str, Any]:
        """What the extractor finds; it tells a return from a failure by `sys.exception()`."""
        try:
            found = self._ask(self._extract, call)
        finally:
            call.error = None
            self._ask(self._close, call)
        return nothing(self._names) if found is None else found

    def raised(self, call: PendingCall, error: BaseException) -> dict[str, Any]:
        """What the extractor finds; it tells a return from a failure by `sys.exception()`."""
        call.error = error
        return self.returned(call)

    def abandoned(self, call: PendingCall) -> dict[str, Any]:
        """Close the context without asking."""
        self._ask(self._close, call)
        return nothing(self._names)

    def _open(self, call: PendingCall) -> None:
        manager = self._extractor.setup_extraction()
        manager.__enter__()
        call.manager = manager

    def _extract(self, call: PendingCall) -> dict[str, Any] | None:
        if call.manager is None:
            return None
        found = self._extractor.extract_variables(self._names)
        if not isinstance(found, Mapping):
            raise TypeError(f"extract_variables() returned {type(found).__qualname__}, expected a dict by name")
        return {**nothing(self._names), **{name: found[name] for name in self._names if name in found}}

    def _close(self, call: PendingCall) -> None:
        manager, call.manager = call.manager, None
        if manager is not None:
            # Always as after a success: a generator-based context without try/finally then cleans up too, and
            # the user's exception stays out of the extractor's hands.
            manager.__exit__(None, None, None)

    def _ask(self, question: _Question, call: PendingCall) -> dict[str, Any] | None:
        token = pending_call.set(call)
        try:
            return question(call)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - even SystemExit of an extractor's own must not end the call
            self._tell(error)
            return None
        finally:
            pending_call.reset(token)

    def _tell(self, error: BaseException) -> None:
        if self._has_failed:
            return
        self._has_failed = True
        message = f"variable extractor {type(self._extractor).__qualname__} failed; its variables are NullVariable"
        try:
            if self._report is None:
                logging.getLogger("callpyback").warning(message, exc_info=error)
            else:
                self._report(message, error)
        except Exception:  # noqa: BLE001, S110 - nobody is left to tell
            pass

    def __reduce__(self) -> tuple[Any, ...]:
        return bind_extractor, (self._extractor, *self._arguments, self._report)


def bind_extractor(
    extractor: Any,
    function: Callable[..., Any],
    names: tuple[str, ...],
    kind: str,
    report: Report | None = None,
) -> Binding:
    """Return the binding of an extractor to a function, through `extractor.bind` where it has one.

    Args:
        extractor: Any object with `setup_extraction()` and `extract_variables(names)`.
        function: What the wrapper calls.
        names: The variables to capture.
        kind: "function", "coroutine function", "generator function" or "async generator function".
        report: Called once with a message and the exception when a user's extractor fails; by default it is logged.
    """
    names = tuple(dict.fromkeys(names))
    bind = getattr(extractor, "bind", None)
    if callable(bind):
        return cast("Binding", bind(function, names, kind))
    return ExtractorBinding(extractor, (function, names, kind), report)
