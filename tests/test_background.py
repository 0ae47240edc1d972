"""Background delivery in one process: the queue, the ledger, flushing, shutting down, failing sinks, async observers.

Forks, signals and the end of the program are in test_delivery_processes.py, the ledger under every sequence of events in
properties/test_delivery.py. Of the list of cases:

* D28 to D30, D11 to D24: stores, exporters and webhooks, which this version does not have; a poison event among others
  is in test_batching.py.
* C34: gevent is not among the tested libraries. The locks, threads and waits are those of `threading` and `queue`, looked
  up when they are made, so a program that gevent has patched gets greenlets.
* M09: the worst case is in the docstring of `BackgroundObserver`; that the queue never gets longer is tested here.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import ctypes
import gc
import itertools
import logging
import pickle
import queue
import sys
import threading
import time
import weakref

import cloudpickle
import freezegun
import pytest

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    BatchingObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    handle,
    on_failure,
    on_success,
)
from callpyback.core.dispatch import TELLING
from callpyback.delivery import loss
from callpyback.delivery.ledger import Ledger
from kinds import Witness, drive

LIMIT = 20
"""Seconds after which something that waits has failed."""

OVERFLOWS = ["drop_oldest", "drop_newest", "block"]


class Kept(BaseObserver):
    """Keeps what it is told."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = []

    def update(self, context):
        self.seen.append(context)


class Gate(Kept):
    """Hangs at everything it is told, or at what it is to hang at, until it is opened."""

    def __init__(self, *shut_for):
        super().__init__()
        self.shut_for = shut_for
        self.reached = threading.Event()
        self.opened = threading.Event()

    def update(self, context):
        if not self.shut_for or context in self.shut_for:
            self.reached.set()
            assert self.opened.wait(LIMIT)
        super().update(context)


class Failing(Kept):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def update(self, context):
        super().update(context)
        if context == "bad":
            raise self.error


class FailingLater(Failing):
    async def update(self, context):
        super().update(context)
        await asyncio.sleep(0)


class Lines(logging.Handler):
    """Hands on the lines of a logger."""

    def __init__(self):
        super().__init__()
        self.lines = queue.SimpleQueue()

    def emit(self, record):
        self.lines.put(record.getMessage())

    def next(self):
        return self.lines.get(timeout=LIMIT)


@pytest.fixture
def lines():
    handler = Lines()
    logger = logging.getLogger("callpyback")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def hurried():
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def background():
    """Makes background observers, and shuts them down in the end."""
    made = []

    def make(observer, **options):
        made.append(BackgroundObserver(observer, **options))
        return made[-1]

    yield make
    for observer in made:
        with contextlib.suppress(AttributeError):
            observer.observer.opened.set()
        observer.shutdown(LIMIT)


def offered(observer, *items):
    for item in items:
        observer.update(item)


def held(background, **options):
    """Return an observer whose sink hangs at the first thing it was told, and that sink."""
    gate = Gate()
    observer = background(gate, **options)
    observer.update("in hand")
    assert gate.reached.wait(LIMIT)
    return observer, gate


def in_threads(work, number):
    """Run `work(k)` in threads that begin together; whatever they raise comes out."""
    start, raised = threading.Barrier(number), []

    def begin(k):
        start.wait()
        try:
            work(k)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=begin, args=(k,)) for k in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert raised == []


def worker_of(observer):
    [thread] = [thread for thread in threading.enumerate() if thread.name == f"callpyback {observer.name}"]
    return thread


def counted(**numbers):
    dropped = {"overflow": numbers.pop("overflow", 0), "shutdown": numbers.pop("shutdown", 0)}
    return Ledger(**{"offered": 0, "delivered": 0, "failed": 0, "pending": 0, **numbers}, dropped=dropped)


# The caller


def test_a_call_returns_while_the_observer_is_still_busy_with_it(kind, background):
    gate = Gate()
    observer = background(gate)
    function = kind.make(lambda: "value", CallPyBack([observer]))
    assert kind.call(function) == "value"
    assert kind.call(function) == "value"
    assert gate.seen == []
    gate.opened.set()
    assert observer.flush(LIMIT)
    assert [context.state.name for context in gate.seen] == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"] * 2


def test_a_background_observer_is_told_what_an_inline_one_is_told_in_the_same_order(background):
    inline, sink = Witness(), Kept()
    observer = background(sink)

    @CallPyBack([inline, observer])
    def factorial(n):
        return n * factorial(n - 1) if n else 1

    factorial(4)
    observer.flush(LIMIT)
    told = [(context.call_id, context.state, context.outcome, context.result) for context in inline.contexts]
    assert [(c.call_id, c.state, c.outcome, c.result) for c in sink.seen] == told
    assert [context.arguments for context in sink.seen] == [context.arguments for context in inline.contexts]


