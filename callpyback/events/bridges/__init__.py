"""Bridges: what changes in objects of psygnal, reaktiv and python-statemachine is told to hooks and buses.

Observable lists, dictionaries and attributes are psygnal's, the graph of values that are computed from each other is
reaktiv's, state machines are python-statemachine's: `pip install callpyback[observables]`. Each is used as its own
documentation says; a bridge carries what happens there over to those who listen here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import looking_at, refuse
from callpyback.events.bridges.base import Bridge

if TYPE_CHECKING:
    from callpyback.events.bus import EventBus
    from callpyback.events.hook import EventHook

__all__ = ["Bridge", "bridge"]

_LIBRARIES: Final = {"psygnal": "signals", "reaktiv": "values", "statemachine": "machines"}
"""The module here for objects of each library. Only the library whose object is given is imported."""


def bridge(source: Any, to: EventHook[...] | EventBus | None = None, *, name: str | None = None) -> Bridge:
    """Tell a hook or a bus what changes in an object of psygnal, reaktiv or python-statemachine.

    | source | a hook emits | events are called | their data |
    |---|---|---|---|
    | psygnal: a signal of an instance | what the signal emits | `Class.signal` | `args` |
    | psygnal: `events`, or the object that has them | an `EmissionInfo` | `Class.signal` of each | `args`, any `path` |
    | reaktiv: a signal or computed value | old, new value | `value.changed` | `old`, `new` |
    | python-statemachine: a machine | old, new state | `state_machine.transition` | `machine`, `event`, `old`, `new` |

    Events have the object as `ctxt`; states are told there by their ids. Values are told when they are not equal, after
    a batch once; those that are computed are computed at every change of what they depend on, so that they can be told.

    What callbacks and handlers raise never reaches the source, even if the hook or bus has `errors="raise"`: then it is
    logged at most once a minute and counted in `bridge.health`. Who listens may change the source. A bridge lives as
    long as its source, until it is closed. Copies of a machine have none; those of an object of psygnal have what
    psygnal copies of any local function that is connected: mostly nothing.

    Args:
        source: The object.
        to: A hook or a bus; without one the bridge makes a hook, see `Bridge.hook`.
        name: How events are called, in place of the name above, or of `Class` for several signals; and how the hook is
            shown.

    Returns:
        The bridge, which can be closed, used as a context manager and given to `@observes`.

    Raises:
        ConfigurationError: The source is of another kind, or the target neither a hook nor a bus.

    Example:
        >>> from callpyback import observes
        >>> from callpyback.events.bridges import bridge
        >>> from psygnal.containers import EventedList
        >>> tasks = EventedList([1, 2])
        >>> @observes(bridge(tasks.events.inserted))
        ... def correct(index, value):
        ...     if value == 5:
        ...         print("three, sir!")
        >>> tasks.append(5)
        three, sir!
    """
    with looking_at("source", source):
        made: list[Bridge | None] = [
            import_module(f"{__name__}.{_LIBRARIES[library]}").bridged(source, to, name)
            for library in _libraries_of(source)
        ]
    for found in made:
        if found is not None:
            return found
    expected = (
        "a signal of an instance, `events` or an evented object of psygnal, a signal or computed value of reaktiv, or "
        "a state machine of python-statemachine (`pip install callpyback[observables]`)"
    )
    return refuse("source", source, expected)


def _libraries_of(source: object) -> list[str]:
    """Return the libraries that the class of an object comes from or was made evented by."""
    homes = {cls.__module__.partition(".")[0] for cls in type(source).__mro__}
    if hasattr(type(source), "_psygnal_group_"):
        homes.add("psygnal")
    return [library for library in _LIBRARIES if library in homes]
