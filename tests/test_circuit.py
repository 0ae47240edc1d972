"""One circuit: when it opens, whom it lets probe, and what decides nothing.

Of the case list: C39 (one probe of 16 threads), C01 (exact counts), K02, K04, K06 and K10 (clocks), and a closed
circuit that runs calls side by side. Where other libraries differ, a test shows how.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import threading

import circuitbreaker
import freezegun
import pybreaker
import pytest

from callpyback import CallPyBack, ExecutionState, MockTimeSource, Outcome, StopProcessing
from callpyback.core.functions import FunctionSignature
from callpyback.errors import CallVetoed, CircuitOpen, ExecutionTimeout
from callpyback.guards.circuit import PROBE_PATIENCE
from callpyback.guards.circuit_board import CircuitState
from callpyback.guards.circuit_breaker import CircuitBreakerObserver
from kinds import Kind, collected, ended
from tripping import GENERATOR, PLAIN, THREADS, Probed, answer, begun, down, fail, in_threads, is_refused, name_of

CLOSED, OPEN, HALF_OPEN = CircuitState


@pytest.fixture
def clock() -> MockTimeSource:
    return MockTimeSource(1000.0)


@pytest.fixture
def breaker() -> CircuitBreakerObserver:
    return CircuitBreakerObserver(failure_threshold=3, recovery_time=10, on=ConnectionError)


class Vetoing:
    """A later guard that refuses, or answers, when it is told to."""

    guard = True
    priority = 0
    states = ExecutionState.PRE_EXECUTION
    decision = None

    def update(self, context) -> None:
        if self.decision is not None:
            raise self.decision


def test_while_closed_values_and_exceptions_are_the_bodys_own(kind, breaker):
    function = kind.make(answer, CallPyBack([breaker]))
    error = KeyError("of the body")
    assert kind.call(function, "value") == "value"
    assert kind.ended(function, error).exception is error
    assert breaker.state(function) is CLOSED


def test_failures_in_a_row_open_the_circuit_and_the_body_runs_no_more(kind, breaker, clock):
    ran = []

    def body(given):
        ran.append(given)
        return answer(given)

    function = kind.make(body, CallPyBack([breaker], time_source=clock))
    fail(kind, function, 2)
    assert breaker.state(function) == "closed"
    fail(kind, function, 1)
    assert breaker.state(function) == "open"
    assert is_refused(kind, function, "value")
    assert len(ran) == 3


def test_under_the_systems_clock_it_opens_too(kind):
    breaker = CircuitBreakerObserver(failure_threshold=3, recovery_time=3600)
    function = kind.make(answer, CallPyBack([breaker]))
    fail(kind, function)
    refusal = kind.ended(function, "value").exception
    assert type(refusal) is CircuitOpen
    assert 3500 < refusal.retry_after <= 3600


def test_a_refusal_names_the_function_and_says_when_to_come_again(kind, breaker, clock):
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function)
    clock.advance(2.5)
    refusal = kind.ended(function).exception
    assert isinstance(refusal, CallVetoed)
    assert refusal.retry_after == 7.5
    name = function.__qualname__
    assert str(refusal) == f"the circuit of kinds.{name} is open; a call is admitted again in 7.5 s"
    assert refusal.__cause__ is refusal.__context__ is None


def test_a_success_ends_the_run_of_failures(kind, breaker):
    function = kind.make(answer, CallPyBack([breaker]))
    for _ in range(3):
        fail(kind, function, 2)
        assert kind.call(function) == "answer"
    assert breaker.state(function) is CLOSED


def test_an_exception_that_is_not_counted_ends_the_run_of_failures(kind, breaker):
    function, other = kind.make(answer, CallPyBack([breaker])), ValueError("no such page")
    for _ in range(3):
        fail(kind, function, 2)
        assert kind.ended(function, other).exception is other
    assert breaker.state(function) is CLOSED
    fail(kind, function)
    assert breaker.state(function) is OPEN


@pytest.mark.parametrize("library", ["pybreaker", "circuitbreaker"])
def test_in_other_libraries_an_exception_that_is_not_counted_is_a_success_too(library):
    if library == "pybreaker":
        circuit = pybreaker.CircuitBreaker(fail_max=3, exclude=[ValueError])
        function, failures = circuit(answer), lambda: circuit.fail_counter
    else:
        circuit = circuitbreaker.CircuitBreaker(failure_threshold=3, expected_exception=ConnectionError)
        function, failures = circuit(answer), lambda: circuit.failure_count
    for _ in range(2):
        ended(lambda: function(down()))
    assert failures() == 2
    ended(lambda: function(ValueError()))
    assert failures() == 0


def test_several_classes_may_count_and_their_subclasses_do():
    breaker = CircuitBreakerObserver(2, on=(LookupError, ConnectionError))
    function = CallPyBack([breaker])(answer)
    PLAIN.ended(function, KeyError())
    PLAIN.ended(function, ConnectionResetError())
    assert breaker.state(function) is OPEN


def test_by_default_five_exceptions_of_any_class_open_it_for_thirty_seconds(clock):
    breaker = CircuitBreakerObserver()
    function = CallPyBack([breaker], time_source=clock)(answer)
    for error in (OSError(), KeyError(), ValueError(), RuntimeError(), TypeError()):
        assert breaker.state(function) is CLOSED
        assert PLAIN.ended(function, error).exception is error
    assert PLAIN.ended(function).exception.retry_after == 30.0


def test_a_failure_that_a_handler_answered_counts(clock, breaker):
    function = CallPyBack([breaker], default_return="default", time_source=clock)(answer)
    assert [function(down()) for _ in range(3)] == ["default"] * 3
    assert is_refused(PLAIN, function)


def test_the_failure_of_a_critical_observer_is_none_of_the_function(kind, clock):
    class Failing:
        priority, critical, states = 0, True, ExecutionState.POST_SUCCESS

        def update(self, context):
            raise down()

    breaker = CircuitBreakerObserver(1)
    function = kind.make(answer, CallPyBack([breaker, Failing()], time_source=clock))
    assert type(kind.ended(function).exception) is ConnectionError
    assert breaker.state(function) is CLOSED


def test_a_call_with_retries_counts_once(clock, breaker):
    class Twice:
        def next_wait(self, error, attempt, elapsed):
            return 0.0 if attempt < 3 else None

    function = CallPyBack([breaker], retry=Twice(), time_source=clock)(answer)
    fail(PLAIN, function, 2)
    assert breaker.state(function) is CLOSED
    fail(PLAIN, function, 1)
    assert breaker.state(function) is OPEN


@pytest.mark.parametrize(("on", "state"), [(TimeoutError, OPEN), (ExecutionTimeout, OPEN), (ConnectionError, CLOSED)])
def test_a_deadline_that_passed_counts_if_it_is_among_the_exceptions(clock, on, state):
    breaker = CircuitBreakerObserver(1, on=on)

    @CallPyBack([breaker], max_execution_time=1, time_source=clock)
    def items():
        yield 1
        clock.advance(2)
        yield 2

    assert type(ended(lambda: list(items())).exception) is ExecutionTimeout
    assert breaker.state(items) is state


def test_a_deadline_that_does_not_count_leaves_the_run_of_failures_as_it_is(clock, breaker):
    function = CallPyBack([breaker], time_source=clock)(answer)
    fail(PLAIN, function, 2)
    PLAIN.ended(function, ExecutionTimeout("inner", 1.0))
    fail(PLAIN, function, 1)
    assert breaker.state(function) is OPEN


def test_the_refusal_of_another_circuit_is_an_exception_like_any_other(clock):
    inner_breaker, outer_breaker = CircuitBreakerObserver(1), CircuitBreakerObserver(2)
    inner = CallPyBack([inner_breaker], time_source=clock)(answer)
    outer = CallPyBack([outer_breaker], time_source=clock)(lambda given: inner(given))
    for _ in range(2):
        ended(lambda: outer(down()))
    assert outer_breaker.state() is OPEN


def test_after_the_recovery_time_a_probe_that_succeeds_closes_the_circuit(kind, breaker, clock):
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function)
    clock.advance(9.999)
    assert is_refused(kind, function)
    clock.advance(0.001)
    assert breaker.state(function) == "half-open"
    assert kind.call(function) == "answer"
    assert breaker.state(function) is CLOSED
    fail(kind, function, 2)  # the count has begun anew
    assert breaker.state(function) is CLOSED


def test_a_probe_that_fails_opens_the_circuit_for_another_recovery_time(kind, breaker, clock):
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function)
    clock.advance(25)
    fail(kind, function, 1)
    assert kind.ended(function).exception.retry_after == 10.0
    clock.advance(10)
    assert kind.call(function) == "answer"


def test_a_probe_that_is_answered_by_another_exception_closes_the_circuit(kind, breaker, clock):
    function, other = kind.make(answer, CallPyBack([breaker], time_source=clock)), ValueError("no such page")
    fail(kind, function)
    clock.advance(10)
    assert kind.ended(function, other).exception is other
    assert breaker.state(function) is CLOSED


def test_while_a_probe_is_under_way_the_others_are_refused(breaker, clock):
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    fail(GENERATOR, function)
    clock.advance(10)
    probe = begun(function)
    refusal = GENERATOR.ended(function).exception
    assert type(refusal) is CircuitOpen
    assert "half-open, and its probe has not ended" in str(refusal)
    assert refusal.retry_after == 10.0  # as if the probe were to fail now
    assert list(probe) == ["answer"]
    assert GENERATOR.call(function) == "answer"


UNDECIDED = {
    "cancelled": asyncio.CancelledError(),
    "aborted by Ctrl-C": KeyboardInterrupt(),
    "aborted by exit": SystemExit(3),
    "timed out": ExecutionTimeout("inner", 1.0),
    "vetoed": CallVetoed("by a later guard"),
    "answered": StopProcessing(["by a later guard"]),
}


@pytest.mark.parametrize("how", UNDECIDED)
def test_a_probe_without_a_result_decides_nothing_and_the_next_call_probes(kind, breaker, clock, how):
    later, end = Vetoing(), UNDECIDED[how]
    function = kind.make(answer, CallPyBack([breaker, later], time_source=clock))
    fail(kind, function)
    clock.advance(10)
    if how in ("vetoed", "answered"):
        later.decision, given = end, "value"
    else:
        given = end
    for _ in range(3):
        kind.ended(function, given)
        assert breaker.state(function) is HALF_OPEN
    later.decision = None
    assert kind.call(function) == "answer"
    assert breaker.state(function) is CLOSED
    assert breaker.get_metrics()["functions"][name_of(function)]["probes"] == 4


@pytest.mark.parametrize("how", UNDECIDED)
def test_a_call_without_a_result_leaves_the_run_of_failures_as_it_is(kind, breaker, clock, how):
    later, end = Vetoing(), UNDECIDED[how]
    function = kind.make(answer, CallPyBack([breaker, later], time_source=clock))
    fail(kind, function, 2)
    later.decision = end if how in ("vetoed", "answered") else None
    kind.ended(function, end)
    later.decision = None
    assert breaker.state(function) is CLOSED
    fail(kind, function, 1)
    assert breaker.state(function) is OPEN


@pytest.mark.parametrize("how", ["close", "drop"])
@pytest.mark.parametrize("name", ["generator", "coroutine"])
def test_a_probe_that_is_abandoned_leaves_its_place_to_the_next(breaker, clock, name, how):
    kind = Kind(name)
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function)
    clock.advance(10)
    probe = function()
    probe.send(None)
    assert is_refused(kind, function)
    if how == "close":
        probe.close()
    del probe
    gc.collect()
    assert breaker.state(function) is HALF_OPEN
    assert kind.call(function) == "answer"


def test_an_async_generator_left_by_its_consumer_leaves_its_place_to_the_next(breaker, clock):
    kind = Kind("async generator")
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function)
    clock.advance(10)

    async def main():
        async for _ in function():
            break
        for _ in range(3):  # it is closed in a task of its own
            await asyncio.sleep(0)
        return await collected(function())

    assert asyncio.run(main())[-1] == "answer"


def test_a_probe_that_does_not_end_gives_up_its_place(breaker, clock):
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    fail(GENERATOR, function)
    clock.advance(10)
    hanging = begun(function, error := down())
    clock.advance(PROBE_PATIENCE - 0.001)
    assert is_refused(GENERATOR, function)
    clock.advance(0.001)
    second = begun(function)
    assert is_refused(GENERATOR, function)
    assert list(second) == ["answer"]
    assert breaker.state(function) is CLOSED
    assert ended(lambda: list(hanging)).exception is error  # of a stretch of time that is over
    fail(GENERATOR, function, 2)
    assert breaker.state(function) is CLOSED


def test_a_long_recovery_time_is_a_long_patience_with_probes(clock):
    breaker = CircuitBreakerObserver(1, recovery_time=100)
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    fail(GENERATOR, function, 1)
    clock.advance(100)
    hanging = begun(function)
    clock.advance(99)
    assert is_refused(GENERATOR, function)
    clock.advance(1)
    assert GENERATOR.call(function) == "answer"
    hanging.close()


@pytest.mark.parametrize("end", ["answer", down()], ids=["success", "failure"])
def test_a_call_admitted_before_the_circuit_opened_neither_closes_nor_extends_it(breaker, clock, end):
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    late = begun(function, end)
    fail(GENERATOR, function)
    clock.advance(4)
    ended(lambda: list(late))
    assert GENERATOR.ended(function).exception.retry_after == 6.0


@pytest.mark.parametrize("end", ["answer", down()], ids=["success", "failure"])
def test_a_call_admitted_before_the_circuit_opened_does_not_decide_for_the_probe(breaker, clock, end):
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    late = begun(function, end)
    fail(GENERATOR, function)
    clock.advance(10)
    probe = begun(function)
    ended(lambda: list(late))
    assert breaker.state(function) is HALF_OPEN
    assert is_refused(GENERATOR, function)
    probe.close()


def test_a_call_admitted_before_the_circuit_opened_does_not_count_after_it_has_closed(clock):
    breaker = CircuitBreakerObserver(1, recovery_time=10)
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    late = begun(function, error := down())
    fail(GENERATOR, function, 1)
    clock.advance(10)
    assert GENERATOR.call(function) == "answer"
    assert ended(lambda: list(late)).exception is error
    assert breaker.state(function) is CLOSED


def test_in_other_libraries_a_late_success_closes_an_open_circuit():
    circuit = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=3600)
    function = GENERATOR.make(answer, circuit)
    late = begun(function)
    ended(lambda: list(function(down())))
    assert circuit.opened
    assert list(late) == ["answer"]
    assert circuit.closed


def test_without_a_recovery_time_every_call_to_a_failing_function_is_a_probe(clock):
    breaker = CircuitBreakerObserver(1, recovery_time=0)
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    fail(GENERATOR, function, 3)
    probe = begun(function)
    assert GENERATOR.ended(function).exception.retry_after == 0.0
    probe.close()


def test_a_probe_that_calls_itself_is_refused_inside_and_the_circuit_recovers(kind, clock):
    breaker = CircuitBreakerObserver(1, recovery_time=10)
    inner = []

    def body(given):
        if given == "recurse":
            inner.append(kind.ended(function, "inner"))
            return answer(inner[-1].exception or inner[-1].value)
        return answer(given)

    function = kind.make(body, CallPyBack([breaker], time_source=clock))
    assert kind.call(function, "recurse") == "inner"
    fail(kind, function, 1)
    clock.advance(10)
    assert is_refused(kind, function, "recurse")
    assert type(inner[-1].exception) is CircuitOpen
    assert breaker.state(function) is CLOSED
    assert kind.call(function, "recurse") == "inner"


def test_of_sixteen_threads_a_half_open_circuit_admits_exactly_one(kind, breaker, clock):
    body = Probed()
    function = kind.make(body, CallPyBack([breaker], time_source=clock))

    def work(_):
        end = kind.ended(function)
        if isinstance(end.exception, CircuitOpen):
            body.refused.release()
        return end

    for turn in range(1, 11):
        breaker.trip(function)
        clock.advance(10)
        ends = in_threads(work)
        assert body.ran == turn
        assert [end.value for end in ends if end.exception is None] == ["answer"]
        assert sum(type(end.exception) is CircuitOpen for end in ends) == THREADS - 1
        assert breaker.state(function) is CLOSED


def test_another_library_admits_sixteen_probes():
    circuit = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=1e-9)
    together = threading.Barrier(THREADS)
    function = circuit(lambda given: together.wait(30) if given == "probe" else answer(given))
    ended(lambda: function(down()))
    assert circuit.state == circuitbreaker.STATE_HALF_OPEN
    assert sorted(in_threads(lambda _: function("probe"))) == list(range(THREADS))


def test_calls_of_a_closed_circuit_run_side_by_side(kind, breaker):
    together = threading.Barrier(THREADS)
    function = kind.make(lambda: together.wait(30), CallPyBack([breaker]))
    assert sorted(in_threads(lambda _: kind.call(function))) == list(range(THREADS))


def test_another_library_runs_the_calls_of_a_closed_circuit_one_after_the_other():
    running, most = [], []

    def body():
        running.append(None)
        most.append(len(running))
        gate.wait(0.01)
        running.pop()

    gate = threading.Event()
    function = pybreaker.CircuitBreaker()(body)
    in_threads(lambda _: function(), 4)
    assert max(most) == 1


def test_failures_of_many_threads_are_counted_exactly():
    breaker = CircuitBreakerObserver(failure_threshold=1600)
    function = CallPyBack([breaker])(answer)

    def work(number):
        for _ in range(100 if number else 99):
            fail(PLAIN, function, 1)

    in_threads(work)
    assert breaker.get_metrics()["functions"][name_of(function)]["failures_in_a_row"] == 1599
    assert breaker.state() is CLOSED
    fail(PLAIN, function, 1)
    assert breaker.state() is OPEN


def test_calls_refused_by_many_threads_are_counted_exactly(breaker):
    function = CallPyBack([breaker])(answer)
    breaker.trip()
    in_threads(lambda _: [ended(function) for _ in range(200)])
    counts = breaker.get_metrics()["functions"][name_of(function)]
    assert (counts["refused"], counts["probes"], counts["opened"]) == (THREADS * 200, 0, 1)


def test_under_load_every_probe_decides_and_every_change_follows_from_the_one_before(clock):
    changes = []
    breaker = CircuitBreakerObserver(2, recovery_time=0, on=ConnectionError, on_state_change=changes.append)

    function = CallPyBack([breaker], time_source=clock)(answer)

    def work(number):
        for turn in range(300):
            PLAIN.ended(function, down() if (number + turn) % 3 else "answer")

    in_threads(work)
    assert len(changes) > 10
    assert changes[0].before is CLOSED
    assert all(one.after is other.before for one, other in itertools.pairwise(changes))
    allowed = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
    assert {(change.before, change.after) for change in changes} <= allowed
    counts = breaker.get_metrics()["functions"][changes[0].function]
    assert counts["opened"] == sum(change.after is OPEN for change in changes)
    assert counts["probes"] == sum(change.after is HALF_OPEN for change in changes)


def test_of_a_hundred_tasks_a_half_open_circuit_admits_exactly_one(breaker, clock):
    ran = []

    @CallPyBack([breaker], time_source=clock)
    async def function():
        ran.append(asyncio.current_task())
        for _ in range(3):
            await asyncio.sleep(0)
        return "answer"

    async def main():
        return await asyncio.gather(*(function() for _ in range(100)), return_exceptions=True)

    breaker.trip()
    clock.advance(10)
    ends = asyncio.run(main())
    assert len(ran) == 1
    assert [end for end in ends if not isinstance(end, CircuitOpen)] == ["answer"]
    assert breaker.state() is CLOSED


def test_a_cancelled_probe_leaves_its_place_to_the_next(breaker, clock):
    @CallPyBack([breaker], time_source=clock)
    async def function(seconds):
        await asyncio.sleep(seconds)
        return "answer"

    async def main():
        probe = asyncio.create_task(function(3600))
        await asyncio.sleep(0)
        with pytest.raises(CircuitOpen):
            await function(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert probe.cancelled()
        assert breaker.state() is HALF_OPEN
        return await function(0)

    breaker.trip()
    clock.advance(10)
    assert asyncio.run(main()) == "answer"


def test_a_closed_circuit_without_failures_takes_no_lock_and_reads_no_clock(breaker):
    signature = FunctionSignature.of(answer)
    admit, end = breaker.bind_guard(signature, lambda: pytest.fail("the clock was read"))
    held, done = threading.Event(), threading.Event()

    def hold():
        with admit.__self__.board.lock:
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    try:
        calling = threading.Thread(target=lambda: end(0.1, None, None, Outcome.SUCCESS, admit((), {})))
        calling.start()
        calling.join(30)
        assert not calling.is_alive()
    finally:
        done.set()
        holder.join()


class Clock:
    """A user's time source whose reading is what the test says."""

    def __init__(self) -> None:
        self.reading = 0.0

    def now(self):
        if isinstance(self.reading, Exception):
            raise self.reading
        return self.reading


