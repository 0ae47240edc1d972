"""No more calls at a time than allowed, no slot lost however a call ends, and nobody who waits is forgotten."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import math
import pickle
import random
import signal
import threading
import time
import weakref

import freezegun
import pytest
import trio

from callpyback import (
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    FunctionSignature,
    MetricsObserver,
    MockTimeSource,
    StopProcessing,
    handle,
    on_call,
    on_success,
)
from callpyback.core.waiting import Wait
from callpyback.errors import ConcurrencyLimitExceeded
from callpyback.guards.circuit_breaker import CircuitBreakerObserver
from callpyback.guards.concurrency_limit import ConcurrencyLimitObserver
from callpyback.guards.rate_limit import RateLimitObserver
from kinds import Kind, drive, ended, pause
from test_concurrency import hurried, in_threads
from watching import run_python

__all__ = ["hurried"]

LONG = 60.0  # as long as a test may hang before it fails


@pytest.fixture(params=["straight", "general"])
def source(request):
    """None for the system's clock, with which the wrapper runs other code."""
    return None if request.param == "straight" else MockTimeSource(1000.0)


def until(holds):
    """Let other threads go on until something holds."""
    limit = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0)


def numbers(limit, *names):
    return tuple(limit.get_metrics()[name] for name in names)


class Held:
    """A call that runs in a thread of its own until it is told to end."""

    def __init__(self, limit, *, source=None, **options):
        self.begun, self.over = threading.Event(), threading.Event()
        self.limit = limit
        self.ended = None

        @CallPyBack([limit], time_source=source, **options)
        def function():
            self.begun.set()
            assert self.over.wait(LONG)
            return "done"

        self.function = function

    def __enter__(self):
        self.thread = threading.Thread(target=self._call)
        self.thread.start()
        assert self.begun.wait(LONG)
        return self

    def _call(self):
        self.ended = ended(self.function)

    def end(self):
        self.over.set()
        self.thread.join(LONG)

    def __exit__(self, *_):
        self.end()


# What is refused


@pytest.mark.parametrize("limited_to", [1, 2, 5])
def test_no_more_calls_run_at_a_time_than_the_limit(kind, source, limited_to):
    limit, running, refused = ConcurrencyLimitObserver(limited_to), [], []

    def body():
        running.append(None)
        inner = kind.ended(decorated).exception
        if inner is not None:
            refused.append(inner)
        return len(running)

    decorated = kind.make(body, CallPyBack([limit], time_source=source))
    for _ in range(3):
        running.clear()
        assert kind.call(decorated) == limited_to
    assert [type(error) for error in refused] == [ConcurrencyLimitExceeded] * 3
    assert numbers(limit, "running", "waiting", "admitted", "refused", "max_running") == (
        (0, 0, 3 * limited_to, 3, limited_to)
    )


def test_a_refused_call_is_vetoed_and_no_failure(kind, source):
    metrics, limit = MetricsObserver(), ConcurrencyLimitObserver(1)
    decorated = kind.make(lambda: kind.ended(decorated).exception, CallPyBack([metrics, limit], time_source=source))
    refused = kind.call(decorated)
    counters = metrics.get_metrics()["counters"]
    assert (counters["calls"], counters["successes"], counters["vetoed"], counters["failures"]) == (2, 1, 1, 0)
    assert isinstance(refused, CallVetoed)
    assert refused.retry_after is None
    assert [health.failures for health in handle(decorated).health.values()] == [0, 0]


def test_the_refusal_names_function_and_limit():
    with Held(ConcurrencyLimitObserver(1)) as held:
        assert str(ended(held.function).exception) == (
            f"{__name__}.Held.__init__.<locals>.function is limited to 1 call at a time"
        )
    with Held(ConcurrencyLimitObserver(1, wait=0.001)) as held:
        assert str(ended(held.function).exception).endswith(
            "is limited to 1 call at a time, and none ended within 0.001 s"
        )


