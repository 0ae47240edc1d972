"""Batches: when they are handed over, to whom, and what becomes of them when that fails.

What batching has in common with all background delivery is in test_background.py and test_delivery_*.py.
"""

from __future__ import annotations

import asyncio
import queue
import threading

import freezegun
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import BaseObserver, BatchingObserver, CallPyBack, ConfigurationError, ExecutionState, on_success
from delivering import LIMIT, Kept, counted, in_threads, lines, offered
from kinds import Witness

__all__ = ["lines"]  # a fixture

LONG = 3600
"""Seconds that no test takes."""


class Batches:
    """Hands on the batches it gets."""

    def __init__(self):
        self.batches = queue.SimpleQueue()

    def __call__(self, contexts):
        self.batches.put(contexts)

    def next(self):
        return self.batches.get(timeout=LIMIT)


class BatchedObserver(Kept):
    """Gets batches, and has an `update` that is not to be called."""

    priority = 4
    states = frozenset({ExecutionState.POST_SUCCESS})

    def update(self, context):
        self.seen.append(("by update", context))

    def update_batch(self, contexts):
        self.seen.append(contexts)


@pytest.fixture
def batching():
    """Makes batching observers, and shuts them down in the end."""
    made = []

    def make(*args, **options):
        made.append(BatchingObserver(*args, **options))
        return made[-1]

    yield make
    for observer in made:
        observer.shutdown(LIMIT)


def test_a_full_batch_is_handed_over_at_once_and_the_rest_waits(batching):
    batches = Batches()
    observer = batching(batches, batch_size=100, flush_interval=LONG)
    offered(observer, *range(250))
    assert (batches.next(), batches.next()) == (list(range(100)), list(range(100, 200)))
    assert observer.flush(LIMIT)
    assert batches.next() == list(range(200, 250))
    assert batches.batches.empty()


def test_a_batch_that_is_not_full_is_handed_over_when_the_interval_has_passed(batching):
    batches = Batches()
    observer = batching(batches, batch_size=100, flush_interval=0.01)
    for number in range(3):
        observer.update(number)
        assert batches.next() == [number]


def test_the_interval_passes_although_the_clock_stands_still(batching):
    class Async(BaseObserver):
        def update(self, context): ...

        async def update_batch(self, contexts):
            batches(contexts)

    batches = Batches()
    with freezegun.freeze_time("2024-05-05"):
        for receiver in (batches, Async()):
            observer = batching(receiver, batch_size=100, flush_interval=0.01)
            observer.update(1)
            assert batches.next() == [1]
            assert observer.shutdown(LIMIT)


def test_flush_hands_over_what_there_is(batching):
    batches = Batches()
    observer = batching(batches, flush_interval=LONG)
    assert observer.flush(0)
    offered(observer, 1, 2)
    assert observer.flush(LIMIT)
    assert batches.next() == [1, 2]
    assert observer.ledger == counted(offered=2, delivered=2)


def test_what_has_been_gathered_is_pending(batching):
    observer = batching(Batches(), flush_interval=LONG)
    offered(observer, *range(99))
    assert observer.ledger == counted(offered=99, pending=99)
    assert not observer.flush(0)


