"""A count that is exact under threads and costs no lock."""

from __future__ import annotations

import sys
from itertools import repeat
from operator import length_hint
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    _Repeat = repeat[None]
else:
    _Repeat = repeat


class Tally(_Repeat):
    """Counts how often `next` was called on it: one step in C, so that threads lose nothing.

    Copies and pickles go on from the count.

    Args:
        count: Where to start.

    Example:
        >>> tally = Tally()
        >>> next(tally), next(tally)
        (None, None)
        >>> tally.count
        2
    """

    __slots__ = ()

    def __new__(cls, count: int = 0) -> Self:
        """Start from a count."""
        return super().__new__(cls, None, sys.maxsize - count)

    @property
    def count(self) -> int:
        """The count so far."""
        return sys.maxsize - length_hint(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.count,)

    def __repr__(self) -> str:
        return f"Tally({self.count})"
