"""Clocks: the system's, a mock one, and those that fail, stop or go back (K01 to K04, K08 to K10)."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from callpyback import CallPyBack, ExecutionState, MetricsObserver, MockTimeSource, Outcome, SystemTimeSource
from callpyback.core.time_sources import GuardedClock, clocks_of
from kinds import BoundWitness, Witness, drive, ended


def advancing(clock, seconds):
    """A body that takes its time by the clock."""

    def body():
        clock.advance(seconds)
        return "value"

    return body


def test_a_mock_clock_stands_still_until_it_is_moved():
    clock = MockTimeSource(initial_time=100)
    assert (clock.now(), clock.monotonic()) == (100.0, 100.0)
    clock.advance(2.5)
    assert clock.now() == 102.5
    clock.set_time(7)
    assert (clock.now(), clock.monotonic()) == (7.0, 7.0)
    assert repr(clock) == "MockTimeSource(initial_time=7.0)"


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
def test_a_mock_clock_only_goes_back_by_set_time(seconds):
    with pytest.raises(ValueError, match="set_time"):
        MockTimeSource().advance(seconds)


def test_the_system_time_source_reads_the_machines_clocks():
    source = SystemTimeSource()
    assert clocks_of(source) == clocks_of(None) == (time.time, time.perf_counter)
    assert abs(source.now() - time.time()) < 60
    assert source.monotonic() <= source.monotonic()


def test_the_mock_clock_drives_timestamp_and_execution_time_without_sleeping(kind):
    clock, witness, bound, elapsed = MockTimeSource(1000), Witness(), BoundWitness(), []
    bound.bind = lambda signature: (None, lambda seconds, *_: elapsed.append(seconds))
    function = kind.make(advancing(clock, 2.5), CallPyBack([witness, bound], time_source=clock))
    kind.call(function)
    assert witness.at(ExecutionState.PRE_EXECUTION).execution_time is None
    for state in (ExecutionState.POST_SUCCESS, ExecutionState.COMPLETED):
        context = witness.at(state)
        assert (context.timestamp, context.execution_time) == (1000.0, 2.5)
        assert context.result.execution_time == 2.5
    assert elapsed == [2.5]


class SlowObserver:
    priority = 0

    def __init__(self, clock) -> None:
        self.clock = clock

    def update(self, context) -> None:
        self.clock.advance(100)


def test_the_time_observers_take_is_not_the_functions(kind):
    clock, witness = MockTimeSource(), Witness(priority=-1)
    function = kind.make(advancing(clock, 1), CallPyBack([SlowObserver(clock), witness], time_source=clock))
    kind.call(function)
    assert witness.last.execution_time == 1.0


def test_a_generator_is_timed_while_it_runs_and_its_whole_life_is_told_beside_it():
    clock, witness = MockTimeSource(), Witness()

    @CallPyBack([witness], time_source=clock)
    def items():
        clock.advance(1)
        yield "first"
        clock.advance(2)
        yield "second"
        clock.advance(4)

    for _ in items():
        clock.advance(10)  # the consumer's time
    last = witness.last
    assert (last.execution_time, last.lifetime, last.time_to_first_item, last.items) == (7.0, 27.0, 1.0, 2)


def test_an_async_generator_is_timed_in_the_same_way():
    clock, witness = MockTimeSource(), Witness()

    @CallPyBack([witness], time_source=clock)
    async def items():
        clock.advance(1)
        yield "first"
        clock.advance(2)

    async def consume():
        async for _ in items():
            clock.advance(10)

    drive(consume())
    last = witness.last
    assert (last.execution_time, last.lifetime, last.time_to_first_item, last.items) == (3.0, 13.0, 1.0, 1)


def test_an_abandoned_generator_has_lived_until_it_was_closed():
    clock, witness = MockTimeSource(), Witness()

    @CallPyBack([witness], time_source=clock)
    def items():
        try:
            yield "first"
        finally:
            clock.advance(3)

    iterator = items()
    next(iterator)
    clock.advance(10)
    iterator.close()
    assert witness.outcome is Outcome.ABANDONED
    assert (witness.last.execution_time, witness.last.lifetime, witness.last.items) == (3.0, 13.0, 1)


def test_a_coroutine_is_timed_until_it_has_been_awaited_to_its_end():
    witness = Witness()

    @CallPyBack([witness])
    async def rest():
        await asyncio.sleep(0.05)

    asyncio.run(rest())
    assert witness.last.execution_time >= 0.049  # a timer may fire a little early by another clock


def test_a_wall_clock_stepped_back_during_a_call_changes_no_duration(monkeypatch):
    wall, witness = [1000.0], Witness()
    monkeypatch.setattr(SystemTimeSource, "now", staticmethod(lambda: wall[0]))

    @CallPyBack([witness])
    def step_back():
        wall[0] -= 60
        return "value"

    assert step_back() == "value"
    assert 0 <= witness.last.execution_time < 30


def test_a_source_that_goes_back_gives_no_negative_duration(kind):
    clock, witness, metrics = MockTimeSource(100), Witness(), MetricsObserver()

    def body():
        clock.set_time(40)
        return "value"

    function = kind.make(body, CallPyBack([witness, metrics], time_source=clock))
    assert kind.call(function) == "value"
    assert witness.last.execution_time == 0.0
    [stats] = metrics.get_metrics()["function_stats"].values()
    assert (stats["min_time"], stats["max_time"], stats["total_time"]) == (0.0, 0.0, 0.0)


class BrokenSource:
    def __init__(self, reading) -> None:
        self.reading = reading

    def now(self):
        if isinstance(self.reading, type):
            raise self.reading
        return self.reading


BROKEN = [None, "12:00", math.nan, math.inf, -math.inf, 1j, 10**400, [], RuntimeError, SystemExit, GeneratorExit]


@pytest.mark.parametrize("reading", BROKEN, ids=repr)
def test_a_source_that_fails_or_returns_rubbish_hurts_no_call(kind, reading):
    witness, metrics = Witness(), MetricsObserver()
    function = kind.make(lambda: "value", CallPyBack([witness, metrics], time_source=BrokenSource(reading)))
    assert kind.call(function) == "value"
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert math.isnan(witness.last.execution_time)
    [stats] = metrics.get_metrics()["function_stats"].values()
    assert (stats["calls"], stats["total_time"], stats["p99"]) == (1, 0.0, None)


def test_a_source_that_fails_leaves_the_users_exception_alone(kind):
    error = ValueError("the user's")

    def body():
        raise error

    function = kind.make(body, CallPyBack([Witness()], time_source=BrokenSource(RuntimeError)))
    assert kind.ended(function).exception is error
    assert error.__context__ is None


def test_a_source_that_fails_once_makes_only_that_duration_unknown():
    clock, witness = MockTimeSource(), Witness(ExecutionState.COMPLETED)
    readings = {"broken": False}

    class Sometimes:
        def now(self):
            return "rubbish" if readings["broken"] else clock.now()

    function = CallPyBack([witness], time_source=Sometimes())(lambda: clock.advance(1))
    for broken in (False, True, False):
        readings["broken"] = broken
        function()
    assert [context.execution_time for context in witness.contexts] == pytest.approx([1, math.nan, 1], nan_ok=True)


def test_bad_readings_are_counted():
    readings = iter([1, None, math.nan, 2.5])
    clock = GuardedClock(lambda: next(readings))
    assert [clock(), clock(), clock(), clock(), clock()] == pytest.approx(
        [1, math.nan, math.nan, 2.5, math.nan], nan_ok=True
    )
    assert clock.anomalies == 3


def test_a_source_without_monotonic_measures_with_now():
    class OnlyNow:
        seconds = 0.0

        def now(self) -> float:
            OnlyNow.seconds += 1
            return OnlyNow.seconds

    witness = Witness(ExecutionState.COMPLETED)
    CallPyBack([witness], time_source=OnlyNow())(lambda: None)()
    assert witness.last.execution_time == 1.0


def test_a_source_with_monotonic_measures_with_that():
    class Both:
        def now(self) -> float:
            return 5000.0

        def monotonic(self) -> float:
            return 7.0

    witness = Witness(ExecutionState.COMPLETED)
    CallPyBack([witness], time_source=Both())(lambda: None)()
    assert (witness.last.timestamp, witness.last.execution_time) == (5000.0, 0.0)


def test_a_subclass_of_the_system_source_is_used_as_it_is():
    class Shifted(SystemTimeSource):
        __slots__ = ()

        def now(self) -> float:
            return 5.0

    witness = Witness(ExecutionState.COMPLETED)
    CallPyBack([witness], time_source=Shifted())(lambda: None)()
    assert witness.last.timestamp == 5.0


@pytest.mark.parametrize("calls", [0, 1])
def test_metrics_of_no_call_or_of_one_without_duration_divide_by_nothing(calls):
    metrics = MetricsObserver()
    function = CallPyBack([metrics], time_source=MockTimeSource())(lambda: None)
    for _ in range(calls):
        function()
    known = metrics.get_metrics()
    [stats] = known["function_stats"].values()
    times = [stats[name] for name in ("average_time", "min_time", "max_time", "p50", "p95", "p99")]
    assert times == [None if calls == 0 else 0.0] * 6
    assert known["average_execution_time"] == (None if calls == 0 else 0.0)


def test_keyboard_interrupt_in_a_time_source_is_the_programs():
    assert isinstance(ended(GuardedClock(BrokenSource(KeyboardInterrupt).now)).exception, KeyboardInterrupt)
