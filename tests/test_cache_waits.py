"""Nobody waits for a computation that does not end: recursion, rings, lost calls, forks (C43, C20)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from caching import LIMIT, Gate, gated, in_threads, numbers, run, turned_until, until, waiting
from callpyback import CacheObserver, CallPyBack, FunctionSignature, Outcome, StopProcessing, handle
from callpyback.core.waiting import Wait
from callpyback.guards import single_flight
from kinds import drive, pause


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
        await turned_until(lambda: len(begun) == size)
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
    assert all(later == [earlier] for earlier, later in itertools.pairwise(results))
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
        if leader:
            await pause()
        return "alone"

    async def main():
        contextvars.Context().run(leader[0].send, None)
        task = asyncio.create_task(function())
        await turned_until(lambda: waiting(cache) == 1)
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_it_does_not_have():
    _, gate, function = gated()
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
