"""Events that are not calls: buses, hooks, and what forwards calls to them. Imported when they are first used.

Read in this order: `event.py` is what happened, `listener.py` one handler and what it hears of, `lineup.py` who is told
in which order, `channel.py` what a bus has of its own, `telling.py` how an event is told, `course.py` what comes of it,
and `emitting.py` and `bus.py` are what users see of all that. `hook.py` is the hook, which has no events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callpyback.lazy_names import lazy_names

if TYPE_CHECKING:
    from callpyback.events.bus import EventBus
    from callpyback.events.calls import CallEvent, CallEvents
    from callpyback.events.event import Event
    from callpyback.events.explaining import Explanation
    from callpyback.events.hook import EventHook
    from callpyback.events.registry import get_event_bus
    from callpyback.events.typed_observer import TypedObserver

__all__ = [
    "CallEvent",
    "CallEvents",
    "Event",
    "EventBus",
    "EventHook",
    "Explanation",
    "TypedObserver",
    "get_event_bus",
]

_HOMES = {
    "CallEvent": ".calls",
    "CallEvents": ".calls",
    "Event": ".event",
    "EventBus": ".bus",
    "EventHook": ".hook",
    "Explanation": ".explaining",
    "TypedObserver": ".typed_observer",
    "get_event_bus": ".registry",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