def test_a_context_shows_the_failure_after_the_call_has_ended(kind, background):
    gate = Gate()
    observer = background(gate)
    failing = kind.make(lambda: 1 / 0, CallPyBack([observer]))
    assert isinstance(kind.ended(failing).exception, ZeroDivisionError)
    gate.opened.set()
    observer.flush(LIMIT)
    context = gate.seen[-1]
    assert context.result.exception_type is ZeroDivisionError
    assert "ZeroDivisionError: division by zero" in context.result.traceback_info
    assert context.result.exception.__traceback__ is None


def test_a_slot_lasts_from_the_first_state_to_the_last(kind, background):
    class Slotted(Kept):
        def update(self, context):
            told = context.slot.setdefault("told", [])
            told.append(context.state.name)
            super().update(tuple(told))

    sink = Slotted()
    observer = background(sink)
    function = kind.make(lambda: "value", CallPyBack([observer]))
    kind.call(function)
    kind.call(function)
    observer.flush(LIMIT)
    assert sink.seen[2::3] == [("PRE_EXECUTION", "POST_SUCCESS", "COMPLETED")] * 2


def test_the_thread_is_started_by_the_first_offer_and_is_a_daemon(background):
    observer = background(Kept(name="not yet started"))
    CallPyBack([observer])(lambda: None)
    assert observer.flush(LIMIT)
    assert "callpyback not yet started" not in [thread.name for thread in threading.enumerate()]
    observer.update(1)
    observer.flush(LIMIT)
    assert worker_of(observer).daemon


# The queue


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_the_queue_never_gets_longer_than_its_limit(background, overflow):
    observer, _ = held(background, max_queue=10, overflow=overflow, block_timeout=0)
    lengths = []
    for number in range(100):
        observer.update(number)
        lengths.append(observer.get_metrics()["queue_length"])
    assert lengths == [*range(1, 11), *[10] * 90]
    assert observer.ledger == counted(offered=101, pending=11, overflow=90)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_the_queue_never_gets_longer_under_threads_either(background, overflow):
    observer, gate = held(background, max_queue=10, overflow=overflow, block_timeout=0)
    lengths = set()

    def work(number):
        for turn in range(500):
            observer.update((number, turn))
            lengths.add(observer.get_metrics()["queue_length"])

    in_threads(work, 8)
    assert max(lengths) == 10
    assert observer.ledger == counted(offered=4001, pending=11, overflow=3990)
    gate.opened.set()
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=4001, delivered=11, overflow=3990)


@pytest.mark.parametrize(
    ("overflow", "left"), [("drop_oldest", [7, 8, 9]), ("drop_newest", [0, 1, 2]), ("block", [0, 1, 2])]
)
def test_the_policy_says_what_a_full_queue_drops(background, overflow, left):
    observer, gate = held(background, max_queue=3, overflow=overflow, block_timeout=0)
    offered(observer, *range(10))
    gate.opened.set()
    assert observer.flush(LIMIT)
    assert gate.seen == ["in hand", *left]


def test_a_place_that_is_free_again_is_given_away_again(background):
    observer, gate = held(background, max_queue=2, overflow="drop_newest")
    offered(observer, 1, 2, 3)
    gate.opened.set()
    assert observer.flush(LIMIT)
    gate.opened.clear()
    gate.reached.clear()
    observer.update(4)
    assert gate.reached.wait(LIMIT)
    offered(observer, 5, 6, 7)
    gate.opened.set()
    assert observer.flush(LIMIT)
    assert gate.seen == ["in hand", 1, 2, 4, 5, 6]


def test_a_blocking_queue_loses_nothing_while_the_caller_may_wait(background):
    observer, gate = held(background, max_queue=1, overflow="block", block_timeout=LIMIT)
    caller = threading.Thread(target=lambda: offered(observer, *range(100)))
    caller.start()
    gate.opened.set()
    caller.join(LIMIT)
    assert observer.flush(LIMIT)
    assert gate.seen == ["in hand", *range(100)]
    assert observer.ledger == counted(offered=101, delivered=101)


def test_a_blocking_queue_gives_up_after_its_time(background):
    observer, _ = held(background, max_queue=1, overflow="block", block_timeout=0.02)
    observer.update("room for one")
    started = time.perf_counter()
    observer.update("too much")
    assert time.perf_counter() - started >= 0.02
    assert observer.ledger == counted(offered=3, pending=2, overflow=1)


def test_a_caller_that_waits_for_room_is_let_go_by_a_shutdown(background):
    observer, _ = held(background, max_queue=1, overflow="block", block_timeout=LIMIT)
    observer.update("room for one")
    callers = [threading.Thread(target=observer.update, args=(number,)) for number in range(3)]
    for caller in callers:
        caller.start()
    assert not observer.shutdown(0.05)
    for caller in callers:
        caller.join(LIMIT / 2)
        assert not caller.is_alive()
    assert observer.ledger == counted(offered=5, pending=1, shutdown=4)


