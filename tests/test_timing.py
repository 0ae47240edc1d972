"""Slow calls: strictly over the threshold, newest kept, as text and numbers only, one warning each."""

from __future__ import annotations

import copy
import gc
import logging
import math
import pickle
import threading
import weakref

import pytest

from callpyback import (
    CallPyBack,
    ConfigurationError,
    ExecutionContext,
    ExecutionFailure,
    ExecutionResult,
    ExecutionState,
    FunctionSignature,
    MockTimeSource,
    Outcome,
    TimingObserver,
)
from callpyback.observers.timing import SlowExecution

SIGNATURE = FunctionSignature("pay", qualname="Shop.pay", module="shop")


@pytest.fixture
def warnings_of(caplog):
    caplog.set_level(logging.WARNING, "callpyback")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "callpyback"]


def ending(timing):
    return timing.bind(SIGNATURE)[1]


def succeed(end, *elapsed):
    for seconds in elapsed:
        end(seconds, None, None, Outcome.SUCCESS)


def times(timing):
    return [slow.execution_time for slow in timing.get_slow_executions()]


def test_a_slow_call_is_recorded_and_warned_of(warnings_of):
    clock = MockTimeSource(initial_time=1000.0)
    timing = TimingObserver(0.5, time_source=clock)
    ending(timing)(2.0, "value", ValueError(), Outcome.FAILURE)
    assert timing.get_slow_executions() == [SlowExecution("shop.Shop.pay", 2.0, 998.0, Outcome.FAILURE, None)]
    assert warnings_of() == ["slow call: shop.Shop.pay took 2 s, more than 0.5 s"]


def test_slow_is_strictly_more_than_the_threshold(warnings_of):
    timing = TimingObserver()
    succeed(ending(timing), 0.0, 0.999, 1.0, math.nan, 1.001)
    assert times(timing) == [1.001]
    assert len(warnings_of()) == 1
    assert timing.get_metrics() == {"threshold": 1.0, "slow_count": 1, "kept": 1}


def test_the_newest_are_kept_newest_last_and_all_are_counted():
    timing = TimingObserver(0.0, max_slow=3)
    succeed(ending(timing), 1.0, 2.0, 3.0, 4.0, 5.0)
    assert times(timing) == [3.0, 4.0, 5.0]
    assert timing.get_metrics() == {"threshold": 0.0, "slow_count": 5, "kept": 3}


def test_what_is_returned_is_a_list_of_its_own():
    timing = TimingObserver(0.0)
    succeed(ending(timing), 1.0)
    timing.get_slow_executions().clear()
    assert times(timing) == [1.0]


def test_records_cannot_be_changed():
    with pytest.raises(AttributeError):
        SlowExecution("f", 1.0, 0.0, Outcome.SUCCESS, None).execution_time = 2.0


def test_a_new_threshold_holds_for_calls_that_end_from_then_on():
    timing = TimingObserver(5.0)
    end = ending(timing)
    succeed(end, 2.0)
    timing.set_threshold(1)
    succeed(end, 2.5)
    timing.configure(threshold=3.0)
    succeed(end, 2.7)
    assert (timing.threshold, times(timing)) == (3.0, [2.5])


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -0.1, "1", None, True, 10**400], ids=range(7))
def test_other_thresholds_are_refused(threshold):
    for attempt in (TimingObserver, TimingObserver().set_threshold):
        with pytest.raises(ConfigurationError, match=r"threshold=.*a finite number of seconds"):
            attempt(threshold)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("max_slow", 0), ("max_slow", True), ("max_slow", 1.5), ("arguments", 1), ("time_source", 3)],
)
def test_other_values_are_refused_by_name(parameter, value):
    with pytest.raises(ConfigurationError, match=f"{parameter}={value!r}"):
        TimingObserver(**{parameter: value})


def context_of(state=ExecutionState.COMPLETED, result=None, **arguments):
    return ExecutionContext(
        state=state, function_signature=SIGNATURE, arguments=arguments, result=result, timestamp=50.0
    )


def test_a_context_that_shows_the_end_is_recorded_too():
    timing = TimingObserver()
    error = ExecutionFailure(ValueError(), execution_time=3.0)
    timing.update(context_of(ExecutionState.PRE_EXECUTION))
    timing.update(context_of(ExecutionState.POST_SUCCESS, ExecutionResult(1, 2.0)))
    timing.update(context_of(ExecutionState.COMPLETED, ExecutionResult(1, 2.0)))
    timing.update(context_of(ExecutionState.COMPLETED, ExecutionResult(1, 0.5)))
    timing.update(context_of(ExecutionState.COMPLETED, ExecutionResult(1, math.nan)))
    timing.update(context_of(ExecutionState.ERROR, error))
    assert timing.get_slow_executions() == [
        SlowExecution("shop.Shop.pay", 2.0, 50.0, Outcome.SUCCESS, None),
        SlowExecution("shop.Shop.pay", 3.0, 50.0, Outcome.FAILURE, None),
    ]


