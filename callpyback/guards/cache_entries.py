"""Where the results of one function are kept: looked up without a lock, evicted the least recently used first."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

if TYPE_CHECKING:
    from callpyback.errors import StopProcessing
    from callpyback.guards.single_flight import Flight

_REMEMBERED_USES: Final = 1024
"""Of so many uses since the last change it is known which came last. Older ones weigh nothing beside them."""


class Entry:
    """One result. Compared by identity."""

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

    Readers look into `Shelf.entries` and append what they found to `uses`: steps of C that need no lock. The order of
    eviction is cachetools' `LRUCache`, whose methods are several steps: `popitem` takes the first key from an iterator
    that fails if another thread reorders the keys meanwhile. So only one thread at a time changes it, in `tidy`, and
    nobody waits for that: the others leave their changes to it. It holds entries, which are compared by identity: no
    code of a user's key runs meanwhile.

    Keys and values are released with their instance, or when they are evicted, have expired and something is stored,
    or are cleared.

    Args:
        maxsize: How many results are kept; infinity for all.
        clock: Monotonic, in seconds.

    Attributes:
        uses: The entries used since the last change.
        generation: Grows when results are thrown away that a computation under way may be based on.
        evictions: How many were thrown away for room.
        expirations: How many were thrown away because their time was over.
    """

    def __init__(self, maxsize: float, clock: Callable[[], float]) -> None:
        self.common = Shelf()
        self.uses: deque[Entry] = deque(maxlen=_REMEMBERED_USES)
        self.generation = self.evictions = self.expirations = 0
        self._maxsize = maxsize
        self._clock = clock
        self._by_instance: dict[int, Shelf] = {}
        self._order: LRUCache[Entry, None] = LRUCache(maxsize)
        self._ages: OrderedDict[Entry, None] = OrderedDict()
        self._changed: deque[Entry] = deque()  # those that came, and those taken off
        self._turn: dict[str, object] = {}
        self._is_torn = self._is_unsure = False

    @property
    def find_by_number(self) -> Callable[[int], Shelf | None]:
        """Looks up the shelf of an instance by its `id`."""
        return self._by_instance.get

    def _shelves(self) -> list[Shelf]:
        return [self.common, *self._by_instance.values()]

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
        if shelf.owner is not None and not shelf.entries and not shelf.flights:
            self._by_instance.pop(shelf.number, None)

    def put(self, shelf: Shelf, key: Hashable, answer: StopProcessing, expires: float) -> None:
        """Keep a result, unless there is a valid one already. Errors of the key's own methods come out."""
        shelf = self.attached(shelf)
        old = shelf.entries.get(key)
        if old is not None and old.expires <= self._clock():
            self._take_off(old)
            self._changed.append(old)
        entry = Entry(shelf, key, answer, expires)
        if shelf.entries.setdefault(key, entry) is entry:
            self._changed.append(entry)
            self.tidy()

    def discard(self, shelf: Shelf, key: Hashable) -> bool:
        """Throw one result away; return whether there was one. Errors of the key's own methods come out."""
        self.generation += 1
        shelf.flights.pop(key, None)
        entry = shelf.entries.get(key)
        if entry is not None:
            self._take_off(entry)
            self._changed.append(entry)
            self.tidy()
        return entry is not None

    def clear(self, shelf: Shelf | None = None) -> None:
        """Throw away all results, or those of one shelf, and those that are being computed as soon as they come."""
        self.generation += 1
        for cleared in self._shelves() if shelf is None else [shelf]:
            self._empty(cleared)
        self.tidy()

    def forget_flights(self) -> None:
        """Let nobody wait any more for what is being computed now: in a forked child the other threads are gone."""
        self._turn = {}
        self._is_unsure = True
        for shelf in self._shelves():
            shelf.flights = {}

    def size(self) -> int:
        """Return how many results are kept, after throwing away those whose time is over."""
        self.tidy(even_unchanged=True)
        return sum(len(shelf.entries) for shelf in self._shelves())

    def tidy(self, *, even_unchanged: bool = False) -> None:
        """Apply what has changed, unless another thread is at it, which then does it."""
        own = object()
        while self._changed or even_unchanged:
            even_unchanged = False
            leaving: list[Entry] = []
            try:
                # A claim rather than a lock: it can be given back whatever Ctrl-C interrupts.
                if self._turn.setdefault("of", own) is not own:
                    return
                self._arrange(leaving)
            finally:
                if self._turn.get("of") is own:
                    del self._turn["of"]
            for entry in leaving:
                self._take_off(entry)

    def _arrange(self, leaving: list[Entry]) -> None:
        if self._is_torn or self._is_unsure:
            self._mend()
        self._is_torn = True  # stays so if Ctrl-C comes now, and in a child that is forked now
        order, ages, changed = self._order, self._ages, self._changed
        if self.uses:
            self._note_uses()
        now = self._clock()
        while ages and (oldest := next(iter(ages))).expires <= now:
            del ages[oldest], order[oldest]
            self.expirations += 1
            leaving.append(oldest)
        while changed:
            entry = changed.popleft()
            if entry.is_off:
                if entry in ages:
                    del ages[entry], order[entry]
                continue
            if entry in ages:
                continue
            if len(ages) >= self._maxsize:
                evicted, _ = order.popitem()
                del ages[evicted]
                self.evictions += 1
                leaving.append(evicted)
            order[entry] = ages[entry] = None
        self._is_torn = False

    def _note_uses(self) -> None:
        uses = [self.uses.popleft() for _ in range(len(self.uses))]
        if self._maxsize < math.inf:
            for entry in reversed(dict.fromkeys(reversed(uses))):
                self._order.get(entry)  # which makes it the one used last

    def _take_off(self, entry: Entry) -> None:
        """Let an entry be found no more."""
        if entry.is_off:
            return
        entry.is_off = True
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

    def _bereave(self, number: int, owner: weakref.ref[object]) -> None:
        """Throw away what was computed for an instance that is gone. May be called by the garbage collector."""
        shelf = self._by_instance.get(number)
        if shelf is not None and shelf.owner is owner:
            self._by_instance.pop(number, None)
            self._empty(shelf)
            self.tidy()

    def _empty(self, shelf: Shelf) -> None:
        shelf.flights.clear()
        while shelf.entries:
            try:
                _, entry = shelf.entries.popitem()
            except KeyError:
                return  # another thread took the last one
            entry.is_off = True
            self._changed.append(entry)

    def _mend(self) -> None:
        """Make order and ages agree with what is on the shelves, after a step that somebody has not ended."""
        if self._is_torn:
            self._order.clear()
            self._ages.clear()
        self._is_unsure = False
        kept = [entry for shelf in self._shelves() for entry in list(shelf.entries.values())]
        for entry in kept:
            entry.is_off = False
        self._changed.extend(sorted(kept, key=lambda entry: entry.expires))
