"""One callback of one hook: how it is held, its place in the order, and how it is doing."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any, Final

from callpyback.core.configuration import refuse
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.health import Patient, Ward
from callpyback.core.known import identity_of
from callpyback.core.registration import weakly

_order: Final = itertools.count()


class NotAwaitedError(TypeError):
    """What an async callback raises where there is nothing to await it."""


class Connection(Patient):
    """A callback that is connected to a hook.

    Attributes:
        call: What calls it where nothing can be awaited.
        acall: What calls it where it can be awaited. Both do nothing once the object of a weak one is gone.
    """

    __slots__ = ("__weakref__", "_method", "_reference", "acall", "call", "key", "sort_key")

    def __init__(self, callback: Callable[..., Any], name: str, priority: float, ward: Ward) -> None:
        super().__init__(ward)
        self.key = identity_of(callback)
        self.name = name
        self.sort_key = (-priority, next(_order))
        self.acall = callback
        self.call = self._refuse_to_await if kind_of(callback) is FunctionKind.COROUTINE else callback
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

    def _refuse_to_await(self, *_args: Any, **_kwargs: Any) -> None:
        message = f"callback {self.name!r} is async, and emit() can't await it: use `await hook.aemit(...)`"
        raise NotAwaitedError(message)