def test_a_sink_that_offers_to_its_own_full_queue_does_not_wait_for_itself(background):
    class Feeding(Kept):
        def update(self, context):
            super().update(context)
            if context == "first":
                offered(observer, 1, 2, 3)

    sink = Feeding()
    observer = background(sink, max_queue=2, overflow="block", block_timeout=LIMIT)
    observer.update("first")
    assert observer.flush(LIMIT / 2)
    assert sink.seen == ["first", 1, 2]


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_what_a_finalizer_offers_in_the_middle_of_an_offer_is_counted(background, overflow):
    observer, _ = held(background, max_queue=5, overflow=overflow, block_timeout=0)

    class Offering:
        def __del__(self):
            observer.update("by a finalizer")

    for _ in range(50):
        observer.update(Offering())
    ledger = observer.ledger
    assert ledger.pending == 6
    assert ledger.offered == 1 + 50 + (45 if overflow != "drop_oldest" else ledger.offered - 51)
    assert ledger.offered == ledger.pending + ledger.dropped["overflow"]
    assert ledger.offered > 90


# The ledger


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("make", [BackgroundObserver, lambda *a, **o: BatchingObserver(*a, batch_size=7, **o)])
def test_the_ledger_is_exact_at_any_time(overflow, make):
    class Judging(BaseObserver):
        def update(self, context):
            if context % 3 == 0:
                raise LookupError(context)

    observer = make(Judging(), max_queue=40, overflow=overflow, block_timeout=0.0005)
    finished, wrong = threading.Event(), []

    def read():
        before = observer.ledger
        while not finished.is_set():
            now = observer.ledger
            parts = [now.delivered, now.failed, now.pending, *now.dropped.values()]
            is_whole = now.offered == sum(parts) and min(parts) >= 0 and now.pending <= 40 + 7
            grows = now.offered >= before.offered and now.dropped["overflow"] >= before.dropped["overflow"]
            if not (is_whole and grows):
                wrong.append((before, now))
            before = now

    reader = threading.Thread(target=read)
    reader.start()
    in_threads(lambda _: offered(observer, *range(2000)), 8)
    assert observer.flush(LIMIT)
    finished.set()
    reader.join(LIMIT)
    ledger = observer.ledger
    assert wrong == []
    assert (ledger.offered, ledger.pending) == (16_000, 0)
    assert ledger.delivered + ledger.failed + ledger.dropped["overflow"] == 16_000
    assert observer.shutdown(LIMIT)


def test_an_offer_is_in_the_ledger_when_it_returns(background):
    observer = background(Kept())
    for number in range(1, 300):
        observer.update(number)
        assert observer.ledger.offered == number
    observer.flush(LIMIT)
    assert observer.ledger == counted(offered=299, delivered=299)


@pytest.mark.usefixtures("hurried")
def test_order_is_kept_for_each_thread(background):
    sink = Kept()
    observer = background(sink)
    in_threads(lambda number: offered(observer, *((number, turn) for turn in range(1000))), 4)
    observer.flush(LIMIT)
    for number in range(4):
        assert [turn for thread, turn in sink.seen if thread == number] == list(range(1000))


# Lines about loss


def test_loss_is_logged_once_when_it_begins_and_once_with_the_count_when_it_ends(background, lines):
    observer, gate = held(background, max_queue=3)
    offered(observer, *range(3))
    offered(observer, *range(20))
    assert lines.next() == "observer Gate is too slow: its queue of 3 is full, and contexts are dropped"
    gate.opened.set()
    assert observer.flush(LIMIT)
    observer.shutdown(LIMIT)
    assert lines.next() == "observer Gate lost 20 contexts because its queue was full"
    assert lines.lines.empty()


def test_a_queue_that_overflows_again_soon_is_one_loss(background, lines):
    observer, gate = held(background, max_queue=2)
    for _ in range(5):
        offered(observer, *range(4))
        gate.opened.set()
        assert observer.flush(LIMIT)
        gate.opened.clear()
        gate.reached.clear()
        observer.update("in hand")
        assert gate.reached.wait(LIMIT)
    gate.opened.set()
    observer.shutdown(LIMIT)
    assert lines.next().startswith("observer Gate is too slow")
    assert lines.next() == "observer Gate lost 10 contexts because its queue was full"
    assert lines.lines.empty()


