"""Flushing and shutting down: what they wait for, how long at most, and what they leave behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import freezegun
import pytest

from callpyback import BaseObserver, CallPyBack, on_success
from delivering import (
    LIMIT,
    OVERFLOWS,
    Closable,
    Gate,
    Kept,
    background,
    counted,
    held,
    hurried,
    in_threads,
    lines,
    offered,
    worker_of,
)

__all__ = ["background", "hurried", "lines"]  # fixtures


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
            assert reference() is None
    finally:
        gc.enable()


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
