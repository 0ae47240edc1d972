"""Says in the log when a queue begins to lose contexts, and how many were lost when it has ended."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Final

from callpyback.core.reporting import log
from callpyback.core.telling import enter, leave

if TYPE_CHECKING:
    from callpyback.delivery.queue import OfferQueue

_LAST_WORDS: Final = 0.05
"""Seconds in which a line ought to be logged: whoever gives up has waited long enough already."""

QUIET: Final = 5.0
"""Seconds without a loss after which it has ended: a queue that overflows every second is one loss, not many."""


class LossReport:
    """One line when loss begins, and one when it has ended.

    They are logged by a thread of their own, which lives as long as the loss: neither the calls nor the worker wait
    for a logging handler. Where no thread can be started, nothing is logged; the ledger counts all the same.

    Args:
        name: The observer's name.
        queue: The queue that may overflow.
    """

    def __init__(self, name: str, queue: OfferQueue) -> None:
        self._name = name
        self._queue = queue
        self._reported = 0
        self._open = threading.Lock()  # taken while there is loss; the calls only try it
        self._bell = threading.Lock()
        self._bell.acquire()

    @property
    def is_open(self) -> bool:
        """Whether loss has begun and not ended."""
        return self._open.locked()

    def follow(self) -> None:
        """Begin, if something was lost since the last loss ended. Called by an offer to a full queue."""
        if not self.is_open and self._queue.overflowed > self._reported and self._open.acquire(blocking=False):
            self._bell.acquire(blocking=False)
            if _started(self._report, f"callpyback loss of {self._name}") is None:
                self._open.release()

    def end(self) -> None:
        """End now, if there is loss: nothing more can be lost."""
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it was ended already

    def wait(self, seconds: float) -> None:
        """Wait until the last line is logged."""
        if self._open.acquire(timeout=seconds):
            self._open.release()

    def give_up(self, number: int) -> None:
        """Say that so many contexts are not going to be delivered any more.

        At the end of the program, where no thread can be started any more, it is said here: nobody's call waits then.
        """
        if not number:
            return
        message = "observer %s did not finish in time: %d contexts in its queue are dropped"

        def say() -> None:
            _say(message, self._name, number)

        thread = _started(say, f"callpyback loss of {self._name}")
        if thread is None:
            say()
        else:
            thread.join(_LAST_WORDS)  # a program that ends now would end before its words

    def _report(self) -> None:
        try:
            _say(
                "observer %s is too slow: its queue of %d is full, and contexts are dropped",
                self._name,
                self._queue.max_queue,
            )
            is_losing = True
            while is_losing:
                lost = self._queue.overflowed
                is_losing = not self._bell.acquire(timeout=QUIET) and self._queue.overflowed > lost
            lost = self._queue.overflowed
            _say("observer %s lost %d contexts because its queue was full", self._name, lost - self._reported)
            self._reported = lost
        finally:
            self._open.release()


def _started(target: Callable[[], object], name: str) -> threading.Thread | None:
    """Return a thread that runs a function; None if there can be no more threads, or the interpreter is ending."""
    try:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
    except Exception:  # noqa: BLE001 - see above
        return None
    return thread


def _say(message: str, *args: object) -> None:
    """Log a line; what logging handlers call meanwhile is not observed, so that no loss leads to more."""
    thread = get_ident()
    enter(thread)
    try:
        log(logging.WARNING, message, *args)
    finally:
        leave(thread)
