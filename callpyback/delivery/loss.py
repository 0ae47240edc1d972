"""Says in the log when a queue begins to lose contexts, and how many were lost when it has ended."""

from __future__ import annotations

import logging
import threading
from threading import get_ident

from callpyback.core.dispatch import enter, leave
from callpyback.core.reporting import log


class LossReport:
    """One line when loss begins, and one when it has ended.

    They are logged by a thread of their own, which lives as long as the loss: neither the calls nor the worker wait
    for a logging handler. Where no thread can be started, nothing is logged; the ledger counts all the same.

    Args:
        name: The observer's name.
        max_queue: The length of its queue.
    """

    def __init__(self, name: str, max_queue: int) -> None:
        self._name = name
        self._max_queue = max_queue
        self._open = threading.Lock()  # taken while there is loss; only ever tried, never waited for
        self._before = 0
        self._lost = 0
        self._ended = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether loss has begun and not ended."""
        return self._open.locked()

    def follow(self, overflowed: int) -> bool:
        """Begin, if something was lost since the last loss ended; return whether there is loss."""
        if overflowed > self._before and self._open.acquire(blocking=False):
            self._ended = threading.Lock()
            self._ended.acquire()
            self._start(self._report, self._ended)
        return self.is_open

    def end(self, overflowed: int) -> None:
        """End the loss, if there is one; `overflowed` items were lost by now."""
        if self.is_open:
            self._lost, self._before = overflowed - self._before, overflowed
            self._ended.release()
            self._open.release()

    def give_up(self, number: int) -> None:
        """Say that so many contexts are not going to be delivered any more."""
        if number:
            message = "observer %s did not finish in time: %d contexts in its queue are dropped"
            self._start(_say, message, self._name, number)

    def _report(self, ended: threading.Lock) -> None:
        _say("observer %s is too slow: its queue of %d is full, and contexts are dropped", self._name, self._max_queue)
        ended.acquire()
        _say("observer %s keeps up again: %d contexts were dropped", self._name, self._lost)

    def _start(self, target: object, *args: object) -> None:
        name = f"callpyback loss of {self._name}"
        try:
            threading.Thread(target=target, args=args, name=name, daemon=True).start()  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001, S110 - no more threads, or the interpreter is ending
            pass


def _say(message: str, *args: object) -> None:
    """Log a line; what logging handlers call meanwhile is not observed, so that no loss leads to more."""
    thread = get_ident()
    enter(thread)
    try:
        log(logging.WARNING, message, *args)
    finally:
        leave(thread)
