"""Threads, tasks, contexts and cancellation.

Cases of the concurrency list that are tested elsewhere: C04, C40 in test_configuration and test_health; C05 to C07 in
test_reentrancy; C20, C25, C28 and T28, T30 in test_processes; C23 in test_forks; C36 to C38 in the tests of captured
locals; C42 in properties/test_no_bleed. Cases without a test, and why:

* C17, C18, C20 to C23 and C26 to C28 for background delivery: tests/test_background.py, test_delivery_*.py.
* C29 to C33: tests/test_deadlines.py and test_deadline_processes.py.
* C39, C41, C43: tests/test_circuit_breaker.py, test_rate_limit.py, test_cache_single_flight.py.
* C34: the guard against re-entrancy goes by the thread; of greenlets that switch inside an observer, the others run
  unobserved meanwhile, unless gevent has patched the threads, which gives each its own identity.
* C35: free-threaded builds start with 3.13t, which is not among the tested Pythons; counts rely on `list.append` and
  `list.remove`, which are atomic there too.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from callpyback import CallPyBack, ExecutionState, MetricsObserver, MockTimeSource, Outcome, handle
from callpyback.core.telling import TELLING
from kinds import BoundWitness, Witness, drive, ended

THREADS = 8


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
        start.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))


def test_counts_are_exact_under_eight_threads():
    metrics = MetricsObserver(in_progress=True)

    @CallPyBack([metrics])
    def function(number):
        if number % 10 == 0:
            raise ValueError(number)

    def work(_):
        for number in range(100_000):
            try:
                function(number)
            except ValueError:
                pass

    in_threads(work)
    known = metrics.get_metrics()
    assert (known["total_calls"], known["total_executions"], known["in_progress"]) == (800_000, 720_000, 0)
    assert known["function_stats"]["function"]["failures_by_type"] == {"ValueError": 80_000}


@pytest.mark.usefixtures("hurried")
def test_counts_are_exact_while_they_are_read_and_while_threads_take_turns_at_every_step():
    metrics, done, read = MetricsObserver(), threading.Event(), []
    function = CallPyBack([metrics])(lambda: None)

    def work(number):
        if number == 0:
            while not done.is_set():
                read.append(metrics.get_metrics()["total_calls"])
        else:
            for _ in range(3000):
                function()
            finished.wait()
            done.set()

    finished = threading.Barrier(THREADS - 1)
    in_threads(work)
    assert metrics.get_metrics()["total_calls"] == (THREADS - 1) * 3000
    assert read == sorted(read)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("clock", [None, MockTimeSource()], ids=["system", "mock"])
def test_observers_may_come_and_go_while_others_are_told(clock):
    decorator, staying = CallPyBack(time_source=clock), [BoundWitness(), Witness(priority=5), Witness(priority=-5)]
    function = decorator(lambda number: number)
    for observer in staying:
        decorator.add_observer(observer)
    calling = THREADS - 2
    left = threading.Semaphore(0)
    twice, late = [], []

    class Passing(Witness):
        removed = False

        def update(self, context) -> None:
            if self.removed is threading.get_ident():
                late.append(context)
            super().update(context)

    def work(number):
        if number < calling:
            try:
                for turn in range(1500):
                    assert function((number, turn)) == (number, turn)
            finally:
                left.release()
            return
        holder = decorator if number == calling else handle(function)
        while left._value < calling:
            passing = Passing(priority=number)
            holder.add_observer(passing)
            function((number, "between"))
            holder.remove_observer(passing)
            passing.removed = threading.get_ident()
            function((number, "after"))  # by this thread, it is told nothing of it (C03)
            told = [(context.call_id, context.state) for context in passing.contexts]
            twice.extend(told if len(told) != len(set(told)) else [])

    in_threads(work)
    assert (twice, late) == ([], [])
    bound, first, last = staying
    own = [context for context in first.contexts if context.arguments["number"][1] not in ("between", "after")]
    assert len(own) == calling * 1500 * 3
    assert len(first.contexts) == len(last.contexts) == 3 * len(bound.ends) == 3 * bound.begun
    assert {(c.call_id, c.state) for c in first.contexts} == {(c.call_id, c.state) for c in last.contexts}
    assert decorator.observers == (first, bound, last)
    assert TELLING == []


@pytest.mark.usefixtures("hurried")
def test_weak_observers_may_die_while_others_are_told():
    decorator, staying = CallPyBack(), BoundWitness()
    decorator.add_observer(staying)
    function = decorator(lambda: "value")

    def work(number):
        for _ in range(400):
            if number % 2:
                dying = Witness()
                decorator.add_observer(dying, weak=True)
                del dying
            assert function() == "value"

    in_threads(work)
    assert len(staying.ends) == THREADS * 400
    assert decorator.observers == (staying,)


@pytest.mark.usefixtures("hurried")
def test_pausing_and_resuming_under_load_keeps_beginnings_and_ends_together():
    bound = BoundWitness()
    function = CallPyBack([bound])(lambda: "value")

    def work(number):
        for _ in range(1500):
            if number == 0:
                with handle(function).paused():
                    pass
            assert function() == "value"

    in_threads(work)
    assert bound.begun == len(bound.ends)
    assert bound.begun > 0


@pytest.mark.usefixtures("hurried")
def test_failures_of_observers_under_threads_hurt_nobody():
    class Failing:
        priority = 1
        name = "failing"

        def update(self, context) -> None:
            raise LookupError

    bound = BoundWitness()
    function = CallPyBack([Failing(), bound], max_observer_failures=50)(lambda: "value")

    def work(_):
        for _ in range(500):
            assert function() == "value"

    in_threads(work)
    assert len(bound.ends) == THREADS * 500
    assert handle(function).health["failing"].paused
    assert TELLING == []


def test_the_function_runs_in_the_thread_and_the_context_of_its_caller(kind):
    variable = contextvars.ContextVar("variable", default="unset")
    thread = []

    def body():
        thread.append(threading.get_ident())
        variable.set("by the body")

    context = contextvars.copy_context()
    function = kind.make(body, CallPyBack([Witness(), MetricsObserver()], variable_names=["value"]))
    context.run(kind.call, function)
    assert thread == [threading.get_ident()]
    assert context[variable] == "by the body"


def test_a_context_variable_of_an_observer_stays_in_the_callers_context(kind):
    variable = contextvars.ContextVar("variable")

    class Setting(Witness):
        def update(self, context) -> None:
            variable.set(context.state.name)

    context = contextvars.copy_context()
    context.run(kind.call, kind.make(lambda: None, CallPyBack([Setting()])))
    assert context[variable] == "COMPLETED"


def test_a_generator_may_be_continued_by_another_thread():
    witness = Witness(ExecutionState.COMPLETED)

    @CallPyBack([witness], variable_names=["threads"])
    def items():
        threads = [threading.get_ident()]
        yield 1
        threads.append(threading.get_ident())

    iterator = items()
    next(iterator)
    rest = []
    thread = threading.Thread(target=lambda: rest.extend(iterator))
    thread.start()
    thread.join()
    assert rest == []
    [first, second] = witness.last.local_variables["threads"]
    assert first == threading.get_ident() != second
    assert TELLING == []


def test_the_task_stays_the_same_across_the_steps_of_an_async_generator():
    tasks = []

    @CallPyBack([Witness()])
    async def items():
        for _ in range(3):
            tasks.append(asyncio.current_task())
            yield
            await asyncio.sleep(0)

    async def consume():
        tasks.extend([asyncio.current_task() async for _ in items()])

    asyncio.run(consume())
    assert len(tasks) == 6
    assert len(set(tasks)) == 1


def test_a_timeout_inside_an_async_generator_fires():
    witness = Witness()

    @CallPyBack([witness])
    async def items():
        yield 1
        async with asyncio.timeout(0.01):
            await asyncio.sleep(3600)
        yield 2

    async def consume():
        return [item async for item in items()]

    with pytest.raises(TimeoutError):
        asyncio.run(consume())
    assert witness.outcome is Outcome.FAILURE


async def cancelled(coroutine, *reason):
    """Cancel a task once it waits; return it."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel(*reason)
    await asyncio.gather(task, return_exceptions=True)
    return task