def test_the_refusal_shows_the_key_bounded():
    limit = ConcurrencyLimitObserver(3, key=lambda arguments: arguments["host"])
    admit, _ = limit.bind_guard(FunctionSignature.of(lambda host: None), lambda: 0.0)
    running = [admit(("x" * 1000,), {}) for _ in range(3)]
    with pytest.raises(
        ConcurrencyLimitExceeded, match="3 calls at a time for each key, and this one is 'xxx"
    ) as refused:
        admit(("x" * 1000,), {})
    assert len(str(refused.value)) < 500
    assert len(set(running)) == 3


def test_each_function_has_its_own_limit():
    limit = ConcurrencyLimitObserver(1)
    with Held(limit), Held(limit) as held:
        assert isinstance(ended(held.function).exception, ConcurrencyLimitExceeded)
        assert numbers(limit, "running", "max_running") == (2, 1)


def test_each_key_has_its_own_limit(kind, source):
    limit = ConcurrencyLimitObserver(1, key=lambda arguments: arguments["host"])
    seen = {}

    def body(host, inner):
        if inner is not None:
            seen[host, inner] = kind.ended(decorated, inner, None).exception
        return host

    decorated = kind.make(body, CallPyBack([limit], time_source=source), parameters="host, inner")
    assert kind.call(decorated, "a", "b") == "a"
    assert kind.call(decorated, "a", "a") == "a"
    assert kind.call(decorated, host="b", inner="b") == "b"
    assert [error is None for error in seen.values()] == [True, False, False]
    assert numbers(limit, "running", "admitted", "refused", "max_running") == (0, 4, 2, 1)


def test_each_instance_may_have_its_own_limit():
    class Client:
        @CallPyBack([ConcurrencyLimitObserver(1, key=lambda arguments, instance: instance)])
        def send(self, other):
            return other and other.send(None)

        def __repr__(self):
            return "<the client>"

    client = Client()
    assert client.send(Client()) is None
    with pytest.raises(ConcurrencyLimitExceeded, match="this one is <the client>"):
        client.send(client)


def test_a_failing_key_lets_the_call_go_on_and_a_critical_limit_refuses(kind):
    decorated = kind.make(lambda: "done", CallPyBack([ConcurrencyLimitObserver(1, key=lambda arguments: [])]))
    assert kind.call(decorated) == "done"
    critical = ConcurrencyLimitObserver(1, key=lambda arguments: [], critical=True)
    assert isinstance(kind.ended(kind.make(lambda: "done", CallPyBack([critical]))).exception, TypeError)


def test_it_is_asked_last_of_the_guards():
    others = (RateLimitObserver(), CircuitBreakerObserver())
    assert all(ConcurrencyLimitObserver(1).priority < other.priority for other in others)


# Every way a call can end


@pytest.mark.parametrize(
    "error", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit, MemoryError]
)
@pytest.mark.parametrize("key", [None, lambda arguments: 1], ids=["for all", "by key"])
def test_a_call_gives_its_slot_back_whatever_the_body_raises(kind, source, error, key):
    raised = error()

    def body():
        raise raised

    limit = ConcurrencyLimitObserver(1, key=key)
    decorated = kind.make(body, CallPyBack([limit], time_source=source))
    for _ in range(3):
        assert kind.ended(decorated).exception is raised
    assert numbers(limit, "running", "admitted") == (0, 3)


@pytest.mark.parametrize("decision", ["veto", "answer", "failure", "interrupt"])
@pytest.mark.parametrize("wait", [0.0, LONG])
def test_a_call_that_a_later_observer_decides_gives_its_slot_back(kind, source, decision, wait):
    def deciding(arguments):
        raise {
            "veto": CallVetoed("no"),
            "answer": StopProcessing(kind.answer("answer")),
            "failure": ValueError("the observer's own"),
            "interrupt": KeyboardInterrupt(),
        }[decision]

    limit = ConcurrencyLimitObserver(1, wait)
    decorated = kind.make(lambda: "body", CallPyBack([limit, on_call(deciding)], time_source=source))
    for _ in range(3):
        outcome = kind.ended(decorated)
        assert (outcome.value in ("answer", "body")) == (decision in ("answer", "failure"))
    assert numbers(limit, "running", "admitted") == (0, 3)


