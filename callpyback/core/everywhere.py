"""Every decorated function there is, held weakly: what changes for all of them goes through here."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from callpyback.core.forks import reset_after_fork

if TYPE_CHECKING:
    from callpyback.core.handle import FunctionHandle


class Handles:
    """The handles on all decorated functions that are alive."""

    def __init__(self) -> None:
        self._known: weakref.WeakSet[FunctionHandle] = weakref.WeakSet()
        self._lock = threading.RLock()
        reset_after_fork(self)

    def add(self, handle: FunctionHandle) -> None:
        """Let a function hear of changes."""
        with self._lock:
            self._known.add(handle)

    def renew(self) -> None:
        """Have every function make its plan anew, each at its next call."""
        for handle in self.alive():
            handle.expire()

    def alive(self) -> tuple[FunctionHandle, ...]:
        """Return those that are alive."""
        with self._lock:
            return tuple(self._known)

    def reset_after_fork(self) -> None:
        """Make the lock anew: another thread may have held it."""
        self._lock = threading.RLock()


HANDLES = Handles()
