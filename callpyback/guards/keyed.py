"""A state for each key: made when first asked for, forgotten when it no longer matters, never more than so many."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

from callpyback.core.forks import reset_after_fork
from callpyback.core.reporting import log
from callpyback.core.safe_repr import safe_repr

S = TypeVar("S")

_LOOKED_AT: Final = 8  # so many are looked at for each that is made: a flood of new keys costs each of them little


class KeyedStates(Generic[S]):
    """At most `max_keys` states, one for each key, and one more that all further keys share.

    A state is forgotten only while it is idle, that is, while it can't be told from a new one; whoever makes a state
    for a new key looks at a few others for that. When none of these is idle and there are `max_keys` states, the key
    shares: for this time only, and `split` sees to it that what it did meanwhile is not forgotten.

    Exact under threads: there is one state for each key, also if it is forgotten while a thread has it in hand. Such a
    state is found again through a weak reference as long as anybody holds it, and `keep` puts it back. A known key
    costs a lookup in a dictionary; only making and forgetting take a lock.

    Args:
        make: Makes a new state. It must be possible to refer to it weakly.
        is_idle: Whether a state can't be told from a new one, so that forgetting it changes nothing.
        max_keys: How many keys have a state of their own.
        name: What the states are, for the warning when the first key has to share.
        split: Makes the state of a key that may have shared a state which is not idle; by default `make`.

    Example:
        >>> class Tally:
        ...     count = 0
        >>> tallies = KeyedStates(Tally, is_idle=lambda tally: tally.count == 0, max_keys=100, name="tallies")
        >>> tally = tallies.of("ann")
        >>> tally.count += 1
        >>> tallies.keep("ann", tally)
        >>> tallies.of("ann").count, tallies.of("ben").count
        (1, 0)
    """

    def __init__(
        self,
        make: Callable[[], S],
        *,
        is_idle: Callable[[S], bool],
        max_keys: int,
        name: str,
        split: Callable[[S], S] | None = None,
    ) -> None:
        self._make = make
        self._is_idle = is_idle
        self._max_keys = max_keys
        self._name = name
        self._split = split
        self._states: dict[Hashable, S] = {}
        self._order: deque[Hashable] = deque()  # the longest not looked at come first
        self._leaving: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
        self._shared: S | None = None
        self._renew_lock()
        reset_after_fork(self, "_renew_lock")

    def of(self, key: Hashable) -> S:
        """Return the state of a key: its own, or the one it shares.

        Hold it while the call runs if the call will change it, and call `keep` after each change.

        Raises:
            TypeError: The key is not hashable.
        """
        state = self._states.get(key)
        return self._found_or_made(key) if state is None else state

    def keep(self, key: Hashable, state: S) -> None:
        """See to it that a state that was changed is not forgotten; call it after the change, not before."""
        if self._states.get(key) is not state and state is not self._shared:
            with self._lock:
                if key not in self._states:
                    self._add(key, state)

    @property
    def shared(self) -> S | None:
        """The state of all keys that had to share one; None if there was none yet."""
        return self._shared

    def states(self) -> list[S]:
        """Return all states as of now, the shared one included."""
        states = list(self._states.values())
        return states if self._shared is None else [*states, self._shared]

    def __len__(self) -> int:
        return len(self._states)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def _found_or_made(self, key: Hashable) -> S:
        with self._lock:
            state = self._states.get(key)
            if state is None:
                state = self._leaving.get(key)
            if state is None:
                self._forget_idle()
                if len(self._states) >= self._max_keys:
                    return self._sharing()
                state = self._made()
            self._add(key, state)
            return state

    def _made(self) -> S:
        if self._split is None or self._shared is None or self._is_idle(self._shared):
            return self._make()
        return self._split(self._shared)

    def _sharing(self) -> S:
        if self._shared is None:
            self._shared = self._make()
            log(
                logging.WARNING,
                "%s: more than %d keys are in use at once, and further ones share one state; raise max_keys",
                self._name,
                self._max_keys,
            )
        return self._shared

    def _add(self, key: Hashable, state: S) -> None:
        if key not in self._states:
            self._states[key] = state
            self._order.append(key)
        self._leaving.pop(key, None)

    def _forget_idle(self) -> None:
        for _ in range(min(_LOOKED_AT, len(self._order))):
            self._order.rotate(-1)
            key = self._order[-1]
            try:
                state = self._states[key]
            except Exception:  # noqa: BLE001 - a key that is hashed differently now: its state can't be found any more
                self._order.pop()
                continue
            if self._is_idle(state) and self._is_let_go(key, state):
                self._order.pop()

    def _is_let_go(self, key: Hashable, state: S) -> bool:
        """Let go of an idle state, unless a thread that has it in hand uses it right now.

        Such a thread changes the state, then looks whether it is still here; this method removes it, then looks
        whether it was changed. Whatever the order, one of the two sees the other and puts it back.
        """
        self._leaving[key] = state
        del self._states[key]
        if self._is_idle(state):
            return True
        self._states[key] = state
        del self._leaving[key]
        return False


def shown_key(key: Hashable) -> str:
    """Return a key as bounded text; an instance that is held weakly as itself."""
    return safe_repr(key() if isinstance(key, weakref.ref) else key)