def test_a_loss_ends_when_nothing_was_lost_for_a_while_and_the_next_one_has_a_count_of_its_own(
    background, lines, monkeypatch
):
    monkeypatch.setattr(loss, "QUIET", 0.02)
    observer, _ = held(background, max_queue=1)
    for number in (5, 7):
        offered(observer, *range(number + (number == 5)))
        assert lines.next().startswith("observer Gate is too slow")
        assert lines.next() == f"observer Gate lost {number} contexts because its queue was full"
        observer._pipeline._loss.wait(LIMIT)


def test_a_full_queue_that_loses_nothing_is_not_worth_a_line(background, lines):
    observer, gate = held(background, max_queue=3)
    offered(observer, *range(3))
    gate.opened.set()
    observer.shutdown(LIMIT)
    assert lines.lines.empty()


def test_a_logging_handler_that_hangs_holds_up_neither_calls_nor_deliveries(background):
    class Hanging(logging.Handler):
        def emit(self, record):
            assert opened.wait(LIMIT)

    opened, handler = threading.Event(), Hanging()
    logging.getLogger("callpyback").addHandler(handler)
    try:
        observer, gate = held(background, max_queue=1)
        offered(observer, *range(50))
        gate.opened.set()
        assert observer.flush(LIMIT / 2)
        assert gate.seen == ["in hand", 49]
    finally:
        opened.set()
        observer.shutdown(LIMIT)
        observer._pipeline._loss.wait(LIMIT)
        logging.getLogger("callpyback").removeHandler(handler)


def test_without_a_thread_for_the_lines_losses_are_counted_all_the_same(background, monkeypatch):
    observer, _ = held(background, max_queue=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        offered(observer, *range(5))
    assert observer.ledger == counted(offered=6, pending=2, overflow=4)


def no_more_threads(_):
    raise RuntimeError("can't start new thread")


# Flushing


def test_flush_waits_for_what_is_in_the_observers_hands(background):
    observer, gate = held(background)
    assert not observer.flush(0)
    assert not observer.flush(0.01)
    gate.opened.set()
    assert observer.flush()
    assert gate.seen == ["in hand"]


def test_flush_is_true_although_some_were_evicted_meanwhile(background):
    observer, gate = held(background, max_queue=2)
    offered(observer, *range(5))
    flushed = threading.Event()
    observer._pipeline.when_flushed(flushed.set)
    offered(observer, *range(5, 10))
    assert not flushed.is_set()
    gate.opened.set()
    assert flushed.wait(LIMIT)
    assert gate.seen[0] == "in hand"


def test_flush_does_not_wait_for_what_came_after_it(background):
    gate = Gate("first", "late")
    observer = background(gate, max_queue=1)
    observer.update("first")
    assert gate.reached.wait(LIMIT)
    observer.update("evicted")
    flushed = threading.Event()
    observer._pipeline.when_flushed(flushed.set)
    observer.update("late")
    gate.reached.clear()
    late, gate.opened = gate.opened, threading.Event()
    late.set()
    assert gate.reached.wait(LIMIT)  # it hangs at "late" now
    assert flushed.wait(LIMIT)
    assert observer.flush(0) is False


def test_many_may_flush_at_once(background):
    observer, gate = held(background)
    answers = []

    def work(number):
        for turn in range(50):
            observer.update((number, turn))
            if number == 0:
                gate.opened.set()
            answers.append(observer.flush(LIMIT))

    in_threads(work, 8)
    assert answers == [True] * 400
    assert observer.ledger == counted(offered=401, delivered=401)


def test_flush_by_the_observer_itself_returns_at_once(background):
    class Flushing(Kept):
        def update(self, context):
            super().update((observer.flush(), observer.flush(LIMIT)))

    sink = Flushing()
    observer = background(sink)
    observer.update("one")
    assert observer.flush(LIMIT / 2)
    assert sink.seen == [(False, False)]


def test_flush_of_nothing_is_true(background):
    assert background(Kept()).flush(0)


def test_the_worker_keeps_nothing_alive_of_what_it_has_delivered(background):
    class Thing:
        """Can be weakly referenced."""

    class Async(BaseObserver):
        async def update(self, context):
            await asyncio.sleep(0)

    class Raising(BaseObserver):
        def update(self, context):
            raise LookupError(context)

    gc.collect()
    gc.disable()
    try:
        for observer in (background(on_success(str)), background(Async()), background(Raising())):
            thing = Thing()
            reference = weakref.ref(thing)
            observer.update(thing)
            del thing
            assert observer.flush(LIMIT)
            # The worker frees the failed context's traceback a moment after it was counted: at the next one at the latest.
            observer.update("next")
            assert observer.flush(LIMIT)
            assert reference() is None
    finally:
        gc.enable()


# Shutting down


def test_shutdown_delivers_the_rest_and_ends_the_thread(background):
    observer, gate = held(background)
    offered(observer, *range(100))
    thread = worker_of(observer)
    gate.opened.set()
    assert observer.shutdown(LIMIT)
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert gate.seen == ["in hand", *range(100)]


def quickest_shutdown(make, timeout):
    """Return the seconds the quickest of three shutdowns took: this machine may have been busy in the others."""
    taken = []
    for _ in range(3):
        observer = make()
        started = freezegun.api.real_perf_counter()
        assert observer.shutdown(timeout) is False
        taken.append(freezegun.api.real_perf_counter() - started)
    return min(taken)


def test_shutdown_is_back_in_time_although_the_observer_hangs(background):
    assert quickest_shutdown(lambda: held(background)[0], 0.2) <= 0.3


def test_shutdown_is_back_in_time_although_the_clock_stands_still(background):
    with freezegun.freeze_time("2024-05-05"):
        assert quickest_shutdown(lambda: held(background)[0], 0.2) <= 0.3


def test_flush_is_back_in_time_although_the_clock_stands_still(background):
    with freezegun.freeze_time("2024-05-05") as clock:
        observer, gate = held(background)
        assert not observer.flush(0.05)
        clock.move_to("2001-01-01")
        assert not observer.flush(0.05)
        gate.opened.set()
        assert observer.flush(LIMIT)


def test_a_blocked_call_is_back_in_time_although_the_clock_stands_still(background):
    with freezegun.freeze_time("2024-05-05"):
        observer, _ = held(background, max_queue=1, overflow="block", block_timeout=0.02)
        offered(observer, 1, 2, 3)
        assert observer.ledger == counted(offered=4, pending=2, overflow=2)


def test_what_is_left_at_the_end_of_a_shutdown_is_dropped_and_what_is_in_hand_stays_pending(background, lines):
    observer, gate = held(background)
    offered(observer, 1, 2, 3)
    assert not observer.shutdown(0.01)
    assert observer.ledger == counted(offered=4, pending=1, shutdown=3)
    assert lines.next() == "observer Gate did not finish in time: 3 contexts in its queue are dropped"
    gate.opened.set()
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=4, delivered=1, shutdown=3)
    assert gate.seen == ["in hand"]


