"""Where the results of one function are kept, and found without a lock."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING

from callpyback.guards.eviction import Eviction

if TYPE_CHECKING:
    from callpyback.errors import StopProcessing
    from callpyback.guards.single_flight import Flight


class Entry:
    """One result. Compared by identity.

    Attributes:
        is_off: Whether it has been, or is being, taken off its shelf.
    """

    __slots__ = ("answer", "expires", "is_off", "key", "shelf")

    def __init__(self, shelf: Shelf, key: Hashable, answer: StopProcessing, expires: float) -> None:
        self.shelf = shelf
        self.key = key
        self.answer = answer
        self.expires = expires
        self.is_off = False


class Shelf:
    """The results that share an instance, or the function if it is no method; and what is being computed for them."""

    __slots__ = ("entries", "flights", "number", "owner")

    def __init__(self, number: int = 0) -> None:
        self.entries: dict[Hashable, Entry] = {}
        self.flights: dict[Hashable, Flight] = {}
        self.number = number
        self.owner: weakref.ref[object] | None = None

    @property
    def is_orphaned(self) -> bool:
        """Whether the instance is gone."""
        return self.owner is not None and self.owner() is None


class Shelves:
    """The results of one function, at most `maxsize`, each for at most its time.

    The shelves are plain dictionaries, read and changed in single steps, so that a user's `__hash__` and `__eq__` run
    while nothing is held. Keys and values are released with their instance, or when they are evicted, have expired
    and something is stored, or are cleared.

    Args:
        maxsize: How many results are kept; infinity for all.
        clock: Monotonic, in seconds.

    Attributes:
        common: What belongs to no instance.
        eviction: Which results have to go.
        generation: Grows when results are thrown away that a computation under way may be based on.
    """

    def __init__(self, maxsize: float, clock: Callable[[], float]) -> None:
        self.common = Shelf()
        self.eviction = Eviction(maxsize, clock, remove=self._remove, find_all=self._find_all)
        self.generation = 0
        self._clock = clock
        self._by_instance: dict[int, Shelf] = {}

    @property
    def find_by_number(self) -> Callable[[int], Shelf | None]:
        """Looks up the shelf of an instance by its `id`."""
        return self._by_instance.get

    def of(self, instance: object) -> Shelf:
        """Return the shelf of an instance, which it does not keep alive.

        Raises:
            TypeError: The instance can't be weakly referenced.
        """
        number = id(instance)
        shelf = self._by_instance.get(number)
        if shelf is None:
            shelf = Shelf(number)
            shelf.owner = weakref.ref(instance, partial(self._bereave, number))
            shelf = self._by_instance.setdefault(number, shelf)
        return shelf

    def attached(self, shelf: Shelf) -> Shelf:
        """Return the shelf, or the one that has taken its place since it was removed for being empty."""
        return shelf if shelf.owner is None else self._by_instance.setdefault(shelf.number, shelf)

    def detach(self, shelf: Shelf) -> None:
        """Remove the shelf of an instance if nothing is on it: instances may be many more than results."""
        is_empty = not shelf.entries and not shelf.flights
        if shelf.owner is not None and is_empty and self._by_instance.get(shelf.number) is shelf:
            self._by_instance.pop(shelf.number, None)

    def put(self, shelf: Shelf, key: Hashable, answer: StopProcessing, expires: float, generation: int) -> None:
        """Keep a result of this generation, unless there is a valid one already.

        Errors of the key's own methods come out.
        """
        shelf = self.attached(shelf)
        old = shelf.entries.get(key)
        if old is not None and old.expires <= self._clock():
            self._take_off(old)
        entry = Entry(shelf, key, answer, expires)
        if shelf.entries.setdefault(key, entry) is entry:
            self.eviction.changes.append(entry)
            if generation != self.generation:  # looked at only now: a `clear` in between would have missed it
                self._take_off(entry)
            self.eviction.apply()

    def discard(self, shelf: Shelf, key: Hashable) -> bool:
        """Throw one result away; return whether there was a valid one. Errors of the key's own methods come out."""
        self.generation += 1
        shelf.flights.pop(key, None)
        entry = shelf.entries.get(key)
        if entry is None:
            return False
        was_valid = not entry.expires <= self._clock()
        self._take_off(entry)
        self.eviction.apply()
        return was_valid

    def clear(self, shelf: Shelf | None = None) -> None:
        """Throw away all results, or those of one shelf, and those that are being computed as soon as they come."""
        self.generation += 1
        for cleared in self._all() if shelf is None else [shelf]:
            self._empty(cleared)
        self.eviction.apply()

    def size(self) -> int:
        """Return how many results are kept, after throwing away those whose time is over."""
        self.eviction.apply(even_unchanged=True)
        return sum(len(shelf.entries) for shelf in self._all())

    def reset_after_fork(self) -> None:
        """Let nobody wait any more for what was being computed: in a forked child the other threads are gone."""
        self.eviction.begin_anew()
        for shelf in self._all():
            shelf.flights = {}

    def _all(self) -> list[Shelf]:
        return [self.common, *self._by_instance.values()]

    def _find_all(self) -> list[Entry]:
        return [entry for shelf in self._all() for entry in list(shelf.entries.values())]

    def _take_off(self, entry: Entry) -> None:
        if not entry.is_off:
            entry.is_off = True
            self._remove(entry)
            self.eviction.changes.append(entry)

    def _remove(self, entry: Entry) -> None:
        """Let an entry be found no more."""
        shelf = entry.shelf
        try:
            found = shelf.entries.pop(entry.key, None)
            if found is not None and found is not entry:
                shelf.entries.setdefault(entry.key, found)
        except Exception:  # noqa: BLE001 - the key's own methods
            found = None
        if found is None and shelf.entries:
            # Its hash is no longer what it was: nobody can find it, so it could be thrown away only with all others.
            self._empty(shelf)
        self.detach(shelf)

    def _empty(self, shelf: Shelf) -> None:
        shelf.flights.clear()
        while shelf.entries:
            try:
                _, entry = shelf.entries.popitem()
            except KeyError:
                return  # another thread took the last one
            entry.is_off = True
            self.eviction.changes.append(entry)

    def _bereave(self, number: int, owner: weakref.ref[object]) -> None:
        """Throw away what was computed for an instance that is gone. May be called by the garbage collector."""
        shelf = self._by_instance.get(number)
        if shelf is not None and shelf.owner is owner:
            self._by_instance.pop(number, None)
            self._empty(shelf)
            self.eviction.apply()