@pytest.mark.parametrize("sort", ["coroutine", "async generator"])
def test_a_cancelled_call_is_cancelled_and_no_failure(sort):
    witness, metrics, cleaned = Witness(), MetricsObserver(in_progress=True), []
    decorator = CallPyBack([witness, metrics])

    async def wait():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            cleaned.append(error.args)
            raise
        finally:
            cleaned.append("finally")

    @decorator
    async def coroutine():
        await wait()

    @decorator
    async def items():
        yield 1
        await wait()

    async def consume():
        async for _ in items():
            pass

    async def main():
        return await cancelled(coroutine() if sort == "coroutine" else consume(), "why")

    task = asyncio.run(main())
    assert task.cancelled()
    assert cleaned == [("why",), "finally"]
    assert witness.told == ["PRE_EXECUTION", "COMPLETED"]
    assert witness.outcome is Outcome.CANCELLED
    assert not witness.last.is_failed
    assert witness.last.result.exception.args == ("why",)
    known = metrics.get_metrics()
    assert (known["counters"]["cancelled"], known["counters"]["failures"], known["in_progress"]) == (1, 0, 0)


def test_a_timeout_around_a_call_cancels_it():
    witness = Witness()

    @CallPyBack([witness])
    async def coroutine():
        await asyncio.sleep(3600)

    async def limited():
        async with asyncio.timeout(0.01):
            await coroutine()

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    assert witness.outcome is Outcome.CANCELLED


