"""Observers of more than one function: of every one there is, or of those called inside a `with`."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.everywhere import HANDLES
from callpyback.core.forks import reset_after_fork
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.health import Ward
from callpyback.core.known import Known, found
from callpyback.core.ordering import in_order, refuse_if_required
from callpyback.core.registration import Registration
from callpyback.core.subscription import Subscription, subscribed
from callpyback.core.time_sources import SYSTEM

O = TypeVar("O")  # noqa: E741 - an observer
F = TypeVar("F", bound=Callable[..., Any])


class Visitor:
    """An observer that hears of functions on which nobody registered it.

    It has a registration on each decorator, since failures are counted for each. These, and how it is told of each
    function, are held by the decorators and functions, so that it keeps none of them alive.

    Args:
        asked: The observer, and what is asked for it.
        known: Those it must differ from in name.
    """

    def __init__(self, asked: Subscription, known: Known) -> None:
        # What is wrong with it is to be heard of here, not when some function is decorated.
        self.registration: Registration | None = Registration(asked, Ward(SYSTEM.monotonic, 1))
        known.give_name(self.registration, asked.name)
        self.name, self._order = self.registration.name, self.registration.order
        self._asked = {name: getattr(asked, name) for name in Subscription.__slots__}
        self._asked |= {"observer": None, "options": None}  # it is configured; and may be held weakly
        self._made: list[weakref.ref[Registration]] = []
        self._lock = threading.Lock()
        reset_after_fork(self)

    @property
    def observer(self) -> Any:
        """The observer; None once it has left, or is gone."""
        registration = self.registration
        return None if registration is None else registration.observer

    def registered(self, ward: Ward) -> Registration | None:
        """Return its registration on a decorator, made now; None once it has left, or is gone."""
        observer = self.observer
        if observer is None:
            return None
        made = Registration(Subscription(**{**self._asked, "observer": observer}), ward, is_configured=True)
        made.name, made.order = self.name, self._order
        with self._lock:
            self._made = [known for known in self._made if known() is not None]
            self._made.append(weakref.ref(made))
            has_left = self.registration is None
        if has_left:
            made.retire()
        return made

    def leave(self) -> None:
        """Be told nothing any more, in calls under way too."""
        with self._lock:
            self.registration = None  # a thread or task started inside may hold this visitor, but not the observer
            made, self._made = self._made, []
        for reference in made:
            registration = reference()
            if registration is not None:
                registration.retire()

    def reset_after_fork(self) -> None:
        """Make the lock anew: another thread may have held it."""
        self._lock = threading.Lock()


class Visitors:
    """The observers of every function, and the scopes that are open.

    Attributes:
        everywhere: Those that hear of every function.
        open_scopes: How many scopes are open in the whole process; while there is one, no function may take a way on
            which nobody asks for scopes.
    """

    def __init__(self) -> None:
        self.everywhere: tuple[Visitor, ...] = ()
        self.open_scopes = 0
        self._known = Known()
        self._lock = threading.RLock()
        reset_after_fork(self)

    def add(self, asked: Subscription) -> None:
        """Let an observer hear of every function."""
        with self._lock:
            self._known.refuse_twice(asked.observer)
            visitor = Visitor(asked, self._known)
            here = {known: known.registration for known in self.everywhere if known.observer is not None}
            here[visitor] = visitor.registration
            registrations = [registration for registration in here.values() if registration is not None]
            in_order(registrations)  # which refuses a circle
            self._known.add(registrations[-1])
            self.everywhere = tuple(here)
        HANDLES.renew()

    def remove(self, observer: Any) -> None:
        """Let an observer hear of nothing any more."""
        with self._lock:
            here = {known.registration: known for known in self.everywhere if known.registration is not None}
            registration = found(observer, list(here), "globally")
            refuse_if_required(registration, list(here))
            self._known.discard(registration)
            here.pop(registration).leave()
            self.everywhere = tuple(here.values())
        HANDLES.renew()

    def opened(self) -> None:
        """Count a scope that opens."""
        with self._lock:
            self.open_scopes += 1
            if self.open_scopes == 1:
                HANDLES.renew()  # before the lock is free: whoever opens the second scope relies on it

    def closed(self) -> None:
        """Count a scope that closes."""
        with self._lock:
            self.open_scopes = max(0, self.open_scopes - 1)
            if self.open_scopes == 0:
                HANDLES.renew()

    def reset_after_fork(self) -> None:
        """Make the lock anew, and count only the scopes of this thread: those of others will not close here."""
        self._lock = threading.RLock()
        self.open_scopes = len(_still_open())


VISITORS: Final = Visitors()

inside: Final[contextvars.ContextVar[tuple[Visitor, ...]]] = contextvars.ContextVar("callpyback_inside", default=())
"""The scopes that are open around what runs, in this thread or task."""


def add_global_observer(observer: Any, states: Any = None, **asked: Any) -> None:
    """Tell an observer of every decorated function of this process: of those there are, and those to come.

    Functions on which the observer is registered anyway tell it once. Where it can't be told, such as one with an
    `async def update` around a plain function, it hears nothing, and a warning is logged. What it requires of others
    orders it where those others are, and says nothing where they are not. While there is no such observer, nothing is
    paid for it.

    Args:
        observer: An observer, or a `Subscription`.
        states: What it is told, in place of its own `states`.
        asked: `when`, `match`, `name`, `priority`, `requires`, `required_by`, `weak` and `options`, as of
            `Subscription`.

    Raises:
        ConfigurationError: It is no observer, or is registered globally already.

    Example:
        >>> from callpyback import (
        ...     CallPyBack, ExecutionState, add_global_observer, on_completion, remove_global_observer
        ... )
        >>> @CallPyBack()
        ... def greet(name):
        ...     return f"hello {name}"
        >>> note = on_completion(lambda function_signature: print(function_signature.name, "was called"))
        >>> add_global_observer(note, ExecutionState.COMPLETED, match="*greet")
        >>> greet("ann")
        greet was called
        'hello ann'
        >>> remove_global_observer(note)
        >>> greet("bob")
        'hello bob'
    """
    VISITORS.add(subscribed(observer, states=states, **asked))


def remove_global_observer(observer: Any) -> None:
    """Stop telling an observer of every function, given itself or its name.

    Raises:
        ConfigurationError: It is not registered globally.
    """
    VISITORS.remove(observer)


class observing(Generic[O]):  # noqa: N801 - read as a word: with observing(metrics):
    """Tells an observer, inside a `with`, of every decorated function this thread or task calls.

    Tasks and threads that are started inside count too, until the `with` ends; so do calls by `asyncio.to_thread`.
    Threads that were there before, such as those of a pool, do not. A call is told if it begins inside. While any scope
    is open in the process, calls of all decorated functions take a few microseconds more; otherwise nothing is paid.

    The target of the `with` is the observer. As a decorator it opens a scope around each call of a function or
    coroutine function.

    Args:
        observer: An observer, or a `Subscription`.
        states: What it is told, in place of its own `states`.
        asked: As for `add_global_observer`.

    Raises:
        ConfigurationError: It is no observer.

    Example:
        >>> from callpyback import CallPyBack, MetricsObserver, observing
        >>> @CallPyBack()
        ... def work():
        ...     return "done"
        >>> with observing(MetricsObserver()) as metrics:
        ...     work(), work()
        ('done', 'done')
        >>> work()
        'done'
        >>> metrics.get_metrics()["total_calls"]
        2
    """

    def __init__(self, observer: O | Subscription, states: Any = None, **asked: Any) -> None:
        self._asked = subscribed(observer, states=states, **asked)
        self._open: list[Visitor] = []
        Visitor(self._asked, Known())  # which refuses what is no observer

    def __enter__(self) -> O:
        visitor = Visitor(self._asked, Known())
        _follow_threads()
        inside.set((*_still_open(), visitor))
        VISITORS.opened()
        self._open.append(visitor)
        observer: O = self._asked.observer
        return observer

    def __exit__(self, *_: object) -> None:
        here = inside.get()
        # Several threads may be inside by one object, and async fixtures leave in another context than they entered in.
        visitor = next((known for known in reversed(self._open) if known in here), self._open[-1])
        self._open.remove(visitor)
        visitor.leave()
        inside.set(_still_open())  # scopes that are not nested may end in any order
        VISITORS.closed()

    def __call__(self, function: F) -> F:
        """Open a scope around each call of a function.

        Raises:
            ConfigurationError: It is no function or coroutine function.
        """
        target: Any = function
        with looking_at("function", target):
            kind = kind_of(target) if callable(target) else None
        if kind not in (FunctionKind.COROUTINE, FunctionKind.FUNCTION):
            refuse("function", target, "a function or coroutine function; inside others, use `with observing(...)`")

        @functools.wraps(target)
        async def awaited_inside(*args: Any, **kwargs: Any) -> Any:
            with self._anew():
                awaitable: Any = target(*args, **kwargs)
                return await awaitable

        @functools.wraps(target)
        def called_inside(*args: Any, **kwargs: Any) -> Any:
            with self._anew():
                return target(*args, **kwargs)

        return cast("F", awaited_inside if kind is FunctionKind.COROUTINE else called_inside)

    def _anew(self) -> observing[Any]:
        # Several calls may be under way at once, and end in any order.
        return observing(self._asked)


def _still_open() -> tuple[Visitor, ...]:
    """Return the scopes around what runs, without those that have ended meanwhile."""
    return tuple(known for known in inside.get() if known.observer is not None)


@functools.cache
def _follow_threads() -> None:
    """Let threads inherit the scopes they are started in.

    Before Python 3.14 a thread begins with an empty context, so `Thread.start` is wrapped, once scopes are used, as
    tracing libraries do.
    """
    start = threading.Thread.start

    @functools.wraps(start)
    def start_inside(thread: threading.Thread, *args: Any, **kwargs: Any) -> None:
        scopes = inside.get()
        if scopes:
            with contextlib.suppress(Exception):  # a thread that refuses to have its `run` replaced is not followed
                thread.run = functools.partial(_run_inside, scopes, thread, thread.run)  # type: ignore[method-assign]
        start(thread, *args, **kwargs)

    threading.Thread.start = start_inside  # type: ignore[method-assign,assignment]


def _run_inside(scopes: tuple[Visitor, ...], thread: threading.Thread, run: Any) -> None:
    thread.__dict__.pop("run", None)  # it would keep the thread alive
    inside.set(scopes)
    run()
