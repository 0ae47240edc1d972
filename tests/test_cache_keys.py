"""Equal arguments share a result however they are given, and no argument does any harm (M07)."""

from __future__ import annotations

import functools
import time
import weakref

import pytest

from caching import Body, cached_body, numbers
from callpyback import CacheObserver, CallPyBack, StopProcessing, handle
from callpyback.guards.cache_entries import Entry, Shelves
from callpyback.guards.single_flight import ALONE, Flight
from kinds import Kind


@pytest.fixture(params=["plain", "coroutine", "method"])
def kind(request):
    """The kinds that have one value."""
    return Kind(request.param)


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


@pytest.mark.parametrize(("argument", "ran"), [(list, 3), (lambda: ({},), 3), (RaisingHash, 3), (RaisingEquality, 3)])
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


def test_a_computation_that_is_over_and_could_not_be_removed_is_not_waited_for():
    cache = CacheObserver()
    function, body = cached_body(cache, "number")
    [cached] = cache._cached()
    over = Flight()
    over.land(ALONE)
    cached._shelves.common.flights[1,] = over
    assert function(1) is function(1)
    assert body.ran == 1


def test_what_takes_the_place_of_a_result_or_of_an_instance_stays_when_these_are_removed():
    shelves, answer = Shelves(10, time.monotonic), StopProcessing(1)
    owner = Body()
    shelf = shelves.of(owner)
    shelves.put(shelf, "key", answer, 1e12, 0)
    old = shelf.entries["key"]
    new = shelf.entries["key"] = Entry(shelf, "key", answer, 1e12)
    shelves._take_off(old)
    assert shelf.entries == {"key": new}
    shelves._bereave(shelf.number, weakref.ref(Body))
    assert shelves.of(owner) is shelf
    assert shelf.entries == {"key": new}
