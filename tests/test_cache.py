"""The cache answers what was computed before, for as long as it may, and says how often it did (M07)."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import weakref

import pytest

from caching import Body, Hashed, cached_body, numbers
from callpyback import (
    CacheObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    MetricsObserver,
    MockTimeSource,
    Outcome,
    handle,
    on_call,
)
from kinds import Kind, Witness, drive


@pytest.fixture(params=["plain", "coroutine", "method"])
def kind(request):
    """The kinds that have one value."""
    return Kind(request.param)


@pytest.fixture(params=[None, MockTimeSource()], ids=["straight", "general"])
def clock(request):
    """The wrapper runs other code when the clock is not the system's."""
    return request.param


def test_a_hit_answers_without_running_the_body(kind, clock):
    cache, body = CacheObserver(), Body()
    function = kind.make(body, CallPyBack([cache], time_source=clock))
    first = kind.call(function, 1, b=2)
    assert kind.call(function, 1, b=2) is first
    assert body.ran == 1
    assert kind.call(function, 1, b=3) is not first
    assert numbers(cache, "hits", "misses", "size") == (1, 2, 2)


def test_a_hit_is_told_as_supplied_by_the_cache(kind, clock):
    cache, witness, metrics = CacheObserver(), Witness(), MetricsObserver()
    function = kind.make(Body(), CallPyBack([cache, witness, metrics], time_source=clock))
    value = kind.call(function, 1)
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    kind.call(function, 1)
    assert witness.told[3:] == ["PRE_EXECUTION", "COMPLETED"]
    assert (witness.outcome, witness.last.returned) == (Outcome.SUPPLIED, value)
    assert witness.last.decided_by == "CacheObserver"
    counters = metrics.get_metrics()["counters"]
    assert (counters["successes"], counters["supplied"]) == (1, 1)


@pytest.mark.parametrize("kind", [Kind("generator"), Kind("async generator")], ids=str)
def test_generators_are_refused_by_name(kind):
    with pytest.raises(ConfigurationError, match=r"function: an? .*generator function has no value to keep"):
        kind.make(Body(), CallPyBack([CacheObserver()]))


@pytest.mark.parametrize("value", [None, False, 0, "", [], NotImplemented, StopIteration()], ids=repr)
def test_any_value_is_kept_and_handed_out_as_itself(kind, value):
    body = Body(lambda: value)
    function = kind.make(body, CallPyBack([CacheObserver()]))
    assert [kind.call(function) is value for _ in range(3)] == [True] * 3
    assert body.ran == 1


def raise_error():
    raise ValueError("no")


def test_exceptions_are_not_kept(kind):
    cache, body = CacheObserver(), Body(raise_error)
    function = kind.make(body, CallPyBack([cache]))
    for _ in range(3):
        assert isinstance(kind.ended(function, 1).exception, ValueError)
    assert body.ran == 3
    assert numbers(cache, "hits", "misses", "size") == (0, 3, 0)


def test_a_value_that_replaced_an_error_is_not_kept(kind):
    body = Body(raise_error)
    function = kind.make(body, CallPyBack([CacheObserver()], default_return="instead"))
    assert [kind.call(function, 1) for _ in range(3)] == ["instead"] * 3
    assert body.ran == 3


def test_a_call_that_another_guard_refuses_is_not_kept(kind):
    closed = [True]

    def door():
        if closed:
            raise CallVetoed("closed")

    function = kind.make(Body(), CallPyBack([CacheObserver(), on_call(door)]))
    assert isinstance(kind.ended(function, 1).exception, CallVetoed)
    closed.clear()
    value = kind.call(function, 1)
    closed.append(True)
    assert isinstance(kind.ended(function, 2).exception, CallVetoed)
    assert kind.call(function, 1) is value


async def coroutine():
    return 5


async def async_items():
    yield 5


