"""The cache answers what it has computed, for its time and within its size, and keeps nothing else alive (M06, M07)."""

from __future__ import annotations

import copy
import functools
import gc
import io
import os
import pickle
import threading
import weakref

import freezegun
import pytest

from callpyback import (
    CacheObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    FunctionSignature,
    MetricsObserver,
    MockTimeSource,
    Outcome,
    handle,
    on_call,
)
from kinds import Kind, Witness, drive, ended


@pytest.fixture(params=["plain", "coroutine", "method"])
def kind(request):
    """The kinds that have one value."""
    return Kind(request.param)


@pytest.fixture(params=[None, MockTimeSource()], ids=["straight", "general"])
def clock(request):
    """The wrapper runs other code when the clock is not the system's."""
    return request.param


class Body:
    """Returns what it was called with, and remembers every time it ran."""

    def __init__(self, value=None):
        self.calls = []
        self.value = value

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return (args, kwargs) if self.value is None else self.value()

    @property
    def ran(self):
        return len(self.calls)


def cached_body(cache=None, parameters="*args, **kwargs", time_source=None, value=None, **names):
    """Return a cached plain function, and its body."""
    body = Body(value)
    decorator = CallPyBack([cache or CacheObserver()], time_source=time_source)
    return Kind("plain").make(body, decorator, parameters, **names), body


def numbers(cache, *names):
    stats = cache.get_cache_stats()
    return tuple(stats[name] for name in names)


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
    function, body = cached_body(CacheObserver(), time_source=BrokenClock())
    endless, endless_body = cached_body(CacheObserver(ttl_seconds=None), time_source=BrokenClock())
    for _ in range(3):
        assert function(1) == endless(1) == ((1,), {})
    assert (body.ran, endless_body.ran) == (3, 1)


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


EQUAL_CALLS = [
    ("a, b=2", [((1,), {}), ((1, 2), {}), ((), {"a": 1}), ((1,), {"b": 2}), ((), {"b": 2, "a": 1})]),
    ("a, *, b=2", [((1,), {}), ((), {"a": 1}), ((1,), {"b": 2}), ((), {"b": 2, "a": 1})]),
    ("a, b=2, /", [((1,), {}), ((1, 2), {})]),
    ("a, *rest", [((1, 2, 3), {})]),
    ("a=0, *rest", [((), {}), ((0,), {}), ((), {"a": 0})]),
    ("**options", [((), {"x": 1, "y": 2}), ((), {"y": 2, "x": 1})]),
    ("a, /, **options", [((1,), {"a": 2, "b": 3}), ((1,), {"b": 3, "a": 2})]),
    ("", [((), {})]),
]


@pytest.mark.parametrize(("parameters", "calls"), EQUAL_CALLS, ids=[parameters for parameters, _ in EQUAL_CALLS])
def test_equal_arguments_share_a_result_however_they_are_given(kind, parameters, calls):
    body = Body()
    function = kind.make(body, CallPyBack([CacheObserver()]), parameters)
    values = [kind.call(function, *args, **kwargs) for args, kwargs in calls * 2]
    assert all(value is values[0] for value in values)
    assert body.ran == 1


OTHER_CALLS = [
    ("a, b=2", [((1,), {}), ((2,), {}), ((1, 3), {}), ((2, 1), {})]),
    ("a, *rest, b=3", [((1,), {}), ((1, 3), {}), ((1,), {"b": 4}), ((1, 4), {}), ((1, 2, 3), {})]),
    ("*rest, **options", [((), {}), (("x", 1), {}), ((), {"x": 1}), (("x",), {"x": 1}), ((), {"x": 1, "y": 1})]),
    ("a, /, **options", [((1,), {}), ((1,), {"a": 1}), ((2,), {"a": 1})]),
    ("self=0, func=0", [((1, 2), {}), ((2, 1), {}), ((), {"func": 1}), ((), {"self": 1})]),
]


@pytest.mark.parametrize(("parameters", "calls"), OTHER_CALLS, ids=[parameters for parameters, _ in OTHER_CALLS])
def test_other_arguments_never_share_a_result(parameters, calls):
    function, body = cached_body(None, parameters)
    for args, kwargs in calls * 2:
        function(*args, **kwargs)
    assert body.ran == len(calls)


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"c": 3}), ((1,), {"a": 1}), ((), {"b": 2})]
)
def test_a_wrong_call_gets_pythons_own_error_whatever_is_kept(kind, args, kwargs):
    cache = CacheObserver()
    function, plain = (kind.make(Body(), decorator, "a, b=2") for decorator in (CallPyBack([cache]), lambda f: f))
    kind.call(function, 1)
    assert str(kind.ended(function, *args, **kwargs).exception) == str(kind.ended(plain, *args, **kwargs).exception)
    assert numbers(cache, "misses", "uncacheable") == (1, 1)


