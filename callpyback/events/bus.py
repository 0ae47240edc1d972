"""Events and those who handle them: the bus."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypedDict, TypeVar, Unpack, overload

from callpyback.core.configuration import checked_clocks, checked_count, checked_switch, looking_at, refuse
from callpyback.core.subscription import subscribed
from callpyback.errors import NO_VALUE
from callpyback.events.channel import Channel
from callpyback.events.emitting import Emitter, refuse_event
from callpyback.events.event import Event
from callpyback.events.family import Family
from callpyback.events.hook import EventHook

if TYPE_CHECKING:
    from callpyback.core.health import ObserverHealth
    from callpyback.events.entry_points import EntryPoints
    from callpyback.events.explaining import Explanation
    from callpyback.protocols import TimeSource

T = TypeVar("T")


class Asked(TypedDict, total=False):
    """What may be asked for a handler; see `EventBus.register`."""

    events: Any
    match: Any
    when: Any
    priority: float | None
    requires: str | Iterable[str]
    required_by: str | Iterable[str]
    weak: bool


class EventBus(Emitter):
    """Tells events to handlers: those that others require first, then higher priorities, then in order of registration.

    A handler is a function that takes an event, `handler(event)` or `handler(bus, event)`, or an observer with
    `on_event(event)` or `update(event)`. It may return other events, one or several, which are processed after the one
    that it handles, in the order they were returned. It may raise `StopProcessing`: without a value nobody else is
    told of this event; with one (None included) all processing ends, and `process` returns the value. Whatever else it
    raises is logged at most once a minute, counted, and changes nothing for the emitter and the other handlers; after
    `max_observer_failures` failures in a row a handler is paused for 30 seconds, then tried once. Ctrl-C and the
    cancellation of the task itself pass. `critical` observers are never paused, and the first exception of one reaches
    the emitter once everyone has been told of the event.

    Handlers run in the emitting thread, or task. They belong to the program: calls that they make of decorated
    functions are observed. Who is told is settled when an event is processed; a handler that is removed meanwhile is
    told no more. An event that is emitted inside a handler is processed at once, one that is returned comes later.
    Handlers that emit what they handle end in a RecursionError, which is the failure of the first of them.

    `emit` can't await: an async handler is passed over there, counted as skipped, and logged. `aemit` tells everyone,
    one after the other, and awaits those that are async.

    An event that is emitted on a child bus (`bus.child("orders")`) is told there first, then, unless somebody stopped
    it, on the buses above. What is returned by a handler is processed where the first event was emitted.

    Any number of threads may use a bus. Nothing waits for a lock but changes of who is registered, and de-duplication.
    A copy, and what comes out of a pickle, has the same handlers, except those held weakly, and remembers no events.
    A bus made by `get_event_bus` is pickled by its name.

    Args:
        name: How it is shown.
        history: How many of the newest events are kept.
        errors: "isolate", or "raise": every handler is critical.
        deduplicate: How many uuids of events are remembered, so that an event that comes again is not processed again.
        max_observer_failures: How often in a row a handler may fail before it is paused.
        max_returned_events: How many events may be returned in the course of one.
        time_source: Sets the time of events, and measures pauses; the system's clock by default.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import Event, EventBus
        >>> bus = EventBus("shop")
        >>> @bus.register(match="order.*")
        ... def book(event):
        ...     print("booked", event.data["order_id"])
        ...     return Event("mail.wanted", to="ada")
        >>> @bus.register(events="mail.wanted")
        ... def send(event):
        ...     print("mailed", event.data["to"])
        >>> event = bus.emit("order.paid", order_id=7)
        booked 7
        mailed ada
    """

    broadcast_sent: ClassVar[EventHook[...]] = EventHook()
    """Emitted by `broadcast`, with what was broadcast; one hook for each bus."""

    def __init__(
        self,
        name: str | None = None,
        *,
        history: int = 0,
        errors: Literal["isolate", "raise"] = "isolate",
        deduplicate: int = 0,
        max_observer_failures: int = 5,
        max_returned_events: int = 100_000,
        time_source: TimeSource | None = None,
    ) -> None:
        with looking_at("name", name):
            given: Any = name
            if given is not None and not (isinstance(given, str) and given):
                refuse("name", name, "a text; leave it out for a bus without a name")
        with looking_at("errors", errors):
            if errors not in ("isolate", "raise"):
                refuse("errors", errors, '"isolate" or "raise"')
        self._options: dict[str, Any] = {
            "history": _checked_size("history", history),
            "errors": errors,
            "deduplicate": _checked_size("deduplicate", deduplicate),
            "max_observer_failures": checked_count("max_observer_failures", max_observer_failures),
            "max_returned_events": min(checked_count("max_returned_events", max_returned_events), sys.maxsize - 1),
            "time_source": time_source,
        }
        self._now, clock = checked_clocks(time_source)
        own = {name: given for name, given in self._options.items() if name != "time_source"}
        self._channel = Channel(clock, **own)
        self._join(Family(name))

    def _join(self, family: Family) -> None:
        """Take a place among the buses above and below."""
        self._family = family
        self._channel.where = f"bus {self.name!r}"
        above = () if family.above is None or not family.bubbles else family.above._lineage  # noqa: SLF001 - a bus too
        self._lineage: tuple[Channel, ...] = (self._channel, *above)

    @property
    def name(self) -> str:
        """How it is shown: the names of those above it and its own, with dots between them."""
        return self._family.full_name or type(self).__name__

    @property
    def parent(self) -> EventBus | None:
        """The bus above; None at the top."""
        return self._family.above

    @overload
    def register(self, handler: T, name: str | None = None, **asked: Unpack[Asked]) -> T: ...
    @overload
    def register(self, handler: None = None, name: str | None = None, **asked: Unpack[Asked]) -> Callable[[T], T]: ...
    def register(
        self,
        handler: Any = NO_VALUE,
        name: str | None = None,
        *,
        events: Any = None,
        match: Any = None,
        when: Any = None,
        priority: float | None = None,
        requires: str | Iterable[str] = (),
        required_by: str | Iterable[str] = (),
        weak: bool = False,
    ) -> Any:
        """Tell a handler of events from now on; as a decorator, with or without parentheses.

        What is left out is what the handler itself says: by the decorators `want`, `requires` and `required_by`, or as
        an observer by attributes of these names.

        Args:
            handler: A function or an observer, or a `Subscription` of one alone; given back unchanged.
            name: What others call it in their requirements; it must not be taken. By default the function's or
                observer's name, followed by `#2`, `#3`, ... if that is taken.
            events: Names or classes of events: it hears only of those, and of subclasses.
            match: Patterns of names, such as "order.*": it hears only of those; or a predicate over the name.
            when: One or several predicates over the event, all of which must hold.
            priority: Higher is told earlier.
            requires: Names of handlers that are told before it. They may be registered later.
            required_by: Names of handlers that are told after it. They may be registered later.
            weak: For a bound method or an observer: let the object be collected; it is then told no more.

        Raises:
            ConfigurationError: It can't be told of events, is registered here already, or the name is taken.
        """
        asked = {
            "name": name, "match": match, "when": when, "priority": priority,
            "requires": requires, "required_by": required_by, "weak": weak,
        }  # fmt: skip

        def register(given: Any) -> Any:
            self._channel.add(subscribed(given, **asked), events, self)
            return given

        return register if handler is NO_VALUE else register(handler)

    def register_observer(self, observer: T, name: str | None = None, **asked: Unpack[Asked]) -> T:
        """Tell an observer of events from now on; what is asked for it is as in `register`.

        Raises:
            ConfigurationError: It can't be told of events, is registered here already, or the name is taken.
        """
        self.register(name=name, **asked)(observer)
        return observer

    def unregister(self, handler: Any) -> None:
        """Tell a handler nothing more, given itself or its name.

        Raises:
            ConfigurationError: It is not registered here.
        """
        self._channel.remove(handler)

    def remove_observer(self, observer: Any) -> None:
        """Do what `unregister` does."""
        self._channel.remove(observer)

    def enable_observer(self, observer: Any) -> None:
        """Tell a handler again that was paused for failing too often.

        Raises:
            ConfigurationError: It is not registered here.
        """
        self._channel.found(observer).registration.recover()

    def get_registered_observers(self) -> list[Any]:
        """Return the handlers and observers of this bus, in the order they are told.

        Raises:
            ConfigurationError: What they require of each other can't be met.
        """
        observers = (known.observer for known in self._channel.lineup().listeners)
        return [observer for observer in observers if observer is not None]

    @property
    def health(self) -> dict[str, ObserverHealth]:
        """How each handler is doing, by name."""
        return {known.registration.name: known.registration.health for known in self._channel.listeners}

    @property
    def history(self) -> list[Event]:
        """The newest events that were processed here, or came up from below, the newest last."""
        return list(self._channel.history)

    @property
    def duplicates(self) -> int:
        """How many events were not processed because they had been already."""
        return self._channel.duplicates

    def check(self) -> None:
        """Do what the first event after a change does: find the order, here and above.

        Raises:
            ConfigurationError: Handlers require each other in a circle, or require one that there is not, or one that
                never hears of what they hear. The message names them.
        """
        for channel in self._lineage:
            channel.lineup()

    def explain(self, event: Event | str, /) -> Explanation:
        """Say who would hear an event, in which order, and why the others would not; nobody is told anything.

        Args:
            event: The event, for which predicates are asked; or a name, for which they are not.

        Example:
            >>> bus = EventBus()
            >>> bus.register(print, match="order.*", when=lambda event: event.data["total"] > 100)
            <built-in function print>
            >>> print(bus.explain(Event("order.paid", total=5)))
            'order.paid' on bus 'EventBus' is heard by nobody
            not by print: its predicate says no
        """
        from callpyback.events.explaining import explained  # noqa: PLC0415 - nothing a running program needs

        by_name = isinstance(event, str)
        asked = event if isinstance(event, Event) else Event(event) if by_name and event else refuse_event(event)
        return explained(self._lineage, asked, by_name=by_name)

    def child(self, name: str, *, bubble: bool = True, **options: Any) -> EventBus:
        """Return the bus of this name below this one, made if it is not there yet.

        Args:
            name: Its own name; with dots, that of one further down.
            bubble: Whether its events come up to this bus.
            options: As for `EventBus`. What is left out is as here, but for `history` and `deduplicate`.

        Raises:
            ConfigurationError: Options are given, and it is there already.
        """
        bubbles = checked_switch("bubble", bubble)
        return self._family.below(self, name, self._made_below, bubbles=bubbles, options=options)

    def _made_below(self, family: Family, options: Mapping[str, Any]) -> EventBus:
        inherited = {name: self._options[name] for name in self._options if name not in ("history", "deduplicate")}
        made = type(self)(**{**inherited, **options})
        made._join(family)  # noqa: SLF001 - a bus too
        return made

    def broadcast(self, *args: Any, **kwargs: Any) -> None:
        """Emit `broadcast_sent` with these arguments, here and on the buses above to which events come up."""
        bus: EventBus | None = self
        while bus is not None:
            bus.broadcast_sent.emit(*args, **kwargs)
            bus = bus.parent if bus._family.bubbles else None  # noqa: SLF001 - a bus too

    def load_entry_points(self, group: str) -> EntryPoints:
        """Register the handlers that installed packages offer as entry points, by the names these have.

        A class is called without arguments to make the observer. What can't be loaded or registered is logged and told
        in what is returned; the others are registered.

        Args:
            group: Of the entry points, such as "app.handlers".
        """
        from callpyback.events.entry_points import load_entry_points  # noqa: PLC0415 - costs more than this module

        return load_entry_points(self, group)

    def close(self) -> None:
        """Remove every handler, and call `close()` of the observers that have one, on the buses below too."""
        for bus in self._family.children():
            bus.close()
        self._channel.close()

    def __enter__(self) -> Self:
        """Use as a context manager: `close` at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._family.find is not None:
            return self._family.find, (self.name,)
        given = [known.given for known in self._channel.listeners if known.given is not None]
        family = self._family
        return _restored, (type(self), self._options, family.name, family.above, {"bubbles": family.bubbles}), given

    def __setstate__(self, given: list[tuple[Any, Any]]) -> None:
        for asked, events in given:
            self._channel.add(asked, events, self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {len(self._channel.listeners)} handlers>"


def _restored(
    cls: type[EventBus], options: dict[str, Any], name: str | None, above: EventBus | None, place: dict[str, Any]
) -> EventBus:
    bus = cls(name, **options)
    bus._join(Family(name, above, **place))
    return bus


def _checked_size(parameter: str, value: Any) -> int:
    with looking_at(parameter, value):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            refuse(parameter, value, "a whole number, 0 for none")
        return min(value, sys.maxsize)  # more than that no sequence can hold