@pytest.mark.parametrize(
    "make",
    [coroutine, async_items, lambda: (n for n in (5,)), lambda: iter([5]), lambda: map(abs, [5]), io.StringIO],
    ids=["coroutine", "async generator", "generator", "list iterator", "map", "file"],
)
def test_a_value_that_can_be_used_only_once_is_not_kept(make):
    cache, made = CacheObserver(), []
    function, _ = cached_body(cache, value=lambda: made.append(make()) or made[-1])
    assert function() is made[0]
    assert function() is made[1]
    assert numbers(cache, "misses", "uncacheable", "size") == (2, 2, 0)
    for value in made:
        getattr(value, "close", int)()


def test_clear_throws_all_results_away_and_the_numbers_go_on():
    cache = CacheObserver()
    (one, _), (other, _) = cached_body(cache), cached_body(cache)
    first = one(1)
    assert (one(1), other(1)) == (first, first)
    cache.clear()
    assert one(1) is not first
    assert numbers(cache, "hits", "misses", "size") == (1, 3, 1)


def test_a_result_computed_from_what_was_there_before_a_clear_is_not_kept():
    cache = CacheObserver()
    source = ["old"]

    @CallPyBack([cache])
    def read(change):
        value = source[0]
        source[0] = "new"
        change()
        return value

    for change in (cache.clear, lambda: cache.clear(read), lambda: cache.invalidate(read, cache.clear)):
        source[0] = "old"
        assert read(change) == "old"
        assert read(change) == "new"


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_result_is_not_kept_if_a_clear_comes_at_whatever_moment_after_its_body(moment):
    cache, source = CacheObserver(), ["old"]

    @CallPyBack([cache])
    def read(argument):
        return source[0]

    def renew():
        source[0] = "new"
        cache.clear()

    read(Hashed({moment: renew}))
    assert read(Hashed()) == source[0]


def test_reset_starts_the_numbers_anew_and_keeps_the_settings():
    clock, cache = MockTimeSource(), CacheObserver(ttl_seconds=60, maxsize=2)
    function, _ = cached_body(cache, time_source=clock)
    for number in (1, 2, 3, 3, []):
        function(number)
    clock.advance(60)
    assert numbers(cache, "hits", "misses", "uncacheable", "evictions", "expirations") == (1, 3, 1, 1, 2)
    cache.reset()
    [everything] = cache.get_cache_stats()["functions"].values()
    assert everything.pop("hit_rate") is None
    assert set(everything.values()) == {0}
    assert numbers(cache, "maxsize", "ttl_seconds") == (2, 60)


@pytest.mark.parametrize("method", ["clear", "invalidate"])
def test_a_function_that_is_not_cached_here_is_named(method):
    cache = CacheObserver()
    cached_by_another, _ = cached_body()
    with pytest.raises(ConfigurationError, match="function is not cached by <CacheObserver"):
        getattr(cache, method)(cached_by_another)
    with pytest.raises(ConfigurationError, match="decorate it"):
        getattr(cache, method)(len)


def test_the_numbers_are_given_for_all_and_for_each_function():
    cache = CacheObserver(maxsize=7)
    assert cache.get_cache_stats() == {
        **dict.fromkeys(("hits", "waits", "misses", "uncacheable", "size", "evictions", "expirations"), 0),
        "hit_rate": None,
        "maxsize": 7,
        "ttl_seconds": 300,
        "functions": {},
    }

    @CallPyBack([cache])
    def one(number):
        return number

    @CallPyBack([cache])
    def other(number):
        return number

    for number in (1, 1, 1, 2, []):
        one(number)
    other(1)
    stats = cache.get_metrics()
    prefix = f"{__name__}.{one.__qualname__.rpartition('.')[0]}"
    zeros = {"waits": 0, "evictions": 0, "expirations": 0}
    assert stats["functions"] == {
        f"{prefix}.one": {"hits": 2, "misses": 2, "uncacheable": 1, "size": 2, "hit_rate": 0.5, **zeros},
        f"{prefix}.other": {"hits": 0, "misses": 1, "uncacheable": 0, "size": 1, "hit_rate": 0.0, **zeros},
    }
    assert (stats["hits"], stats["misses"], stats["size"], stats["hit_rate"]) == (2, 3, 3, 0.4)


