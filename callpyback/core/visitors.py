"""Observers of more than one function: of every one there is, or of those called inside a `with`."""

from __future__ import annotations

import contextvars
import functools
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from callpyback.core.everywhere import HANDLES
from callpyback.core.forks import reset_after_fork
from callpyback.core.health import Ward
from callpyback.core.known import Known, found
from callpyback.core.registration import Registration
from callpyback.core.subscription import Subscription, subscribed
from callpyback.core.time_sources import SYSTEM

if TYPE_CHECKING:
    from callpyback.core.decorator import CallPyBack

O = TypeVar("O")  # noqa: E741 - an observer


class Visitor:
    """An observer that hears of functions on which nobody registered it.

    It has a registration on each decorator, since failures are counted for each. These, and how it is told of each
    function, are held by the decorators and functions, so that it keeps none of them alive.

    Args:
        asked: The observer, and what is asked for it.
        known: Those it must differ from in name.
    """

    def __init__(self, asked: Subscription, known: Known) -> None:
        self._asked = asked
        self._made: weakref.WeakSet[Registration] = weakref.WeakSet()
        # What is wrong with it is to be heard of here, not when some function is decorated.
        self.registration = Registration(asked, Ward(SYSTEM.monotonic, 1))
        known.give_name(self.registration, asked.name)

    @property
    def observer(self) -> Any:
        """The observer; None once a weakly held one is gone."""
        return self.registration.observer

    def registered(self, decorator: CallPyBack) -> Registration:
        """Return its registration on a decorator, made now."""
        registration = decorator.register(self._asked)
        registration.name, registration.order = self.registration.name, self.registration.order
        self._made.add(registration)
        return registration

    def leave(self) -> None:
        """Be told nothing any more, in calls under way too."""
        self.registration.retire()
        for registration in tuple(self._made):
            registration.retire()


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
            self._known.add(visitor.registration)
            self.everywhere = (*self.everywhere, visitor)
        HANDLES.renew()

    def remove(self, observer: Any) -> None:
        """Let an observer hear of nothing any more."""
        with self._lock:
            registration = found(observer, [visitor.registration for visitor in self.everywhere], "globally")
            for visitor in self.everywhere:
                if visitor.registration is registration:
                    visitor.leave()
            self._known.discard(registration)
            self.everywhere = tuple(known for known in self.everywhere if known.registration is not registration)
        HANDLES.renew()

    def opened(self) -> None:
        """Count a scope that opens."""
        with self._lock:
            self.open_scopes += 1
            is_first = self.open_scopes == 1
        if is_first:
            HANDLES.renew()

    def closed(self) -> None:
        """Count a scope that closes."""
        with self._lock:
            self.open_scopes -= 1
            is_last = self.open_scopes == 0
        if is_last:
            HANDLES.renew()

    def reset_after_fork(self) -> None:
        """Make the lock anew: another thread may have held it."""
        self._lock = threading.RLock()


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


@contextmanager
def observing(observer: O, states: Any = None, **asked: Any) -> Iterator[O]:
    """Tell an observer, inside a `with`, of every decorated function this thread or task calls.

    Tasks and threads that are started inside count too, until the `with` ends; so do calls by `asyncio.to_thread`.
    Threads that were there before, such as those of a pool, do not. A call is told if it begins inside. While any scope
    is open in the process, calls of all decorated functions take a few microseconds more; otherwise nothing is paid.

    Args:
        observer: An observer, or a `Subscription`.
        states: What it is told, in place of its own `states`.
        asked: As for `add_global_observer`.

    Returns:
        The observer, as the target of `with`.

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
    visitor = Visitor(subscribed(observer, states=states, **asked), Known())
    _follow_threads()
    token = inside.set((*inside.get(), visitor))
    VISITORS.opened()
    try:
        yield observer
    finally:
        visitor.leave()
        VISITORS.closed()
        inside.reset(token)


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
            thread.run = functools.partial(_run_inside, scopes, thread, thread.run)  # type: ignore[method-assign]
        start(thread, *args, **kwargs)

    threading.Thread.start = start_inside  # type: ignore[method-assign,assignment]


def _run_inside(scopes: tuple[Visitor, ...], thread: threading.Thread, run: Any) -> None:
    thread.__dict__.pop("run", None)  # it would keep the thread alive
    inside.set(scopes)
    run()
