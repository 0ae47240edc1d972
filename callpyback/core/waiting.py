"""Waiting on the way of a call: for a guard's decision, between two attempts, for a deadline."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol


class Wait:
    """Returned by a guard's `admit`: let the call wait until it can be decided.

    Subclass it. Around plain functions and generators `block` is called, around coroutine functions and async
    generators `wait` is awaited, in the caller's own thread or task, not marked as inside an observer. What they
    return or raise is taken as if `admit` had.
    """

    __slots__ = ()

    def block(self) -> Any:
        """Wait in this thread, and return the decision."""
        raise NotImplementedError

    async def wait(self) -> Any:
        """Wait in this task, and return the decision."""
        raise NotImplementedError


class Cancellable(Protocol):
    """A callback that is to come, and can be called off."""

    def cancel(self) -> object:
        """Do not call back."""
        ...


def running_loop() -> Any:
    """Return asyncio's running loop, or None; asyncio is not imported for the question."""
    asyncio: Any = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - unlike the public one, it does not raise


def running_trio() -> Any:
    """Return trio, if it runs this coroutine, or None."""
    trio: Any = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_run() else None


def is_time_frozen() -> bool:
    """Return whether a test tool has put its own clock in place of Python's: then event loops' timers never ring."""
    return not inspect.isbuiltin(time.monotonic)


async def slept(seconds: float) -> None:
    """Sleep in the task, by asyncio or trio; a coroutine driven by hand blocks its thread."""
    loop = running_loop()
    if loop is None:
        trio = running_trio()
        if trio is not None:
            await trio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 - there is no loop that could run anything meanwhile
    elif seconds > 0 and is_time_frozen():
        woken = loop.create_future()
        alarm = call_later(loop, seconds, lambda: woken.done() or woken.set_result(None))
        try:
            await woken
        finally:
            alarm.cancel()
    else:
        await sys.modules["asyncio"].sleep(seconds)


def call_later(loop: Any, seconds: float, callback: Callable[[], object]) -> Cancellable:
    """Call back in an event loop after so many real seconds, frozen clocks or not."""
    if not is_time_frozen():
        later: Cancellable = loop.call_later(seconds, callback)
        return later
    return _RealTimer(loop, seconds, callback)


class _RealTimer:
    """Calls back in an event loop, by a thread that waits so long."""

    def __init__(self, loop: Any, seconds: float, callback: Callable[[], object]) -> None:
        self._callback = callback
        self._is_cancelled = False
        self._timer = threading.Timer(seconds, called_soon, (loop, self._ring))
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        if not self._is_cancelled:
            self._callback()

    def cancel(self) -> None:
        """Do not call back, even if the loop has been told to."""
        self._is_cancelled = True
        self._timer.cancel()


def called_soon(loop: Any, callback: Callable[[], object]) -> None:
    """Have a callback made in an event loop of another thread, unless that loop is gone."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        pass  # closed: nobody waits there any more