@pytest.mark.parametrize("reading", [math.nan, None, "noon", OSError("no clock")], ids=repr)
@pytest.mark.parametrize("when", ["when it opens", "from then on"])
def test_a_clock_that_fails_keeps_no_circuit_open_and_admits_one_probe_at_a_time(breaker, reading, when):
    clock = Clock()
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    fail(GENERATOR, function, 2)
    clock.reading = reading
    fail(GENERATOR, function, 1)
    if when == "when it opens":
        clock.reading = 5.0
    probe = begun(function, error := down())
    for _ in range(3):
        assert is_refused(GENERATOR, function)
    assert ended(lambda: list(probe)).exception is error
    if when == "when it opens":
        assert is_refused(GENERATOR, function)
        clock.reading = 15.0
    assert GENERATOR.call(function) == "answer"
    assert breaker.state(function) is CLOSED


def test_a_clock_that_goes_back_keeps_no_circuit_open(breaker, clock):
    function = PLAIN.make(answer, CallPyBack([breaker], time_source=clock))
    fail(PLAIN, function)
    clock.set_time(-1e9)
    assert function() == "answer"


def test_a_step_of_the_wall_clock_changes_nothing(breaker):
    class Stepped(Clock):
        def monotonic(self):
            return 50.0

    clock = Stepped()
    function = PLAIN.make(answer, CallPyBack([breaker], time_source=clock))
    fail(PLAIN, function)
    for step in (86_400.0, -86_400.0):
        clock.reading += step
        assert PLAIN.ended(function).exception.retry_after == 10.0


@pytest.mark.parametrize("decorated", ["before", "while"])
def test_freezing_the_clocks_of_a_test_changes_nothing(breaker, decorated):
    function = CallPyBack([breaker])(answer) if decorated == "before" else None
    with freezegun.freeze_time("2001-01-01"):
        function = function or CallPyBack([breaker])(answer)
        fail(PLAIN, function)
        assert 0 < PLAIN.ended(function).exception.retry_after <= 10
    assert 0 < PLAIN.ended(function).exception.retry_after <= 10
