"""One callback of one hook: how it is held, its place in the order, and how it is doing."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any, Final

from callpyback.core.configuration import refuse
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.health import Condition, ObserverHealth
from callpyback.core.registration import weakly

_order: Final = itertools.count()

Key = int | tuple[int, int | str]


class NotAwaitedError(TypeError):
    """What an async callback raises where there is nothing to await it."""


class Connection:
    """A callback that is connected to a hook. Compared by identity.

    Attributes:
        call: What calls it where nothing can be awaited.
        acall: What calls it where it can be awaited. Both do nothing once the object of a weak one is gone.
        active: Whether it is told: connected, and not paused for failing too often.
        ailing: Whether it failed when it was last called.
        retired: Whether it was disconnected.
    """

    __slots__ = (
        "__weakref__",
        "_condition",
        "_method",
        "_reference",
        "acall",
        "active",
        "ailing",
        "call",
        "key",
        "name",
        "retired",
        "sort_key",
    )

    def __init__(self, callback: Callable[..., Any], name: str, priority: float) -> None:
        self.key = key_of(callback)
        self.name = name
        self.sort_key = (-priority, next(_order))
        self.acall = callback
        self.call = self._refuse_to_await if kind_of(callback) is FunctionKind.COROUTINE else callback
        self.active = True
        self.ailing = self.retired = False
        self._condition: Condition | None = None
        self._method: Callable[[], Any] | None = None
        self._reference: weakref.ref[Any] | None = None

    def weaken(self, forget: Callable[[Connection], None]) -> None:
        """Hold the object of a bound method weakly; `forget` is called with this connection once it is gone."""
        method: Any = self.acall
        own = weakref.ref(self)

        def gone(_: weakref.ref[Any]) -> None:
            connection = own()
            if connection is not None:
                forget(connection)

        try:
            self._method = weakref.WeakMethod(method)
            self._reference = weakref.ref(method.__self__, gone)
        except (AttributeError, TypeError):
            expected = "with weak=True the method of an object that can be weakly referenced; leave weak=True out"
            refuse("callback", method, expected)
        if self.call is method:
            self.call = weakly(method)
        self.acall = weakly(method)

    @property
    def callback(self) -> Any:
        """The callback; None once the object of a weak one is gone."""
        return self.acall if self._method is None else self._method()

    @property
    def health(self) -> ObserverHealth:
        """The counters, as they are now."""
        known = self._condition or Condition()
        return ObserverHealth(self.name, known.failures, known.in_a_row, known.paused, known.skipped, known.last_error)

    def may_retry(self, clock: Callable[[], float]) -> bool:
        """Return whether it is paused, and this is the emission that tries it again."""
        condition = self._condition
        return condition is not None and not self.retired and condition.may_retry(clock())

    def count_failure(self, error: BaseException, where: str, now: float, limit: float) -> None:
        """Count and log a failure; pause the callback after so many in a row."""
        if self._condition is None:  # most callbacks never fail
            self._condition = Condition()
        condition = self._condition
        if isinstance(error, NotAwaitedError):
            condition.skipped += 1
            condition.last_error = str(error)
        else:
            condition.count(error, again=False)
            self.ailing = True
            if condition.in_a_row >= limit and not self.retired:
                self.active = False
                condition.pause(now, self.name)
        condition.report(now, self.name, where)

    def recover(self) -> None:
        """Forget the failures in a row, and be told again if paused."""
        self.ailing = False
        if self._condition is not None:
            self._condition.in_a_row = 0
            self._condition.paused = False
        self.active = not self.retired

    def retire(self) -> None:
        """Be told nothing any more, by emissions under way too."""
        self.retired = True
        self.active = False

    def _refuse_to_await(self, *_args: Any, **_kwargs: Any) -> None:
        message = f"callback {self.name!r} is async, and emit() can't await it: use `await hook.aemit(...)`"
        raise NotAwaitedError(message)


def key_of(callback: Any) -> Key:
    """Return what tells a callback from all others while it lives: a method is a new object each time it is read."""
    subject = getattr(callback, "__self__", None)
    if subject is None:
        return id(callback)
    function = getattr(callback, "__func__", None)
    return id(subject), str(getattr(callback, "__name__", "")) if function is None else id(function)