def test_shutdown_may_be_repeated_and_what_is_offered_afterwards_is_counted(background):
    sink = Kept()
    observer = background(sink)
    observer.update(1)
    assert observer.shutdown(LIMIT)
    assert observer.shutdown(0)
    offered(observer, 2, 3)
    assert observer.flush(0)
    assert observer.shutdown()
    observer.close()
    assert sink.seen == [1]
    assert observer.ledger == counted(offered=3, delivered=1, shutdown=2)


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_shutdown_before_the_first_offer_starts_no_thread(background, overflow):
    class WithoutClose:
        priority = 0
        name = "without close"

        def update(self, context): ...

    observer = background(WithoutClose(), overflow=overflow)
    assert observer.shutdown(0)
    observer.update(1)
    assert observer.ledger == counted(offered=1, shutdown=1)
    assert "callpyback without close" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_shutdown_under_load_leaves_nothing_uncounted(background, overflow):
    for _ in range(5):
        sink = Kept()
        observer = background(sink, max_queue=20, overflow=overflow, block_timeout=0.001)

        def work(number, observer=observer):
            offered(observer, *range(300))
            if number == 0:
                observer.shutdown(LIMIT)

        in_threads(work, 6)
        ledger = observer.ledger
        assert ledger.offered == 1800
        assert ledger.pending == 0
        assert ledger.delivered == len(sink.seen)
        assert ledger.delivered + sum(ledger.dropped.values()) == 1800


def test_shutdown_by_the_observer_itself_returns_at_once(background):
    class Closing(Kept):
        def update(self, context):
            super().update(observer.shutdown(LIMIT))

    sink = Closing()
    observer = background(sink)
    observer.update("one")
    assert observer.flush(LIMIT / 2)
    assert sink.seen == [False]
    assert observer.shutdown(LIMIT)


class Closable(Kept):
    def close(self):
        self.seen.append(("closed", threading.current_thread().name))


def test_the_observer_is_closed_once_after_its_last_delivery_in_the_thread_that_told_it(background):
    sink = Closable()
    observer = background(sink)
    decorator = CallPyBack([observer])
    decorator(lambda: None)()
    decorator.shutdown()
    observer.shutdown()
    *told, last = sink.seen
    assert len(told) == 3
    assert last == ("closed", "callpyback Closable")


def test_the_observer_is_closed_even_if_it_was_never_told_anything(background):
    sink = Closable()
    background(sink).close()
    assert sink.seen == [("closed", "callpyback Closable")]


def test_an_async_close_is_awaited(background):
    class Async(Kept):
        async def update(self, context):
            self.seen.append(context)

        async def close(self):
            await asyncio.sleep(0)
            self.seen.append("closed")

    sink = Async()
    observer = background(sink)
    observer.update(1)
    assert observer.shutdown(LIMIT)
    assert sink.seen == [1, "closed"]


