"""Many simultaneous callers share one computation, and nobody waits for ever (C43)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from caching import LIMIT, numbers, until, waiting
from callpyback import CacheObserver, CallPyBack, FunctionSignature, Outcome, Retry, StopProcessing, handle
from callpyback.core.waiting import Wait
from callpyback.guards import single_flight
from kinds import drive, ended, pause
from watching import run_python


class Gate:
    """A body that waits inside until it is let go, and counts how often it was entered."""

    def __init__(self, value="computed"):
        self.value = value
        self.entered = 0
        self.inside = threading.Event()
        self.opened = threading.Event()

    def __call__(self, *args):
        self.entered += 1
        self.inside.set()
        assert self.opened.wait(LIMIT)
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def in_threads(*works):
    """Start a thread for each; return a function that waits for them and gives what came of each."""
    pool = ThreadPoolExecutor(len(works))
    futures = [pool.submit(ended, work) for work in works]

    def join():
        results = [future.result(LIMIT) for future in futures]
        pool.shutdown()
        return results

    return join


def gated(cache=None, **options):
    """Return a cache, a gate, and a cached function that goes through the gate."""
    cache, gate = cache or CacheObserver(), Gate()

    @CallPyBack([cache], **options)
    def function(key="key"):
        return gate(key)

    return cache, gate, function


def run(main):
    """Run a coroutine that must come to its end."""
    return asyncio.run(asyncio.wait_for(main, LIMIT))


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
        while waiting(cache) < 999:
            await asyncio.sleep(0)
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
        while waiting(cache) < 4 * 25 - 1:
            await asyncio.sleep(0)
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


@pytest.mark.parametrize("clock_order", range(3))
def test_whoever_comes_just_when_the_computation_ends_does_not_compute_again(clock_order):
    cache = CacheObserver()
    entered = []

    @CallPyBack([cache])
    def function(key):
        entered.append(key)
        return key

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for key in range(150):
            start = threading.Barrier(6)
            join = in_threads(*[lambda start=start, key=key: (start.wait(LIMIT), function(key))] * 6)
            assert {result.value[1] for result in join()} == {key}
    finally:
        sys.setswitchinterval(interval)
    assert entered == list(range(150))
    hits, waits, misses = numbers(cache, "hits", "waits", "misses")
    assert (hits + waits, misses) == (150 * 5, 150)


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


async def waited_for(cache, number):
    while waiting(cache) < number:
        await asyncio.sleep(0)


def test_if_it_is_cancelled_each_task_that_waits_computes_and_all_at_once():
    cache = CacheObserver()
    entered = []

    @CallPyBack([cache])
    async def function():
        entered.append(asyncio.current_task())
        if len(entered) == 1:
            await asyncio.Event().wait()
        while len(entered) < 6:
            await asyncio.sleep(0)
        return "alone"

    async def main():
        tasks = [asyncio.create_task(function()) for _ in range(6)]
        await waited_for(cache, 5)
        entered[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = run(main())
    assert [type(results[0]), *results[1:]] == [asyncio.CancelledError, *["alone"] * 5]
    assert numbers(cache, "waits", "misses") == (0, 6)


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
            await waited_for(cache, 1)
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
        while not release:
            await asyncio.sleep(0)
        return "computed"

    async def main():
        tasks = [asyncio.create_task(function()) for _ in range(4)]
        await waited_for(cache, 3)
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        assert waiting(cache) == 2
        async with asyncio.timeout(None) as limit:
            release.append(1)
            limit.reschedule(None)
            return tasks[2].cancelled(), await asyncio.gather(tasks[0], tasks[1], tasks[3])

    assert run(main()) == (True, ["computed"] * 3)
    assert numbers(cache, "waits", "misses") == (2, 1)


def test_a_timeout_around_a_call_that_waits_works():
    cache, gate = CacheObserver(), []

    @CallPyBack([cache])
    async def function():
        while not gate:
            await asyncio.sleep(0)

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
        from caching import until, waiting

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


def test_recursion_with_the_same_arguments_does_not_wait_for_itself():
    cache = CacheObserver()
    depth = []

    @CallPyBack([cache])
    def function(key):
        depth.append(key)
        return function(key) if len(depth) < 5 else "deep"

    assert function(1) == "deep"
    assert numbers(cache, "misses", "size") == (5, 1)


def test_a_task_does_not_wait_for_itself_nor_for_those_it_waits_for():
    cache = CacheObserver()
    depth = []

    @CallPyBack([cache])
    async def function(key):
        depth.append(key)
        if len(depth) == 1:
            direct = await function(key)
            children = await asyncio.gather(*(asyncio.create_task(function(key)) for _ in range(3)))
            return [direct, *children]
        return "deep"

    assert run(function(1)) == ["deep"] * 4


def test_a_thread_that_inherits_the_context_does_not_wait_for_the_computation_that_waits_for_it():
    cache = CacheObserver()
    depth = []

    @CallPyBack([cache])
    def function(key):
        depth.append(key)
        if len(depth) > 1:
            return "deep"
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(contextvars.copy_context().run, function, key).result(LIMIT)

    assert function(1) == "deep"


def test_an_event_loop_inside_a_computation_does_not_wait_for_it():
    cache = CacheObserver()
    depth = []

    @CallPyBack([cache])
    def function(key):
        depth.append(key)
        return run(asyncio.to_thread(function, key)) if len(depth) == 1 else "deep"

    assert function(1) == "deep"


def test_a_thread_does_not_wait_for_itself_in_another_context():
    cache = CacheObserver()
    depth = []

    @CallPyBack([cache])
    def function(key):
        depth.append(key)
        return contextvars.Context().run(function, key) if len(depth) == 1 else "deep"

    assert function(1) == "deep"


def ring_of(function, size, ready):
    """Return the body of computations each of which needs the next one, once all have begun."""
    entered = set()

    def body(number):
        if number in entered:
            return ["again", number]
        entered.add(number)
        ready()
        return [number, function()((number + 1) % size)]

    return body


@pytest.mark.parametrize("size", [2, 3, 7])
def test_threads_that_need_each_others_computation_do_not_wait_for_ever(size):
    cache, ready = CacheObserver(), threading.Barrier(size)
    body = ring_of(lambda: function, size, lambda: ready.wait(LIMIT))

    @CallPyBack([cache])
    def function(number):
        return body(number)

    join = in_threads(*[lambda number=number: function(number) for number in range(size)])
    results = [result.value for result in join()]
    assert [result[0] for result in results] == list(range(size))


@pytest.mark.parametrize("size", [2, 3, 7])
def test_tasks_that_need_each_others_computation_do_not_wait_for_ever(size):
    cache, begun = CacheObserver(), set()

    @CallPyBack([cache])
    async def function(number):
        if number in begun:
            return ["again", number]
        begun.add(number)
        while len(begun) < size:
            await asyncio.sleep(0)
        # A task of its own, as most code that gathers has it.
        return [number, await asyncio.create_task(function((number + 1) % size))]

    async def main():
        return await asyncio.gather(*(function(number) for number in range(size)))

    assert [result[0] for result in run(main())] == list(range(size))


def test_computations_of_two_functions_may_need_each_other():
    cache, ready = CacheObserver(), threading.Barrier(2)
    entered = []

    def body(name, other):
        entered.append(name)
        if entered.count(name) > 1:
            return name
        ready.wait(LIMIT)
        return name + other()

    one = CallPyBack([cache])(lambda: body("one ", other))
    other = CallPyBack([CacheObserver()])(lambda: body("other ", one))
    join = in_threads(one, other)
    assert [result.value.split()[0] for result in join()] == ["one", "other"]


def test_a_long_chain_of_computations_is_waited_for():
    cache, gate = CacheObserver(), Gate("end")

    @CallPyBack([cache])
    def function(number):
        return gate() if number == 0 else [function(number - 1)]

    join = in_threads(*[lambda number=number: function(number) for number in range(10)])
    assert gate.inside.wait(LIMIT)
    gate.opened.set()
    results = [result.value for result in join()]
    assert results[0] == "end"
    assert all(later == [earlier] for earlier, later in zip(results, results[1:], strict=False))
    assert numbers(cache, "misses") == (10,)


def test_a_trio_task_computes_rather_than_wait():
    cache, entered = CacheObserver(), []

    @CallPyBack([cache])
    async def function(key):
        entered.append(key)
        while len(entered) < 3:
            await trio.lowlevel.checkpoint()
        return key

    async def main():
        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(function, 1)
        return await function(1)

    assert trio.run(main) == 1
    assert numbers(cache, "hits", "waits", "misses") == (1, 0, 3)


def test_a_coroutine_driven_by_hand_computes_rather_than_wait():
    cache, entered = CacheObserver(), []

    @CallPyBack([cache])
    async def function():
        entered.append(1)
        await pause()
        return "computed"

    suspended = function()
    suspended.send(None)
    assert drive(function()) == "computed"
    assert len(entered) == 2
    suspended.close()
    assert drive(function()) == "computed"
    assert len(entered) == 2


def test_a_coroutine_that_is_dropped_half_way_is_waited_for_no_more():
    cache = CacheObserver()

    @CallPyBack([cache])
    async def function():
        if not leader:
            return "alone"
        await pause()

    async def main():
        contextvars.Context().run(leader[0].send, None)
        task = asyncio.create_task(function())
        await waited_for(cache, 1)
        leader.clear()
        gc.collect()
        return await task

    leader = [function()]
    assert run(main()) == "alone"


def test_a_call_that_never_ends_for_its_guard_is_waited_for_no_more():
    cache = CacheObserver()
    admit, end = cache.bind_guard(FunctionSignature.of(lambda: None), iter(range(10**9)).__next__)
    token = admit((), {})
    waits = admit((), {})
    assert isinstance(waits, Wait)
    join = in_threads(waits.block)
    until(lambda: waiting(cache) == 1)
    del token  # lost without `end`
    [result] = join()
    end(0.0, "alone", None, Outcome.SUCCESS, result.value)
    answer = admit((), {})
    assert type(answer) is StopProcessing
    assert answer.value == "alone"


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


def test_a_loop_that_is_closed_meanwhile_stops_nobody():
    cache, gate = CacheObserver(), threading.Event()
    computing = threading.Event()

    @CallPyBack([cache])
    async def function():
        computing.set()
        await asyncio.to_thread(gate.wait, LIMIT)
        return "computed"

    join = in_threads(lambda: run(function()))
    assert computing.wait(LIMIT)
    loop = asyncio.new_event_loop()
    task = loop.create_task(function())
    while waiting(cache) < 1:
        loop.run_until_complete(asyncio.sleep(0))
    stays = in_threads(lambda: run(function()))
    until(lambda: waiting(cache) == 2)
    loop.close()
    gate.set()
    assert [result.value for result in (*join(), *stays())] == ["computed"] * 2
    task.get_coro().close()
    task._log_destroy_pending = False


def test_a_cache_that_is_removed_meanwhile_still_ends_the_wait():
    cache = CacheObserver()
    gate = Gate()
    function = CallPyBack()(lambda: gate())
    handle(function).add_observer(cache)
    join = in_threads(function, function)
    until(lambda: waiting(cache) == 1)
    handle(function).remove_observer(cache)
    gate.opened.set()
    assert [result.value for result in join()] == ["computed"] * 2
    assert gate.entered == 1


def test_results_are_thrown_away_meanwhile_who_waits_gets_his_and_the_next_computes():
    cache, gate, function = gated()
    join = in_threads(function, function)
    until(lambda: waiting(cache) == 1)
    cache.clear()
    later = Gate("later")
    before, gate.value = gate.value, None
    gate.value = before
    gate.opened.set()
    assert [result.value for result in join()] == ["computed"] * 2
    assert gate.entered == 1
    gate.value = later.value
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_it_does_not_have():
    cache, gate, function = gated()
    join = in_threads(function)
    assert gate.inside.wait(LIMIT)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            gate.opened.set()
            os.write(write, repr((function(), function(), gate.entered)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "('computed', 'computed', 2)"
    os.waitpid(child, 0)
    gate.opened.set()
    assert join()[0].value == "computed"
    assert gate.entered == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_children_forked_while_threads_store_and_evict_come_up_with_a_sound_cache():
    cache, done = CacheObserver(maxsize=8), threading.Event()

    @CallPyBack([cache])
    def function(number):
        return number

    def churn():
        number = 0
        while not done.is_set():
            number += 1
            function(number % 40)

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    codes = []
    try:
        for _ in range(40):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    values = [function(number) for number in range(30)]
                    code = 0 if values == list(range(30)) and numbers(cache, "size") == (8,) else 2
                finally:
                    os._exit(code)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 40


def test_a_computation_leaves_nothing_behind_in_the_context():
    _, gate, function = gated()
    gate.opened.set()
    context = contextvars.Context()
    context.run(function)
    assert context.get(single_flight._innermost) is None

    inside = []

    @CallPyBack([CacheObserver()])
    def remembering():
        inside.append(contextvars.copy_context())
        return Gate()

    value = remembering()
    flight = inside[0][single_flight._innermost]
    assert flight.landed
    assert value not in gc.get_referents(flight, *gc.get_referents(flight))


def test_tasks_that_start_each_other_inside_computations_hold_no_chain_of_all_before_them():
    lengths = []

    @CallPyBack([CacheObserver(maxsize=1)])
    async def function(number):
        length, flight = 0, single_flight._innermost.get()
        while flight is not None:
            length, flight = length + 1, flight.outer
        lengths.append(length)
        started.append(asyncio.create_task(next_one(number + 1)) if number < 200 else None)
        return number

    async def next_one(number):
        await asyncio.sleep(0)
        await function(number)

    started = []

    async def main():
        await function(0)
        while started[-1] is not None:
            await started[-1]

    run(main())
    assert len(lengths) == 201
    assert max(lengths) <= 2


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
