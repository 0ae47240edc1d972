"""What is kept of many keys, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from callpyback.core.forks import reset_after_fork

V = TypeVar("V")


class RecentKeys(Generic[V]):
    """A value for each key, for the most recently used keys alone.

    Any number of threads may use it; a lock is held for a look at the dictionary, and while the keys' own `__eq__`
    runs. Made anew in a forked child: an entry that another thread was adding at that moment may be missing there.

    Args:
        max_keys: The greatest number of keys that are kept; beyond it, the one that was used longest ago is dropped.

    Attributes:
        evicted: How many keys were dropped.
        lock: Held by each method; to be held around several of them. Re-entrant.

    Example:
        >>> counts = RecentKeys(max_keys=2)
        >>> for key in "abac":
        ...     counts.use(key, list).append(key)
        >>> counts.items(), counts.evicted
        ([('a', ['a', 'a']), ('c', ['c'])], 1)
    """

    def __init__(self, max_keys: int) -> None:
        self.max_keys = max_keys
        self.evicted = 0
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self.renew_lock()
        reset_after_fork(self, "renew_lock")

    def renew_lock(self) -> None:
        """Make the lock anew."""
        # Re-entrant: a `__del__` that runs while it is held may come here again.
        self.lock = threading.RLock()

    def use(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return the value of a key, which is now the most recently used one; make it if there is none.

        Args:
            key: Hashable; it is kept as it is.
            make: Called under the lock, so it should do no more than make an object.
        """
        with self.lock:
            values = self._values
            if key in values:
                values.move_to_end(key)
                return values[key]
            value = values[key] = make()
            while len(values) > self.max_keys:
                values.popitem(last=False)
                self.evicted += 1
            return value

    def items(self) -> list[tuple[Hashable, V]]:
        """Return keys and values, the least recently used first."""
        with self.lock:
            return list(self._values.items())

    def clear(self) -> None:
        """Forget all keys, and how many were dropped."""
        with self.lock:
            self._values.clear()
            self.evicted = 0

    def __len__(self) -> int:
        return len(self._values)

    def __getstate__(self) -> dict[str, Any]:
        with self.lock:
            state = {**self.__dict__, "_values": self._values.copy()}
        del state["lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.renew_lock()
        reset_after_fork(self, "renew_lock")
