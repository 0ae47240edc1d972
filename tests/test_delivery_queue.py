"""The queue is bounded, its ledger exact, order is kept; loss is logged when it begins and when it has ended."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from callpyback import BackgroundObserver, BaseObserver, BatchingObserver
from callpyback.delivery import loss
from delivering import (
    LIMIT,
    OVERFLOWS,
    Kept,
    background,
    counted,
    held,
    hurried,
    in_threads,
    lines,
    no_more_threads,
    offered,
)

__all__ = ["background", "hurried", "lines"]  # fixtures


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
