"""How a worker waits before it tries again: on the time source's clock if it has one, and not beyond a shutdown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callpyback.core.forks import reset_after_fork

if TYPE_CHECKING:
    from callpyback.protocols import TimeSource


class Pause:
    """Waits, until it is told that there is nothing to wait for any more.

    A time source with a `sleep` of its own decides how long a wait takes; otherwise it is a wait of C code, which no
    stopped clock prolongs.

    Args:
        time_source: The time source; None for the system's.
    """

    def __init__(self, time_source: TimeSource | None) -> None:
        sleep: Any = getattr(time_source, "sleep", None)
        self._sleep: Callable[[float], object] | None = sleep if callable(sleep) else None
        self._over = threading.Event()
        reset_after_fork(self)

    @property
    def is_over(self) -> bool:
        """Whether nobody is to wait any more."""
        return self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long; return whether to go on."""
        if self._sleep is None:
            return not self._over.wait(seconds)
        if not self.is_over:
            self._sleep(seconds)
        return not self.is_over

    def end(self) -> None:
        """End the wait under way, and all that would follow."""
        self._over.set()

    def reset_after_fork(self) -> None:
        """Begin anew: the lock inside may have been held by a thread that is gone."""
        was_over = self._over.is_set()
        self._over = threading.Event()
        if was_over:
            self._over.set()

    def __getstate__(self) -> dict[str, Any]:
        return {"_sleep": self._sleep}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _over=threading.Event())
        reset_after_fork(self)
