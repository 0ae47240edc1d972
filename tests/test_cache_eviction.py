"""Results go when their time is over, or for room the least recently used first; nothing grows (K06, M01)."""

from __future__ import annotations

import sys
import weakref

import freezegun
import pytest

from caching import Body, cached_body, in_threads, numbers
from callpyback import CacheObserver, CallPyBack, FunctionSignature, MockTimeSource, Outcome
from callpyback.guards import eviction as eviction_module
from kinds import Kind, ended


@pytest.fixture(params=["plain", "coroutine", "method"])
def kind(request):
    """The kinds that have one value."""
    return Kind(request.param)


def test_a_result_is_kept_for_its_time_by_the_decorators_clock(kind):
    clock, body, cache = MockTimeSource(1000.0), Body(), CacheObserver(ttl_seconds=60)
    function = kind.make(body, CallPyBack([cache], time_source=clock))
    ran = []
    for seconds in (0, 59.5, 0.5, 59.9, 0.2):
        clock.advance(seconds)
        kind.call(function, 1)
        ran.append(body.ran)
    assert ran == [1, 1, 2, 2, 3]
    assert numbers(cache, "hits", "misses", "expirations", "evictions", "size") == (2, 3, 2, 0, 1)


def test_the_time_runs_from_the_end_of_the_computation():
    clock = MockTimeSource()
    function, body = cached_body(CacheObserver(ttl_seconds=10), time_source=clock, value=lambda: clock.advance(8) or 1)
    function()
    clock.advance(9)
    function()
    assert body.ran == 1


def test_without_a_time_limit_nothing_expires(kind):
    clock, body = MockTimeSource(), Body()
    function = kind.make(body, CallPyBack([CacheObserver(ttl_seconds=None)], time_source=clock))
    for _ in range(3):
        kind.call(function, 1)
        clock.advance(1e12)
    assert body.ran == 1


def test_a_wall_clock_that_is_stepped_or_frozen_changes_nothing(kind):
    body = Body()
    function = kind.make(body, CallPyBack([CacheObserver(ttl_seconds=60)]))
    for moment in ("2030-01-01", "2020-01-01", "2040-01-01"):
        with freezegun.freeze_time(moment):
            kind.call(function, 1)
    assert body.ran == 1


class BrokenClock:
    now = staticmethod(lambda: 1.0)

    def monotonic(self):
        raise OSError


def test_while_the_clock_fails_nothing_is_kept_unless_it_is_kept_for_ever():
    cache = CacheObserver()
    function, body = cached_body(cache, time_source=BrokenClock())
    endless, endless_body = cached_body(CacheObserver(ttl_seconds=None), time_source=BrokenClock())
    for _ in range(3):
        assert function(1) == endless(1) == ((1,), {})
    assert (body.ran, endless_body.ran) == (3, 1)
    assert numbers(cache, "misses", "size") == (3, 0)


def test_what_expired_is_let_go_when_something_else_is_stored():
    clock, cache = MockTimeSource(), CacheObserver(ttl_seconds=60, maxsize=None)
    values = []

    class Value:
        pass

    def value():
        made = Value()
        values.append(weakref.ref(made))
        return made

    function, _ = cached_body(cache, time_source=clock, value=value)
    function(1)
    clock.advance(60)
    function(2)
    assert [reference() is None for reference in values] == [True, False]


def test_the_result_used_least_recently_makes_room():
    cache = CacheObserver(maxsize=3)
    function, body = cached_body(cache)
    for number in (1, 2, 3, 1, 2, 4):
        function(number)
    ran = body.ran
    for number in (1, 2, 4):
        function(number)
    assert body.ran == ran
    function(3)
    assert body.ran == ran + 1
    assert numbers(cache, "size", "evictions", "expirations") == (3, 2, 0)


def test_what_has_expired_makes_room_before_what_has_not():
    clock, cache = MockTimeSource(), CacheObserver(ttl_seconds=60, maxsize=2)
    function, body = cached_body(cache, time_source=clock)
    function("old")
    clock.advance(30)
    function("new")
    function("old")  # used last, but its time is over first
    clock.advance(30)
    function("newest")
    function("new")
    assert body.ran == 3
    assert numbers(cache, "evictions", "expirations") == (0, 1)


