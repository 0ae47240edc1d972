"""The worker of a queue: a daemon thread that takes contexts out and hands them to the observer, one call at a time."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from callpyback.core.health import Condition
from callpyback.core.time_sources import SYSTEM
from callpyback.delivery.partial import PartlyFailed
from callpyback.delivery.queue import OfferQueue
from callpyback.delivery.threads import BlockingDrive, Drive, Rounds

if TYPE_CHECKING:
    from callpyback.delivery.sink import Sink

END: Final = math.inf
"""As the ticket of a waiter: the end of the worker."""


_ATTEMPTS: Final = 3
"""So many times in a row the rounds may end by an exception of their own before the thread ends too."""


class Pace(msgspec.Struct, frozen=True):
    """How a worker gathers what it delivers.

    Args:
        portion: The most that is handed over in one call.
        least: Less than this is delivered only when `seconds` have passed, or somebody waits for it.
        enough: So many end the gathering.
        seconds: How long to gather, from the first context on.
    """

    portion: int
    least: int
    enough: int
    seconds: float


class Waiter:
    """Somebody to be notified once everything before a ticket is settled. Compared by identity."""

    __slots__ = ("notify", "ticket")

    def __init__(self, ticket: float, notify: Callable[[], object]) -> None:
        self.ticket = ticket
        self.notify = notify


class Worker:
    """Delivers what is in a queue, until it is stopped.

    There is at most one thread, started when it is first needed, and again should it ever die. Nobody waits for a lock
    to talk to it: others set a flag and ring.

    Attributes:
        settled: Everything with a smaller ticket has been delivered, has failed or was dropped.
        is_resting: Whether it waits, or is about to: then a ring is wanted.
        is_retired: Whether it is to take nothing more out of the queue.
        has_ended: Whether it was stopped or retired, and its thread has ended.
    """

    def __init__(self, queue: OfferQueue, sink: Sink, pace: Pace) -> None:
        self.queue = queue
        self.condition = Condition()
        self.settled = 0
        self.ident: int | None = None
        self.is_resting = self.is_retired = self.is_alive = False
        self.has_ended = queue.is_closed  # in the forked child of a process that had shut down
        self._is_stopping = self._closes = False
        self._sink = sink
        self._pace = pace
        self._drive: Drive = _drive_of(sink)
        self._hand: list[tuple[Any, int]] = []
        self._waiters: deque[Waiter] = deque()
        self._starting = threading.Lock()  # only ever tried, as is the next one
        self._working = threading.Lock()

    def wake(self) -> bool:
        """Have the worker look at its queue and flags; return False if it has no thread and gets none."""
        if self.is_alive:
            self._drive.ring()
            return True
        return not (self.has_ended and self.queue.is_closed) and self._start()

    def stop(self, *, closes: bool) -> bool:
        """Have it deliver the rest and end; return whether it has, or gets, a thread to do so.

        Args:
            closes: Whether to close the observer then.
        """
        self._closes = self._closes or (closes and self._sink.close is not None)
        self._is_stopping = True
        if self.has_ended or not (self.is_alive or len(self.queue) or self._closes):
            self.has_ended = True
            return False
        return self.wake()

    def retire(self) -> None:
        """Have it take nothing more; what it has in its hands is ended, if that can be ended."""
        self.is_retired = True
        self._drive.cancel()
        self._drive.ring()

    def disown(self) -> None:
        """In a forked child, where this is the parent's worker: end at once, and count for nobody."""
        self.is_retired, self._closes = True, False
        self.queue = OfferQueue(1, "drop_oldest", 0.0)

    def is_settled(self, ticket: float) -> bool:
        """Return whether everything before a ticket is done with."""
        if ticket == END:
            return self.has_ended
        return self.settled >= ticket or not self.queue.ledger.pending

    def add(self, waiter: Waiter) -> None:
        """Notify a waiter once, when the time has come."""
        self._waiters.append(waiter)
        if self.is_settled(waiter.ticket) or not self.wake():
            self._notify(waiter)

    def remove(self, waiter: Waiter) -> bool:
        """Forget a waiter; return whether it was there still."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True

    def _notify(self, waiter: Waiter) -> None:
        if self.remove(waiter):
            waiter.notify()

    def _start(self) -> bool:
        if not self._starting.acquire(blocking=False):
            return True  # another thread is at it
        try:
            if not self.is_alive:
                thread = threading.Thread(target=self._live, name=f"callpyback {self._sink.name}", daemon=True)
                self.is_alive = True
                try:
                    thread.start()
                except BaseException as error:
                    self.is_alive = thread.is_alive()
                    if not isinstance(error, Exception):
                        raise
            return self.is_alive
        finally:
            self._starting.release()

    def _live(self) -> None:
        """Run the rounds, whatever comes; the body of the thread."""
        if not self._working.acquire(blocking=False):
            return  # a start that was interrupted has made two threads
        self.is_alive, self.has_ended, self.ident = True, False, threading.get_ident()
        try:
            self.queue.forget_inherited()
            self._run()
        finally:
            # The order matters: whoever sees it dead sees that it has ended, and can start another.
            self.has_ended = self._is_stopping or self.is_retired
            self.queue.ring_at = 1
            self.ident = None
            self._working.release()
            self.is_alive = False
            for waiter in tuple(self._waiters):
                self._notify(waiter)

    def _run(self) -> None:
        fruitless = 0
        while fruitless < _ATTEMPTS:
            before = self.settled
            try:
                self._drive.run(self._rounds())
            except BaseException as error:  # noqa: BLE001 - such as an exit raised by another task of an async observer
                self._survive(error)
                fruitless = 0 if self.settled > before else fruitless + 1
            else:
                return

    def _survive(self, error: BaseException) -> None:
        hand, self._hand = self._hand, []
        self._count(error, hand)
        if hand:
            self.settled = hand[-1][1] + 1

    def _rounds(self) -> Rounds:
        pace = self._pace
        while not (self._is_leaving or (self._is_stopping and not len(self.queue))):
            yield from self._rest(1, None)
            yield from self._rest(pace.enough, pace.seconds)
            yield from self._deliver(everything=self._is_hurried or len(self.queue) < pace.enough)
            self._settle(self.queue.first)  # nothing is in hand now
        if self._closes and (self.is_retired or not self._drive.is_cancelled):
            yield from self._close()

    @property
    def _is_leaving(self) -> bool:
        return self.is_retired or self._drive.is_cancelled

    @property
    def _is_hurried(self) -> bool:
        return self._is_stopping or self.is_retired or len(self._waiters) > 0

    def _rest(self, until: int, seconds: float | None) -> Rounds:
        """Wait until the queue is so long, somebody is in a hurry, or the time is over."""
        rang: bool | None = True
        while rang:
            # The order matters: what comes after `ring_at` is set rings, what came before is seen by the test.
            self._drive.quieten()
            self.is_resting = True
            self.queue.ring_at = until
            if len(self.queue) >= until or self._is_hurried:
                break
            rang = yield seconds
        self.is_resting = False
        self.queue.ring_at = self.queue.max_queue  # at work, it wants to hear of nothing; a full queue is a loss

    def _deliver(self, *, everything: bool) -> Rounds:
        left = self._due(everything=everything)
        while left > 0 and not self._is_leaving:
            hand = self._hand = []
            try:
                hand.extend(self.queue.take() for _ in range(min(self._pace.portion, left)))
            except IndexError:
                if not hand:
                    return  # a shutdown has emptied the queue
            self._settle(hand[0][1])
            yield from self._told(hand)
            left -= len(hand)
            ticket = hand[-1][1] + 1
            hand.clear()  # what is delivered must not live on while the worker rests
            self._settle(ticket)
            if left <= 0:
                left = self._due(everything=False)

    def _due(self, *, everything: bool) -> int:
        length = len(self.queue)
        return length if everything else length - length % self._pace.least

    def _told(self, hand: list[tuple[Any, int]]) -> Rounds:
        """Hand over, each failure of the observer contained."""
        try:
            told = self._sink.tell([item for item, _ in hand] if self._sink.takes_batches else hand[0][0])
            if self._sink.is_async and hasattr(told, "__await__"):
                yield told
        except BaseException as error:  # isolation is the purpose, SystemExit included
            if self._sink.is_async and isinstance(error, GeneratorExit):
                raise  # not out of the observer: these rounds are dropped
            self._count(error, hand)
        else:
            self.queue.delivered.add(len(hand))

    def _count(self, error: BaseException, hand: list[tuple[Any, int]]) -> None:
        failed = min(max(error.failed, 0), len(hand)) if isinstance(error, PartlyFailed) else len(hand)
        if failed:
            self.queue.failed.add(failed)
        if failed < len(hand):
            self.queue.delivered.add(len(hand) - failed)
        self._report(error, "background delivery")

    def _report(self, error: BaseException, where: str) -> None:
        try:
            self.condition.count(error, again=False)
            self.condition.report(SYSTEM.monotonic(), self._sink.name, where)
        except BaseException:  # noqa: BLE001, S110 - an interrupt that a logging handler raised: this thread has to go on
            pass

    def _settle(self, ticket: int) -> None:
        self.settled = ticket
        if self._waiters:
            for waiter in tuple(self._waiters):
                if self.is_settled(waiter.ticket):
                    self._notify(waiter)

    def _close(self) -> Rounds:
        self._closes = False
        try:
            closed: Any = self._sink.close() if self._sink.close is not None else None
            if self._sink.is_async and hasattr(closed, "__await__"):
                yield closed
        except BaseException as error:  # noqa: BLE001 - isolation is the purpose
            self._report(error, "close()")


def _drive_of(sink: Sink) -> Drive:
    if not sink.is_async:
        return BlockingDrive()
    from callpyback.delivery.event_loop import LoopDrive  # noqa: PLC0415 - brings asyncio

    return LoopDrive()
