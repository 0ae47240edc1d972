"""The circuit breaker: when it opens, whom it lets probe, and what decides nothing.

Of the case list: C39 (one probe of 16 threads), C01 (exact counts), C20 (forks), K01, K02, K04, K06 and K10 (clocks),
M03 and M06 (what is kept), and the closed circuit that runs calls side by side.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import pickle
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import circuitbreaker
import pybreaker
import pytest

from callpyback import CallPyBack, ConfigurationError, MockTimeSource, Outcome, StopProcessing, handle
from callpyback.core.functions import FunctionSignature
from callpyback.errors import CallVetoed, CircuitOpen, ExecutionTimeout
from callpyback.guards.circuit import PROBE_PATIENCE, CircuitChange, CircuitState
from callpyback.guards.circuit_breaker import OVERFLOW, CircuitBreakerObserver
from kinds import Kind, collected, drive, ended

CLOSED, OPEN, HALF_OPEN = CircuitState
THREADS = 16
DOWN = ConnectionError("down")


def answer(given="answer", *_):
    """Return what is given, or raise it."""
    if isinstance(given, BaseException):
        raise given
    return given


@pytest.fixture
def clock() -> MockTimeSource:
    return MockTimeSource(1000.0)


@pytest.fixture
def breaker() -> CircuitBreakerObserver:
    return CircuitBreakerObserver(failure_threshold=3, recovery_time=10, on=ConnectionError)


def fail(kind, function, times=3, *rest) -> None:
    """Have it called, and fail, so many times."""
    for _ in range(times):
        assert kind.ended(function, DOWN, *rest).exception is DOWN


def is_refused(kind, function, *args) -> bool:
    return type(kind.ended(function, *args).exception) is CircuitOpen


def begun(function, *args):
    """Return a call of a generator function that has made its first step."""
    call = function(*args)
    next(call)
    return call


class Vetoing:
    """A later guard that refuses, or answers, when it is told to."""

    guard = True
    priority = 0
    decision = None

    def update(self, context) -> None:
        if self.decision is not None:
            raise self.decision


PLAIN = Kind("plain")
GENERATOR = Kind("generator")


# Opening


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
    assert ran == [DOWN] * 3


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
        ended(lambda: function(DOWN))
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
    assert [function(DOWN) for _ in range(3)] == ["default"] * 3
    assert is_refused(PLAIN, function)


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
        ended(lambda: outer(DOWN))
    assert outer_breaker.state() is OPEN


# Half-open


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


def name_of(function) -> str:
    signature = FunctionSignature.of(getattr(function, "__func__", function))
    return f"{signature.module}.{signature.qualname}"


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
    hanging = begun(function, DOWN)
    clock.advance(PROBE_PATIENCE - 0.001)
    assert is_refused(GENERATOR, function)
    clock.advance(0.001)
    second = begun(function)
    assert is_refused(GENERATOR, function)
    assert list(second) == ["answer"]
    assert breaker.state(function) is CLOSED
    assert ended(lambda: list(hanging)).exception is DOWN  # of a stretch of time that is over
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


@pytest.mark.parametrize("end", ["answer", DOWN], ids=["success", "failure"])
def test_a_call_admitted_before_the_circuit_opened_neither_closes_nor_extends_it(breaker, clock, end):
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    late = begun(function, end)
    fail(GENERATOR, function)
    clock.advance(4)
    ended(lambda: list(late))
    assert GENERATOR.ended(function).exception.retry_after == 6.0


@pytest.mark.parametrize("end", ["answer", DOWN], ids=["success", "failure"])
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
    late = begun(function, DOWN)
    fail(GENERATOR, function, 1)
    clock.advance(10)
    assert GENERATOR.call(function) == "answer"
    assert ended(lambda: list(late)).exception is DOWN
    assert breaker.state(function) is CLOSED


def test_in_other_libraries_a_late_success_closes_an_open_circuit():
    circuit = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=3600)
    function = GENERATOR.make(answer, circuit)
    late = begun(function)
    ended(lambda: list(function(DOWN)))
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


# Recursion


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


# Threads and tasks


@pytest.fixture
def hurried():
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def in_threads(work, threads: int = THREADS) -> list:
    """Run `work(number)` in so many threads that begin together; the first exception comes out."""
    start = threading.Barrier(threads)

    def begin(number):
        start.wait(30)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))


class Probed:
    """A body that lasts until all other threads have been refused."""

    def __init__(self, others: int = THREADS - 1) -> None:
        self.ran = 0
        self.refused = threading.Semaphore(0)
        self.others = others

    def __call__(self, given="answer"):
        if given is DOWN:
            raise DOWN
        self.ran += 1
        for _ in range(self.others):
            assert self.refused.acquire(timeout=30)
        return given


@pytest.mark.usefixtures("hurried")
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
    ended(lambda: function(DOWN))
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


@pytest.mark.usefixtures("hurried")
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


@pytest.mark.usefixtures("hurried")
def test_calls_refused_by_many_threads_are_counted_exactly(breaker):
    function = CallPyBack([breaker])(answer)
    breaker.trip()
    in_threads(lambda _: [ended(function) for _ in range(200)])
    counts = breaker.get_metrics()["functions"][name_of(function)]
    assert (counts["refused"], counts["probes"], counts["opened"]) == (THREADS * 200, 0, 1)


@pytest.mark.usefixtures("hurried")
def test_under_load_every_probe_is_alone_and_every_change_follows_from_the_one_before(clock):
    changes, running = [], []
    breaker = CircuitBreakerObserver(2, recovery_time=0, on=ConnectionError, on_state_change=changes.append)

    def body(given):
        if changes and changes[-1].after is HALF_OPEN:
            running.append(None)
        return answer(given)

    function = CallPyBack([breaker], time_source=clock)(body)

    def work(number):
        for turn in range(300):
            ended(lambda: function(DOWN if (number + turn) % 3 else "answer"))

    in_threads(work)
    assert len(changes) > 10
    assert changes[0].before is CLOSED
    assert all(one.after is other.before for one, other in zip(changes, changes[1:], strict=False))
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


# Keys


def keyed(**options) -> CircuitBreakerObserver:
    return CircuitBreakerObserver(2, 10, key=lambda arguments: arguments["user"], **options)


def ask(given, user):
    """A function with a key."""
    return answer(given)


def test_each_key_has_its_own_circuit(kind, clock):
    breaker = keyed()
    function = kind.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
    fail(kind, function, 2, "ann")
    assert is_refused(kind, function, "value", "ann")
    assert kind.call(function, "value", "ben") == "value"
    assert breaker.state(function, key="ann") is OPEN
    assert breaker.state(function, key="ben") is breaker.state(function, key="never called") is CLOSED
    clock.advance(10)
    assert kind.call(function, "value", "ann") == "value"
    assert breaker.state(function, key="ann") is CLOSED


def test_the_instance_of_a_method_may_be_the_key_and_is_not_kept_alive_by_a_healthy_circuit(clock):
    breaker = CircuitBreakerObserver(1, key=lambda arguments, instance: instance.host)

    class Client:
        def __init__(self, host):
            self.host = host

        @CallPyBack([breaker], time_source=clock)
        def get(self, given):
            return answer(given)

    one, other = Client("one"), Client("other")
    ended(lambda: one.get(DOWN))
    assert type(ended(lambda: one.get("page")).exception) is CircuitOpen
    assert other.get("page") == "page"
    assert breaker.state(Client.get, key="one") is breaker.state(one.get, key="one") is OPEN
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_a_key_that_fails_is_a_failure_of_the_breaker_and_the_call_goes_on(kind, clock):
    for key in (lambda arguments: arguments["nobody"], lambda arguments: []):
        breaker = CircuitBreakerObserver(1, key=key)
        function = kind.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
        fail(kind, function, 3, "ann")
        [health] = handle(function).health.values()
        assert health.failures == 3


def test_with_critical_a_key_that_fails_refuses_the_call(kind, clock):
    breaker = CircuitBreakerObserver(key=lambda arguments: arguments["nobody"], critical=True)
    function = kind.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
    assert type(kind.ended(function, "value", "ann").exception) is KeyError


def test_thousands_of_keys_are_kept_apart_and_none_that_is_open_is_forgotten(clock):
    breaker = keyed(max_keys=5000)
    function = CallPyBack([breaker], time_source=clock)(ask)
    broken = range(0, 20_000, 7)
    for user in range(20_000):
        if user % 7 == 0:
            fail(PLAIN, function, 2, user)
        else:
            function("value", user)
    assert [user for user in range(20_000) if breaker.state(key=user) is OPEN] == list(broken)
    metrics = breaker.get_metrics()["functions"][name_of(ask)]
    assert metrics["opened"] == metrics["not_closed"] == len(broken)
    assert len(metrics["circuits"]) == 100
    assert metrics["circuits"][1] == {
        "key": "7",
        "state": "open",
        "failures_in_a_row": 2,
        "seconds_until_probe": 10.0,
    }


def test_the_circuits_of_healthy_keys_are_forgotten(clock):
    breaker = keyed()
    function = CallPyBack([breaker], time_source=clock)(ask)
    for user in range(20_000):
        function("value", user)
    assert breaker.get_metrics()["functions"][name_of(ask)]["keys"] < 100


def test_beyond_the_greatest_number_of_keys_the_others_share_a_circuit(clock, caplog):
    changes = []
    breaker = keyed(max_keys=10, on_state_change=changes.append)
    function = CallPyBack([breaker], time_source=clock)(ask)
    for user in range(10):
        fail(PLAIN, function, 2, user)
    fail(PLAIN, function, 1, "ann")
    assert function("value", "ben") == "value"  # ends the run that ann's failure began
    fail(PLAIN, function, 1, "ann")
    fail(PLAIN, function, 1, "ben")
    assert is_refused(PLAIN, function, "value", "someone else")
    assert [change.key for change in changes] == [*range(10), OVERFLOW]
    assert "max_keys" in caplog.text


def test_where_keys_are_many_open_circuits_make_room_once_their_recovery_time_has_passed(clock):
    breaker = keyed(max_keys=10)
    function = CallPyBack([breaker], time_source=clock)(ask)
    for user in range(10):
        fail(PLAIN, function, 2, user)
    clock.advance(10)
    for user in range(10, 20):
        fail(PLAIN, function, 2, user)
    assert [user for user in range(20) if breaker.state(key=user) is OPEN] == list(range(10, 20))


def test_a_call_under_way_counts_for_the_circuit_of_its_key_even_if_that_was_forgotten(clock):
    breaker = CircuitBreakerObserver(1, 10, key=lambda arguments: arguments["user"])
    function = GENERATOR.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
    early, late = begun(function, DOWN, "ann"), begun(function, DOWN, "ann")
    for user in range(100):
        GENERATOR.call(function, "value", user)
    assert ended(lambda: list(early)).exception is DOWN
    assert breaker.state(key="ann") is OPEN
    clock.advance(10)
    assert GENERATOR.call(function, "value", "ann") == "value"
    for user in range(100):
        GENERATOR.call(function, "value", user)
    assert ended(lambda: list(late)).exception is DOWN  # admitted before the circuit opened
    assert breaker.state(key="ann") is CLOSED


@pytest.mark.usefixtures("hurried")
def test_every_key_admits_exactly_one_of_sixteen_threads(clock):
    breaker, bodies = keyed(), {user: Probed() for user in range(20)}
    function = CallPyBack([breaker], time_source=clock)(lambda given, user: bodies[user](given))

    def work(_):
        ends = []
        for user, body in bodies.items():
            end = PLAIN.ended(function, "answer", user)
            if isinstance(end.exception, CircuitOpen):
                body.refused.release()
            else:
                ends.append(user)
        return ends

    for user in bodies:
        fail(PLAIN, function, 2, user)
    clock.advance(10)
    admitted = [user for users in in_threads(work) for user in users]
    assert sorted(admitted) == list(bodies)


# Clocks


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
    probe = begun(function, DOWN)
    for _ in range(3):
        assert is_refused(GENERATOR, function)
    assert ended(lambda: list(probe)).exception is DOWN
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


# What is told


def lines_of(caplog) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "callpyback"]


def test_each_change_is_one_line_of_the_log(breaker, clock, caplog):
    caplog.set_level(logging.INFO, "callpyback")
    function = CallPyBack([breaker], time_source=clock)(answer)
    fail(PLAIN, function)
    is_refused(PLAIN, function)
    clock.advance(10)
    fail(PLAIN, function, 1)
    clock.advance(10)
    function()
    start = f"circuit of {name_of(answer)}: "
    assert lines_of(caplog) == [
        (logging.WARNING, start + "closed -> open, failures in a row: 3, the last a ConnectionError"),
        (logging.INFO, start + "open -> half-open, a probe is admitted"),
        (logging.WARNING, start + "half-open -> open, the probe failed with ConnectionError"),
        (logging.INFO, start + "open -> half-open, a probe is admitted"),
        (logging.INFO, start + "half-open -> closed, the probe was answered"),
    ]


def test_the_log_shows_keys_in_one_bounded_line_and_nothing_of_the_exception(clock, caplog):
    breaker = CircuitBreakerObserver(1, key=lambda arguments: arguments["user"])
    function = CallPyBack([breaker], time_source=clock)(ask)
    key = "ann\nadmin" + "x" * 10_000
    ended(lambda: function(ConnectionError("password=1234"), key))
    [(_, line)] = lines_of(caplog)
    assert line.startswith(f"circuit of {name_of(ask)} for key 'ann\\nadminxxx")
    assert "\n" not in line
    assert len(line) < 500
    assert "1234" not in line


def test_a_callback_is_told_each_change_in_order(clock):
    changes = []
    breaker = keyed(on_state_change=changes.append)
    function = CallPyBack([breaker], time_source=clock)(ask)
    fail(PLAIN, function, 2, "ann")
    clock.advance(10)
    function("value", "ann")
    breaker.trip(key="ann")
    breaker.reset(key="ann")
    name = name_of(ask)
    assert changes == [
        CircuitChange(name, "ann", CLOSED, OPEN, "failures in a row: 2, the last a ConnectionError"),
        CircuitChange(name, "ann", OPEN, HALF_OPEN, "a probe is admitted"),
        CircuitChange(name, "ann", HALF_OPEN, CLOSED, "the probe was answered"),
        CircuitChange(name, "ann", CLOSED, OPEN, "tripped by hand"),
        CircuitChange(name, "ann", OPEN, CLOSED, "reset by hand"),
    ]


@pytest.mark.parametrize("error", [RuntimeError("of the callback"), SystemExit(3), asyncio.CancelledError()], ids=repr)
def test_a_callback_that_fails_is_logged_and_changes_nothing(kind, clock, caplog, error):
    breaker = CircuitBreakerObserver(1, 10, on_state_change=lambda change: answer(error))
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function, 1)
    assert is_refused(kind, function)
    clock.advance(10)
    assert kind.call(function) == "answer"
    assert sum("on_state_change" in line for _, line in lines_of(caplog)) == 3


def test_ctrl_c_in_a_callback_goes_to_the_program_and_the_place_of_the_probe_is_free(kind, clock):
    interrupts = iter([None, KeyboardInterrupt(), None, None])
    breaker = CircuitBreakerObserver(1, 10, on_state_change=lambda change: answer(next(interrupts)))
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function, 1)
    clock.advance(10)
    assert type(kind.ended(function).exception) is KeyboardInterrupt
    assert kind.call(function) == "answer"


def test_a_callback_may_use_the_breaker_and_is_told_what_that_changes(clock):
    told = []

    def on_state_change(change):
        told.append(change.after)
        if change.after is OPEN:
            breaker.reset()
            assert told[-1] is OPEN  # told when this one returns

    breaker = CircuitBreakerObserver(1, on_state_change=on_state_change)
    function = CallPyBack([breaker], time_source=clock)(answer)
    fail(PLAIN, function, 2)
    assert told == [OPEN, CLOSED, OPEN, CLOSED]
    assert function() == "answer"


def test_metrics_show_the_circuit_and_what_became_of_calls(breaker, clock):
    function = CallPyBack([breaker], time_source=clock)(answer)

    def metrics():
        [known] = breaker.get_metrics()["functions"].values()
        return tuple(known.values())

    [known] = breaker.get_metrics()["functions"].values()
    assert list(known) == ["state", "failures_in_a_row", "seconds_until_probe", "opened", "refused", "probes"]
    assert metrics() == ("closed", 0, None, 0, 0, 0)
    fail(PLAIN, function, 2)
    assert metrics() == ("closed", 2, None, 0, 0, 0)
    fail(PLAIN, function, 1)
    clock.advance(4)
    ended(function)
    assert metrics() == ("open", 3, 6.0, 1, 1, 0)
    clock.advance(6)
    assert metrics() == ("half-open", 3, 0.0, 1, 1, 0)
    fail(PLAIN, function, 1)
    assert metrics() == ("open", 4, 10.0, 2, 1, 1)
    clock.advance(10)
    function()
    assert metrics() == ("closed", 0, None, 2, 1, 2)


# By hand


def test_a_tripped_circuit_is_open_for_the_recovery_time(kind, breaker, clock):
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    breaker.trip(function)
    assert kind.ended(function).exception.retry_after == 10.0
    clock.advance(6)
    breaker.trip(function)
    assert kind.ended(function).exception.retry_after == 10.0
    clock.advance(10)
    assert kind.call(function) == "answer"
    assert breaker.state(function) is CLOSED


def test_a_reset_circuit_is_closed_and_has_no_failures(kind, breaker, clock):
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function)
    breaker.reset(function)
    assert kind.call(function) == "answer"
    fail(kind, function, 2)
    breaker.reset()
    fail(kind, function, 2)
    assert breaker.state(function) is CLOSED


@pytest.mark.parametrize("by_hand", ["trip", "reset"])
def test_a_probe_under_way_decides_nothing_after_a_hand_has(breaker, clock, by_hand):
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    fail(GENERATOR, function)
    clock.advance(10)
    probe = begun(function, "answer" if by_hand == "trip" else DOWN)
    getattr(breaker, by_hand)(function)
    state = breaker.state(function)
    ended(lambda: list(probe))
    assert breaker.state(function) is state is (OPEN if by_hand == "trip" else CLOSED)


def test_by_hand_one_function_is_chosen_or_all(clock):
    breaker = CircuitBreakerObserver()
    decorator = CallPyBack([breaker], time_source=clock)
    functions = [PLAIN.make(answer, decorator), decorator(answer), Kind("method").make(answer, decorator)]
    breaker.trip(functions[0])
    breaker.trip(name_of(functions[2]))
    assert [breaker.state(function) for function in functions] == [OPEN, CLOSED, OPEN]
    breaker.trip()
    breaker.reset(functions[2])
    assert [breaker.state(function) for function in functions] == [OPEN, OPEN, CLOSED]
    breaker.reset()
    assert {breaker.state(function) for function in functions} == {CLOSED}


def test_by_hand_one_key_is_chosen_and_reset_takes_all(clock):
    breaker = keyed()
    function = CallPyBack([breaker], time_source=clock)(ask)
    breaker.trip(key="ann")
    breaker.trip(function, key="ben")
    breaker.reset(key="ann")
    assert [str(breaker.state(key=key)) for key in ("ann", "ben", "cem")] == ["closed", "open", "closed"]
    breaker.reset()
    assert breaker.state(key="ben") is CLOSED


def test_what_is_not_guarded_is_refused_by_name(breaker):
    with pytest.raises(LookupError, match="0 functions"):
        breaker.state()
    decorator = CallPyBack([breaker])
    one, _other = decorator(answer), decorator(ask)
    with pytest.raises(LookupError, match="2 functions are guarded, say which"):
        breaker.state()
    with pytest.raises(LookupError, match=rf"'test_circuit_breaker.anser' .* did you mean '{name_of(one)}'"):
        breaker.trip("test_circuit_breaker.anser")
    with pytest.raises(LookupError, match="fail"):
        breaker.reset(fail)
    with pytest.raises(ConfigurationError, match="key='ann'.*without key="):
        breaker.trip(one, key="ann")


def test_where_there_are_keys_one_must_be_named():
    breaker = keyed()
    kept = CallPyBack([breaker])(ask)
    for by_hand in (breaker.state, breaker.trip):
        with pytest.raises(ConfigurationError, match="with key="):
            by_hand(kept)


def test_each_function_has_its_own_circuit(breaker, clock):
    decorator = CallPyBack([breaker], time_source=clock)
    one, other = decorator(answer), decorator(lambda: "other")
    fail(PLAIN, one)
    assert (breaker.state(one), breaker.state(other)) == (OPEN, CLOSED)


def test_a_circuit_stays_as_it_is_when_other_observers_come_and_go(breaker, clock):
    function = CallPyBack([breaker], time_source=clock)(answer)
    fail(PLAIN, function)
    watching = Vetoing()
    handle(function).add_observer(watching)
    assert is_refused(PLAIN, function)
    handle(function).remove_observer(watching)
    assert is_refused(PLAIN, function)


def test_a_guarded_function_is_not_kept_alive(breaker):
    function = CallPyBack([breaker])(lambda: None)
    function()
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None
    assert breaker.get_metrics() == {"functions": {}}


def test_an_open_circuit_keeps_nothing_of_the_calls_that_failed(breaker):
    class Local:
        pass

    kept = []

    def body():
        local = Local()
        kept.append(weakref.ref(local))
        raise ConnectionError(local)

    function = CallPyBack([breaker])(body)
    for _ in range(4):
        ended(function)
    gc.collect()
    assert [reference() for reference in kept] == [None] * 3


# Processes


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


def in_child(work) -> str:
    """Return `str(work())` as a forked child sees it, without letting it run any of pytest."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def elsewhere():
    """Run something in another thread until the test is over."""
    done = threading.Event()
    threads = []

    def start(work):
        begun = threading.Event()
        threads.append(threading.Thread(target=lambda: work(lambda: (begun.set(), done.wait(30)))))
        threads[-1].start()
        assert begun.wait(30)

    yield start
    done.set()
    for thread in threads:
        thread.join()


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("with_key", [False, True], ids=["one circuit", "keyed"])
def test_a_forked_child_keeps_the_state_and_frees_the_probe_of_another_thread(clock, elsewhere, with_key):
    breaker = CircuitBreakerObserver(2, 10, key=(lambda arguments: "key") if with_key else None)
    options = {"key": "key"} if with_key else {}
    function = CallPyBack([breaker], time_source=clock)(lambda given: given() if callable(given) else answer(given))
    fail(PLAIN, function, 2)
    assert in_child(lambda: (breaker.state(**options), is_refused(PLAIN, function, "value"))) == str((OPEN, True))
    clock.advance(10)
    elsewhere(function)
    assert is_refused(PLAIN, function, "value")
    assert in_child(lambda: (function("value"), str(breaker.state(**options)))) == "('value', 'closed')"
    assert is_refused(PLAIN, function, "value")


