"""What happens in calls, as events on a bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_switch, looking_at, refuse
from callpyback.core.notices import ProgressNotice, RetryNotice
from callpyback.core.observer_checks import checked_notices
from callpyback.core.state_machine import Notice
from callpyback.events.bus import EventBus
from callpyback.events.event import Event
from callpyback.observers.base import BaseObserver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from callpyback.core.context import ExecutionContext
    from callpyback.observers.base import States

_NOTICES: Final = {RetryNotice: Notice.RETRY.value, ProgressNotice: Notice.PROGRESS.value}


class CallEvent(Event):
    """Something that happened in a call: "call.pre_execution", "call.completed", "call.retry", ...

    Attributes:
        context: What an observer of the call was told; also `data["context"]`.
    """

    name = "call"

    def __init__(self, name: str, context: ExecutionContext) -> None:
        self.name = name
        self.context = context
        self.data = {"context": context}


class CallEvents(BaseObserver):
    """Forwards what happens in the calls of a function to a bus, as events named after the states.

    An observer of functions: `CallPyBack(observers=[CallEvents(bus)])`. Each state that is told becomes a `CallEvent`
    called `call.<state>`, such as "call.completed", each notice one called "call.retry" or "call.progress". Handlers on
    the bus run as part of an observer, inside the call: calls that they make of decorated functions are not observed.

    Args:
        bus: Where the events are emitted.
        states: What is forwarded; by default all states but INITIALIZED and EXECUTING.
        notices: Which notices are forwarded too; none by default.
        prefix: The beginning of the names.
        awaited: Emit by `aemit`, so that async handlers are told. The observer then is async: it can be registered
            around coroutine functions and async generators alone.
        priority: A finite number; higher is told earlier.
        name: How it is shown; by default the name of the class.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallEvents, CallPyBack, EventBus
        >>> bus = EventBus()
        >>> @bus.register(match="call.*")
        ... def show(event):
        ...     print(event.name, event.context.function_signature.name)
        >>> @CallPyBack(observers=[CallEvents(bus)])
        ... def pay():
        ...     return "paid"
        >>> pay()
        call.pre_execution pay
        call.post_success pay
        call.completed pay
        'paid'
    """

    def __init__(
        self,
        bus: EventBus,
        states: States | None = None,
        *,
        notices: Notice | Iterable[Notice] = (),
        prefix: str = "call",
        awaited: bool = False,
        priority: float = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(priority, name, states=states)
        if not isinstance(bus, EventBus):
            refuse("bus", bus, 'an EventBus, such as get_event_bus("calls")')
        with looking_at("prefix", prefix):
            given: Any = prefix
            if not (isinstance(given, str) and given):
                refuse("prefix", prefix, 'the beginning of the names of events, such as "call"')
        with looking_at("notices", notices):
            self.notices = checked_notices(notices, self)
        self.bus = bus
        self.prefix = prefix
        if checked_switch("awaited", awaited):
            self.update = self._aupdate  # type: ignore[method-assign]  # registration looks at whether it is async

    def update(self, context: ExecutionContext) -> Any:
        """Emit what happened."""
        self.bus.emit(self._event(context))

    async def _aupdate(self, context: ExecutionContext) -> None:
        await self.bus.aemit(self._event(context))

    def _event(self, context: ExecutionContext) -> CallEvent:
        notice = context.notice
        happened = context.state.value if notice is None else _NOTICES[type(notice)]
        return CallEvent(f"{self.prefix}.{happened}", context)
