"""Waiting on the way of a call: for a guard's decision, between two attempts; and how time passes meanwhile."""

from __future__ import annotations

import sys
import time
from typing import Any


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


def running_loop() -> Any:
    """Return asyncio's running loop, or None; asyncio is not imported for the question."""
    asyncio: Any = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - public in all but its name; it does not raise


async def slept(seconds: float) -> None:
    """Sleep in the task, by asyncio or trio; a coroutine driven by hand blocks its thread."""
    if running_loop() is not None:
        await sys.modules["asyncio"].sleep(seconds)
        return
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        await trio.sleep(seconds)
    else:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop that could run anything meanwhile