def test_a_call_that_an_earlier_guard_decided_takes_no_slot(kind, source):
    def deciding(context):
        raise CallVetoed

    class Vetoing:
        guard, priority, update = True, 200, staticmethod(deciding)

    limit = ConcurrencyLimitObserver(1)
    decorated = kind.make(lambda: 1, CallPyBack([limit, Vetoing()], time_source=source))
    assert isinstance(kind.ended(decorated).exception, CallVetoed)
    assert numbers(limit, "running", "admitted", "refused") == (0, 0, 0)


def test_a_critical_observer_that_fails_afterwards_keeps_no_slot(kind, source):
    @on_success
    def failing(value):
        raise ValueError

    failing.critical = True
    limit = ConcurrencyLimitObserver(1)
    decorated = kind.make(lambda: 1, CallPyBack([limit, failing], time_source=source))
    for _ in range(3):
        assert isinstance(kind.ended(decorated).exception, ValueError)
    assert numbers(limit, "running", "admitted") == (0, 3)


def test_a_limit_that_is_removed_while_a_call_runs_gets_its_slot_back(kind, source):
    limit = ConcurrencyLimitObserver(1)
    decorator = CallPyBack([limit], time_source=source)
    known = []

    def body():
        known.extend(limit._guarded)
        decorator.remove_observer(limit)

    kind.call(kind.make(body, decorator))
    [limited] = known
    assert (limited.get_metrics()["running"], limited.get_metrics()["admitted"]) == (0, 1)


LEAVING = {
    "coroutine": {
        "closed": lambda begun: begun.close(),
        "dropped": lambda begun: None,
        "thrown into": lambda begun: begun.throw(ValueError),
    },
    "generator": {
        "closed": lambda begun: begun.close(),
        "dropped": lambda begun: None,
        "thrown into": lambda begun: begun.throw(ValueError),
    },
    "async generator": {
        "closed": lambda begun: drive(begun.aclose()),
        "dropped": lambda begun: None,
        "thrown into": lambda begun: drive(begun.athrow(ValueError)),
    },
}
FIRST_STEP = {
    "coroutine": lambda begun: begun.send(None),
    "generator": next,
    "async generator": lambda begun: drive(anext(begun)),
}


@pytest.mark.parametrize("end", ["closed", "dropped", "thrown into"])
@pytest.mark.parametrize("name", LEAVING)
def test_a_call_that_is_left_half_way_gives_its_slot_back(name, end, source):
    kind, limit = Kind(name), ConcurrencyLimitObserver(1)
    decorated = kind.make(lambda: 1, CallPyBack([limit], time_source=source))
    begun = decorated()
    FIRST_STEP[name](begun)
    assert numbers(limit, "running") == (1,)
    assert isinstance(kind.ended(decorated).exception, ConcurrencyLimitExceeded)
    try:
        LEAVING[name][end](begun)
    except ValueError:
        assert end == "thrown into"
    del begun
    gc.collect()
    assert numbers(limit, "running") == (0,)
    assert kind.call(decorated) == 1


def test_calls_that_never_began_hold_nothing():
    limit = ConcurrencyLimitObserver(1)

    @CallPyBack([limit])
    def items():
        yield 1

    waiting = [items() for _ in range(5)]
    assert list(items()) == [1]
    assert next(waiting[0]) == 1
    assert isinstance(ended(lambda: next(waiting[1])).exception, ConcurrencyLimitExceeded)


def test_a_slot_that_its_holder_loses_is_made_anew():
    limit = ConcurrencyLimitObserver(2)
    admit, end = limit.bind_guard(FunctionSignature("f"), lambda: 0.0)
    for _ in range(10):
        admit((), {})  # what Ctrl-C between two steps of the library would do
    slots = [admit((), {}), admit((), {})]
    assert numbers(limit, "running") == (2,)
    with pytest.raises(ConcurrencyLimitExceeded):
        admit((), {})
    for slot in slots:
        end(0.0, None, None, None, slot)
    assert numbers(limit, "running", "max_running") == (0, 2)


