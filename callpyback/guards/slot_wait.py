"""How a call waits for a slot: in its thread, or in its task of asyncio or trio."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callpyback.core.waiting import Wait, call_later, is_time_frozen, running_loop, running_trio

if TYPE_CHECKING:
    from callpyback.guards.slots import Place, Slot, Slots


class SlotWait(Wait):
    """Waits for a slot no longer than so many real seconds; first come, first served.

    Args:
        slots: Where the slot is to come from.
        seconds: How long to wait.
        admitted: Called when there is a slot.
        refusal: Makes the error to raise when there is none in time.
    """

    __slots__ = ("_admitted", "_refusal", "_seconds", "_slots")

    def __init__(
        self, slots: Slots, seconds: float, *, admitted: Callable[[], object], refusal: Callable[[], Exception]
    ) -> None:
        self._slots = slots
        self._seconds = seconds
        self._admitted = admitted
        self._refusal = refusal

    def block(self) -> Slot:
        """Wait in this thread."""
        woken = allocate_lock()
        woken.acquire()
        place = self._slots.queue(woken.release)
        try:
            woken.acquire(timeout=self._seconds)
        except BaseException:  # Ctrl-C
            self._pass_on(place)
            raise
        return self._left(place)

    async def wait(self) -> Slot:
        """Wait in this task; a coroutine that is driven by hand blocks its thread."""
        loop = running_loop()
        if loop is not None:
            return await self._wait_in_asyncio(loop)
        trio = running_trio()
        return self.block() if trio is None else await self._wait_in_trio(trio)

    async def _wait_in_asyncio(self, loop: Any) -> Slot:
        woken = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        place = self._slots.queue(lambda: loop.call_soon_threadsafe(wake))
        try:
            alarm = call_later(loop, self._seconds, wake)
            try:
                await woken
            finally:
                alarm.cancel()
        except BaseException:  # the task's cancellation, or the end of its loop
            self._pass_on(place)
            raise
        return self._left(place)

    async def _wait_in_trio(self, trio: Any) -> Slot:
        woken, loop = trio.Event(), _TrioLoop(trio.lowlevel.current_trio_token())
        place = self._slots.queue(lambda: loop.call_soon_threadsafe(woken.set))
        try:
            if is_time_frozen():  # then trio's timers do not ring either
                call_later(loop, self._seconds, woken.set)
            with trio.move_on_after(self._seconds):
                await woken.wait()
        except BaseException:
            self._pass_on(place)
            raise
        return self._left(place)

    def _pass_on(self, place: Place) -> None:
        slot = self._slots.leave(place)
        if slot is not None:
            slot.give_back()

    def _left(self, place: Place) -> Slot:
        # A slot that was given when the time was just up is as good as any other.
        slot = self._slots.leave(place)
        if slot is None:
            raise self._refusal()
        self._admitted()
        return slot


class _TrioLoop:
    """Trio, as far as it is asked to do what an event loop of asyncio does."""

    def __init__(self, token: Any) -> None:
        self.call_soon_threadsafe = token.run_sync_soon