def test_a_builtin_that_does_not_tell_its_parameters_is_cached_too():
    cache = CacheObserver()
    greatest = CallPyBack([cache])(max)
    assert [greatest(3, 9), greatest(3, 9), greatest(9, 3), greatest([3, 9]), greatest((), default=0)] == [
        9,
        9,
        9,
        9,
        0,
    ]
    assert numbers(cache, "hits", "misses", "uncacheable") == (1, 3, 1)


def test_callables_that_are_no_functions_are_cached():
    class Adder:
        def __call__(self, a, b=1):
            return [a, b]

    for callable_ in (Adder(), functools.partial(Adder(), b=2)):
        added = CallPyBack([CacheObserver()])(callable_)
        assert added(1) is added(a=1)
        assert added(1) is not added(2)


def test_equal_arguments_of_different_types_share_a_result_unless_types_are_told_apart():
    for typed, expected in ((False, 1), (True, 3)):
        function, body = cached_body(CacheObserver(typed=typed), "number, *rest")
        for number in (1, 1.0, True) * 2:
            function(number)
        assert body.ran == expected
        for number in (1, 1.0, True) * 2:
            function(0, number)
        assert body.ran == 2 * expected


def test_types_are_told_apart_in_methods_and_in_keys():
    cache, body = CacheObserver(typed=True), Body()
    method = Kind("method").make(body, CallPyBack([cache]), "number")
    keyed, keyed_body = cached_body(CacheObserver(typed=True, key=lambda arguments: arguments["number"]), "number")
    for number in (1, True, 1.0) * 2:
        method(number)
        keyed(number)
    assert (body.ran, keyed_body.ran) == (3, 3)


class RaisingHash:
    def __hash__(self):
        raise RuntimeError("no hash today")


class RaisingEquality:
    __hash__ = object.__hash__

    def __eq__(self, other):
        raise RuntimeError("incomparable")

    def __init__(self):
        type(self).__hash__ = lambda _: 1


@pytest.mark.parametrize(
    ("argument", "ran"), [(lambda: [], 3), (lambda: ({},), 3), (RaisingHash, 3), (RaisingEquality, 3)]
)
def test_arguments_that_are_no_key_run_the_body_and_are_counted(kind, argument, ran):
    cache, body = CacheObserver(), Body()
    function = kind.make(body, CallPyBack([cache]), "argument")
    for _ in range(3):
        kind.call(function, argument())
    assert body.ran == ran
    misses, uncacheable = numbers(cache, "misses", "uncacheable")
    assert misses + uncacheable == 3
    assert uncacheable >= 2  # the first to be stored meets nobody to compare itself with
    [health] = handle(function).health.values()
    assert health.failures == 0


class FickleHash:
    """Has another hash each time it is asked."""

    numbers = iter(range(10**9))

    def __hash__(self):
        return next(self.numbers)


def test_keys_whose_hash_changes_fill_no_room(kind):
    cache = CacheObserver(maxsize=20)
    function = kind.make(Body(), CallPyBack([cache]), "argument")
    fickle = FickleHash()
    for _ in range(500):
        kind.call(function, fickle)
    [cached] = cache._cached()
    shelves = cached._shelves
    assert numbers(cache, "size")[0] <= 20
    assert sum(len(shelf.flights) for shelf in [shelves.common, *shelves._by_instance.values()]) <= 1
    assert kind.call(function, 1) is kind.call(function, 1)


class ForbiddenText:
    def __repr__(self):
        raise AssertionError("shown")

    __str__ = __repr__

    def __reduce__(self):
        raise AssertionError("pickled")


def test_arguments_and_values_are_neither_shown_nor_pickled(kind):
    function = kind.make(Body(), CallPyBack([CacheObserver()]))
    argument = ForbiddenText()
    assert kind.call(function, argument) is kind.call(function, argument)


def test_a_key_stands_for_the_arguments(kind):
    cache, body = CacheObserver(key=lambda arguments: arguments["user"]), Body()
    function = kind.make(body, CallPyBack([cache]), "user, trace=None")
    first = kind.call(function, "ann", trace=[1])
    assert kind.call(function, "ann", trace=[2]) is first
    assert kind.call(function, user="ann") is first
    assert kind.call(function, "ben") is not first
    assert numbers(cache, "hits", "misses", "uncacheable") == (2, 2, 0)


def test_a_key_that_is_unhashable_or_none_does_no_harm():
    for key, ran in ((list, 3), (lambda arguments: None, 1)):
        function, body = cached_body(CacheObserver(key=key), "number")
        for _ in range(3):
            function(1)
        assert body.ran == ran


