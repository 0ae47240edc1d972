"""What came of one emission: its end, its first problem, and the events that its handlers returned."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Awaitable, Iterable, Mapping
from inspect import iscoroutine
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.dispatch import belongs_to_program
from callpyback.core.safe_repr import safe_repr, type_name
from callpyback.errors import NO_VALUE, EndlessEvents, StopProcessing
from callpyback.events.connection import NotAwaitedError
from callpyback.events.emissions import came_through_emissions, is_inside_an_emission
from callpyback.events.event import Event
from callpyback.events.listener import UNWANTED

if TYPE_CHECKING:
    from callpyback.core.registration import Registration

_NO_EVENTS: Final = (str, bytes, bytearray, Mapping, Awaitable)
"""Iterable, and nothing whose items could be meant as events."""


class Course:
    """What came of one emission. Made for those of which something came.

    Args:
        limit: How many events may be returned in all.
    """

    __slots__ = ("_limit", "_pending", "_problem", "_returned", "_value")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._returned = 0
        self._pending: deque[Event] = deque()
        self._problem: BaseException | None = None
        self._value: Any = NO_VALUE

    def judge(self, registration: Registration, error: BaseException, event: Event, where: str) -> bool:
        """Decide what an exception out of a handler means; return whether nobody else is told of this event.

        Raises:
            BaseException: It belongs to the program, or to the outermost of the emissions that are under way.
        """
        if isinstance(error, StopProcessing):
            if error.has_value:
                self._value = error.value
                self._pending.clear()
            return True
        if isinstance(error, NotAwaitedError):
            registration.pass_over(error, f"{safe_repr(event.name)} on {where}")
        else:
            if belongs_to_program(error):
                raise error
            if isinstance(error, RecursionError) and is_inside_an_emission():
                raise error
            if isinstance(error, RecursionError) and came_through_emissions(error):
                where = f"{where}, where handling it emits events that have it emitted again"
            registration.count_failure(error, f"{safe_repr(event.name)} on {where}", again=False)
        if registration.critical and self._problem is None:
            self._problem = error
        return False

    def take(self, returned: Any, event: Event) -> None:
        """Put what a handler returned behind the events that wait already; what is no event is dropped.

        So is the event that it handled, which is over then: `other_bus.emit` returns it, and may be a handler.

        Raises:
            NotAwaitedError: A coroutine, which nobody here awaits.
            TypeError: Several things were returned, and one of them is no event.
            EndlessEvents: More events were returned than there may be.
            Exception: Going through them raised it.
        """
        if isinstance(returned, Event):
            self._add([returned] if returned is not event else [])
        elif iscoroutine(returned):
            returned.close()
            raise NotAwaitedError("it returned a coroutine, and emit() can't await it: use `await bus.aemit(...)`")
        elif returned is not UNWANTED and isinstance(returned, Iterable) and not isinstance(returned, _NO_EVENTS):
            self._add(list(islice(returned, self._limit + 1)))

    def _add(self, events: list[Any]) -> None:
        if self._value is not NO_VALUE:
            return
        for event in events:
            if not (isinstance(event, Event) and isinstance(event.name, str)):
                message = f"returned {safe_repr(event)} ({type_name(event)}) among events: expected nothing but events"
                raise TypeError(message)
        self._returned += len(events)
        if self._returned > self._limit:
            self._pending.clear()
            message = (
                f"more than {self._limit} events were returned in the course of one: they were dropped; if they do not "
                "come out of one another without end, raise `max_returned_events` of the bus"
            )
            raise EndlessEvents(message)
        self._pending.extend(events)

    async def collected(self, returned: AsyncIterable[Any]) -> list[Any]:
        """Return the items that an async handler yields, one more than may be at most."""
        items: list[Any] = []
        try:
            async for item in returned:
                items.append(item)
                if len(items) > self._limit:
                    break
        finally:
            close = getattr(returned, "aclose", None)
            if close is not None:
                await close()
        return items

    def following(self) -> Event | None:
        """Return the event to process next; None if it is over."""
        if self._problem is not None or not self._pending:
            return None
        return self._pending.popleft()

    def ended(self) -> Any:
        """Return the value with which a handler stopped the processing, None without one.

        Raises:
            BaseException: What a critical handler raised first.
        """
        if self._problem is not None:
            try:
                raise self._problem
            finally:
                self._problem = None  # whose traceback holds this object
        return None if self._value is NO_VALUE else self._value