@needs_fork
def test_a_probe_that_forks_goes_on_in_both_processes(breaker, clock):
    seen = []

    def body(given):
        if given == "fork":
            seen.append(in_child(lambda: is_refused(PLAIN, function, "value")))
        return answer(given)

    function = CallPyBack([breaker], time_source=clock)(body)
    fail(PLAIN, function)
    clock.advance(10)
    assert function("fork") == "fork"
    assert seen == ["True"]
    assert breaker.state(function) is CLOSED


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_change_hangs_nothing(clock, elsewhere):
    wait_here = []
    breaker = CircuitBreakerObserver(1, 10, on_state_change=lambda change: [wait() for wait in wait_here])
    function = CallPyBack([breaker], time_source=clock)(answer)
    function()

    def hold(wait):
        with breaker._found(None)[0].board.lock:
            wait_here.append(wait)
            breaker.trip()

    elsewhere(hold)
    wait_here.clear()

    def work():
        breaker.reset()
        fail(PLAIN, function, 1)
        clock.advance(10)
        return function()

    assert in_child(work) == "answer"


def test_a_pickled_breaker_starts_closed(clock):
    breaker = CircuitBreakerObserver(2, 7, on=LookupError, key=ask_key, priority=3, name="ours")
    function = CallPyBack([breaker], time_source=clock)(ask)
    breaker.trip(key="ann")
    copied = pickle.loads(pickle.dumps(breaker))
    assert (copied.priority, copied.name, copied.get_metrics()) == (3, "ours", {"functions": {}})
    again = CallPyBack([copied], time_source=clock)(ask)
    for _ in range(2):
        ended(lambda: again(KeyError(), "ann"))
    assert ended(lambda: again("value", "ann")).exception.retry_after == 7.0
    assert again("value", "ben") == "value"
    assert function("value", "ben") == "value"