def test_functions_of_one_name_share_numbers_and_never_results():
    cache = CacheObserver()

    def make(sign):
        @CallPyBack([cache])
        def function(number):
            return sign * number

        return function

    plus, minus = make(1), make(-1)
    assert [plus(1), minus(1), plus(1), minus(1)] == [1, -1, 1, -1]
    [stats] = cache.get_cache_stats()["functions"].values()
    assert (stats["hits"], stats["misses"]) == (2, 2)


def test_a_function_that_is_gone_leaves_nothing_in_the_cache():
    cache = CacheObserver()

    class Value:
        pass

    function, _ = cached_body(cache, value=Value)
    gone = [weakref.ref(function), weakref.ref(function())]
    del function
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert cache.get_cache_stats()["functions"] == {}


def test_a_decorator_and_a_function_may_have_a_cache_each():
    outer, inner = CacheObserver(priority=91), CacheObserver()
    function, body = cached_body(outer)
    handle(function).add_observer(inner)
    for _ in range(3):
        function(1)
    assert body.ran == 1
    assert numbers(outer, "hits", "misses") == (2, 1)
    assert numbers(inner, "hits", "misses") == (0, 1)


@pytest.mark.parametrize("ttl_seconds", [0, -1, float("nan"), float("inf"), "60", True, [1]], ids=repr)
def test_a_time_that_is_none_is_refused_by_name(ttl_seconds):
    with pytest.raises(ConfigurationError, match="ttl_seconds="):
        CacheObserver(ttl_seconds)


@pytest.mark.parametrize("maxsize", [0, -1, 1.5, float("inf"), "10", True], ids=repr)
def test_a_size_that_is_none_is_refused_by_name(maxsize):
    with pytest.raises(ConfigurationError, match="maxsize="):
        CacheObserver(maxsize=maxsize)


@pytest.mark.parametrize(("name", "value"), [("key", "user"), ("typed", 1), ("priority", "high"), ("name", 5)])
def test_other_parameters_are_refused_by_name(name, value):
    with pytest.raises(ConfigurationError, match=f"{name}="):
        CacheObserver(**{name: value})


def test_settings_may_be_given_at_registration_and_are_checked():
    body, clock = Body(), MockTimeSource()
    decorator = CallPyBack(time_source=clock)
    decorator.add_observer(CacheObserver(), options={"ttl_seconds": 5})
    function = decorator(lambda: body())
    function()
    clock.advance(5)
    function()
    assert body.ran == 2
    with pytest.raises(ConfigurationError, match="ttl_seconds="):
        decorator.add_observer(CacheObserver(), options={"ttl_seconds": 0})


def user_key(arguments):
    return arguments["args"]


@pytest.mark.parametrize("remade", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_has_the_settings_and_starts_empty(remade):
    original = CacheObserver(5, 10, user_key, typed=True, priority=7, name="mine")
    function, body = cached_body(original)
    function(1)
    made = remade(original)
    settings = ("ttl_seconds", "maxsize", "key", "typed", "priority", "name")
    assert [getattr(made, name) for name in settings] == [5, 10, user_key, True, 7, "mine"]
    assert made.get_cache_stats()["functions"] == {}
    other, other_body = cached_body(made)
    other(1)
    function(1)
    assert (body.ran, other_body.ran) == (1, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_forked_child_has_the_results_and_goes_its_own_way():
    cache = CacheObserver()
    function, body = cached_body(cache)
    function(1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            function(1)
            function(2)
            os.write(write, repr((body.ran, *numbers(cache, "hits", "misses", "size"))).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "(2, 1, 2, 2)"
    os.waitpid(child, 0)
    assert numbers(cache, "hits", "misses", "size") == (0, 1, 1)


def test_coroutines_are_cached_without_an_event_loop():
    body = Body()
    function = Kind("coroutine").make(body, CallPyBack([CacheObserver()]))
    assert drive(function(1)) is drive(function(1))
    assert body.ran == 1
