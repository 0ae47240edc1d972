"""What users may implement: observers, time sources, variable extractors, error handlers.

Nothing here has to be inherited from; an object with these members will do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.core.state_machine import Outcome

Begin = Callable[[], object]
"""Called with nothing when a call begins; what it returns is dropped."""

End = Callable[[float, Any, "BaseException | None", "Outcome"], object]
"""Called once when a call has ended, with `(elapsed, value, exception, outcome)`."""

Admit = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Called with the arguments of a call, as given, to decide it; see `BindableGuard`."""

GuardEnd = Callable[[float, Any, "BaseException | None", "Outcome", Any], object]
"""Called once when a call has ended, with `(elapsed, value, exception, outcome, token)`."""


@runtime_checkable
class Observer(Protocol):
    """Told about calls, the highest `priority` first.

    Optional members are read once, at registration: `name`, `states` (the states it is told; see
    `docs/reference/states.md` for the default), `critical`, `guard`, `bind`, `get_metrics`, `close`.
    `update` may be a coroutine function around coroutines and async generators.
    """

    @property
    def priority(self) -> float:
        """A finite number; a plain attribute will do."""
        ...

    def update(self, context: ExecutionContext) -> Awaitable[None] | None:
        """Receive one state of one call. What it returns is dropped."""
        ...


@runtime_checkable
class BindableObserver(Protocol):
    """An observer that needs no context: told by plain values, which is several times cheaper."""

    @property
    def priority(self) -> float:
        """A finite number; a plain attribute will do."""
        ...

    def bind(self, function_signature: FunctionSignature) -> tuple[Begin | None, End | None] | None:
        """Return what to call when a call of this function begins and when it has ended.

        Called once for each observed function. `begin()` gets nothing; `end(elapsed, value, exception, outcome)`
        gets the seconds the body ran (nan if unknown), its value, its exception and the `Outcome`. Either may be
        None; returning None altogether means "use `update` for this function".

        An observer may have `is_leaf = True` to say that neither calls anything but builtins: no code from which an
        observed function could be called. Their thread then need not be marked, which makes them cheaper still.
        """
        ...


@runtime_checkable
class BindableGuard(Protocol):
    """A guard that needs no context: it decides by plain values, which is several times cheaper."""

    guard: bool

    @property
    def priority(self) -> float:
        """A finite number; a plain attribute will do."""
        ...

    def bind_guard(
        self, function_signature: FunctionSignature, clock: Callable[[], float]
    ) -> tuple[Admit, GuardEnd | None] | None:
        """Return what decides the calls of this function, and what hears of their ends.

        Called once for each observed function. `clock` is the decorator's monotonic clock, in seconds; a failing one
        gives nan. `admit(args, kwargs)` is called with the arguments as given (`function_signature.bind` names
        them), `self` included, and:

        * returns None: the call goes on;
        * raises `CallVetoed`: the call is refused;
        * returns a `StopProcessing` with a value (not a subclass, not raised; the same object may be returned many
          times): the caller gets the value;
        * returns a `Wait`: the call waits, and what it waited for decides in place of `admit`;
        * returns anything else: the call goes on, and this token is handed to `end`.

        `end(elapsed, value, exception, outcome, token)` is called once when a call has ended for which `admit` was
        called, whatever that did; the token is None unless `admit`, or what it waited for, returned one. It is called
        of an observer that was removed or paused meanwhile too, so that nothing stays taken. With None in place of
        `end` nothing is called; with None altogether `update` is used for this function.
        """
        ...


class TimeSource(Protocol):
    """Where timestamps and durations come from, in float seconds.

    A source may also have `monotonic()`, which durations then use in place of `now()`.
    """

    def now(self) -> float:
        """Return the wall-clock time in seconds since the epoch."""
        ...


class VariableExtractor(Protocol):
    """Captures local variables of the observed function."""

    def setup_extraction(self) -> AbstractContextManager[Any]:
        """Return a context manager that is open while one call's body runs."""
        ...

    def extract_variables(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the named variables of the call whose context is open; called at its end, inside the `with`."""
        ...


class ErrorHandler(Protocol):
    """Asked when the body raised: answer with a value, or raise."""

    def handle_error(self, error: Exception, context: ExecutionContext) -> Any:
        """Return the value the caller gets instead, or raise.

        Raising `error` itself lets it pass. Raising another error sends that one to the caller, with the body's
        error as its `__context__`.
        """
        ...