def test_shutdown_hands_over_the_rest_in_whole_batches_but_the_last():
    batches = Batches()
    observer = BatchingObserver(batches, 3, LONG, max_queue=10)
    in_hand, go_on = threading.Event(), threading.Event()
    holding = BatchingObserver(lambda contexts: (batches(contexts), in_hand.set(), go_on.wait(LIMIT)), 3, LONG)
    offered(holding, *range(3))
    assert in_hand.wait(LIMIT)
    offered(holding, *range(3, 10))
    go_on.set()
    assert holding.shutdown(LIMIT)
    assert [batches.next() for _ in range(4)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert observer.shutdown(0)
    assert batches.batches.empty()


@settings(max_examples=30, deadline=None)
@given(number=st.integers(0, 60), batch_size=st.integers(1, 20))
def test_batches_joined_are_what_was_offered(number, batch_size):
    batches = Batches()
    observer = BatchingObserver(batches, batch_size, LONG)
    offered(observer, *range(number))
    assert observer.shutdown(LIMIT)
    got = []
    while not batches.batches.empty():
        got.append(batches.next())
    assert [item for batch in got for item in batch] == list(range(number))
    assert all(len(batch) == batch_size for batch in got[:-1])
    assert all(1 <= len(batch) <= batch_size for batch in got)


def test_batches_keep_the_order_of_each_thread(batching):
    batches = Batches()
    observer = batching(batches, 7, 0.001)
    in_threads(lambda number: offered(observer, *((number, turn) for turn in range(500))), 4)
    assert observer.shutdown(LIMIT)
    got = []
    while not batches.batches.empty():
        got += batches.next()
    for number in range(4):
        assert [turn for thread, turn in got if thread == number] == list(range(500))


def test_an_observer_with_update_batch_gets_lists(batching):
    sink = BatchedObserver()
    observer = batching(sink, 2, LONG)
    assert (observer.priority, observer.states, observer.name) == (4, {ExecutionState.POST_SUCCESS}, "BatchedObserver")
    offered(observer, 1, 2, 3)
    assert observer.shutdown(LIMIT)
    assert sink.seen == [[1, 2], [3]]


def test_update_batch_is_enough(batching):
    class OnlyBatches:
        def __init__(self):
            self.seen = []

        def update_batch(self, contexts):
            self.seen.append(contexts)

    sink = OnlyBatches()
    observer = batching(sink, 2, LONG)
    assert observer.priority == 0
    offered(observer, 1, 2)
    assert observer.flush(LIMIT)
    assert sink.seen == [[1, 2]]


def test_an_observer_without_update_batch_is_told_each_context_of_full_batches(batching):
    told = queue.SimpleQueue()
    observer = batching(on_success(lambda value: told.put(value)), 3, LONG)
    function = CallPyBack([observer])(lambda number: number)
    for number in range(4):
        function(number)
    assert [told.get(timeout=LIMIT) for _ in range(3)] == [0, 1, 2]
    assert told.empty()
    assert observer.flush(LIMIT)
    assert told.get(timeout=LIMIT) == 3


def test_a_function_gets_lists_of_contexts(kind, batching):
    batches = Batches()
    observer = batching(batches, states=ExecutionState.COMPLETED, priority=3, name="store")
    assert (observer.priority, observer.name, observer.states) == (3, "store", {ExecutionState.COMPLETED})
    function = kind.make(lambda number: number, CallPyBack([observer]), parameters="number")
    for number in range(3):
        kind.call(function, number)
    assert observer.flush(LIMIT)
    batch = batches.next()
    assert [context.arguments["number"] for context in batch] == [0, 1, 2]
    assert [context.state for context in batch] == [ExecutionState.COMPLETED] * 3


def test_a_function_is_told_the_end_of_each_call_and_goes_by_its_name(batching):
    def store(contexts): ...

    observer = batching(store)
    assert observer.name == "test_a_function_is_told_the_end_of_each_call_and_goes_by_its_name.<locals>.store"
    assert (observer.priority, observer.states) == (0, {ExecutionState.COMPLETED, ExecutionState.ERROR})


def test_a_coroutine_function_is_awaited(batching):
    batches = Batches()

    async def store(contexts):
        await asyncio.sleep(0)
        batches(contexts)

    observer = batching(store, 2, LONG)
    offered(observer, 1, 2, 3)
    assert batches.next() == [1, 2]
    assert observer.shutdown(LIMIT)
    assert batches.next() == [3]


def test_a_batch_whose_receiver_raises_fails_whole_and_the_next_one_is_handed_over(batching, lines):
    got = []

    def store(contexts):
        got.append(contexts)
        if 1 in contexts:
            raise OSError("no space left")

    observer = batching(store, 2, LONG, name="store")
    offered(observer, *range(5))
    assert observer.flush(LIMIT)
    assert got == [[0, 1], [2, 3], [4]]
    assert observer.ledger == counted(offered=5, delivered=3, failed=2)
    assert lines.next() == "observer store failed at background delivery: OSError: no space left"


def test_with_update_a_poisonous_context_fails_alone(batching):
    class Choosy(Kept):
        def update(self, context):
            if context == 1:
                raise ValueError(context)
            super().update(context)

    sink = Choosy()
    observer = batching(sink, 3, LONG)
    offered(observer, *range(5))
    assert observer.flush(LIMIT)
    assert sink.seen == [0, 2, 3, 4]
    assert observer.ledger == counted(offered=5, delivered=4, failed=1)


def test_each_batch_is_a_list_of_its_receivers_own(batching):
    got = []

    def store(contexts):
        got.append(list(contexts))
        contexts.clear()

    observer = batching(store, 2, LONG)
    offered(observer, *range(4))
    assert observer.flush(LIMIT)
    assert got == [[0, 1], [2, 3]]
    assert observer.ledger == counted(offered=4, delivered=4)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("batch_size", value) for value in (0, -1, 2.5, True, "10", None)),
        *(("flush_interval", value) for value in (0, -1, float("nan"), float("inf"), "5", None)),
        *(("max_queue", value) for value in (0, 1.5, "10")),
        ("overflow", "drop"),
        ("states", "COMPLETED"),
        ("priority", float("nan")),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_by_name(parameter, value):
    with pytest.raises(ConfigurationError, match=parameter):
        BatchingObserver(Witness(), **{parameter: value})


def test_a_batch_that_does_not_fit_the_queue_is_refused():
    with pytest.raises(ConfigurationError, match="at most max_queue, which is 50"):
        BatchingObserver(Witness(), batch_size=51, max_queue=50)
    BatchingObserver(Witness(), batch_size=50, max_queue=50)


def generating(contexts):
    yield


class GuardOfBatches(BatchedObserver):
    guard = True


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (None, "lacks `update`"),
        (3, "lacks `update`"),
        (Kept, r"did you mean Kept\(\)"),
        (generating, "remove the `yield`"),
        (GuardOfBatches(), "is a guard or critical"),
        (BatchingObserver(print), "in the background already"),
    ],
)
def test_what_cannot_take_batches_is_refused(observer, message):
    with pytest.raises(ConfigurationError, match=message):
        BatchingObserver(observer)
