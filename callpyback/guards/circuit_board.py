"""What circuits of one function have in common: their states, their limits, and the telling of their changes."""

from __future__ import annotations

import enum
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable

import msgspec

from callpyback.core.reporting import log
from callpyback.core.safe_repr import safe_repr, safe_text
from callpyback.observers.parts.tally import Tally


class CircuitState(enum.StrEnum):
    """What a circuit does with calls."""

    CLOSED = "closed"  # they pass
    OPEN = "open"  # they are refused
    HALF_OPEN = "half-open"  # one passes, to see whether the function works again


class CircuitChange(msgspec.Struct, frozen=True):
    """A circuit has gone from one state to another.

    Args:
        function: The guarded function, as `module.qualname`.
        key: The key of the circuit; None without keys.
        before: The state it was in.
        after: The state it is in now.
        reason: Why, in words.
    """

    function: str
    key: Hashable
    before: CircuitState
    after: CircuitState
    reason: str


class Limits(msgspec.Struct, frozen=True):
    """When circuits open, and for how long."""

    failure_threshold: int
    recovery_time: float
    on: tuple[type[Exception], ...]


class Board:
    """What the circuits of one function share: limits, clock, the lock of their changes, counts, and who is told.

    Args:
        function: The name of the function.
        limits: When its circuits open.
        clock: Gives the seconds of a monotonic clock.
        on_state_change: Called with each `CircuitChange`.
        has_keys: Whether there is a circuit for each key.
    """

    def __init__(
        self,
        function: str,
        limits: Limits,
        clock: Callable[[], float],
        *,
        on_state_change: Callable[[CircuitChange], object] | None,
        has_keys: bool,
    ) -> None:
        self.function = function
        self.limits = limits
        self.clock = clock
        self.refusals = Tally()
        self.opened = 0
        self.probes = 0
        self.changes: deque[CircuitChange] = deque()
        self._on_state_change = on_state_change
        self._has_keys = has_keys
        self.renew_locks()

    def renew_locks(self) -> None:
        """Make the locks anew in a forked child; what is not told yet is told by the parent."""
        # Re-entrant: a signal handler or a finalizer may call the function in the middle of a change.
        self.lock = threading.RLock()
        self._telling = threading.Lock()
        self.changes.clear()

    def get_counts(self) -> dict[str, int]:
        """Return how often circuits opened, calls were refused, and probes were admitted."""
        return {"opened": self.opened, "refused": self.refusals.count, "probes": self.probes}

    def announce(self) -> None:
        """Tell of the changes so far, in their order, one thread at a time and outside of the lock of the changes."""
        telling = self._telling  # a callback may fork, and the child goes on with another
        # Asked again after the release: another thread's change may have come in just before it.
        while self.changes and telling.acquire(blocking=False):
            try:
                while self.changes:
                    self._tell(self.changes.popleft())
            finally:
                telling.release()

    def _tell(self, change: CircuitChange) -> None:
        level = logging.WARNING if change.after is CircuitState.OPEN else logging.INFO
        key = f" for key {safe_repr(change.key)}" if self._has_keys else ""
        log(level, "circuit of %s%s: %s -> %s, %s", self.function, key, change.before, change.after, change.reason)
        if self._on_state_change is None:
            return
        try:
            self._on_state_change(change)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - isolation is the purpose: the call is not the callback's business
            log(logging.WARNING, "on_state_change of the circuit of %s raised %s", self.function, safe_text(error))
