"""What a call that computes for others holds until it ends."""

from __future__ import annotations

import math
from collections.abc import Hashable
from contextvars import Token
from typing import TYPE_CHECKING, Any

from callpyback.errors import NO_VALUE
from callpyback.guards.single_flight import ALONE, left

if TYPE_CHECKING:
    from callpyback.errors import StopProcessing
    from callpyback.guards.cache_entries import Shelf, Shelves
    from callpyback.guards.single_flight import Flight


class Computation:
    """The token of a call that computes: if the call is lost, so is this, and nobody waits any more.

    Args:
        shelves: Where its result goes.
        shelf: Of its instance.
        key: Of its arguments.
        flight: What others may wait for; None if nobody may.
    """

    __slots__ = ("_before", "_generation", "_key", "_shelf", "_shelves", "flight")

    def __init__(self, shelves: Shelves, shelf: Shelf, key: Hashable, flight: Flight | None = None) -> None:
        self.flight = flight
        self._shelves = shelves
        self._shelf = shelf
        self._key = key
        self._generation = shelves.generation
        self._before: Token[Flight | None] | None = None

    def announce(self) -> Flight:
        """Let others wait for this one, unless there is one for which to wait; return which it is."""
        own: Any = self.flight
        flights = self._shelf.flights
        flight = flights.setdefault(self._key, own)
        if flight.landed:  # its key had another hash when it was over
            flight = flights[self._key] = own
        if flight is not own:
            self.flight = None
        return flight

    def begin(self) -> None:
        """Note in the context that what runs now is a part of this computation."""
        if self.flight is not None:
            self._before = self.flight.take_off()

    def keep(self, answer: StopProcessing, expires: float) -> None:
        """Keep the result, unless it is out of date already or its instance is gone."""
        if not (math.isnan(expires) or self._shelf.is_orphaned):
            self._shelves.put(self._shelf, self._key, answer, expires, self._generation)

    def finish(self, answer: Any) -> None:
        """Let nobody join any more, and give an answer to those who wait, `ALONE` or `LATE` if there is none."""
        before, self._before = self._before, None
        if before is not None:
            left(before)
        if self.flight is None:
            return
        flights = self._shelf.flights
        try:
            if flights.get(self._key) is self.flight:
                del flights[self._key]
            elif before is not None and self._generation == self._shelves.generation:
                flights.clear()  # its hash is no longer what it was: it could be removed only with all others
        except Exception:  # noqa: BLE001 - the key's own methods
            flights.clear()
        finally:
            self.flight.land(answer)
            self._shelves.detach(self._shelf)

    def __del__(self) -> None:
        flight = self.flight
        if flight is not None and (not flight.landed or flight.is_awaited):
            self.finish(ALONE)


def can_be_shared(value: Any) -> bool:
    """Return whether a value can be used more than once, unlike an iterator or a coroutine."""
    cls: Any = type(value)
    if hasattr(cls, "__next__"):
        return iter(value) is not value
    return (
        not hasattr(cls, "athrow")
        and not (hasattr(cls, "__await__") and hasattr(cls, "throw"))
        and value is not NO_VALUE
    )
