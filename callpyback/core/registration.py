"""One observer on one decorator or function: what it asked for, and how it is doing."""

from __future__ import annotations

import inspect
import itertools
import logging
import math
import numbers
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from callpyback.core.safe_repr import safe_text
from callpyback.core.state_machine import PLAIN_STATES, ExecutionState
from callpyback.errors import ConfigurationError

_logger = logging.getLogger("callpyback")
_order = itertools.count()

COOL_DOWN: Final = 30.0
"""Seconds a failing observer stays paused before one call tries it again."""

_LOG_INTERVAL: Final = 60.0
"""Seconds in which one observer's failures are logged once."""


class ObserverHealth(msgspec.Struct, frozen=True):
    """How one observer is doing on one decorator or function.

    Args:
        name: The observer's name.
        failures: Exceptions it raised, all told.
        failures_in_a_row: Calls in a row in which it failed; a whole call without a failure sets it to 0.
        paused: Whether it is told nothing because it failed too often.
        skipped: Times it was not told because it could not be: an async observer while a coroutine is being closed.
        last_error: The last exception, as one bounded line of text.
    """

    name: str
    failures: int
    failures_in_a_row: int
    paused: bool
    skipped: int
    last_error: str | None


class Registration:
    """An observer with what was asked for it at registration. Compared by identity."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_held",
        "_logged_at",
        "_reference",
        "_retry_at",
        "_silenced",
        "active",
        "awaited",
        "bind",
        "callback",
        "critical",
        "failures",
        "failures_in_a_row",
        "guard",
        "last_error",
        "limit",
        "name",
        "order",
        "paused",
        "priority",
        "skipped",
        "states",
        "update",
    )

    def __init__(
        self,
        observer: Any,
        *,
        states: Any,
        limit: int,
        clock: Callable[[], float],
        weak: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        _check_observer(observer)
        _run_lifecycle(observer, options)
        self.priority = checked_priority(getattr(observer, "priority", None), observer)
        self.name = _name_of(observer)
        self.states = checked_states(getattr(observer, "states", None) if states is None else states, observer)
        self.critical = bool(getattr(observer, "critical", False))
        self.guard = bool(getattr(observer, "guard", False))
        self.order = next(_order)
        self.limit = limit
        self._clock = clock
        self._hold(observer, weak=weak)
        self.active = True
        self.paused = False
        self.failures = self.failures_in_a_row = self.skipped = 0
        self.last_error: str | None = None
        self._retry_at = self._logged_at = -math.inf
        self._silenced = 0

    def _hold(self, observer: Any, *, weak: bool) -> None:
        update, callback = getattr(observer, "update", None), getattr(observer, "callback", None)
        self.bind = getattr(observer, "bind", None)
        self.callback = observer if hasattr(observer, "wanted") and callable(callback) else None
        told = callback if self.callback is not None else update
        self.awaited = told is not None and _is_async(told)
        self._held: Callable[[], Any] = lambda: observer
        if weak:
            subject = getattr(callback, "__self__", observer) if self.callback is not None else observer
            self._weaken(observer, subject, update)
        else:
            self.update = update

    def _weaken(self, observer: Any, subject: Any, update: Any) -> None:
        if self.callback is not None:
            self.callback = observer.weakened()
            held: Any = weakref.ref(observer)
        else:
            update, self.bind = weakly(update), None
            held = None
        own = weakref.ref(self)
        try:
            reference = weakref.ref(subject, lambda _: _collected(own))
        except TypeError as error:
            message = f"weak=True needs an object that can be weakly referenced, not {subject!r}; drop weak=True"
            raise ConfigurationError(message) from error
        self.update = update if held is None else None
        self._held = held or reference
        self._reference = reference

    @property
    def observer(self) -> Any:
        """The observer; None once a weakly held one is gone."""
        return self._held()

    @property
    def sort_key(self) -> tuple[float, int]:
        """Highest priority first; equal priorities in the order of registration."""
        return (-self.priority, self.order)

    @property
    def health(self) -> ObserverHealth:
        """The counters, as they are now."""
        return ObserverHealth(
            self.name, self.failures, self.failures_in_a_row, self.paused, self.skipped, self.last_error
        )

    def count_failure(self, error: BaseException, where: str, *, again: bool) -> None:
        """Count and log a failure; pause the observer when it fails too often.

        Args:
            error: What it raised.
            where: The function and state, for the log.
            again: Whether it has already failed in this call.
        """
        self.failures += 1
        self.last_error = safe_text(error)
        if not again:
            self.failures_in_a_row += 1
            if self.failures_in_a_row >= self.limit and not self.critical:
                self._pause()
        self._log(where)

    def _pause(self) -> None:
        self.active = False
        self._retry_at = self._clock() + COOL_DOWN
        if not self.paused:
            self.paused = True
            _logger.warning(
                "observer %s is paused after failing in %d calls in a row", self.name, self.failures_in_a_row
            )

    def may_retry(self) -> bool:
        """Return whether the cool-down is over, and if so claim the one call that tries the observer again."""
        now = self._clock()
        if not self.paused or now < self._retry_at:
            return False
        self._retry_at = now + COOL_DOWN
        return True

    def recover(self) -> None:
        """Forget failures in a row, and be told again if paused."""
        self.failures_in_a_row = 0
        if self.paused:
            self.paused = False
            self.active = True

    def retire(self) -> None:
        """Be told nothing any more, in calls under way too."""
        self.active = self.paused = False

    def _log(self, where: str) -> None:
        now = self._clock()
        if now - self._logged_at < _LOG_INTERVAL:
            self._silenced += 1
            return
        more = f" ({self._silenced} more since the last report)" if self._silenced else ""
        self._logged_at, self._silenced = now, 0
        _logger.warning("observer %s failed at %s: %s%s", self.name, where, self.last_error, more)


def _collected(own: weakref.ref[Registration]) -> None:
    registration = own()
    if registration is not None:
        registration.retire()


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a bound method while its object lives, and does nothing afterwards."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any, **kwargs: Any) -> Any:
        alive = reference()
        return None if alive is None else alive(*args, **kwargs)

    return call


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _name_of(observer: Any) -> str:
    name = getattr(observer, "name", None)
    return name if isinstance(name, str) and name else type(observer).__name__


def _check_observer(observer: Any) -> None:
    if isinstance(observer, type):
        message = f"observers={observer!r}: expected an instance, got the class; did you mean {observer.__name__}()?"
        raise ConfigurationError(message)
    if callable(getattr(observer, "update", None)) or callable(getattr(observer, "bind", None)):
        if not hasattr(observer, "priority"):
            message = f"observer {observer!r} lacks `priority`: give it a number, 0 for no preference"
            raise ConfigurationError(message)
        return
    hint = f"; wrap a function: on_success({getattr(observer, '__name__', '...')})" if callable(observer) else ""
    message = f"observer {observer!r} ({type(observer).__name__}) lacks `update`: expected update(context){hint}"
    raise ConfigurationError(message)


def _run_lifecycle(observer: Any, options: dict[str, Any] | None) -> None:
    for name, given in (("configure", options or {}), ("validate", {})):
        step = getattr(observer, name, None)
        # Duck-typed observers may use these names for something else; the lifecycle is BaseObserver's.
        if callable(step) and hasattr(type(observer), "set_metadata"):
            try:
                step(**given)
            except ConfigurationError:
                raise
            except Exception as error:
                message = f"observer {_name_of(observer)!r} refused to be registered: {name}() raised {error!r}"
                raise ConfigurationError(message) from error


def checked_priority(priority: Any, owner: Any) -> float:
    """Return the priority, or refuse it by name."""
    is_number = isinstance(priority, numbers.Real) and priority is not True and priority is not False
    if is_number and math.isfinite(priority):
        return cast("float", priority)
    message = (
        f"priority={priority!r} ({type(priority).__name__}) of {owner!r}: expected a finite number; "
        "higher is told earlier"
    )
    raise ConfigurationError(message)


def checked_states(states: Any, owner: Any) -> frozenset[ExecutionState]:
    """Return the states as a set, the plain ones for None, or refuse them by name."""
    if states is None:
        return PLAIN_STATES
    if isinstance(states, ExecutionState):
        return frozenset({states})
    is_several = isinstance(states, Iterable) and not isinstance(states, str | bytes)
    given: list[Any] = list(states) if is_several else [states]
    for state in given:
        if not isinstance(state, ExecutionState):
            message = (
                f"states={states!r} of {owner!r}: {state!r} ({type(state).__name__}) is no ExecutionState; "
                f"expected some of {', '.join(s.name for s in ExecutionState)}"
            )
            raise ConfigurationError(message)
    return frozenset(given)


def ordered(registrations: Sequence[Registration]) -> list[Registration]:
    """Return them in the order they are told."""
    return sorted(registrations, key=lambda registration: registration.sort_key)
