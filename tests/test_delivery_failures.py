"""Whatever an observer raises, and whatever becomes of its thread, the delivery goes on and is counted."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import threading

import pytest

from callpyback import BaseObserver, BatchingObserver
from callpyback.core.telling import TELLING
from callpyback.delivery.partial import PartlyFailed
from delivering import LIMIT, Closable, Kept, background, counted, lines, no_more_threads, offered, worker_of

__all__ = ["background", "lines"]  # fixtures


class Failing(Kept):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def update(self, context):
        super().update(context)
        if context == "bad":
            raise self.error("on purpose")


class FailingLater(Failing):
    async def update(self, context):
        super().update(context)
        await asyncio.sleep(0)


ERRORS = [ValueError, SystemExit, MemoryError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]


@pytest.mark.parametrize(
    ("make", "error"), [*itertools.product([Failing, FailingLater], ERRORS), (Failing, StopIteration)]
)
def test_whatever_the_observer_raises_the_worker_goes_on_and_counts(background, make, error, lines):
    sink = make(error)
    observer = background(sink)
    offered(observer, "good", "bad", "good", "bad", "good")
    assert observer.flush(LIMIT)
    gc.collect()  # what is left of the failed delivery must not fail once more
    assert sink.seen == ["good", "bad", "good", "bad", "good"]
    assert observer.ledger == counted(offered=5, delivered=3, failed=2)
    logged = lines.next()  # once, not for every failure
    assert logged.startswith(f"observer {type(sink).__name__} failed at background delivery: ")
    assert lines.lines.empty()
    assert "on purpose" in observer.get_metrics()["last_error"]
    assert observer.shutdown(LIMIT)
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
        assert not observer.shutdown(LIMIT)
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


class Picky(BaseObserver):
    """Takes batches, and fails for so many of each."""

    def __init__(self, failed):
        super().__init__()
        self.failed = failed

    def update_batch(self, contexts):
        raise PartlyFailed(self.failed, "odd ones")


@pytest.mark.parametrize(("failed", "counted_as"), [(1, 1), (3, 3), (4, 4), (0, 0), (9, 4), (-1, 0)])
def test_a_batch_that_failed_in_part_counts_in_part(failed, counted_as, lines):
    observer = BatchingObserver(Picky(failed), batch_size=4)
    offered(observer, 1, 2, 3, 4)
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=4, delivered=4 - counted_as, failed=counted_as)
    assert lines.next().endswith("failed at background delivery: PartlyFailed: odd ones")
    assert observer.shutdown(LIMIT)