# Exactness


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("key", [None, lambda arguments: 1], ids=["for all", "by key"])
def test_of_sixteen_threads_at_once_exactly_five_are_admitted(source, key):
    limit, decided = ConcurrencyLimitObserver(5, key=key), threading.Barrier(16)

    @CallPyBack([limit], time_source=source)
    def function():
        decided.wait(LONG)

    def work(_):
        error = ended(function).exception
        if error is not None:
            decided.wait(LONG)
        return error

    for _ in range(10):
        errors = in_threads(work, 16)
        assert [type(error) for error in errors if error is not None] == [ConcurrencyLimitExceeded] * 11
    assert numbers(limit, "running", "admitted", "refused", "max_running") == (0, 50, 110, 5)


class Counted:
    """Notes the most that are inside at once."""

    def __init__(self):
        self.inside, self.most, self.lock = 0, 0, threading.Lock()

    def __enter__(self):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_):
        with self.lock:
            self.inside -= 1


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("key", [None, lambda arguments: 1], ids=["for all", "by key"])
def test_threads_that_wait_all_get_their_turn_and_never_too_many_at_a_time(key):
    limit, counted = ConcurrencyLimitObserver(3, LONG, key), Counted()

    @CallPyBack([limit])
    def function():
        with counted:
            time.sleep(0)

    in_threads(lambda _: [function() for _ in range(40)], 16)
    assert 1 < counted.most <= 3
    assert numbers(limit, "running", "waiting", "admitted", "refused") == (0, 0, 640, 0)


@pytest.mark.usefixtures("hurried")
def test_nothing_is_lost_while_waits_end_in_every_way_at_every_moment():
    limit, counted, chance = ConcurrencyLimitObserver(2, 0.0005), Counted(), random.Random(1)
    admit, end = limit.bind_guard(FunctionSignature("f"), lambda: 0.0)

    def work(_):
        admitted = 0
        for _ in range(150):
            try:
                token = admit((), {})
                if isinstance(token, Wait):
                    token = token.block()
            except ConcurrencyLimitExceeded:
                continue
            with counted:
                if chance.random() < 0.2:
                    time.sleep(0.0005)
            admitted += 1
            end(0.0, None, None, None, token)
        return admitted

    admitted = sum(in_threads(work, 8))
    assert counted.most <= 2
    assert numbers(limit, "running", "waiting", "admitted", "refused") == (0, 0, admitted, 8 * 150 - admitted)
    assert admit((), {}) is not None
    assert not isinstance(admit((), {}), Wait)


def test_tasks_that_wait_all_get_their_turn_and_the_loop_goes_on(source):
    limit, counted = ConcurrencyLimitObserver(3, LONG), Counted()

    @CallPyBack([limit], time_source=source)
    async def function():
        with counted:
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(function() for _ in range(200)))
        assert all(timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)

    asyncio.run(main())
    assert counted.most == 3
    assert numbers(limit, "running", "waiting", "admitted", "max_running") == (0, 0, 200, 3)


def test_async_generators_wait_in_their_task():
    limit = ConcurrencyLimitObserver(1, LONG)

    @CallPyBack([limit])
    async def items(n):
        for number in range(n):
            yield number
            await asyncio.sleep(0)

    async def read():
        return [item async for item in items(3)]

    async def main():
        return await asyncio.gather(*(read() for _ in range(5)))

    assert asyncio.run(main()) == [[0, 1, 2]] * 5


def test_threads_and_tasks_of_several_loops_share_one_limit():
    limit, counted, meeting = ConcurrencyLimitObserver(2, LONG), Counted(), threading.Barrier(6)

    def body():
        with counted:
            time.sleep(0)

    decorator = CallPyBack([limit])

    @decorator
    async def function(in_thread):
        if in_thread:
            return await asyncio.to_thread(body)
        return body()

    async def tasks():
        await asyncio.gather(*(function(number % 2) for number in range(30)))

    def work(number):
        meeting.wait(LONG)
        if number < 4:
            asyncio.run(tasks())
        else:
            trio.run(trio_tasks)

    async def trio_tasks():
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(function, False)

    in_threads(work, 6)
    assert counted.most <= 2
    assert numbers(limit, "running", "waiting", "admitted", "refused") == (0, 0, 180, 0)