def ask_key(arguments):
    return arguments["user"]


# Configuration


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"failure_threshold": 0}, "failure_threshold=0"),
        ({"failure_threshold": 2.5}, "failure_threshold=2.5"),
        ({"failure_threshold": True}, "failure_threshold=True"),
        ({"recovery_time": -1}, "recovery_time=-1"),
        ({"recovery_time": math.nan}, "recovery_time=nan"),
        ({"recovery_time": math.inf}, "recovery_time=inf"),
        ({"recovery_time": "30"}, "recovery_time='30'"),
        ({"on": ()}, "at least one"),
        ({"on": "ValueError"}, "on='ValueError'"),
        ({"on": ValueError("instance")}, "on=ValueError"),
        ({"on": KeyboardInterrupt}, "KeyboardInterrupt"),
        ({"on": (ValueError, int)}, "int"),
        ({"key": "user"}, "key='user'"),
        ({"on_state_change": 5}, "on_state_change=5"),
        ({"max_keys": 0}, "max_keys=0"),
        ({"priority": "high"}, "priority='high'"),
        ({"name": 5}, "name=5"),
        ({"critical": 1}, "critical=1"),
    ],
)
def test_a_mistake_is_refused_when_the_breaker_is_made(options, text):
    with pytest.raises(ConfigurationError) as raised:
        CircuitBreakerObserver(**options)
    assert text in str(raised.value)


def test_a_callback_that_would_have_to_be_awaited_is_refused():
    async def on_state_change(change):
        pass

    with pytest.raises(ConfigurationError, match="on_state_change=.*a plain function"):
        CircuitBreakerObserver(on_state_change=on_state_change)


def test_a_breaker_is_a_guard_that_is_asked_early():
    breaker = CircuitBreakerObserver()
    assert (breaker.guard, breaker.priority, breaker.name) == (True, 80, "CircuitBreakerObserver")
    assert CircuitBreakerObserver(priority=5, name="ours").priority == 5


def test_a_change_of_a_driven_coroutine_needs_no_event_loop(breaker, clock):
    kind = Kind("coroutine")
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function)
    clock.advance(10)
    assert drive(function("value")) == "value"