def test_a_task_group_cancels_the_siblings_of_a_failure():
    witness = Witness(*(ExecutionState.COMPLETED, ExecutionState.ERROR))

    @CallPyBack([witness])
    async def wait():
        await asyncio.sleep(3600)

    @CallPyBack([witness])
    async def fail():
        await asyncio.sleep(0)
        raise ValueError("one")

    async def group():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait())
            tasks.create_task(fail())
            tasks.create_task(wait())

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(group())
    assert [error.args for error in raised.value.exceptions] == [("one",)]
    assert sorted(context.outcome.name for context in witness.contexts) == ["CANCELLED", "CANCELLED", "FAILURE"]


def test_a_cancellation_the_body_swallows_is_a_success():
    witness = Witness()

    @CallPyBack([witness])
    async def stubborn():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "still here"

    async def main():
        return await cancelled(stubborn())

    assert asyncio.run(main()).result() == "still here"
    assert witness.outcome is Outcome.SUCCESS


@types.coroutine
def exchange():
    """Suspend; give what is sent."""
    return (yield)


def test_a_coroutine_needs_no_event_loop():
    witness = Witness()

    @CallPyBack([witness], variable_names=["got"])
    async def coroutine():
        got = await exchange()
        return got.upper()

    steps = coroutine().__await__()
    next(steps)
    came = ended(lambda: steps.send("sent by hand"))
    assert isinstance(came.exception, StopIteration)
    assert came.exception.value == "SENT BY HAND"
    assert witness.last.local_variables == {"got": "sent by hand"}


class Cancelled(BaseException):
    """As trio's and curio's own."""


def test_another_loops_cancellation_passes_unchanged():
    witness = Witness()

    @CallPyBack([witness])
    async def coroutine():
        await exchange()

    steps = coroutine().__await__()
    next(steps)
    error = Cancelled()
    assert ended(lambda: steps.throw(error)).exception is error
    assert witness.told == ["PRE_EXECUTION", "ERROR"]
    assert witness.outcome is Outcome.ABORTED


def test_a_thousand_interleaved_tasks_are_all_told():
    bound, witness = BoundWitness(), Witness(ExecutionState.COMPLETED)

    @CallPyBack([bound, witness])
    async def coroutine(number):
        for _ in range(number % 4):
            await asyncio.sleep(0)
        return number

    async def everything():
        return await asyncio.gather(*(coroutine(number) for number in range(1000)))

    assert asyncio.run(everything()) == list(range(1000))
    assert sorted(value for value, _, _ in bound.ends) == list(range(1000))
    assert len({context.call_id for context in witness.contexts}) == 1000


def test_two_event_loops_in_two_threads_stay_apart():
    bound = BoundWitness()

    @CallPyBack([bound])
    async def coroutine(number):
        await asyncio.sleep(0)
        return number

    def work(number):
        async def everything():
            return await asyncio.gather(*(coroutine((number, part)) for part in range(100)))

        return asyncio.run(everything())

    results = in_threads(work, 4)
    assert results == [[(number, part) for part in range(100)] for number in range(4)]
    assert len(bound.ends) == 400


def test_an_async_generator_left_by_its_consumer_is_finished_by_the_event_loop():
    witness, cleaned = Witness(), []

    @CallPyBack([witness])
    async def items():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            cleaned.append("cleaned")

    async def leave_early():
        async for _ in items():
            break
        for _ in range(3):  # it is closed in a task of its own
            await asyncio.sleep(0)

    asyncio.run(leave_early())
    assert cleaned == ["cleaned"]
    assert witness.outcome is Outcome.ABANDONED


def test_an_async_generator_never_begun_tells_nothing():
    witness = Witness()

    @CallPyBack([witness])
    async def items():
        yield 1

    drive(items().aclose())
    assert witness.contexts == []
