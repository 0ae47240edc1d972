"""What can be a handler of events, and in which form it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.functions import signature_of
from callpyback.core.interest import refuse_bare_want
from callpyback.core.observer_checks import callback_of
from callpyback.core.safe_repr import safe_repr, type_name
from callpyback.events.event import Event

_MAX_EVENTS: Final = 1000  # far more than anybody names; what is given may be endless
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BUS_AND_EVENT: Final = 2
_OF_CALLS: Final = ("bind", "bind_guard", "hears_calls_alone")


def handler_of(observer: Any) -> Callable[..., Any]:
    """Return what is called with an event: `on_event`, else `update` of an observer, else the function itself.

    Raises:
        ConfigurationError: There is nothing of that.
    """
    refuse_bare_want(observer)
    if isinstance(observer, type):
        refuse("handler", observer, f"an instance, got the class; did you mean {observer.__name__}()?")
    if callable(observer) and has_every_attribute(observer):
        return observer  # type: ignore[no-any-return]
    on_event, update = getattr(observer, "on_event", None), getattr(observer, "update", None)
    if callable(on_event):
        return on_event  # type: ignore[no-any-return]
    if callback_of(observer) is not None or any(getattr(observer, word, None) for word in _OF_CALLS):
        refuse("handler", observer, "what takes an event, by on_event(event); this one hears of calls")
    # A dictionary has an `update` too, and so has a counter: neither is meant to be told of events.
    if callable(update) and hasattr(observer, "priority") and not getattr(update, "says_nothing", False):
        return update  # type: ignore[no-any-return]
    if not callable(observer):
        hint = "; a name goes with name=, a pattern with match=" if isinstance(observer, str) else ""
        refuse("handler", observer, f"a function that takes an event, or an object with on_event(event){hint}")
    return observer  # type: ignore[no-any-return]


def has_every_attribute(observer: Any) -> bool:
    """Return whether an object makes up attributes, as mocks do: what it seems to say of itself means nothing then."""
    return getattr(observer, "an_attribute_that_nobody_has", None) is not None


def takes_bus(handler: Callable[..., Any]) -> bool:
    """Return whether a handler is called `handler(bus, event)`, because it can't do with less than two arguments.

    Raises:
        ConfigurationError: It can be called in neither way.
    """
    signature = signature_of(handler)
    if signature is None:
        return False
    parameters = signature.parameters.values()
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    needed = [parameter for parameter in positional if parameter.default is parameter.empty]
    takes_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(needed) > _BUS_AND_EVENT or keywords or not (positional or takes_any):
        refuse("handler", handler, f"handler(event) or handler(bus, event), not handler{signature}")
    return len(needed) == _BUS_AND_EVENT


def name_of(handler: Any) -> str:
    """Return what a function is called, the inner one of partials."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    name = getattr(handler, "__name__", None)
    return name if isinstance(name, str) and name else type_name(handler)


def checked_events(events: Any) -> tuple[Any, ...] | None:
    """Return names and classes of events as a tuple, None for all of them, or refuse them."""
    expected = 'names or classes of events, such as events=OrderPaid or events=("order.paid", "order.sent")'
    with looking_at("events", events):
        if events is None:
            return None
        several = (events,) if isinstance(events, str | type) else getattr(events, "__args__", events)  # A | B
        if not isinstance(several, Iterable) or isinstance(several, bytes):
            refuse("events", events, expected)
        given = tuple(islice(several, _MAX_EVENTS))
        for event in given:
            if not (event and isinstance(event, str)) and not (isinstance(event, type) and issubclass(event, Event)):
                refuse("events", events, f"{expected}; {safe_repr(event)} is neither")
        return given or refuse("events", events, f"{expected}; leave it out for all events")
