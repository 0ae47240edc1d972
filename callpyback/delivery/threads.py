"""The thread of a worker whose observer is a plain function: waiting, waking, and being inside an observer."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Generator
from typing import Any, Protocol

from callpyback.core.telling import enter, leave

Rounds = Generator[float | Awaitable[Any] | None, bool | None, None]
"""The work of a worker. It yields the seconds to wait for the bell (None: until it rings), and is sent whether the bell
rang; or it yields what is to be awaited."""


class Drive(Protocol):
    """How a worker's rounds are run in its thread, and how it is woken there."""

    is_cancelled: bool
    """Whether the rounds are to end, because what was awaited in them has been cancelled from outside."""

    def run(self, rounds: Rounds) -> None:
        """Run the rounds to their end."""
        ...

    def ring(self) -> None:
        """End the wait under way, or the next one. Any thread may, in a signal handler or finalizer too."""
        ...

    def quieten(self) -> None:
        """Forget that the bell rang."""
        ...

    def cancel(self) -> None:
        """End what is being awaited, if that can be ended."""
        ...


class BlockingDrive:
    """Runs rounds in a thread that waits by a lock: a wait of C code, which no patched or stopped clock can prolong.

    The thread counts as inside an observer all the time it does not wait, so that nothing it calls is observed.
    """

    is_cancelled = False

    def __init__(self) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()

    def run(self, rounds: Rounds) -> None:
        """Run the rounds to their end."""
        thread = threading.get_ident()
        enter(thread)
        try:
            wanted = next(rounds)
            while True:
                leave(thread)
                try:
                    rang = self._bell.acquire(timeout=wait_of(wanted))
                finally:
                    enter(thread)
                wanted = rounds.send(rang)
        except StopIteration:
            pass  # the rounds are over
        finally:
            leave(thread)

    def ring(self) -> None:
        """End the wait under way, or the next one."""
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it rang already

    def quieten(self) -> None:
        """Forget that the bell rang."""
        self._bell.acquire(blocking=False)

    def cancel(self) -> None:
        """A plain function can't be ended."""


def wait_of(seconds: Any) -> float:
    """Return the timeout for acquiring a lock; None waits for ever, as does more than the machine can count."""
    return -1 if seconds is None else min(max(seconds, 0.0), threading.TIMEOUT_MAX)
