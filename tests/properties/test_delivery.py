"""Whatever happens in whatever order, the ledger says what became of everything that was offered."""

from __future__ import annotations

import queue
import threading

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from callpyback import BaseObserver, BatchingObserver
from callpyback.delivery import Ledger
from callpyback.delivery.queue import OfferQueue

LIMIT = 20

OVERFLOWS = st.sampled_from(["drop_oldest", "drop_newest", "block"])


class Steered(BaseObserver):
    """Says what it is told, and returns or raises when it is told to."""

    def __init__(self):
        super().__init__()
        self.told = queue.SimpleQueue()
        self.verdicts = queue.SimpleQueue()

    def update(self, item):
        self.told.put(item)
        verdict = self.verdicts.get(timeout=LIMIT)
        if verdict is not None:
            raise verdict


class Delivery(RuleBasedStateMachine):
    """Offers, lets the observer end or fail, flushes and shuts down; beside it a model without threads.

    After each step the worker has come to where it waits for the next: at the observer, or for an offer.
    """

    @initialize(max_queue=st.integers(1, 4), overflow=OVERFLOWS)
    def begin(self, max_queue, overflow):
        self.sink = Steered()
        # Batches of one are handed over at once, so nothing here waits for contexts to gather.
        self.observer = BatchingObserver(
            self.sink, 1, max_queue=max_queue, overflow=overflow, block_timeout=0, exit_timeout=0
        )
        self.max_queue, self.overflow = max_queue, overflow
        self.offered = self.delivered = self.failed = self.overflowed = self.shut_out = 0
        self.queue: list[int] = []
        self.hand: list[int] = []
        self.is_closed = False
        self.flushes: list[tuple[set[int], threading.Event]] = []

    @rule(number=st.integers(1, 7))
    def offer(self, number):
        for _ in range(number):
            item = self.offered
            self.offered += 1
            self.observer.update(item)
            if self.is_closed:
                self.shut_out += 1
            elif len(self.queue) < self.max_queue:
                self.queue.append(item)
            else:
                self.overflowed += 1
                if self.overflow == "drop_oldest":
                    self.queue = [*self.queue[1:], item]
            self.take()

    def take(self):
        if self.queue and not self.hand:
            self.hand = [self.queue.pop(0)]
            assert self.sink.told.get(timeout=LIMIT) == self.hand[0]

    @precondition(lambda self: self.hand)
    @rule(verdict=st.sampled_from([None, None, ValueError, SystemExit, KeyboardInterrupt, MemoryError]))
    def let(self, verdict):
        self.sink.verdicts.put(verdict)
        self.hand = []
        self.delivered += verdict is None
        self.failed += verdict is not None
        self.take()
        if not self.hand:
            assert self.observer.flush(LIMIT)

    @rule()
    def flush(self):
        assert self.observer.flush(0) is not bool(self.hand)

    @precondition(lambda self: len(self.flushes) < 5)
    @rule()
    def begin_to_flush(self):
        done = threading.Event()
        self.observer._pipeline.when_flushed(done.set)
        self.flushes.append(({*self.queue, *self.hand}, done))

    @precondition(lambda self: not self.is_closed or self.hand)
    @rule()
    def shut_down(self):
        assert self.observer.shutdown(0 if self.hand else LIMIT) is not bool(self.hand)
        self.is_closed = True
        self.shut_out += len(self.queue)
        self.queue = []

    @invariant()
    def the_ledger_is_the_models(self):
        if hasattr(self, "observer"):
            assert self.observer.ledger == Ledger(
                offered=self.offered,
                delivered=self.delivered,
                failed=self.failed,
                pending=len(self.queue) + len(self.hand),
                dropped={"overflow": self.overflowed, "shutdown": self.shut_out},
            )
            assert self.observer.get_metrics()["queue_length"] == len(self.queue)

    @invariant()
    def a_flush_is_done_when_nothing_offered_before_it_is_pending(self):
        for before, done in getattr(self, "flushes", ()):
            if before.isdisjoint([*self.queue, *self.hand]):
                assert done.wait(LIMIT)
            else:
                assert not done.is_set()

    def teardown(self):
        if hasattr(self, "observer"):
            for _ in range(len(self.hand) + len(self.queue)):
                self.sink.verdicts.put(None)
            self.observer.shutdown(LIMIT)


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


class Queue(RuleBasedStateMachine):
    """The queue alone, the steps of a worker and of a shutdown taken one by one, as threads may interleave them."""

    @initialize(max_queue=st.integers(1, 5), overflow=OVERFLOWS)
    def begin(self, max_queue, overflow):
        self.queue = OfferQueue(max_queue, overflow, 0)
        self.max_queue, self.overflow = max_queue, overflow
        self.waiting: list[tuple[int, int]] = []
        self.taken: list[int] = []
        self.items = self.accepted = 0
        self.lost = {"overflow": 0, "shutdown": 0}
        self.delivered = self.failed = 0

    @rule()
    def offer(self):
        item = self.items
        self.items += 1
        self.queue.offer(item)
        if self.queue.is_closed:
            self.lost["shutdown"] += 1
        elif len(self.waiting) < self.max_queue or self.overflow == "drop_oldest":
            self.lost["overflow"] += len(self.waiting) == self.max_queue
            self.waiting = [*self.waiting, (item, self.accepted)][-self.max_queue :]
            self.accepted += 1
        else:
            self.lost["overflow"] += 1

    @rule()
    def take(self):
        try:
            entry = self.queue.take()
        except IndexError:
            assert self.waiting == []
        else:
            assert entry == self.waiting.pop(0)
            self.taken.append(entry[0])

    @precondition(lambda self: self.taken)
    @rule(number=st.integers(1, 3), fails=st.booleans())
    def settle(self, number, fails):
        settled = len(self.taken[:number])
        del self.taken[:number]
        (self.queue.failed if fails else self.queue.delivered).add(settled)
        self.failed += settled * fails
        self.delivered += settled * (not fails)

    @rule()
    def discard(self):
        assert self.queue.discard() == len(self.waiting)
        self.lost["shutdown"] += len(self.waiting)
        self.waiting = []

    @precondition(lambda self: self.items > 10)
    @rule()
    def close(self):
        self.queue.close()

    @rule()
    def fork(self):
        """In the child, all begins anew; what is out of the queue is the parent's."""
        self.queue.renew()
        self.waiting, self.taken = [], []
        self.items = self.accepted = self.delivered = self.failed = 0
        self.lost = {"overflow": 0, "shutdown": 0}

    @invariant()
    def the_ledger_is_the_models(self):
        if hasattr(self, "queue"):
            ledger = self.queue.ledger
            assert ledger == Ledger(
                offered=self.items,
                delivered=self.delivered,
                failed=self.failed,
                pending=len(self.waiting) + len(self.taken),
                dropped=self.lost,
            )
            assert ledger.offered == ledger.delivered + ledger.failed + ledger.pending + sum(ledger.dropped.values())
            assert len(self.queue) == len(self.waiting) <= self.max_queue
            assert self.queue.overflowed == self.lost["overflow"]
            assert self.queue.first == (self.waiting[0][1] if self.waiting else self.accepted)


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