def test_a_key_that_raises_is_a_failure_of_the_cache_and_the_call_goes_on():
    cache = CacheObserver(key=lambda arguments: arguments["uesr"])
    function, body = cached_body(cache, "user")
    assert [function("ann") for _ in range(2)] == [(("ann",), {})] * 2
    [health] = handle(function).health.values()
    assert (body.ran, health.failures, health.last_error) == (2, 2, "KeyError: 'uesr'")
    assert numbers(cache, "uncacheable") == (2,)


class Host:
    """Equal to every other one, and not hashable: only identity tells its instances apart."""

    cache = CacheObserver()
    watched = CallPyBack([cache])

    def __eq__(self, other):
        return isinstance(other, Host)

    __hash__ = None

    @watched
    def method(self, a=1, *rest, b=2):
        return [self.__class__, a, rest, b]

    @watched
    def positional(self, a):
        return [a]

    @watched
    def odd(this, a):  # noqa: B902
        return [a]

    @classmethod
    @watched
    def of_class(cls, a):
        return [cls.__name__, a]

    @staticmethod
    @watched
    def static(a, b=2):
        return [a, b]


class SubHost(Host):
    pass


@pytest.fixture(autouse=True)
def _nothing_kept_by_the_host():
    Host.cache.reset()


@pytest.mark.parametrize("name", ["method", "positional", "odd"])
def test_methods_keep_their_results_for_each_instance(name):
    one, other = Host(), Host()
    result = getattr(one, name)(5)
    assert getattr(one, name)(5) is getattr(Host, name)(one, 5) is getattr(one, name)(a=5) is result
    assert getattr(other, name)(5) is not result
    assert getattr(one, name)(5) is result
    assert numbers(Host.cache, "misses", "size", "uncacheable") == (2, 2, 0)


def test_self_may_be_given_by_keyword():
    host = Host()
    assert Host.method(self=host, a=5) is host.method(5)
    assert Host.method(a=5, self=host, b=2) is host.method(5)


def test_class_methods_keep_their_results_for_each_class_and_static_methods_for_all():
    assert Host.of_class(1) is Host().of_class(a=1)
    assert SubHost.of_class(1) == ["SubHost", 1]
    assert SubHost.of_class(1) is SubHost().of_class(1)
    assert Host.static(1) is Host().static(1, 2) is SubHost.static(a=1)
    assert numbers(Host.cache, "misses", "size") == (3, 3)


@pytest.mark.parametrize("name", ["method", "positional", "odd"])
def test_an_instance_is_not_kept_alive_and_its_results_go_with_it(name):
    one, other = Host(), Host()
    for host in (one, other):
        for number in range(3):
            getattr(host, name)(number)
    gone = weakref.ref(one)
    gc.disable()
    try:
        del one, host
        assert gone() is None
    finally:
        gc.enable()
    assert numbers(Host.cache, "size", "evictions", "expirations") == (3, 0, 0)
    getattr(other, name)(2)
    assert numbers(Host.cache, "hits", "misses") == (1, 6)


def test_a_class_made_as_the_program_runs_is_not_kept_alive():
    class Passing(Host):
        pass

    Passing.of_class(1)
    gone = weakref.ref(Passing)
    del Passing
    gc.collect()
    assert gone() is None
    assert numbers(Host.cache, "size") == (0,)


def test_arguments_and_value_go_at_once_with_their_instance_even_after_many_hits():
    class Value:
        pass

    class Owner:
        @CallPyBack([CacheObserver()])
        def method(self, argument):
            return Value()

    owner, argument = Owner(), Value()
    for _ in range(5):
        value = owner.method(argument)
    gone = [weakref.ref(value), weakref.ref(argument)]
    gc.disable()
    try:
        del value, argument
        assert [reference() is None for reference in gone] == [False, False]
        del owner
        assert [reference() is None for reference in gone] == [True, True]
    finally:
        gc.enable()


def test_an_instance_collected_in_a_cycle_takes_its_results_along():
    host = Host()
    host.itself = host
    host.method(1)
    del host
    gc.collect()
    assert numbers(Host.cache, "size") == (0,)


def test_a_new_instance_never_gets_the_results_of_one_that_is_gone():
    for number in range(300):
        host = Host()
        host.number = number
        assert Host.method(host, 7) == [Host, 7, (), 2]
        del host  # its id is free for the next one
    assert numbers(Host.cache, "hits", "misses", "size") == (0, 300, 0)


def test_instances_without_weak_references_run_uncached_and_are_counted():
    cache = CacheObserver()

    class Slotted:
        __slots__ = ()

        @CallPyBack([cache])
        def method(self, a):
            return [a]

    slotted = Slotted()
    assert slotted.method(1) is not slotted.method(1)
    assert numbers(cache, "uncacheable", "misses", "size") == (2, 0, 0)