# Waiting


def test_a_call_that_waits_begins_when_another_ends(source):
    with Held(ConcurrencyLimitObserver(1, LONG), source=source) as held:
        waiting = threading.Thread(target=held._call)
        waiting.start()
        until(lambda: numbers(held.limit, "waiting") == (1,))
        held.begun.clear()
        held.end()
        waiting.join(LONG)
        assert held.begun.is_set()
        assert held.ended.value == "done"
    assert numbers(held.limit, "running", "waiting", "admitted", "refused", "max_running") == (0, 0, 2, 0, 1)


def test_who_waits_longest_comes_first():
    limit, order = ConcurrencyLimitObserver(1, LONG), []
    admit, end = limit.bind_guard(FunctionSignature("f"), lambda: 0.0)
    token = admit((), {})

    def work(number):
        slot = admit((), {}).block()
        order.append(number)
        end(0.0, None, None, None, slot)

    threads = []
    for number in range(8):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        until(lambda waiting=number + 1: numbers(limit, "waiting") == (waiting,))
    assert isinstance(admit((), {}), Wait)  # nobody is let in past those that wait
    end(0.0, None, None, None, token)
    for thread in threads:
        thread.join(LONG)
    assert order == list(range(8))


@pytest.mark.parametrize("frozen", [False, True], ids=["time", "frozen time"])
def test_a_thread_waits_no_longer_than_it_should(frozen):
    limit = ConcurrencyLimitObserver(1, 0.05)
    with Held(limit) as held:
        began = time.perf_counter()
        refused = _frozen(frozen, lambda: ended(held.function)).exception
        assert 0.045 < time.perf_counter() - began < 5.0
    assert isinstance(refused, ConcurrencyLimitExceeded)
    assert numbers(limit, "running", "waiting", "refused") == (0, 0, 1)


@pytest.mark.parametrize("frozen", [False, True], ids=["time", "frozen time"])
@pytest.mark.parametrize(
    "run", [asyncio.run, lambda coroutine: trio.run(_awaiting(coroutine))], ids=["asyncio", "trio"]
)
def test_a_task_waits_no_longer_than_it_should(frozen, run):
    limit = ConcurrencyLimitObserver(1, 0.05)

    @CallPyBack([limit])
    async def function(inner):
        return await inner() if inner else "done"

    async def refused():
        with pytest.raises(ConcurrencyLimitExceeded):
            await function(None)

    began = time.perf_counter()
    _frozen(frozen, lambda: run(function(refused)))
    assert 0.045 < time.perf_counter() - began < 5.0
    assert numbers(limit, "running", "waiting", "admitted", "refused") == (0, 0, 1, 1)


def _frozen(frozen, call):
    if not frozen:
        return call()
    with freezegun.freeze_time("2030-01-01"):
        return call()


def _awaiting(coroutine):
    async def awaiting():
        return await coroutine

    return awaiting


def test_a_coroutine_that_is_driven_by_hand_blocks_its_thread():
    limit = ConcurrencyLimitObserver(1, 0.02)

    @CallPyBack([limit])
    async def function():
        await pause()

    begun = function()
    begun.send(None)
    assert isinstance(ended(lambda: drive(function())).exception, ConcurrencyLimitExceeded)
    begun.close()
    assert drive(function()) is None


def test_a_generator_waits_at_its_first_step():
    limit = ConcurrencyLimitObserver(1, LONG)

    @CallPyBack([limit])
    def items():
        yield threading.get_ident()

    first = items()
    next(first)
    got = []
    waiting = threading.Thread(target=lambda: got.extend(items()))
    waiting.start()
    until(lambda: numbers(limit, "waiting") == (1,))
    first.close()
    waiting.join(LONG)
    assert got == [waiting.ident]


