"""What observers call runs unobserved, so that nothing they do leads back to themselves (C05 to C07)."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading

import pytest

from callpyback import CallPyBack, ExecutionState, MetricsObserver, handle
from callpyback.core.telling import TELLING
from kinds import BoundWitness, Witness, drive


class Calling(Witness):
    """Calls a function each time it is told something."""

    def update(self, context) -> None:
        super().update(context)
        self.call()


def test_an_observer_may_call_the_function_it_observes(kind):
    calling, witness = Calling(priority=1), Witness()
    function = kind.make(lambda: "value", CallPyBack([calling, witness]))
    calling.call = lambda: kind.call(function)
    assert kind.call(function) == "value"
    assert calling.told == witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert handle(function).unobserved == 3
    assert TELLING == []


def test_observers_may_call_each_others_functions(kind):
    first, second = Calling(), Calling()
    one = kind.make(lambda: 1, CallPyBack([first]))
    other = kind.make(lambda: 2, CallPyBack([second]))
    first.call, second.call = (lambda: kind.call(other)), (lambda: kind.call(one))
    assert (kind.call(one), kind.call(other)) == (1, 2)
    assert (len(first.contexts), len(second.contexts)) == (3, 3)
    assert (handle(one).unobserved, handle(other).unobserved) == (3, 3)


@pytest.mark.parametrize("state", ExecutionState)
def test_whatever_the_state_the_function_called_by_an_observer_runs_unobserved(state, kind):
    bound = BoundWitness()
    calling = Calling(state)
    function = kind.make(lambda: "value", CallPyBack([calling, bound]))
    calling.call = lambda: kind.call(function)
    kind.call(function)
    assert (bound.begun, len(bound.ends)) == (1, 1)


def test_an_observer_without_contexts_may_call_the_function_it_observes(kind):
    class Bound(BoundWitness):
        def bind(self, function_signature):
            begin, end = super().bind(function_signature)
            return (lambda: (begin(), kind.call(function))), (lambda *ended: (end(*ended), kind.call(function)))

    bound = Bound()
    function = kind.make(lambda: "value", CallPyBack([bound]))
    kind.call(function)
    assert (bound.begun, len(bound.ends), handle(function).unobserved) == (1, 1, 2)


def test_an_observer_that_says_it_calls_nothing_is_told_without_the_guard(kind):
    bound = BoundWitness()
    bound.is_leaf = True
    marked = []
    bound.bind = lambda signature: (lambda: marked.append(list(TELLING)), lambda *_: marked.append(list(TELLING)))
    kind.call(kind.make(lambda: "value", CallPyBack([bound])))
    assert marked == [[], []]


def test_an_error_handler_is_no_observer_what_it_calls_is_observed():
    class Handler:
        def handle_error(self, error, context):
            return fallback()

    witness = Witness()
    fallback = CallPyBack([witness])(lambda: "fallback")
    function = CallPyBack([], error_handler=Handler())(lambda: 1 / 0)
    assert function() == "fallback"
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


class Logging(Witness):
    def update(self, context) -> None:
        super().update(context)
        logging.getLogger("an application").warning("told %s", context.state.name)


class FormattingHandler(logging.Handler):
    """Formats by a function that is observed itself."""

    def __init__(self, formatted) -> None:
        super().__init__()
        self.formatted = formatted

    def emit(self, record: logging.LogRecord) -> None:
        self.formatted(record.getMessage())


@pytest.mark.parametrize("logger_name", ["an application", "callpyback"])
def test_a_logging_handler_may_call_the_function_whose_observer_logs(kind, logger_name):
    texts = []
    observer = Logging() if logger_name == "an application" else Calling()
    observer.call = lambda: 1 / 0  # the library logs its failure
    function = kind.make(texts.append, CallPyBack([observer]))
    logger, handler = logging.getLogger(logger_name), FormattingHandler(lambda text: kind.call(function, text))
    logger.addHandler(handler)
    try:
        kind.call(function, "a text")
    finally:
        logger.removeHandler(handler)
    assert texts[0] == "a text" or len(texts) > 1
    assert observer.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_another_thread_is_observed_while_an_observer_runs(kind):
    other = kind.make(lambda: "other", CallPyBack([witness := Witness()]))

    def in_another_thread() -> None:
        thread = threading.Thread(target=lambda: kind.call(other))
        thread.start()
        thread.join()

    calling = Calling(ExecutionState.PRE_EXECUTION)
    calling.call = in_another_thread
    kind.call(kind.make(lambda: "value", CallPyBack([calling])))
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert handle(other).unobserved == 0


def test_a_generator_begun_by_an_observer_stays_unobserved_and_one_only_made_there_does_not():
    made = []
    witness = Witness()

    @CallPyBack([witness])
    def items():
        yield 1
        yield 2

    def make() -> None:
        begun, fresh = items(), items()
        next(begun)
        made.extend([begun, fresh])

    calling = Calling(ExecutionState.COMPLETED)
    calling.call = make
    CallPyBack([calling])(lambda: None)()
    assert list(made[0]) == [2]
    assert witness.contexts == []
    assert list(made[1]) == [1, 2]
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_what_an_observed_generator_calls_between_two_items_is_observed():
    inner = CallPyBack([witness := Witness()])(lambda: "inner")

    @CallPyBack([Witness()])
    def items():
        yield inner()
        yield inner()

    assert list(items()) == ["inner"] * 2
    assert len(witness.contexts) == 6


def test_what_an_awaited_observer_calls_runs_unobserved_and_other_tasks_are_observed():
    told = []

    class Awaited:
        priority = 0

        async def update(self, context) -> None:
            told.append(("awaited", context.arguments["task"]))
            await function("from the observer")
            await asyncio.sleep(0)

    @CallPyBack([Awaited()])
    async def function(task):
        await asyncio.sleep(0)
        return task

    async def everything():
        return await asyncio.gather(*(function(number) for number in range(20)))

    assert asyncio.run(everything()) == list(range(20))
    assert sorted(told) == sorted([("awaited", number) for number in range(20)] * 3)
    assert handle(function).unobserved == 60


def test_a_task_that_an_observer_starts_is_observed_once_the_observer_has_returned():
    witness, tasks = Witness(), []

    @CallPyBack([witness])
    async def other():
        await asyncio.sleep(0)

    class Starting:
        priority = 0
        states = frozenset({ExecutionState.COMPLETED})

        async def update(self, context) -> None:
            tasks.append(asyncio.ensure_future(other()))

    @CallPyBack([Starting()])
    async def function(): ...

    async def everything():
        await function()
        await tasks[0]

    asyncio.run(everything())
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


FINALISER = """
import gc, sys
from callpyback import CallPyBack, MetricsObserver, handle