def test_a_bound_method_that_is_decorated_has_one_instance():
    class Slotted:
        __slots__ = ("ran",)

        def method(self, a):
            return [a]

    cached = CallPyBack([CacheObserver()])(Slotted().method)
    assert cached(1) is cached(a=1)


def test_the_size_counts_results_of_all_instances_and_instances_without_results_leave_nothing():
    cache = CacheObserver(maxsize=10)

    class Owner:
        @CallPyBack([cache])
        def method(self, fails):
            if fails:
                raise ValueError

    owners = [Owner() for _ in range(100)]
    for owner in owners:
        owner.method(fails=False)
        ended(lambda owner=owner: owner.method(True))
    [cached] = cache._cached()
    assert numbers(cache, "size", "evictions") == (10, 90)
    assert len(cached._shelves._by_instance) == 10


def test_instances_share_results_if_the_key_names_the_instance():
    cache = CacheObserver(key=lambda arguments, instance: (instance.tenant, arguments["a"]))

    class Owner:
        __slots__ = ("tenant",)

        def __init__(self, tenant):
            self.tenant = tenant

        @CallPyBack([cache])
        def method(self, a):
            return [a]

    assert Owner("x").method(1) is Owner("x").method(1)
    assert Owner("y").method(1) is not Owner("x").method(1)
    assert numbers(cache, "hits", "misses") == (2, 2)


def test_a_key_divides_within_one_instance():
    cache = CacheObserver(key=lambda arguments: arguments["a"] % 10)

    class Owner:
        @CallPyBack([cache])
        def method(self, a):
            return [a]

    one, other = Owner(), Owner()
    assert one.method(1) is one.method(11)
    assert other.method(1) is not one.method(1)
    del one
    assert numbers(cache, "size") == (1,)


def test_clear_throws_all_results_away_and_the_numbers_go_on():
    cache = CacheObserver()
    (one, _), (other, _) = cached_body(cache), cached_body(cache)
    first = one(1)
    assert (one(1), other(1)) == (first, first)
    cache.clear()
    assert one(1) is not first
    assert numbers(cache, "hits", "misses", "size") == (1, 3, 1)


def test_clear_of_a_function_and_of_a_bound_method_leaves_the_others_alone():
    one, other = Host(), Host()
    kept = {name: call() for name, call in (("static", lambda: Host.static(1)), ("other", lambda: other.method(1)))}
    gone = one.method(1)
    Host.cache.clear(one.method)
    assert one.method(1) is not gone
    assert Host.static(1) is kept["static"]
    assert other.method(1) is kept["other"]
    Host.cache.clear(Host.method)
    assert other.method(1) is not kept["other"]
    assert Host.static(1) is kept["static"]
    Host.cache.clear(Host().method)  # nothing is known about this one


def test_invalidate_throws_one_result_away_however_its_call_is_written():
    host = Host()
    for number in range(3):
        host.method(number)
        Host.static(number)
    assert Host.cache.invalidate(host.method, a=1)
    assert not Host.cache.invalidate(host.method, 1)
    assert Host.cache.invalidate(Host.method, host, 2)
    assert Host.cache.invalidate(Host.static, 2)
    assert not Host.cache.invalidate(Host.static, [])
    assert not Host.cache.invalidate(Host.static)
    assert numbers(Host.cache, "size") == (3,)


def test_a_result_computed_from_what_was_there_before_a_clear_is_not_kept():
    cache = CacheObserver()
    source = ["old"]

    @CallPyBack([cache])
    def read(change):
        value = source[0]
        source[0] = "new"
        change()
        return value

    for change in (cache.clear, lambda: cache.clear(read), lambda: cache.invalidate(read, change)):
        source[0] = "old"
        assert read(change) == "old"
        assert read(change) == "new"


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
    body = Body()
    decorator, clock = CallPyBack(time_source=(clock := MockTimeSource())), clock
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
        assert len(cached._shelves.eviction._order) == len(cached._shelves.eviction._ages) == len(cached._shelves.common.entries) == 3


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


def test_the_numbers_are_exact_under_threads():
    cache = CacheObserver(maxsize=16)

    @CallPyBack([cache])
    def function(number):
        return number

    start = threading.Barrier(8)
    wrong = []

    def work(worker):
        start.wait()
        for number in range(4000):
            if function((number * worker) % 24) != (number * worker) % 24:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    hits, waits, misses, size, evictions = numbers(cache, "hits", "waits", "misses", "size", "evictions")
    assert hits + waits + misses == 32_000
    assert size <= 16
    assert evictions <= misses - size
    [cached] = cache._cached()
    assert len(cached._shelves.eviction._order) == len(cached._shelves.common.entries) == size


def test_coroutines_are_cached_without_an_event_loop():
    body = Body()
    function = Kind("coroutine").make(body, CallPyBack([CacheObserver()]))
    assert drive(function(1)) is drive(function(1))
    assert body.ran == 1
