"""Many simultaneous callers share one computation (C43)."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from caching import LIMIT, Gate, Hashed, gated, in_threads, numbers, run, turned_until, until, waiting
from callpyback import CacheObserver, CallPyBack, FunctionSignature, Outcome, Retry
from callpyback.core.waiting import Wait
from kinds import ended
from watching import run_python


def test_a_thousand_threads_get_the_value_of_one_computation():
    cache, gate, function = gated()
    gate.value = object()
    join = in_threads(*[function] * 1000)
    until(lambda: waiting(cache) == 999)
    gate.opened.set()
    assert {result.value for result in join()} == {gate.value}
    assert gate.entered == 1
    assert numbers(cache, "hits", "waits", "misses") == (0, 999, 1)


def test_a_thousand_tasks_get_the_value_of_one_computation():
    cache, value = CacheObserver(), object()
    entered = []

    @CallPyBack([cache])
    async def function(key):
        entered.append(key)
        await turned_until(lambda: waiting(cache) == 999)
        return value

    async def main():
        return await asyncio.gather(*(function(1) for _ in range(1000)))

    assert set(run(main())) == {value}
    assert entered == [1]
    assert numbers(cache, "hits", "waits", "misses") == (0, 999, 1)


def test_tasks_of_several_event_loops_share_one_computation():
    cache, value = CacheObserver(), object()
    entered = []

    @CallPyBack([cache])
    async def function(key):
        entered.append(key)
        await turned_until(lambda: waiting(cache) == 4 * 25 - 1)
        return value

    async def main():
        return await asyncio.gather(*(function(1) for _ in range(25)))

    join = in_threads(*[lambda: run(main())] * 4)
    assert [set(result.value) for result in join()] == [{value}] * 4
    assert entered == [1]
    assert numbers(cache, "waits", "misses") == (99, 1)


def test_different_keys_and_different_instances_do_not_wait_for_each_other():
    both = threading.Barrier(3)

    class Host:
        @CallPyBack([CacheObserver()])
        def method(self, key):
            both.wait(LIMIT)
            return key

    one, other = Host(), Host()
    join = in_threads(lambda: one.method(1), lambda: one.method(2), lambda: other.method(1))
    assert [result.value for result in join()] == [1, 2, 1]


def test_whoever_comes_just_when_the_computation_ends_does_not_compute_again():
    cache = CacheObserver()
    entered = []

    @CallPyBack([cache])
    def function(key):
        entered.append(key)
        return key

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for key in range(300):
            start = threading.Barrier(6)
            join = in_threads(*[lambda start=start, key=key: (start.wait(LIMIT), function(key))] * 6)
            assert {result.value[1] for result in join()} == {key}
    finally:
        sys.setswitchinterval(interval)
    assert entered == list(range(300))
    hits, waits, misses = numbers(cache, "hits", "waits", "misses")
    assert (hits + waits, misses) == (300 * 5, 300)


def test_who_waits_for_a_call_that_finds_a_value_just_before_it_computes_gets_that_value():
    cache, ran, announced = CacheObserver(), [], threading.Event()

    @CallPyBack([cache])
    def function(argument):
        ran.append(argument)
        return len(ran)

    def has_paused():
        paused.set()
        assert announced.wait(LIMIT)

    def let_join():
        announced.set()
        until(lambda: waiting(cache) == 1)

    # A call hashes its argument for two looks, to announce that it computes, and for a last look.
    paused = threading.Event()
    join = in_threads(lambda: function(Hashed({3: has_paused})))
    assert paused.wait(LIMIT)
    assert function(Hashed({3: lambda: in_threads(lambda: function(Hashed()))(), 4: let_join})) == 1
    assert join()[0].value == 1
    assert len(ran) == 1
    assert numbers(cache, "hits", "waits", "misses") == (1, 1, 1)


def test_calls_of_an_instance_share_a_computation_though_its_results_went_while_one_looked_them_up():
    cache, gate = CacheObserver(), Gate()

    class Host:
        @CallPyBack([cache])
        def method(self, argument):
            if argument == "fails":
                raise ValueError
            return gate()

    host, joins = Host(), []

    def meanwhile():
        in_threads(lambda: host.method("fails"))()  # leaves nothing of the instance behind
        joins.append(in_threads(lambda: host.method(Hashed())))
        assert gate.inside.wait(LIMIT)
        joins.append(in_threads(lambda: (until(lambda: waiting(cache) == 1), gate.opened.set())[-1]))

    assert host.method(Hashed({1: meanwhile})) == "computed"
    assert [join()[0].value for join in joins] == ["computed", None]
    assert gate.entered == 1


def test_if_it_fails_each_of_those_who_wait_computes_and_all_at_once():
    cache = CacheObserver()
    first, gate = threading.Lock(), Gate(ValueError("the first fails"))
    together = threading.Barrier(20)

    @CallPyBack([cache])
    def function():
        if first.acquire(blocking=False):
            return gate()
        together.wait(LIMIT)  # passed only if all twenty are here at the same time
        return "alone"

    join = in_threads(*[function] * 21)
    until(lambda: waiting(cache) == 20)
    gate.opened.set()
    results = join()
    assert sorted(str(result.value or result.exception) for result in results) == ["alone"] * 20 + ["the first fails"]
    assert numbers(cache, "waits", "misses", "size") == (0, 21, 1)


def test_if_it_is_cancelled_one_task_that_waits_computes_for_the_others():
    cache = CacheObserver()
    entered = []

    @CallPyBack([cache])
    async def function():
        entered.append(asyncio.current_task())
        if len(entered) == 1:
            await asyncio.Event().wait()
        await turned_until(lambda: waiting(cache) == 4)
        return "of the second"

    async def main():
        tasks = [asyncio.create_task(function()) for _ in range(6)]
        await turned_until(lambda: waiting(cache) == 5)
        entered[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = run(main())
    assert [type(results[0]), *results[1:]] == [asyncio.CancelledError, *["of the second"] * 5]
    assert len(entered) == 2
    assert numbers(cache, "waits", "misses") == (4, 2)


def test_a_value_that_cannot_be_shared_is_computed_by_each():
    cache, gate = CacheObserver(), Gate()

    @CallPyBack([cache])
    def function():
        gate()
        return iter([1, 2])

    join = in_threads(*[function] * 5)
    until(lambda: waiting(cache) == 4)
    gate.opened.set()
    assert [list(result.value) for result in join()] == [[1, 2]] * 5


def test_a_value_put_in_place_of_an_error_is_not_shared():
    cache, gate = CacheObserver(), Gate(ValueError())

    @CallPyBack([cache], default_return="instead")
    def function():
        return gate()

    join = in_threads(function, function)
    until(lambda: waiting(cache) == 1)
    gate.opened.set()
    assert [result.value for result in join()] == ["instead"] * 2
    assert gate.entered == 2


def test_who_waits_waits_through_the_retries():
    cache, gate = CacheObserver(), Gate()
    failures = [ConnectionError()]

    @CallPyBack([cache], retry=Retry(attempts=2, wait=0))
    def function():
        gate()
        if failures:
            raise failures.pop()
        return "second attempt"

    join = in_threads(function, function)
    until(lambda: waiting(cache) == 1)
    gate.opened.set()
    assert [result.value for result in join()] == ["second attempt"] * 2
    assert numbers(cache, "waits", "misses") == (1, 1)


def test_a_computation_whose_deadline_passes_is_over_for_those_who_wait():
    cache = CacheObserver()
    entered = []

    @CallPyBack([cache], max_execution_time=0.2)
    async def function():
        entered.append(1)
        if len(entered) == 1:
            await turned_until(lambda: waiting(cache) == 1)
            await asyncio.Event().wait()
        return "alone"

    async def main():
        return await asyncio.gather(function(), function(), return_exceptions=True)

    expired, value = run(main())
    assert (isinstance(expired, TimeoutError), value) == (True, "alone")


def test_a_task_that_is_cancelled_while_it_waits_leaves_cleanly():
    cache = CacheObserver()
    release = []

    @CallPyBack([cache])
    async def function():
        await turned_until(lambda: release)
        return "computed"

    async def main():
        tasks = [asyncio.create_task(function()) for _ in range(4)]
        await turned_until(lambda: waiting(cache) == 3)
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        assert waiting(cache) == 2
        release.append(1)
        return tasks[2].cancelled(), await asyncio.gather(tasks[0], tasks[1], tasks[3])

    assert run(main()) == (True, ["computed"] * 3)
    assert numbers(cache, "waits", "misses") == (2, 1)


def test_a_timeout_around_a_call_that_waits_works():
    cache, gate = CacheObserver(), []

    @CallPyBack([cache])
    async def function():
        await turned_until(lambda: gate)

    async def main():
        computing = asyncio.create_task(function())
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await function()
        gate.append(1)
        await computing
        assert waiting(cache) == 0

    run(main())


def test_ctrl_c_ends_the_wait_of_the_main_thread():
    shown = run_python("""
        import os, signal, threading
        from callpyback import CacheObserver, CallPyBack
        from caching import Hashed, until, waiting

        signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored if the tests run in the background
        cache, inside, opened = CacheObserver(), threading.Event(), threading.Event()

        @CallPyBack([cache])
        def function():
            inside.set()
            opened.wait(30)
            return "computed"

        def interrupt():
            until(lambda: waiting(cache) == 1)
            os.kill(os.getpid(), signal.SIGINT)

        other = threading.Thread(target=function)
        other.start()
        inside.wait(30)
        threading.Thread(target=interrupt).start()
        try:
            function()
        except KeyboardInterrupt:
            print("interrupted", waiting(cache))
        opened.set()
        other.join()
        print(function())
    """)
    assert shown.splitlines() == ["interrupted 0", "computed"]


def test_who_comes_to_wait_too_late_finds_the_value():
    cache = CacheObserver()
    admit, end = cache.bind_guard(FunctionSignature.of(lambda: None), iter(range(10**9)).__next__)
    token = admit((), {})
    waits = [admit((), {}) for _ in range(2)]
    end(0.0, "computed", None, Outcome.SUCCESS, token)
    assert waits[0].block().value == "computed"
    cache.clear()
    token = waits[1].block()  # the value is gone: it computes, and others wait for it
    assert isinstance(admit((), {}), Wait)
    end(0.0, "again", None, Outcome.SUCCESS, token)
    assert admit((), {}).value == "again"
    assert numbers(cache, "hits", "waits", "misses") == (2, 0, 2)


def test_who_waits_gets_the_value_though_results_are_thrown_away_meanwhile_and_the_next_computes():
    cache, gate, function = gated()
    join = in_threads(function, function)
    until(lambda: waiting(cache) == 1)
    cache.clear()
    gate.opened.set()
    assert [result.value for result in join()] == ["computed"] * 2
    assert gate.entered == 1
    gate.value = "later"
    assert function() == "later"


def test_whoever_comes_after_a_clear_does_not_join_what_began_before():
    cache = CacheObserver()
    source, old = ["old"], Gate()

    @CallPyBack([cache])
    def read():
        value = source[0]
        if value == "old":
            old()
        return value

    join = in_threads(read)
    assert old.inside.wait(LIMIT)
    source[0] = "new"
    cache.clear()
    assert read() == "new"
    old.opened.set()
    assert join()[0].value == "old"
    assert read() == "new"


def test_threads_tasks_keys_failures_and_evictions_together_lose_no_call():
    cache, calls = CacheObserver(maxsize=4, ttl_seconds=0.001), 400
    lock, ran, problems = threading.Lock(), [], []

    def body(number):
        with lock:
            ran.append(number)
        if len(ran) % 7 == 0:
            raise ValueError(number)
        return number

    plain = CallPyBack([cache])(lambda number: body(number))

    @CallPyBack([cache])
    async def coroutine(number):
        await asyncio.sleep(0)
        return body(number)

    def check(number, result):
        if result.value != number and not isinstance(result.exception, ValueError):
            problems.append(result)

    def in_thread(worker):
        for number in range(calls):
            key = number * worker % 9
            check(key, ended(lambda key=key: plain(key)))

    async def in_tasks():
        keys = [number % 9 for number in range(calls)]
        results = await asyncio.gather(*(coroutine(key) for key in keys), return_exceptions=True)
        problems.extend(
            result
            for key, result in zip(keys, results, strict=True)
            if result != key and type(result) is not ValueError
        )

    join = in_threads(*[lambda worker=worker: in_thread(worker) for worker in range(4)], *[lambda: run(in_tasks())] * 3)
    assert [result.exception for result in join()] == [None] * 7
    assert problems == []
    hits, waits, misses, size = numbers(cache, "hits", "waits", "misses", "size")
    assert hits + waits + misses == 7 * calls
    assert misses == len(ran)
    assert size <= 8
    assert waiting(cache) == 0