def test_many_uses_between_two_changes_are_remembered():
    function, body = cached_body(CacheObserver(maxsize=2))
    function("a")
    function("b")
    function("a")
    for _ in range(1000):
        function("b")
        function("a")
    function("c")
    function("a")
    assert body.ran == 3


def test_without_a_size_limit_everything_is_kept():
    cache = CacheObserver(maxsize=None)
    function, body = cached_body(cache)
    for _ in range(2):
        for number in range(5000):
            function(number)
    assert body.ran == 5000
    assert numbers(cache, "size", "evictions", "maxsize") == (5000, 0, None)


def test_any_number_of_distinct_keys_takes_no_more_room_than_the_size():
    cache = CacheObserver(maxsize=50)
    function, _ = cached_body(cache, "number")
    for number in range(30_000):
        function(number)
        function(number)
    [cached] = cache._cached()
    shelves = cached._shelves
    assert len(shelves.common.entries) == len(shelves.eviction._order) == len(shelves.eviction._ages) == 50
    assert (len(shelves.eviction.uses), len(shelves.eviction.changes), shelves.common.flights) == (1, 0, {})
    assert numbers(cache, "hits", "misses", "evictions") == (30_000, 30_000, 29_950)


def test_a_finalizer_may_call_the_cached_function_at_any_moment():
    cache = CacheObserver(maxsize=5)

    class Caller:
        def __del__(self):
            function(-1)

    @CallPyBack([cache])
    def function(number):
        return Caller() if number >= 0 else number

    for number in range(200):
        function(number)
    cache.clear()
    assert function(-1) == -1
    assert numbers(cache, "size") == (1,)


def test_an_interrupt_half_way_leaves_no_result_that_is_never_evicted():
    interrupt_at = []

    def clock():
        if interrupt_at and interrupt_at[0] == 0:
            interrupt_at.clear()
            raise KeyboardInterrupt
        if interrupt_at:
            interrupt_at[0] -= 1
        return 1.0

    for reading in range(8):
        cache = CacheObserver(maxsize=3)
        admit, end = cache.bind_guard(FunctionSignature.of(lambda number: number), clock)

        def call(number, admit=admit, end=end):
            token = admit((number,), {})
            if hasattr(token, "value"):
                return end(0.0, token.value, None, Outcome.SUPPLIED, None)
            return end(0.0, number, None, Outcome.SUCCESS, token)

        for number in range(3):
            call(number)
        interrupt_at.append(reading)
        ended(lambda call=call: call(3))
        interrupt_at.clear()
        for number in range(20):
            call(number)
            assert numbers(cache, "size")[0] <= 3
        [cached] = cache._cached()
        assert (
            len(cached._shelves.eviction._order)
            == len(cached._shelves.eviction._ages)
            == len(cached._shelves.common.entries)
            == 3
        )


def test_under_threads_the_numbers_are_exact_and_the_size_is_kept():
    cache = CacheObserver(maxsize=16)
    function, body = cached_body(cache, "number")
    [cached] = cache._cached()
    kept = cached._shelves.common.entries

    def work(worker):
        return [len(kept) for number in range(4000) if function(number * worker % 24) == ((number * worker % 24,), {})]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        results = in_threads(*[lambda worker=worker: work(worker) for worker in range(8)])()
    finally:
        sys.setswitchinterval(interval)
    assert [len(result.value) for result in results] == [4000] * 8
    hits, waits, misses, size, evictions = numbers(cache, "hits", "waits", "misses", "size", "evictions")
    assert (hits + waits + misses, misses) == (32_000, body.ran)
    assert (size, size + evictions) == (16, misses)
    assert len(cached._shelves.eviction._order) == len(kept) == size


def test_while_a_thread_has_its_turn_the_others_do_not_wait_but_let_it_have_the_interpreter(monkeypatch):
    cache, pauses = CacheObserver(maxsize=10), []
    function, _ = cached_body(cache, "number")
    [cached] = cache._cached()
    eviction = cached._shelves.eviction
    monkeypatch.setattr(eviction_module.time, "sleep", pauses.append)
    eviction._turn["of"] = "another thread, which the system has put aside"
    for number in range(2000):
        function(number)
    assert len(eviction.changes) == len(cached._shelves.common.entries) == 2000
    assert len(pauses) == 2000 - 16
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (pytest.approx(0.00017), 0.01)
    del eviction._turn["of"]
    function(2000)
    assert numbers(cache, "size", "evictions") == (10, 1991)
    assert len(pauses) == 2000 - 16