def test_tasks_that_are_cancelled_while_they_wait_take_nothing_with_them():
    limit = ConcurrencyLimitObserver(1, LONG)

    async def main():
        over = asyncio.Event()

        @CallPyBack([limit])
        async def function():
            await over.wait()

        tasks = [asyncio.create_task(function()) for _ in range(10)]
        await asyncio.sleep(0)
        assert numbers(limit, "running", "waiting") == (1, 9)
        for task in tasks[1:9]:
            task.cancel()
        await asyncio.wait(tasks[1:9])
        assert all(task.cancelled() for task in tasks[1:9])
        assert numbers(limit, "running", "waiting") == (1, 1)
        over.set()
        await asyncio.gather(tasks[0], tasks[9])

    asyncio.run(main())
    assert numbers(limit, "running", "waiting", "admitted", "refused") == (0, 0, 2, 0)


@pytest.mark.parametrize("waiting", [1, 3])
def test_a_slot_given_to_a_task_that_is_just_being_cancelled_goes_on_to_the_next(waiting):
    limit = ConcurrencyLimitObserver(1, LONG)

    async def main():
        over = asyncio.Event()

        @CallPyBack([limit])
        async def function():
            await over.wait()

        holding, *others = [asyncio.create_task(function()) for _ in range(1 + waiting)]
        await asyncio.sleep(0)
        over.set()
        await holding  # its slot is given to the first of the others, which has not run since
        others[0].cancel()
        await asyncio.wait(others)
        assert [task.cancelled() for task in others] == [True] + [False] * (waiting - 1)
        await function()

    asyncio.run(asyncio.wait_for(main(), LONG))
    assert numbers(limit, "running", "waiting", "admitted") == (0, 0, 1 + waiting)


def test_tasks_of_a_loop_that_is_gone_keep_nothing_from_others():
    limit = ConcurrencyLimitObserver(1, LONG)
    admit, end = limit.bind_guard(FunctionSignature("f"), lambda: 0.0)
    slot = admit((), {})
    loop = asyncio.new_event_loop()
    waiting = [admit((), {}).wait() for _ in range(2)]
    tasks = [loop.create_task(wait) for wait in waiting]
    loop.run_until_complete(asyncio.sleep(0))
    assert numbers(limit, "waiting") == (2,)
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    end(0.0, None, None, None, slot)
    assert numbers(limit, "running", "waiting") == (0, 0)
    assert admit((), {}) is slot
    del tasks, task
    for wait in waiting:
        wait.close()
    assert numbers(limit, "running") == (1,)


def test_ctrl_c_ends_the_waiting_of_a_thread():
    def interrupt(*_):
        raise KeyboardInterrupt

    with Held(ConcurrencyLimitObserver(1, LONG)) as held:
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            assert isinstance(ended(held.function).exception, KeyboardInterrupt)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert numbers(held.limit, "running", "waiting") == (1, 0)
    assert numbers(held.limit, "running", "waiting") == (0, 0)


def test_trio_cancels_a_waiting_task():
    limit = ConcurrencyLimitObserver(1, LONG)

    @CallPyBack([limit])
    async def function(inner):
        if inner:
            with trio.move_on_after(0.02) as scope:
                await function(False)
            return scope.cancelled_caught
        return None

    assert trio.run(function, True) is True
    assert numbers(limit, "running", "waiting", "admitted") == (0, 0, 1)


def test_calls_of_a_waiting_thread_are_observed():
    """The thread is not marked as inside an observer while it waits."""
    limit, metrics = ConcurrencyLimitObserver(1, LONG), MetricsObserver()
    observed = CallPyBack([metrics])(lambda: None)

    def interrupt(*_):
        observed()

    with Held(limit) as held:
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        ending = threading.Thread(target=lambda: (until(lambda: metrics.get_metrics()["total_calls"]), held.over.set()))
        ending.start()
        try:
            assert held.function() == "done"
        finally:
            signal.signal(signal.SIGALRM, before)
        ending.join()
    assert metrics.get_metrics()["total_calls"] == 1


# Memory, numbers, copies, processes