def test_an_observer_that_fails_to_close_is_logged(background, lines):
    class Broken(Kept):
        def close(self):
            raise OSError("the disk is gone")

    assert background(Broken()).shutdown(LIMIT)
    assert lines.next() == "observer Broken failed at close(): OSError: the disk is gone"


# Observers that fail


ERRORS = [ValueError, SystemExit, MemoryError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]


@pytest.mark.parametrize(
    ("make", "error"), [*itertools.product([Failing, FailingLater], ERRORS), (Failing, StopIteration)]
)
def test_whatever_the_observer_raises_the_worker_goes_on_and_counts(background, make, error, lines):
    sink = make(error("on purpose"))
    observer = background(sink)
    offered(observer, "good", "bad", "good", "bad", "good")
    assert observer.flush(LIMIT)
    assert sink.seen == ["good", "bad", "good", "bad", "good"]
    assert observer.ledger == counted(offered=5, delivered=3, failed=2)
    logged = lines.next()  # once, not for every failure
    assert logged.startswith(f"observer {type(sink).__name__} failed at background delivery: ")
    assert lines.lines.empty()
    assert "on purpose" in observer.get_metrics()["last_error"]
    assert TELLING == []


def test_if_no_thread_can_be_started_the_next_offer_tries_again(background, monkeypatch):
    sink = Kept()
    observer = background(sink)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        offered(observer, 1, 2)
        assert not observer.flush()
        assert observer.ledger == counted(offered=2, pending=2)
    offered(observer, 3, 4, 5)
    assert observer.flush(LIMIT)
    assert sink.seen == [1, 2, 3, 4, 5]


def test_if_no_thread_can_be_started_a_shutdown_drops_what_is_pending(background, monkeypatch):
    observer = background(Closable())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        offered(observer, 1, 2)
        observer.shutdown(LIMIT)
    assert observer.ledger == counted(offered=2, shutdown=2)


def test_a_thread_that_is_killed_goes_on_or_is_replaced(background):
    sink = Kept()
    observer = background(sink)
    for number in range(10):
        observer.update(number)
        assert observer.flush(LIMIT)
        ident = ctypes.c_ulong(worker_of(observer).ident)
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit)) == 1
    observer.update("last")
    assert observer.flush(LIMIT)
    assert [*range(10), "last"] == sink.seen


# Calls out of the sink


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_an_observer_may_call_the_function_it_observes(kind, background, overflow):
    class Calling(Kept):
        def update(self, context):
            super().update(kind.call(function))

    sink = Calling()
    observer = background(sink, max_queue=10, overflow=overflow, block_timeout=LIMIT)
    function = kind.make(lambda: "value", CallPyBack([observer]))
    kind.call(function)
    assert observer.flush(LIMIT)
    assert sink.seen == ["value"] * 3
    assert handle(function).unobserved == 3
    assert observer.ledger == counted(offered=3, delivered=3)
    assert TELLING == []


def test_calls_of_other_threads_are_observed_while_the_sink_is_at_work(background):
    observer, _ = held(background)
    witness = Witness()
    CallPyBack([witness])(lambda: None)()
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_a_logging_handler_that_calls_the_observed_function_makes_no_loop(background):
    class Calling(logging.Handler):
        def emit(self, record):
            function()

    class Broken(BaseObserver):
        states = ExecutionState.COMPLETED

        def update(self, context):
            raise LookupError

    observer, handler = background(Broken()), Calling()
    function = CallPyBack([observer])(lambda: None)
    logging.getLogger("callpyback").addHandler(handler)
    try:
        function()
        assert observer.flush(LIMIT)
    finally:
        logging.getLogger("callpyback").removeHandler(handler)
    assert observer.ledger == counted(offered=1, failed=1)
    assert handle(function).unobserved == 1


# Async observers


class Loop(Kept):
    """Notes the loop it runs in."""

    async def update(self, context):
        await asyncio.sleep(0)
        self.seen.append(asyncio.get_running_loop())


def test_an_async_observer_works_around_every_kind_of_function(kind, background):
    sink = Loop()
    observer = background(sink)
    function = kind.make(lambda: "value", CallPyBack([observer]))
    assert kind.call(function) == "value"
    assert observer.flush(LIMIT)
    assert len(sink.seen) == 3


def test_an_async_observer_has_one_event_loop_of_its_own(background):
    sink = Loop()
    observer = background(sink)

    @CallPyBack([observer])
    async def function():
        return asyncio.get_running_loop()

    callers = asyncio.run(function())
    observer.flush(LIMIT)
    assert len(set(sink.seen)) == 1
    assert callers not in sink.seen