metrics = MetricsObserver(in_progress=True)

@CallPyBack([metrics])
def note(): ...

class Noting:
    # Calls an observed function whenever the collector happens to run: during allocations inside the library too.
    def __init__(self):
        self.itself = self
    def __del__(self):
        note()

class Observer:
    priority = 1
    def update(self, context):
        Noting()
        context.arguments, context.slot, context.call_id

@CallPyBack([Observer(), metrics], variable_names=["made"])
def work():
    made = Noting()
    return len(repr(metrics.get_metrics()))

gc.set_threshold(3)
for _ in range(2000):
    work()
gc.set_threshold(700)
gc.collect()
stats = metrics.get_metrics()["function_stats"]
assert stats["work"]["calls"] == 2000, stats
# One finaliser for each state that the observer is told, one for the body.
assert stats["note"]["calls"] + handle(note).unobserved == 2000 * 4, (stats, handle(note).unobserved)
assert metrics.get_metrics()["in_progress"] == 0
print("done")
"""


def test_a_finaliser_that_calls_an_observed_function_deadlocks_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FINALISER], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_the_garbage_collector_may_run_the_function_while_metrics_are_read():
    metrics = MetricsObserver()
    function = CallPyBack([metrics])(lambda: None)

    class Last:
        def __del__(self) -> None:
            function()

    cycle = [Last()]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert metrics.get_metrics()["total_calls"] == 1


def test_a_coroutine_without_event_loop_is_guarded_too():
    told = []

    class Awaited:
        priority = 0

        async def update(self, context) -> None:
            told.append(context.state.name)
            await function()

    @CallPyBack([Awaited()])
    async def function():
        return "value"

    assert drive(function()) == "value"
    assert told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_a_generator_that_ends_while_an_observer_is_told_takes_no_mark_away():
    suspended = []

    class Dropping:
        priority = 0

        def update(self, context):
            suspended.clear()  # the last reference: its call ends here, in the middle of the other one

    @CallPyBack([witness := Witness()])
    def items():
        yield 1

    @CallPyBack([Dropping()])
    def function():
        return "value"

    suspended.append(items())
    next(suspended[0])
    assert function() == "value"
    assert witness.told == ["PRE_EXECUTION", "COMPLETED"]
    assert TELLING == []
