"""Emitting: the event that begins, and those that its handlers return, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from callpyback.core.configuration import refuse
from callpyback.events.event import Event
from callpyback.events.telling import atell, tell

if TYPE_CHECKING:
    from callpyback.events.channel import Channel
    from callpyback.events.course import Course

E = TypeVar("E", bound=Event)

_new: Callable[[type[Event]], Event] = object.__new__


class Emitter:
    """What can emit events. Not made by itself: an `EventBus` is one.

    Attributes:
        _lineage: Where events are told, in this order.
        _now: The clock that sets their time.
    """

    _lineage: tuple[Channel, ...]
    _now: Callable[[], float]

    @overload
    def emit(self, event: E, /) -> E: ...
    @overload
    def emit(self, event: str, /, **data: Any) -> Event: ...
    def emit(self, event: Any, /, **data: Any) -> Any:
        """Tell an event, and then those that its handlers return, to everyone who wants to hear of them.

        Args:
            event: The event, or the name of one to be made.
            data: With a name: what is to be known about it.

        Returns:
            The event.

        Raises:
            ConfigurationError: It is neither; or what the handlers require of each other can't be met.
            Exception: What a critical handler raised.
        """
        begun = self._begun(event, data)
        course = tell(self._lineage, begun, None)
        if course is not None:
            self._finish(course)
        return begun

    def process(self, event: Event | str, /, **data: Any) -> Any:
        """Do what `emit` does; return the value with which a handler stopped the processing, None without one.

        Example:
            >>> from callpyback import EventBus, StopProcessing
            >>> bus = EventBus()
            >>> @bus.register(priority=10)
            ... def authorize(event):
            ...     if event.data["user"] != "ada":
            ...         raise StopProcessing("refused")
            >>> bus.process("door.opened", user="eve")
            'refused'
        """
        course = tell(self._lineage, self._begun(event, data), None)
        return None if course is None else self._finish(course)

    @overload
    async def aemit(self, event: E, /) -> E: ...
    @overload
    async def aemit(self, event: str, /, **data: Any) -> Event: ...
    async def aemit(self, event: Any, /, **data: Any) -> Any:
        """Do what `emit` does, and await the handlers that are async, one after the other.

        If the task is cancelled meanwhile, nobody else is told.
        """
        begun = self._begun(event, data)
        course = await atell(self._lineage, begun, None)
        if course is not None:
            await self._afinish(course)
        return begun

    async def aprocess(self, event: Event | str, /, **data: Any) -> Any:
        """Do what `process` does, and await the handlers that are async, one after the other."""
        course = await atell(self._lineage, self._begun(event, data), None)
        return None if course is None else await self._afinish(course)

    def _begun(self, event: Any, data: dict[str, Any]) -> Event:
        if event.__class__ is str:
            made = _new(Event)  # what Event(event, data) makes, at half the cost
            made.name = event or refuse_event(event)
            made.data = data
            made.timestamp = self._now()
            return made
        if not isinstance(event, Event):
            return self._begun(str.__str__(event) if isinstance(event, str) else refuse_event(event), data)
        if data:
            refuse("data", data, "none beside an event; data goes with the name of one that is to be made")
        if "timestamp" not in vars(event):
            vars(event)["timestamp"] = self._now()  # it may be a frozen dataclass
        return event

    def _finish(self, course: Course) -> Any:
        while (event := course.following()) is not None:
            tell(self._lineage, self._begun(event, {}), course)
        return course.ended()

    async def _afinish(self, course: Course) -> Any:
        while (event := course.following()) is not None:
            await atell(self._lineage, self._begun(event, {}), course)
        return course.ended()


def refuse_event(event: Any) -> Any:
    """Refuse what is no event, nor the name of one.

    Raises:
        ConfigurationError: Always.
    """
    if isinstance(event, type) and issubclass(event, Event):
        refuse("event", event, f"an event, got the class; did you mean {event.__name__}(...)?")
    refuse("event", event, 'an Event, or the name of one, such as "order.paid"')
