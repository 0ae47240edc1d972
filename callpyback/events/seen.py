"""Which events were processed already, as far back as memory goes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from callpyback.core.forks import reset_after_fork


class Seen:
    """The uuids of the newest events.

    Args:
        limit: How many are remembered; beyond that, the oldest is forgotten.

    Attributes:
        repeated: How many were known already.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._uuids: OrderedDict[Any, None] = OrderedDict()
        self.repeated = 0
        self.reset_after_fork()
        reset_after_fork(self)

    def reset_after_fork(self) -> None:
        """Make the lock anew: another thread may have held it."""
        self._lock = threading.RLock()

    def is_new(self, uuid: Any) -> bool:
        """Remember a uuid; return whether it was not known. Of two threads, one is told that it is new."""
        with self._lock:
            if uuid in self._uuids:
                self.repeated += 1
                return False
            self._uuids[uuid] = None
            if len(self._uuids) > self._limit:
                self._uuids.popitem(last=False)
            return True

    def __contains__(self, uuid: object) -> bool:
        return uuid in self._uuids
