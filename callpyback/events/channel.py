"""Who is registered on one bus, what it remembers of its events, and who hears the next one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callpyback.core.forks import reset_after_fork
from callpyback.core.health import Ward
from callpyback.core.known import Known, identity_of
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import ConfigurationError, nearest
from callpyback.events.lineup import Lineup, Ready, Told
from callpyback.events.listener import EventListener
from callpyback.events.seen import Seen

if TYPE_CHECKING:
    from callpyback.core.subscription import Subscription
    from callpyback.events.event import Event


class Channel:
    """What a bus has of its own, beside those above it.

    Args:
        clock: Measures pauses, in seconds.
        history: How many events are remembered.
        errors: "isolate", or "raise": every handler is critical.
        deduplicate: How many uuids are remembered.
        max_observer_failures: After so many failures in a row a handler is paused.
        max_returned_events: How many events may be returned in the course of one.

    Attributes:
        where: The bus, as messages call it.
        ready: Who hears events of a class and a name, where that is known and nothing else is to be done for them.
        ailing: The registrations that failed when they were last told, or are paused.
        duplicates: How many events were dropped because their uuid was known.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        history: int,
        errors: str,
        deduplicate: int,
        max_observer_failures: int,
        max_returned_events: int,
    ) -> None:
        self.where = "the bus"
        self.max_returned_events = max_returned_events
        self._raises = errors == "raise"
        self._ward = Ward(clock, max_observer_failures)
        self.ailing = self._ward.ailing
        self.history: deque[Event] = deque(maxlen=history)
        self._seen = Seen(deduplicate) if deduplicate else None
        self._is_noting = bool(history or deduplicate)
        self._listeners: dict[Any, EventListener] = {}
        self._known = Known()
        self._lineup: Lineup | None = None
        self.ready: Ready = {}
        self.reset_after_fork()
        reset_after_fork(self)

    def reset_after_fork(self) -> None:
        """Make the lock anew: another thread may have held it."""
        # Re-entrant: a `__del__` that runs while it is held may come here again.
        self._lock = threading.RLock()

    @property
    def duplicates(self) -> int:
        """How many events were dropped because their uuid was known."""
        return self._seen.repeated if self._seen is not None else 0

    @property
    def listeners(self) -> list[EventListener]:
        """Those that are registered, in the order they were registered."""
        with self._lock:
            return [known for known in self._listeners.values() if not known.registration.retired]

    def has_seen(self, event: Event) -> bool:
        """Return whether an event was processed already, if this bus looks at that."""
        return self._seen is not None and event.uuid in self._seen

    def add(self, asked: Subscription, events: Any, bus: Any) -> None:
        """Register a handler.

        Raises:
            ConfigurationError: It can't be told of events, is registered here already, or its name is taken.
        """
        with self._lock:
            self._forget_lost()
            key = identity_of(asked.observer)
            if key in self._listeners:
                message = (
                    f"handler {safe_repr(asked.observer)} is registered on {self.where} already: it would be told "
                    "everything twice; remove one of the two"
                )
                raise ConfigurationError(message)
            listener = EventListener(asked, events, bus, self._ward, key)
            if self._raises:
                listener.registration.critical = True
            self._known.give_name(listener.registration, asked.name)
            self._known.add(listener.registration)
            self._listeners[key] = listener
            self._change()

    def remove(self, handler: Any) -> Any:
        """Remove a handler, given itself or its name, and return it.

        Raises:
            ConfigurationError: It is not registered here.
        """
        with self._lock:
            listener = self.found(handler)
            registration = listener.registration
            removed = listener.observer
            registration.retire()
            self._known.discard(registration)
            del self._listeners[listener.key]
            self._change()
            return removed

    def found(self, handler: Any) -> EventListener:
        """Return the listener of a handler, given itself or its name.

        Raises:
            ConfigurationError: It is not registered here.
        """
        with self._lock:
            known = self._listeners.get(identity_of(handler))
            if known is not None and not known.registration.retired:
                return known
            listeners = self.listeners
        for known in listeners:
            if isinstance(handler, str) and known.registration.name == handler:
                return known
        names = [known.registration.name for known in listeners]
        hint = nearest(handler, names) if isinstance(handler, str) else ""
        shown = ", ".join(names) or "nobody"
        message = f"handler {safe_repr(handler)} is not registered on {self.where}{hint}; registered: {shown}"
        raise ConfigurationError(message)

    def close(self) -> None:
        """Remove every handler, and call `close()` of the observers that have one, whatever it raises."""
        for listener in self.listeners:
            registration = listener.registration
            try:
                close = getattr(self.remove(registration.name), "close", None)
                if callable(close):
                    close()
            except Exception as error:  # noqa: BLE001 - the others are to be closed too
                registration.count_failure(error, f"close() on {self.where}", again=True)

    def _change(self) -> None:
        self._lineup = None
        self.ready = {}

    def _forget_lost(self) -> None:
        """Drop the weakly held handlers that are gone."""
        if self._ward.lost:
            self._ward.lost = False
            for known in [known for known in self._listeners.values() if known.registration.retired]:
                self._known.discard(known.registration)
                del self._listeners[known.key]
            self._change()

    def lineup(self) -> Lineup:
        """Return who is registered now, in order.

        Raises:
            ConfigurationError: What they require of each other can't be met.
        """
        lineup = self._lineup
        if lineup is None:
            with self._lock:
                lineup = self._lineup
                if lineup is None:
                    lineup = Lineup(list(self._listeners.values()), self.where)
                    self._lineup = lineup
                    # Whatever else is to be done for an event is done in `told`, which has to be asked each time then.
                    self.ready = {} if self._is_noting else lineup.known
        return lineup

    def told(self, event: Event) -> Told:
        """Remember an event as far as this bus does, and return who hears it, in order; nobody if it is known already.

        Raises:
            ConfigurationError: See `lineup`.
        """
        lineup = self.lineup()
        if self._seen is not None and not self._seen.is_new(event.uuid):
            return ()
        if self.history.maxlen:
            self.history.append(event)
        return lineup.told(event)
