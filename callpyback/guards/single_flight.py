"""One computation for many simultaneous callers: who waits for whom, and when the wait would never end."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from callpyback.core.waiting import Wait, called_soon, running_loop

ALONE: Final = None
"""What comes of waiting when there is no value: the computation failed, or would itself wait for this caller."""

LATE: Final = object()
"""What comes of waiting when it is to be looked again: the computation was over before, or was broken off."""

_WAITING: Final = object()

_innermost: contextvars.ContextVar[Flight | None] = contextvars.ContextVar("callpyback_computing", default=None)


class Flight:
    """A computation under way, for which others may wait. It never holds the value: contexts may outlive it.

    A computation knows those in which it runs, by a context variable, which tasks and threads with a copied context
    inherit. So it is known what each computation waits for, and a wait that leads back to itself is not begun.

    Attributes:
        landed: Whether it is over.
        outer: The computation of which it is a part.
        awaits: For which others somebody waits on its behalf.
    """

    __slots__ = ("_thread", "_waiters", "awaits", "landed", "outer")

    def __init__(self) -> None:
        self.landed = False
        self.outer: Flight | None = None
        self.awaits: dict[_Waiter, Flight] = {}
        self._waiters: dict[_Waiter, None] = {}
        self._thread = threading.get_ident()

    def take_off(self) -> contextvars.Token[Flight | None]:
        """Be the innermost computation of this context, until `left` is called with what this returns."""
        self.outer = _not_landed(_innermost.get())
        if self.outer is not None:  # or tasks that start each other would hold all before them
            self.outer.outer = _not_landed(self.outer.outer)
        return _innermost.set(self)

    def land(self, answer: Any) -> None:
        """Wake everybody who waits, with an answer or with `ALONE`. May be called again, if it was interrupted."""
        self.landed = True
        by_loop: dict[Any, list[_Waiter]] = {}
        for waiter in list(self._waiters):
            waiter.take(answer)
            if waiter.loop is None:
                waiter.wake()
            else:
                by_loop.setdefault(waiter.loop, []).append(waiter)
        for loop, waiters in by_loop.items():
            called_soon(loop, partial(_wake, waiters))
        self._waiters.clear()

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiters)

    def runs_in_this_thread(self) -> bool:
        """Return whether this very thread computes, below us: it would wait for itself, whatever its context."""
        return not self.landed and self._thread == threading.get_ident()

    def board(self, waiter: _Waiter, above: list[Flight]) -> Any:
        """Wait from now on, for these computations; return `_WAITING`, or what came of it at once."""
        self._waiters[waiter] = None
        for flight in above:
            flight.awaits[waiter] = self
        # Looked at only now: of two that board each other, one at least sees the other.
        if self.landed:
            return LATE
        return ALONE if above and self._leads_to(above) else _WAITING

    def leave(self, waiter: _Waiter, above: list[Flight]) -> None:
        """Wait no longer."""
        self._waiters.pop(waiter, None)
        for flight in above:
            flight.awaits.pop(waiter, None)

    def _leads_to(self, above: list[Flight]) -> bool:
        seen: set[Flight] = set()
        ahead = [self]
        while ahead:
            flight = ahead.pop()
            if flight in above:
                return True
            if flight not in seen:
                seen.add(flight)
                ahead += list(flight.awaits.values())
        return False


def left(before: contextvars.Token[Flight | None]) -> None:
    """Undo `take_off`."""
    try:
        _innermost.reset(before)
    except ValueError:
        pass  # a coroutine that was closed from another context; its own is gone


def _not_landed(flight: Flight | None) -> Flight | None:
    while flight is not None and flight.landed:
        flight = flight.outer
    return flight


def _above() -> list[Flight]:
    """Return the computations of which this context is a part."""
    found = []
    flight = _not_landed(_innermost.get())
    while flight is not None:
        found.append(flight)
        flight = _not_landed(flight.outer)
    return found


class FlightWait(Wait):
    """Waits for a computation, a thread on a lock, a task of asyncio on a future.

    A coroutine outside asyncio does not wait: how its event loop would be woken from another thread is not known.

    Args:
        flight: The computation.
        decide: Called with the answer, `ALONE` or `LATE`; returns the guard's decision.
    """

    __slots__ = ("_decide", "_flight")

    def __init__(self, flight: Flight, decide: Callable[[Any], Any]) -> None:
        self._flight = flight
        self._decide = decide

    def block(self) -> Any:
        """Wait in this thread, and return the decision."""
        flight = self._flight
        if flight.runs_in_this_thread():
            return self._decide(ALONE)
        waiter, above = _Blocked(), _above()
        try:
            came = flight.board(waiter, above)
            if came is _WAITING:
                came = waiter.sleep()
        finally:
            flight.leave(waiter, above)
        return self._decide(came)

    async def wait(self) -> Any:
        """Wait in this task, and return the decision."""
        loop = running_loop()
        if loop is None or sys.modules["asyncio"].current_task(loop) is None:
            return self._decide(ALONE)
        flight, waiter, above = self._flight, _Suspended(loop), _above()
        try:
            came = flight.board(waiter, above)
            if came is _WAITING:
                came = await waiter.future
        finally:
            flight.leave(waiter, above)
        return self._decide(came)


class _Waiter:
    """Somebody who waits for a computation. Compared by identity."""

    __slots__ = ("_answer", "loop")

    def __init__(self, loop: Any = None) -> None:
        self.loop = loop
        self._answer: Any = _WAITING

    def take(self, answer: Any) -> None:
        if self._answer is _WAITING:
            self._answer = answer

    def wake(self) -> None:
        raise NotImplementedError


class _Blocked(_Waiter):
    """A thread that waits."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        if self._lock.locked():
            self._lock.release()

    def sleep(self) -> Any:
        self._lock.acquire()
        return self._answer


class _Suspended(_Waiter):
    """A task that waits."""

    __slots__ = ("future",)

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.future = loop.create_future()

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(self._answer)


def _wake(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()