def test_keys_take_memory_only_while_their_calls_run():
    limit = ConcurrencyLimitObserver(2, key=lambda arguments: arguments["key"])
    admit, end = limit.bind_guard(FunctionSignature.of(lambda key: None), lambda: 0.0)
    [limited] = limit._guarded
    running = [admit((("running", number),), {}) for number in range(50)]
    for number in range(2000):
        end(0.0, None, None, None, admit((number,), {}))
    assert len(limited._keyed) < 100
    assert numbers(limit, "running") == (50,)
    for token in running:
        end(0.0, None, None, None, token)
    assert numbers(limit, "running", "max_running") == (0, 1)


def test_a_key_that_is_forgotten_while_its_call_runs_keeps_its_limit():
    limit = ConcurrencyLimitObserver(1, key=lambda arguments: arguments["key"])
    admit, end = limit.bind_guard(FunctionSignature.of(lambda key: None), lambda: 0.0)
    [limited] = limit._guarded
    pool = limited._keyed.of("a")
    for number in range(20):
        admit((number,), {})
    token = pool.take()  # by a thread that had it in hand
    del pool
    with pytest.raises(ConcurrencyLimitExceeded):
        admit(("a",), {})
    end(0.0, None, None, None, token)
    assert admit(("a",), {}) is not None


def test_keys_beyond_the_greatest_number_share_a_limit(caplog):
    limit = ConcurrencyLimitObserver(1, key=lambda arguments: arguments["key"], max_keys=2)
    admit, end = limit.bind_guard(FunctionSignature.of(lambda key: None), lambda: 0.0)
    running = [admit((key,), {}) for key in "abc"]
    with pytest.raises(ConcurrencyLimitExceeded):
        admit(("d",), {})
    assert "more than 2 keys" in caplog.text
    for token in running:
        end(0.0, None, None, None, token)
    assert numbers(limit, "running") == (0,)


def test_many_that_wait_in_vain_leave_nothing_behind():
    limit = ConcurrencyLimitObserver(1, 0.001)
    admit, _ = limit.bind_guard(FunctionSignature("f"), lambda: 0.0)
    slot = admit((), {})
    for _ in range(50):
        with pytest.raises(ConcurrencyLimitExceeded):
            admit((), {}).block()
    assert numbers(limit, "running", "waiting", "refused") == (1, 0, 50)
    assert len(slot.slots._places) == 0


def test_a_huge_limit_takes_no_memory_before_it_is_used():
    limit = ConcurrencyLimitObserver(10**30)
    admit, _ = limit.bind_guard(FunctionSignature("f"), lambda: 0.0)
    assert admit((), {}) is not None
    assert numbers(limit, "max_running") == (1,)


def test_a_function_that_is_gone_takes_its_limit_with_it():
    limit = ConcurrencyLimitObserver(5)

    def make():
        return CallPyBack([limit])(lambda: None)

    function = make()
    function()
    [limited] = map(weakref.ref, limit._guarded)
    assert len(limit.get_metrics()["functions"]) == 1
    del function
    gc.collect()
    assert limited() is None
    assert limit.get_metrics()["functions"] == {}


def test_the_numbers_of_each_function_and_their_sums():
    limit = ConcurrencyLimitObserver(1)
    assert limit.get_metrics() == {
        "running": 0,
        "waiting": 0,
        "admitted": 0,
        "refused": 0,
        "max_running": 0,
        "functions": {},
    }

    @CallPyBack([limit])
    def other():
        pass

    with Held(limit) as held:
        other()
        ended(held.function)
        assert limit.get_metrics() == {
            "running": 1,
            "waiting": 0,
            "admitted": 2,
            "refused": 1,
            "max_running": 1,
            "functions": {
                f"{__name__}.Held.__init__.<locals>.function": {
                    "running": 1,
                    "waiting": 0,
                    "admitted": 1,
                    "refused": 1,
                    "max_running": 1,
                },
                f"{__name__}.test_the_numbers_of_each_function_and_their_sums.<locals>.other": {
                    "running": 0,
                    "waiting": 0,
                    "admitted": 1,
                    "refused": 0,
                    "max_running": 1,
                },
            },
        }
        json.dumps(limit.get_metrics())
        limit.reset()
        assert numbers(limit, "running", "admitted", "refused") == (1, 0, 0)
    assert numbers(limit, "running") == (0,)


