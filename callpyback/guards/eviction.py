"""Which results of a cache have to go: those whose time is over, then those used least recently."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

if TYPE_CHECKING:
    from callpyback.guards.cache_entries import Entry

_REMEMBERED_USES: Final = 1024
"""Of so many uses since the last change it is known which came last. Older ones weigh nothing beside them."""

_BACKLOG: Final = 16
"""From so many changes on, whoever adds one lets the thread that applies them have its turn."""

_BREATH: Final = 1e-5  # seconds, for each change; no time at all would not let another thread have the interpreter
_LONGEST_BREATH: Final = 0.01


class Eviction:
    """Keeps at most `maxsize` entries, and tells which go.

    The order is cachetools' `LRUCache`, whose methods are several steps: `popitem` for one takes the first key from an
    iterator, which fails if another thread reorders the keys meanwhile. So only one thread at a time changes it, and
    nobody waits for that: uses and changes are appended to queues, a single step, and whoever finds nobody at it
    applies them. Entries are compared by identity, so no code of a user's key runs there.

    Args:
        maxsize: How many entries are kept; infinity for all.
        clock: Monotonic, in seconds.
        remove: Called with each entry that goes, while nothing is held.
        find_all: Gives all entries there are, to begin anew if Ctrl-C or a fork came in the middle.

    Attributes:
        uses: Entries are appended to it as they are used.
        changes: Entries are appended to it as they come, and, marked as off, as they are taken away.
        evictions: How many went for room.
        expirations: How many went because their time was over.
    """

    def __init__(
        self,
        maxsize: float,
        clock: Callable[[], float],
        *,
        remove: Callable[[Entry], None],
        find_all: Callable[[], Iterable[Entry]],
    ) -> None:
        self.uses: deque[Entry] = deque(maxlen=_REMEMBERED_USES)
        self.changes: deque[Entry] = deque()
        self.evictions = self.expirations = 0
        self._maxsize = maxsize
        self._clock = clock
        self._remove = remove
        self._find_all = find_all
        self._order: LRUCache[Entry, None] = LRUCache(maxsize)
        self._ages: OrderedDict[Entry, None] = OrderedDict()
        self._leaving: deque[Entry] = deque()  # for any thread to remove, lest one that has to pause holds them up
        self._turn: dict[str, object] = {}
        self._is_torn = False

    def apply(self, *, even_unchanged: bool = False) -> None:
        """Apply what has changed, unless another thread is at it, which then does it."""
        while self.changes or even_unchanged:
            even_unchanged = False
            was_free = self._apply_in_turn()
            while self._leaving:
                try:
                    entry = self._leaving.popleft()
                except IndexError:
                    break  # another thread took the last one
                self._remove(entry)
            if not was_free:
                return

    def _apply_in_turn(self) -> bool:
        own = object()
        try:
            # A claim rather than a lock: it can be given back whatever Ctrl-C interrupts.
            if self._turn.setdefault("of", own) is own:
                self._arrange()
                return True
        finally:
            if self._turn.get("of") is own:
                del self._turn["of"]
        waiting = len(self.changes)
        if waiting > _BACKLOG:
            time.sleep(min(waiting * _BREATH, _LONGEST_BREATH))
        return False

    def begin_anew(self) -> None:
        """Forget who used what, and who is at it: in a forked child the other threads are gone."""
        self._turn = {}
        self._is_torn = True

    def _arrange(self) -> None:
        if self._is_torn:
            self._mend()
        self._is_torn = True  # stays so if Ctrl-C comes now
        order, ages, changes = self._order, self._ages, self.changes
        if self.uses:
            self._note_uses()
        now = self._clock()
        while ages and (oldest := next(iter(ages))).expires <= now:
            del ages[oldest], order[oldest]
            self.expirations += 1
            self._let_go(oldest)
        while changes:
            entry = changes.popleft()
            if entry.is_off == (entry not in ages):
                continue  # applied already
            if entry.is_off:
                del ages[entry], order[entry]
                continue
            if len(ages) >= self._maxsize:
                evicted, _ = order.popitem()
                del ages[evicted]
                self.evictions += 1
                self._let_go(evicted)
            order[entry] = ages[entry] = None
        self._is_torn = False

    def _note_uses(self) -> None:
        uses = [self.uses.popleft() for _ in range(len(self.uses))]
        if self._maxsize < math.inf:
            for entry in reversed(dict.fromkeys(reversed(uses))):
                self._order.get(entry)  # which makes it the one used last

    def _mend(self) -> None:
        self._order.clear()
        self._ages.clear()
        self._leaving.clear()
        found = sorted(self._find_all(), key=lambda entry: entry.expires)
        for entry in found:
            entry.is_off = False  # whoever marked it has not come to take it away
        self.changes.extend(found)

    def _let_go(self, entry: Entry) -> None:
        if not entry.is_off:
            entry.is_off = True
            self._leaving.append(entry)