def test_contexts_reach_an_async_observer_one_after_the_other(background):
    class Slow(Kept):
        async def update(self, context):
            self.seen.append(("begun", context))
            await asyncio.sleep(0.001)
            self.seen.append(("ended", context))

    sink = Slow()
    observer = background(sink)
    offered(observer, 1, 2, 3)
    observer.flush(LIMIT)
    assert sink.seen == [(step, number) for number in (1, 2, 3) for step in ("begun", "ended")]


def test_tasks_of_an_async_observer_go_on_while_it_waits_and_are_cancelled_in_the_end(background):
    went_on, ended = threading.Event(), []

    class Starting(BaseObserver):
        async def update(self, context):
            self.tasks = [asyncio.create_task(self.go_on()), asyncio.create_task(self.wait())]

        async def go_on(self):
            await asyncio.sleep(0.02)
            went_on.set()

        async def wait(self):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    observer = background(Starting())
    observer.update(1)
    assert observer.flush(LIMIT)
    assert went_on.wait(LIMIT)
    assert ended == []
    assert observer.shutdown(LIMIT)
    assert ended == ["cancelled"]


def test_what_a_task_of_an_async_observer_calls_is_not_observed(background):
    called = threading.Event()

    class Starting(BaseObserver):
        states = ExecutionState.COMPLETED

        async def update(self, context):
            self.task = asyncio.create_task(self.call())

        async def call(self):
            await asyncio.sleep(0.005)
            function()
            called.set()

    observer = background(Starting())
    function = CallPyBack([observer])(lambda: None)
    function()
    assert called.wait(LIMIT)
    assert handle(function).unobserved == 1
    assert observer.shutdown(LIMIT)
    assert observer.ledger == counted(offered=1, delivered=1)
    assert TELLING == []


def test_a_thread_that_waits_for_its_event_loop_is_not_marked_as_inside_an_observer(background):
    waiting = threading.Event()

    class Waiting(BaseObserver):
        async def update(self, context):
            asyncio.get_running_loop().call_soon(waiting.set)
            await asyncio.sleep(3600)

    observer = background(Waiting())
    observer.update(1)
    assert waiting.wait(LIMIT)
    deadline = time.monotonic() + LIMIT
    while TELLING and time.monotonic() < deadline:
        pass
    assert TELLING == []
    observer.shutdown(0)


def test_an_async_observer_that_hangs_is_cancelled_at_the_end_of_the_shutdown(background):
    class Hanging(Kept):
        async def update(self, context):
            reached.set()
            await asyncio.sleep(3600)

    reached, sink = threading.Event(), Hanging()
    observer = background(sink)
    offered(observer, 1, 2)
    assert reached.wait(LIMIT)
    thread = worker_of(observer)
    assert not observer.shutdown(0.01)
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=2, failed=1, shutdown=1)
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_an_exit_out_of_a_task_of_an_async_observer_does_not_end_the_delivery(background):
    class Exiting(Kept):
        async def update(self, context):
            self.seen.append(context)
            if context == "exit":
                self.task = asyncio.create_task(self.exit())
                await asyncio.sleep(3600)

        async def exit(self):
            raise SystemExit(3)

    sink = Exiting()
    observer = background(sink)
    offered(observer, 1, "exit", 2)
    assert observer.flush(LIMIT)
    assert sink.seen == [1, "exit", 2]
    assert observer.ledger == counted(offered=3, delivered=2, failed=1)


def test_an_async_observer_is_not_stopped_by_a_clock_that_stands_still(background):
    class Sleeping(Kept):
        async def update(self, context):
            await asyncio.sleep(0.001)
            self.seen.append(context)

    sink = Sleeping()
    observer = background(sink)
    with freezegun.freeze_time("2024-05-05"):
        observer.update(1)
        assert observer.flush(LIMIT)
    assert sink.seen == [1]


# What is kept of the observer


def test_states_priority_and_name_are_the_observers(background):
    failures = background(on_failure(lambda exception: None, priority=7, name="alerts"))
    assert (failures.states, failures.priority, failures.name) == ({ExecutionState.POST_FAILURE}, 7, "alerts")
    plain = background(Witness(priority=3))
    assert (plain.states, plain.priority, plain.name) == (None, 3, "witness")


def test_states_priority_and_name_may_be_others(background):
    observer = background(Witness(priority=3), states=ExecutionState.COMPLETED, priority=0, name="other")
    assert (observer.states, observer.priority, observer.name) == ({ExecutionState.COMPLETED}, 0, "other")