class Broken:
    def __repr__(self):
        raise RuntimeError


def test_arguments_are_kept_as_bounded_text_when_asked_for(warnings_of):
    timing = TimingObserver(arguments=True)
    assert timing.bind(SIGNATURE) is None
    timing.update(context_of(result=ExecutionResult(1, 2.0), text="a\nb", big="x" * 10**6, broken=Broken()))
    (slow,) = timing.get_slow_executions()
    assert slow.arguments == {
        "text": r"'a\nb'",
        "big": "'" + "x" * 196 + "...",
        "broken": "<unrepresentable Broken: RuntimeError>",
    }
    (line,) = warnings_of()
    assert line.startswith("slow call: shop.Shop.pay took 2 s, more than 1 s with {'text': ")
    assert "\n" not in line


def test_only_so_many_arguments_are_kept():
    timing = TimingObserver(arguments=True)
    timing.update(context_of(result=ExecutionResult(1, 2.0), **{f"a{n}": n for n in range(100)}))
    assert len(timing.get_slow_executions()[0].arguments) == 50


def test_nothing_of_a_call_is_kept_alive():
    class Cart:
        pass

    clock = MockTimeSource()
    for arguments in (False, True):
        timing = TimingObserver(1.0, arguments=arguments)

        @CallPyBack(observers=[timing], time_source=clock)
        def pay(cart):
            clock.advance(2.0)
            raise ValueError(cart)

        cart = Cart()
        reference = weakref.ref(cart)
        try:
            pay(cart)
        except ValueError:
            pass
        del cart
        gc.collect()
        assert len(timing.get_slow_executions()) == 1
        assert reference() is None


def test_arguments_are_shown_only_of_slow_calls():
    asked = []

    class Watched:
        def __repr__(self):
            asked.append(1)
            return "Watched()"

    timing = TimingObserver(arguments=True)
    timing.update(context_of(result=ExecutionResult(1, 0.5), x=Watched()))
    assert asked == []
    timing.update(context_of(result=ExecutionResult(1, 1.5), x=Watched()))
    assert asked == [1]


def test_a_function_name_of_two_lines_is_one_line():
    timing = TimingObserver(0.0)
    _, end = timing.bind(FunctionSignature("f", qualname="f\ng"))
    succeed(end, 1.0)
    assert timing.get_slow_executions()[0].function == r"f\ng"


def test_a_failing_clock_hurts_no_record():
    class Failing:
        def now(self):
            raise OSError

    timing = TimingObserver(0.0, time_source=Failing())
    succeed(ending(timing), 1.0)
    assert math.isnan(timing.get_slow_executions()[0].timestamp)


def test_slow_calls_of_many_threads_are_all_counted():
    logging.getLogger("callpyback").disabled = True
    try:
        timing = TimingObserver(0.0, max_slow=10)
        end = ending(timing)
        threads = [threading.Thread(target=succeed, args=(end, *[1.0] * 5000)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        logging.getLogger("callpyback").disabled = False
    assert timing.get_metrics() == {"threshold": 0.0, "slow_count": 40_000, "kept": 10}


def test_reset_forgets_the_calls_and_keeps_the_threshold():
    timing = TimingObserver(0.5)
    succeed(ending(timing), 1.0)
    timing.reset()
    assert timing.get_metrics() == {"threshold": 0.5, "slow_count": 0, "kept": 0}
    succeed(ending(timing), 1.0)
    assert timing.get_metrics()["slow_count"] == 1


@pytest.mark.parametrize("again", [lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy, copy.copy])
def test_a_copy_has_the_records_and_goes_its_own_way(again):
    timing = TimingObserver(0.5, max_slow=2, priority=3, name="mine")
    succeed(ending(timing), 1.0, 2.0, 3.0)
    twin = again(timing)
    succeed(ending(twin), 4.0)
    assert (times(twin), twin.get_metrics()["slow_count"]) == ([3.0, 4.0], 4)
    assert (times(timing), timing.get_metrics()["slow_count"]) == ([2.0, 3.0], 3)
    assert (twin.priority, twin.name, twin.threshold) == (3, "mine", 0.5)


def test_a_subclass_with_an_update_of_its_own_is_told_by_that():
    class Own(TimingObserver):
        def update(self, context):
            seen.append(context.state)

    seen = []

    @CallPyBack(observers=[Own()])
    def f():
        pass

    f()
    assert seen == [ExecutionState.COMPLETED]
