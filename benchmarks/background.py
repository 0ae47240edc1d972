"""Background delivery: what it costs the caller, beside the same observer inline; what is lost; a sink that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from time import perf_counter, perf_counter_ns, thread_time
from typing import Any, NamedTuple

from benchmarks.controls import KINDS
from benchmarks.measuring import Budget, called, seconds_per_call
from benchmarks.streams import unlogged
from benchmarks.table import Row
from callpyback import BackgroundObserver, BaseObserver, CallPyBack, ExecutionContext, ExecutionState

TITLE = "Background delivery"

THREADS = 4
RATE = 100_000
"""Calls a second, of all threads together."""

BURST = 100
"""Calls a thread makes before it looks whether it is too early for more."""

QUEUE = 1000
"""The length of the queue in front of the sink that hangs: short, so that every call overflows it."""


class NoOp(BaseObserver):
    states = ExecutionState.COMPLETED

    def update(self, context: ExecutionContext) -> None:
        """Do nothing."""


class Stuck(NoOp):
    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.released = threading.Event()

    def update(self, _: ExecutionContext) -> None:
        """Hang until the measurement is over."""
        self.reached.set()
        self.released.wait()


class Load(NamedTuple):
    """What calling at a rate came to: seconds of processor time a call, and calls a second."""

    seconds: float
    rate: float


def rows(budget: Budget) -> list[Row]:
    """Return the rows of the load, of a call alone, and of the sink that hangs."""
    return [*_load(budget), *_alone(budget), *_stuck(budget)]


def _load(budget: Budget) -> list[Row]:
    calls = budget.part(RATE)
    body = KINDS["function"].body
    background = BackgroundObserver(NoOp())
    inline = _called_at_rate(CallPyBack([NoOp()])(body), calls)
    behind = _called_at_rate(CallPyBack([background])(body), calls)
    lost = sum(background.ledger.dropped.values())
    background.shutdown()
    what = f"{THREADS} threads, {RATE:,} calls/s"
    reached = f"{behind.rate:,.0f} calls/s were reached"
    return [
        Row(f"{what}: background no-op / inline", behind.seconds / inline.seconds, bar=3.0, seconds=behind.seconds),
        Row(f"{what}: contexts lost", float(lost), unit="", bar=0.0, note=reached, is_difference=True),
    ]


def _called_at_rate(function: Callable[[int], Any], calls: int) -> Load:
    """Call from all threads, each making a burst whenever it is due; what they take is their own processor time."""
    taken: list[float] = []
    bursts = max(1, calls // THREADS // BURST)
    interval = BURST * THREADS / RATE
    ready = threading.Barrier(THREADS + 1)

    def work() -> None:
        spent = 0.0
        ready.wait()
        due = perf_counter()
        for _ in range(bursts):
            time.sleep(max(0.0, due - perf_counter()))
            due += interval
            started = thread_time()
            for number in range(BURST):
                function(number)
            spent += thread_time() - started
        taken.append(spent)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait()
    started = perf_counter()
    for thread in threads:
        thread.join()
    made = THREADS * bursts * BURST
    return Load(sum(taken) / made, made / (perf_counter() - started))


def _alone(budget: Budget) -> list[Row]:
    kind = KINDS["function"]
    background = BackgroundObserver(NoOp())
    subjects = {
        "timer": called(kind.timer(kind.body)),
        "inline": called(CallPyBack([NoOp()])(kind.body)),
        "background": called(CallPyBack([background])(kind.body)),
    }
    seconds = seconds_per_call(subjects, budget)
    background.shutdown()
    cost = seconds["background"]
    return [
        Row("one thread: background no-op / inline", cost / seconds["inline"], bar=3.0, seconds=cost),
        Row("one thread: background no-op / timer", cost / seconds["timer"], seconds=cost),
    ]


def _stuck(budget: Budget) -> list[Row]:
    calls = budget.part(RATE // THREADS)
    body = KINDS["function"].body
    free, sink = BackgroundObserver(NoOp(), max_queue=QUEUE), Stuck()
    stuck = BackgroundObserver(sink, max_queue=QUEUE)
    function = CallPyBack([stuck])(body)
    with unlogged():
        function(0)
        sink.reached.wait()
        for number in range(QUEUE):
            function(number)
        of_free, of_stuck = _p99(CallPyBack([free])(body), calls), _p99(function, calls)
        miscounted = abs(stuck.ledger.dropped["overflow"] - calls) + abs(stuck.ledger.pending - QUEUE - 1)
        sink.released.set()
        free.shutdown()
        stuck.shutdown()
    return [
        Row("sink that hangs / free sink: p99 of the caller", of_stuck / of_free, bar=2.0, seconds=of_stuck * 1e-9),
        Row("sink that hangs: contexts miscounted", float(miscounted), unit="", bar=0.0, is_difference=True),
    ]


def _p99(function: Callable[[int], Any], calls: int) -> float:
    """Return the nanoseconds by the wall clock that 99 of 100 calls stay below, at one thread's part of the rate."""
    taken = []
    due = perf_counter()
    for number in range(calls):
        if number % BURST == 0:
            time.sleep(max(0.0, due - perf_counter()))
            due += BURST * THREADS / RATE
        started = perf_counter_ns()
        function(number)
        taken.append(perf_counter_ns() - started)
    return float(sorted(taken)[int(0.99 * calls)])
