"""How batches of samples move into numbers: in one thread at a time, and without a call that waits."""

from __future__ import annotations

import threading
from typing import Any, Protocol, Self

from callpyback.core.forks import reset_after_fork


class Foldable(Protocol):
    """Has samples waiting, to which calls only append."""

    def fold(self) -> None:
        """Move what waits into the numbers; more may be appended meanwhile."""
        ...


class Folding:
    """The lock under which samples are folded and numbers are read.

    Re-entrant, for a signal handler or a `__del__` that runs during a fold and reads or calls: it must not wait for
    its own thread. It sees the numbers half way, and leaves the samples to the fold under way. Made anew in a forked
    child; a copy or a pickle of it is a fresh one.

    Example:
        >>> class Sum:
        ...     def __init__(self):
        ...         self.waiting, self.total = [], 0
        ...     def fold(self):
        ...         while self.waiting:
        ...             self.total += self.waiting.pop()
        >>> folding, numbers = Folding(), Sum()
        >>> numbers.waiting += [1, 2, 3]
        >>> with folding:
        ...     folding.fold(numbers)
        >>> numbers.total
        6
    """

    def __init__(self) -> None:
        self._renew()
        reset_after_fork(self, "_renew")

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._is_folding = False

    def attempt(self, *many: Foldable) -> None:
        """Fold unless another thread is at it or reads; then one of the next calls does."""
        if self._lock.acquire(blocking=False):
            try:
                self.fold(*many)
            finally:
                self._lock.release()

    def fold(self, *many: Foldable) -> None:
        """Fold, the lock being held."""
        if self._is_folding:
            return
        self._is_folding = True
        try:
            for one in many:
                one.fold()
        finally:
            self._is_folding = False

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()