def test_counters_with_an_update_may_run_in_the_background_too(background):
    observer = background(MetricsObserver())
    function = CallPyBack([observer], default_return=None)(int)
    function("1")
    function("x")
    observer.flush(LIMIT)
    metrics = observer.get_metrics()
    assert metrics["observer"]["counters"]["calls"] == 2
    assert metrics["observer"]["counters"]["handled"] == 1
    assert metrics["ledger"] == {
        "offered": 2,
        "delivered": 2,
        "failed": 0,
        "pending": 0,
        "dropped": {"overflow": 0, "shutdown": 0},
    }
    assert (metrics["queue_length"], metrics["max_queue"], metrics["last_error"]) == (0, 10_000, None)


def test_metrics_need_no_metrics_of_the_observer(background):
    assert "observer" not in background(Witness()).get_metrics()


def test_the_observer_is_configured_and_validated_with_its_decorator(background):
    class Careful(BaseObserver):
        level = 0

        def update(self, context): ...

        def validate(self):
            if self.level > 3:
                raise ValueError("too high")

    observer = background(Careful())
    CallPyBack().add_observer(observer, options={"level": 2})
    assert observer.observer.level == 2
    with pytest.raises(ConfigurationError, match="too high"):
        CallPyBack().add_observer(background(Careful()), options={"level": 4})


class BindOnly:
    priority = 0

    def bind(self, function_signature):
        return None, None


class Guarding(Witness):
    guard = True


class Critical(Witness):
    critical = True


class Generating(Witness):
    def update(self, context):
        yield


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (Guarding(), "is a guard or critical"),
        (Critical(), "is a guard or critical"),
        (BindOnly(), "meant to run inline"),
        (BackgroundObserver(Witness()), "in the background already"),
        (Generating(), "remove the `yield`"),
        (Kept, r"did you mean Kept\(\)"),
        (len, "lacks `update`"),
        (None, "lacks `update`"),
    ],
)
def test_what_cannot_be_told_later_is_refused(observer, message):
    with pytest.raises(ConfigurationError, match=message):
        BackgroundObserver(observer)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *itertools.product(["max_queue"], [0, -1, 1.5, True, "10", None]),
        *itertools.product(["overflow"], ["drop", "", None, 3, []]),
        *itertools.product(["block_timeout", "exit_timeout"], [-1, float("nan"), float("inf"), "1", True, None]),
        *itertools.product(["priority"], ["high", float("nan"), True]),
        ("name", 3),
        ("states", "COMPLETED"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_by_name(parameter, value):
    with pytest.raises(ConfigurationError, match=parameter):
        BackgroundObserver(Witness(), **{parameter: value})


def test_a_misspelled_policy_is_met_with_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'drop_oldest'"):
        BackgroundObserver(Witness(), overflow="drop_oldst")


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1"])
def test_a_timeout_that_makes_no_sense_is_refused(background, timeout):
    observer = background(Witness())
    for wait in (observer.flush, observer.shutdown):
        with pytest.raises(ConfigurationError, match="timeout"):
            wait(timeout)


# Copies and the end of an observer


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_has_a_queue_of_its_own(background, copied):
    observer = background(Kept(), max_queue=7)
    observer.update(1)
    observer.flush(LIMIT)
    other = copied(observer)
    assert (other.max_queue, other.name, other.ledger) == (7, "Kept", counted())
    other.update(2)
    assert other.flush(LIMIT)
    assert other.observer.seen[-1] == 2
    assert observer.ledger == counted(offered=1, delivered=1)
    assert other.shutdown(LIMIT)


def test_a_decorated_closure_travels_with_its_background_observer(background):
    function = CallPyBack([background(Kept())])(lambda: "value")
    function()
    arrived = cloudpickle.loads(cloudpickle.dumps(function))
    assert arrived() == "value"
    [observer] = handle(arrived).observers
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=3, delivered=3)


def test_an_observer_that_is_dropped_delivers_the_rest_and_ends_its_thread():
    gate = Gate()
    observer = BackgroundObserver(gate)
    offered(observer, 1, 2, 3)
    assert gate.reached.wait(LIMIT)
    thread = worker_of(observer)
    reference = weakref.ref(observer)
    del observer
    gc.collect()
    assert reference() is None
    gate.opened.set()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert gate.seen == [1, 2, 3]


def test_an_observer_of_a_dropped_function_ends_its_thread_too():
    sink = Kept(name="of a dropped function")
    function = CallPyBack([BackgroundObserver(sink)])(lambda: None)
    function()
    [observer] = handle(function).observers
    observer.flush(LIMIT)
    thread = worker_of(observer)
    del function, observer
    sink.seen.clear()
    gc.collect()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_coroutine_driven_by_hand_is_observed_in_the_background(background):
    sink = Kept()
    observer = background(sink)

    @CallPyBack([observer])
    async def function():
        return "value"

    assert drive(function()) == "value"
    assert observer.flush(LIMIT)
    assert [context.state.name for context in sink.seen] == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
