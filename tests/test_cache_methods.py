"""Methods keep their results for each instance, and no instance is kept alive (M06)."""

from __future__ import annotations

import gc
import time
import weakref

import pytest

from caching import numbers
from callpyback import CacheObserver, CallPyBack, FunctionSignature, Outcome
from kinds import ended


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
    def odd(this, a):
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


def test_a_result_that_comes_when_its_instance_is_gone_is_not_kept():
    cache, host = CacheObserver(), Host()
    admit, end = cache.bind_guard(FunctionSignature.of(Host.positional), time.monotonic)
    token = admit((host, 1), {})
    del host
    end(0.0, "late", None, Outcome.SUCCESS, token)
    [cached] = cache._cached()
    assert numbers(cache, "misses", "size") == (1, 0)
    assert cached._shelves._by_instance == {}


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
    failing = [Owner() for _ in range(100)]
    for owner, other in zip(owners, failing, strict=True):
        owner.method(fails=False)
        assert isinstance(ended(lambda other=other: other.method(True)).exception, ValueError)
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


def test_a_key_that_is_the_instance_does_not_keep_it_alive():
    cache = CacheObserver(key=lambda arguments, instance: instance)

    class Owner:
        @CallPyBack([cache])
        def method(self, a):
            return [a]

    owner = Owner()
    assert owner.method(1) is owner.method(2)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