def by_host(arguments):
    return arguments["host"]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda limit: pickle.loads(pickle.dumps(limit))])
def test_a_copy_keeps_the_configuration_and_starts_anew(again):
    limit = ConcurrencyLimitObserver(1, 2.0, by_host, max_keys=7, priority=3, name="mine", critical=True)
    limit.bind_guard(FunctionSignature("f"), lambda: 0.0)
    copied = again(limit)
    for name in ("limit", "wait", "key", "max_keys", "priority", "name", "critical"):
        assert getattr(copied, name) == getattr(limit, name)
    assert copied.get_metrics()["functions"] == {}


def test_a_forked_child_starts_with_all_slots_free_and_ignores_what_was_held_before():
    printed = run_python(
        """
        import os
        from callpyback import CallPyBack
        from callpyback.errors import ConcurrencyLimitExceeded
        from callpyback.guards.concurrency_limit import ConcurrencyLimitObserver

        for key in (None, lambda arguments: 1):
            limit = ConcurrencyLimitObserver(2, key=key)

            @CallPyBack([limit])
            def items(n):
                yield n

            before = [items(n) for n in range(2)]
            for running in before:
                next(running)
            read, write = os.pipe()
            if os.fork() == 0:
                after = [items(n) for n in range(3)]
                seen = [limit.get_metrics()["running"], next(after[0]), next(after[1])]
                for running in before:
                    running.close()
                try:
                    next(after[2])
                except ConcurrencyLimitExceeded:
                    seen.append("refused")
                seen.append(limit.get_metrics()["running"])
                os.write(write, repr(seen).encode())
                os._exit(0)
            os.wait()
            print(os.read(read, 99).decode(), limit.get_metrics()["running"])
        """
    )
    assert printed.splitlines() == ["[0, 0, 1, 'refused', 2] 2"] * 2


@pytest.mark.parametrize("key", ["None", "lambda arguments: 'the same'"])
def test_forks_while_threads_wait_and_run_hang_nothing(key):  # C20
    printed = run_python(
        f"""
        import os, sys, threading
        from callpyback import CallPyBack
        from callpyback.guards.concurrency_limit import ConcurrencyLimitObserver

        sys.setswitchinterval(1e-6)
        limit = ConcurrencyLimitObserver(2, 30.0, {key})

        @CallPyBack([limit])
        def function():
            pass

        over = threading.Event()
        def work():
            while not over.is_set():
                function()

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        wrong = 0
        for _ in range(60):
            child = os.fork()
            if child == 0:
                function(), function()
                metrics = limit.get_metrics()
                os._exit(0 if (metrics["running"], metrics["waiting"]) == (0, 0) else 1)
            wrong += os.waitpid(child, 0)[1] != 0
        over.set()
        for thread in threads:
            thread.join()
        print("wrong:", wrong, "left:", limit.get_metrics()["running"], limit.get_metrics()["waiting"])
        """
    )
    assert printed == "wrong: 0 left: 0 0"


# Configuration


@pytest.mark.parametrize("wrong", [0, -1, 2.5, math.nan, True, "5", None, [5]])
def test_a_wrong_limit_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"^limit="):
        ConcurrencyLimitObserver(wrong)
    with pytest.raises(ConfigurationError, match=r"^max_keys="):
        ConcurrencyLimitObserver(1, max_keys=wrong)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf, True, "60", None, 10**400, 1e300])
def test_a_wrong_time_to_wait_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"^wait="):
        ConcurrencyLimitObserver(1, wrong)


def test_without_a_limit_there_is_none():
    with pytest.raises(TypeError, match="limit"):
        ConcurrencyLimitObserver()


def test_its_numbers_cannot_be_changed_afterwards():
    with pytest.raises(ConfigurationError, match="no option 'limit'"):
        ConcurrencyLimitObserver(1).configure(limit=5)


def test_its_name_and_place_are_those_of_the_class():
    limit = ConcurrencyLimitObserver(1)
    assert (limit.name, limit.priority, limit.guard, limit.wait) == ("ConcurrencyLimit", 70, True, 0.0)
