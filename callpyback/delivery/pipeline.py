"""Queue, worker and loss report of one observer, joined: what can be asked of them from outside, and after a fork."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from callpyback.core.forks import reset_after_fork
from callpyback.delivery import exit as program_exit
from callpyback.delivery.loss import LossReport
from callpyback.delivery.threads import wait_of
from callpyback.delivery.worker import END, Pace, Waiter, Worker

if TYPE_CHECKING:
    from callpyback.delivery.queue import OfferQueue
    from callpyback.delivery.sink import Sink


_LAST_WORDS: Final = 0.1
"""Seconds the end of the program waits for the lines about a loss to be logged."""


class Pipeline:
    """From the calls to the observer.

    The thread of its worker holds it, not the `BackgroundObserver` in front of it, which can be collected.

    Args:
        queue: Where the calls put their contexts.
        sink: Who gets them.
        pace: How they are gathered.
        exit_timeout: Seconds the end of the program waits for the delivery.
    """

    def __init__(self, queue: OfferQueue, sink: Sink, pace: Pace, exit_timeout: float) -> None:
        self.queue = queue
        self.exit_timeout = exit_timeout
        self._sink = sink
        self._pace = pace
        self._begin()
        queue.ring = self.attend
        queue.may_wait = lambda: not self.is_own_thread
        reset_after_fork(self)

    def _begin(self) -> None:
        self._loss = LossReport(self._sink.name, self.queue)
        self.worker = Worker(self.queue, self._sink, self._pace)

    @property
    def is_own_thread(self) -> bool:
        """Whether this thread is the worker's, so that waiting for the worker would be for ever."""
        return threading.get_ident() == self.worker.ident

    @property
    def last_error(self) -> str | None:
        """The last exception of the observer, as one bounded line of text."""
        return self.worker.condition.last_error

    def attend(self) -> None:
        """See what the queue needs; called by an offer that has made it as long as the worker wants to know of."""
        queue, worker = self.queue, self.worker
        queue.ring_at = queue.max_queue
        if queue.is_closed and worker.has_ended:
            queue.ring_at = 1  # as the worker has left it; asked after it was changed above, so that none is missed
            queue.discard()  # offered in the last moment
        elif worker.is_resting or not worker.is_alive:
            if not worker.is_alive:
                program_exit.remember(self)
            if not worker.wake():
                queue.ring_at = min(2 * len(queue) + 1, queue.max_queue)  # no thread can be started: try again then
        if len(queue) >= queue.max_queue:
            self._loss.follow()

    def flush(self, timeout: float | None) -> bool:
        """Wait until everything offered before is settled; return whether it is."""
        worker, ticket = self.worker, self.queue.accepted.value
        if worker.is_settled(ticket):
            return True
        return not self.is_own_thread and _waited(worker, ticket, timeout)

    def when_flushed(self, notify: Callable[[], object]) -> None:
        """Notify once everything offered so far is settled."""
        ticket = self.queue.accepted.value
        if self.worker.is_settled(ticket):
            notify()
        else:
            self.worker.add(Waiter(ticket, notify))

    def shutdown(self, timeout: float) -> bool:
        """Accept nothing more, deliver the rest, close the observer; return whether that was done in time."""
        self.queue.close()
        self._loss.end()
        if not self.worker.stop(closes=True):
            return not self.queue.discard()  # nothing is left, or there is no thread to deliver it
        if self.is_own_thread:
            return False
        if not _waited(self.worker, END, timeout):
            self.give_up()
            return False
        self.queue.discard()  # what was offered in the last moment
        return True

    def finish(self, notify: Callable[[], object]) -> None:
        """Accept nothing more, deliver the rest, close the observer; notify when that is done."""
        self.queue.close()
        self._loss.end()
        if self.worker.stop(closes=True):
            self.worker.add(Waiter(END, notify))
        else:
            notify()

    def finished(self) -> None:
        """Drop what could not be delivered in time, at the end of the program."""
        if not self.worker.has_ended:
            self.give_up()
        self._loss.wait(_LAST_WORDS)

    def give_up(self) -> None:
        """Drop what is in the queue; take nothing more out of it."""
        self.worker.retire()
        self._loss.give_up(self.queue.discard())

    def abandon(self) -> None:
        """Deliver the rest and end the thread: nobody can offer anything any more."""
        self.worker.stop(closes=False)

    def reset_after_fork(self) -> None:
        """In a forked child: what was offered is the parent's to deliver; begin anew, without a thread."""
        self.worker.disown()
        self.queue.renew()
        self._begin()


def _waited(worker: Worker, ticket: float, timeout: float | None) -> bool:
    done = threading.Lock()
    done.acquire()
    waiter = Waiter(ticket, done.release)
    worker.add(waiter)
    try:
        done.acquire(timeout=wait_of(timeout))
    finally:
        worker.remove(waiter)
    return worker.is_settled(ticket)
