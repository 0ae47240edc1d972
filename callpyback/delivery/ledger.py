"""What became of everything that was offered, counted without a lock and read in one step."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sized
from itertools import islice

import msgspec


class Ledger(msgspec.Struct, frozen=True):
    """What became of everything that was offered, at one moment.

    At any moment `offered == delivered + failed + pending + sum(dropped.values())`. The numbers belong together: no
    offer and no delivery happens while they are read.

    Args:
        offered: All that the observed calls gave.
        delivered: Handed to the observer, which returned.
        failed: Handed to the observer, which raised.
        pending: In the queue, or in the observer's hands.
        dropped: Given up, by reason: `"overflow"` because the queue was full, `"shutdown"` because it was offered
            after a shutdown, or was still in the queue when one ended.
    """

    offered: int
    delivered: int
    failed: int
    pending: int
    dropped: dict[str, int]


class Count:
    """A number that any thread may add to, without a lock and without losing a step.

    It is kept by an iterator written in C: a step is taken within one bytecode, so no other thread comes between, nor
    a signal handler or a finalizer; and the iterator tells how many steps are left. Iterators that are stepped
    together, as by `zip`, count together. All this goes by the interpreter's lock, which free-threaded builds lack.
    """

    __slots__ = ("left", "steps")

    def __init__(self) -> None:
        self.steps = iter(range(sys.maxsize))
        self.left: Callable[[], int] = self.steps.__length_hint__  # type: ignore[attr-defined]

    def add(self, number: int = 1) -> None:
        """Add a number of at least 1."""
        next(islice(self.steps, number - 1, None))

    @property
    def value(self) -> int:
        """The number now."""
        return sys.maxsize - self.left()


def read_together(counts: tuple[Count, ...], queue: Sized) -> tuple[list[int], int]:
    """Return the values of some counts and the length of a queue, all of the same moment."""
    readings = (*[count.left for count in counts], queue.__len__)
    *left, length = tuple(map(operator.call, readings))  # one call in C, during which no other thread runs
    return [sys.maxsize - steps for steps in left], length
