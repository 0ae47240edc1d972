"""The slots of a concurrency limit, and the queue of those who wait for one."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from functools import partial


class Slot:
    """Held by one running call.

    Attributes:
        slots: Whose slot it is; None while nobody holds it.
    """

    __slots__ = ("__weakref__", "slots")

    def __init__(self) -> None:
        self.slots: Slots | None = None

    def give_back(self) -> None:
        """End holding it, for the next to have it."""
        slots, self.slots = self.slots, None
        if slots is not None:
            slots.put(self)


class Place:
    """A place in the queue. It is given a slot or it is left, whichever comes first: one step in C decides.

    Args:
        wake: Wakes who waits; a RuntimeError says that there is nobody to wake any more.
    """

    __slots__ = ("_given", "_wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self._given: dict[None, Slot | None] = {}
        self._wake = wake

    def give(self, slot: Slot) -> bool:
        """Give a slot; return False if the place was left, or its event loop is gone."""
        if self._given.setdefault(None, slot) is not slot:
            return False
        try:
            self._wake()
        except RuntimeError:
            self._given[None] = None
            return False
        return True

    def leave(self) -> Slot | None:
        """Return the slot that was given; if none was, none will be."""
        return self._given.setdefault(None, None)


class Slots:
    """At most `limit` slots, taken and given back by any thread without a lock.

    A slot is always in exactly one hand. One step in C takes it from those that are free; a holder that vanishes
    without giving it back, such as a coroutine that nobody ever closes, lets it die, and another is made in its place.

    Args:
        limit: The number of slots, each made when it is first needed.
        peaks: Gets the number of each slot that is made; as it is made when all others are held, the greatest number
            is the most that were held at once.

    Example:
        >>> slots = Slots(1, peaks=set())
        >>> slot = slots.take()
        >>> slots.take() is None
        True
        >>> slot.give_back()
        >>> slots.take() is slot
        True
    """

    __slots__ = ("__weakref__", "_free", "_numbers", "_peaks", "_places", "_watched")

    def __init__(self, limit: int, peaks: set[int]) -> None:
        self._numbers = iter(range(1, limit + 1))
        self._peaks = peaks
        self._free: list[Slot] = []
        self._places: deque[Place] = deque()
        self._watched: set[weakref.ref[Slot]] = set()

    def take(self) -> Slot | None:
        """Take a slot, or None if all are held or somebody waits for one."""
        if self._places:
            return None
        slot: Slot | None
        try:
            slot = self._free.pop()
        except IndexError:
            slot = self._new()
        if slot is not None:
            slot.slots = self
        return slot

    def put(self, slot: Slot) -> None:
        """Let the next have a slot."""
        self._free.append(slot)
        if self._places:
            self._hand_out()

    def queue(self, wake: Callable[[], object]) -> Place:
        """Take a place at the end of the queue; it may be given a slot at once."""
        place = Place(wake)
        self._places.append(place)
        self._hand_out()  # one that was put before may not have seen this place
        return place

    def leave(self, place: Place) -> Slot | None:
        """Leave the queue, with the slot if one was given."""
        slot = place.leave()
        if slot is None:
            try:
                self._places.remove(place)
            except ValueError:  # somebody with a slot has just looked at it
                pass
        else:
            slot.slots = self
        return slot

    @property
    def held(self) -> int:
        """How many slots are held."""
        return max(len(self._watched) - len(self._free), 0)

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._places)

    def is_idle(self) -> bool:
        """Return whether no slot is held and nobody waits."""
        return not self._places and len(self._free) == len(self._watched)

    def _hand_out(self) -> None:
        while self._places:
            slot: Slot | None
            try:
                slot = self._free.pop()
            except IndexError:
                slot = self._new()
            if slot is None:
                return
            try:
                is_given = self._places.popleft().give(slot)
            except IndexError:
                is_given = False
            if not is_given:
                self._free.append(slot)

    def _new(self) -> Slot | None:
        number = next(self._numbers, None)
        if number is None:
            return None
        self._peaks.add(number)
        return self._made()

    def _made(self) -> Slot:
        slot = Slot()
        self._watched.add(weakref.ref(slot, partial(_replace, weakref.ref(self))))
        return slot


def _replace(reference: weakref.ref[Slots], lost: weakref.ref[Slot]) -> None:
    """Make a slot in place of one that was not given back."""
    slots = reference()
    if slots is not None:
        slots._watched.discard(lost)  # noqa: SLF001 - a part of it, which must not keep it alive
        slots.put(slots._made())  # noqa: SLF001
