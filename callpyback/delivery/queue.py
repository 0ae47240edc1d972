"""The queue between the observed calls and the worker: bounded, without a lock, exactly counted."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable
from itertools import chain, repeat
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal

from callpyback.delivery.ledger import Count, Ledger, read_together

Overflow = Literal["drop_oldest", "drop_newest", "block"]

_CLOSED: Final = iter(list[Any]().pop, None)
"""An iterator whose every step raises IndexError."""


def _nobody() -> None:
    """Stand for whoever listens, before somebody does."""


class OfferQueue:
    """Holds what was offered until the worker takes it; never more than `max_queue` at once.

    An offer is one step of C code, `deque.extend`, which draws a ticket, appends, and evicts the oldest entry of a
    full deque. So tickets are in the order of the entries, and the length of the queue and the counts change together.

    Args:
        max_queue: The greatest length.
        overflow: What becomes of an offer to a full queue.
        block_timeout: Seconds an offer waits for room, if it waits.

    Attributes:
        ring_at: The length from which on an offer calls `ring`; the worker sets it according to what it does.
        ring: Called by the offering thread.
        may_wait: Asked by an offer that would wait whether its thread may.
    """

    def __init__(self, max_queue: int, overflow: Overflow, block_timeout: float) -> None:
        self.max_queue = max_queue
        self.overflow = overflow
        self.block_timeout = block_timeout
        self.ring: Callable[[], object] = _nobody
        self.may_wait: Callable[[], object] = _nobody
        self.is_closed = False
        self._entries: deque[tuple[Any, int]] = deque()
        self.renew()

    def renew(self) -> None:
        """Begin anew, empty, with all counts at zero.

        In a forked child this runs inside `os.fork`, where the less happens the better: what the parent left in the
        queue is set aside until there is a worker to free it.
        """
        self._inherited = self._entries
        self.accepted, self._taken, self._overflowed, self._refused, self._discarded = (Count() for _ in range(5))
        self.delivered, self.failed = Count(), Count()
        self._entries = deque(maxlen=self.max_queue)
        self._extend = self._entries.extend
        self._pops = iter(self._entries.popleft, None)
        self._room: SimpleQueue[int] | None = None
        self._tickets: Any = self.accepted.steps
        if self.overflow != "drop_oldest":
            # A place is drawn before a ticket: without one, the offer ends there. 0 + ticket is the ticket.
            self._room = SimpleQueue()
            places = chain(repeat(0, self.max_queue), iter(self._room.get_nowait, None))
            self._tickets = map(operator.add, places, self.accepted.steps)
        if self.is_closed:
            self._tickets = _CLOSED
        self.ring_at = 1

    def forget_inherited(self) -> None:
        """Free what the parent process left in the queue."""
        self._inherited = self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, item: Any) -> None:
        """Put an item into the queue, or count it as dropped."""
        try:
            self._extend(zip((item,), self._tickets))  # noqa: B905 - `strict` would draw a second ticket
        except (IndexError, Empty):
            self._offer_without_room(item)
        if len(self._entries) >= self.ring_at:
            self.ring()

    def _offer_without_room(self, item: Any) -> None:
        if self.is_closed or self.overflow != "block" or not self._offer_after_waiting(item):
            self._dropped_at_the_door.add()

    @property
    def _dropped_at_the_door(self) -> Count:
        return self._refused if self.is_closed else self._overflowed

    def _offer_after_waiting(self, item: Any) -> bool:
        if len(self._entries) >= self.ring_at:
            self.ring()
        room = self._room
        if room is None or not self.may_wait():
            return False
        try:
            place = room.get(timeout=self.block_timeout)
        except Empty:
            return False
        if self.is_closed:
            room.put(place)  # for the next one who waits
            return False
        self._extend(zip((item,), map(operator.add, (place,), self.accepted.steps)))  # noqa: B905
        return True

    def take(self) -> tuple[Any, int]:
        """Take out the oldest item, with its ticket: the number of items accepted before it.

        Raises:
            IndexError: The queue is empty.
        """
        entry, _ = next(zip(self._pops, self._taken.steps))  # noqa: B905
        if self._room is not None:
            self._room.put(0)
        return entry

    def discard(self) -> int:
        """Give up what is in the queue; return how much that was."""
        number = 0
        try:
            while True:
                self.take()
                self._discarded.add()
                number += 1
        except IndexError:
            return number

    def close(self) -> None:
        """Accept nothing any more, and let those go who wait for room."""
        self.is_closed = True
        self._tickets = _CLOSED
        if self._room is not None:
            self._room.put(0)

    @property
    def first(self) -> int:
        """The ticket of the oldest item, or the next ticket if there is none: all before it are out of the queue."""
        [accepted], length = read_together((self.accepted,), self._entries)
        return accepted - length

    @property
    def overflowed(self) -> int:
        """How many items were dropped because the queue was full."""
        [accepted, taken, turned_away], length = read_together(
            (self.accepted, self._taken, self._overflowed), self._entries
        )
        return accepted - taken - length + turned_away

    @property
    def ledger(self) -> Ledger:
        """What became of everything that was offered."""
        counts = (self.accepted, self._taken, self.delivered, self.failed)
        losses = (self._overflowed, self._refused, self._discarded)
        values, length = read_together((*counts, *losses), self._entries)
        accepted, taken, delivered, failed, turned_away, refused, discarded = values
        evicted = accepted - taken - length
        return Ledger(
            offered=accepted + turned_away + refused,
            delivered=delivered,
            failed=failed,
            pending=taken + length - delivered - failed - discarded,
            dropped={"overflow": evicted + turned_away, "shutdown": refused + discarded},
        )
