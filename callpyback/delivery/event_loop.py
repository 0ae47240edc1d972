"""The thread of a worker whose observer is async: it has an event loop of its own."""

from __future__ import annotations

import asyncio
import selectors
from threading import get_ident
from typing import TYPE_CHECKING, Any

from callpyback.core.telling import enter, leave
from callpyback.core.time_sources import SYSTEM

if TYPE_CHECKING:
    from callpyback.delivery.threads import Rounds


class _UnmarkedWait(selectors.DefaultSelector):
    """Waits without the mark of being inside an observer, which the thread of the loop has at all other times."""

    def select(self, timeout: float | None = None) -> Any:
        thread = get_ident()
        leave(thread)
        try:
            return super().select(timeout)
        finally:
            enter(thread)


class _Loop(asyncio.SelectorEventLoop):
    # As an attribute of a class it stays the machine's clock when a test freezes the functions of the time module.
    time = staticmethod(SYSTEM.monotonic)  # pyright: ignore[reportAssignmentType]

    def __init__(self) -> None:
        super().__init__(_UnmarkedWait())


class LoopDrive:
    """Runs rounds as a task of an event loop, so that tasks the observer has started go on while it waits."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._bell = asyncio.Event()

    def run(self, rounds: Rounds) -> None:
        """Run the rounds to their end, then cancel the tasks that are left."""
        thread = get_ident()
        enter(thread)
        try:
            self.is_cancelled = False
            self._bell = asyncio.Event()
            with asyncio.Runner(loop_factory=_Loop) as runner:
                self._loop = runner.get_loop()
                runner.run(self._driven(rounds))
        finally:
            self._loop = self._task = None
            leave(thread)

    async def _driven(self, rounds: Rounds) -> None:
        self._task = asyncio.current_task()
        wanted = _continued(rounds)
        while wanted is not rounds:
            failure: BaseException | None = None
            rang = None
            try:
                if wanted is None or isinstance(wanted, float):
                    rang = await self._rung(wanted)
                else:
                    await wanted
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - the rounds judge it
                self.is_cancelled = self._task is not None and self._task.cancelling() > 0
                failure = error
            wanted = _continued(rounds, rang=rang, failure=failure)

    async def _rung(self, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._bell.wait()
        except TimeoutError:
            return False

    def ring(self) -> None:
        """End the wait under way, or the next one."""
        self._call_soon(self._bell.set)

    def quieten(self) -> None:
        """Forget that the bell rang."""
        self._bell.clear()

    def cancel(self) -> None:
        """Cancel what is being awaited."""
        if self._task is not None:
            self._call_soon(self._task.cancel)

    def _call_soon(self, callback: Any) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(callback)
            except RuntimeError:
                pass  # the loop is closed


def _continued(rounds: Rounds, *, rang: bool | None = None, failure: BaseException | None = None) -> Any:
    """Go on with the rounds; return what they want next, or the rounds themselves when they are over."""
    try:
        return rounds.send(rang) if failure is None else rounds.throw(failure)
    except StopIteration:
        return rounds
