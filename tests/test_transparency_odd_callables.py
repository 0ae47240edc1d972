"""Callables that are no Python functions: objects, partials, builtins, bound methods, classes (T24 to T27)."""

from __future__ import annotations

import abc
import asyncio
import copy
import functools
import gc
import inspect
import itertools
import operator
import weakref
from unittest import mock

import pytest

from callpyback import CallPyBack, ConfigurationError, FunctionKind, Outcome, handle
from kinds import Ended, Witness, drive, ended, pause

TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]

# Where there is no Python code, `variable_names` warns once (F18); what is called must work all the same.
pytestmark = pytest.mark.filterwarnings("ignore:variable_names=:RuntimeWarning")


class Adder:
    """Adds; an instance has no `__name__`."""

    def __init__(self, n):
        self.n = n

    def __call__(self, x: int) -> int:
        return self.n + x

    def __eq__(self, other):
        return isinstance(other, Adder) and self.n == other.n

    def __hash__(self):
        return hash(self.n)


def test_callable_objects_work(observed):  # T24
    assert observed(Adder(3))(4) == 7
    assert observed(Adder(3))(x=4) == 7


def test_callable_objects_stay_what_they_are(observed):  # T24
    adder = Adder(3)
    proxy = observed(adder)
    assert isinstance(proxy, Adder)
    assert proxy.n == 3
    assert proxy == adder
    assert hash(proxy) == hash(adder)
    assert proxy.__doc__ == adder.__doc__
    assert proxy.__wrapped__ is adder
    assert inspect.signature(proxy) == inspect.signature(adder)
    assert callable(proxy)
    assert not hasattr(proxy, "__name__")
    proxy.n = 5
    assert (adder.n, proxy(1)) == (5, 6)


def test_callable_objects_are_observed_by_the_name_of_their_class():  # T24
    witness = Witness()
    CallPyBack([witness])(Adder(3))(4)
    assert witness.told == TOLD
    assert witness.last.arguments == {"x": 4}
    assert witness.last.function_signature.name == "Adder"
    assert witness.last.function_signature.module == __name__


def test_the_object_stays_unobserved_itself():  # T24
    witness, adder = Witness(), Adder(3)
    CallPyBack([witness])(adder)
    assert adder(4) == 7
    assert witness.told == []


class AsyncAdder:
    """Adds later."""

    async def __call__(self, x):
        await pause()
        return x + 1


class Counting:
    """Yields later."""

    def __call__(self, n):
        yield from range(n)


class AsyncCounting:
    """Yields later still."""

    async def __call__(self, n):
        for item in range(n):
            yield item


def test_async_callable_objects_are_awaited(observed):
    witness = Witness()
    observed.add_observer(witness)
    later = observed(AsyncAdder())
    assert handle(later).signature.kind is FunctionKind.COROUTINE
    begun = later(4)
    assert witness.told == []
    assert drive(begun) == 5
    assert witness.told == TOLD
    assert asyncio.run(later(4)) == 5


def test_generating_callable_objects_are_iterated(observed):
    witness = Witness()
    observed.add_observer(witness)
    assert list(observed(Counting())(3)) == [0, 1, 2]
    assert witness.last.items == 3

    async def main():
        return [item async for item in observed(AsyncCounting())(3)]

    assert asyncio.run(main()) == [0, 1, 2]
    assert witness.last.items == 3


def test_callable_objects_marked_as_coroutine_functions_stay_marked(observed):
    if not hasattr(inspect, "markcoroutinefunction"):
        pytest.skip("inspect.markcoroutinefunction is new in 3.12")

    class Marked:
        def __call__(self, x):
            return AsyncAdder()(x)

    marked = observed(inspect.markcoroutinefunction(Marked()))
    assert inspect.iscoroutinefunction(marked)
    assert drive(marked(4)) == 5


def add(a, b, *, c=0):
    """Add."""
    return a + b + c


def test_partials_work(observed):  # T25
    partial = functools.partial(add, 1, c=2)
    decorated = observed(partial)
    assert decorated(3) == 6
    assert decorated(3, c=4) == 8
    assert inspect.signature(decorated) == inspect.signature(partial)
    assert isinstance(decorated, functools.partial)
    assert (decorated.func, decorated.args, decorated.keywords) == (add, (1,), {"c": 2})


def test_partials_of_observed_functions_work(observed):  # T25
    partial = functools.partial(observed(add), 1, c=2)
    assert partial(3) == 6
    assert str(inspect.signature(partial)) == "(b, *, c=2)"


def test_arguments_of_a_partial_are_those_of_the_call():  # T25
    witness = Witness()
    CallPyBack([witness])(functools.partial(add, 1, c=2))(3)
    assert witness.last.arguments == {"b": 3, "c": 2}
    assert witness.last.function_signature.name == "add"


def test_partials_of_coroutine_functions_are_awaited(observed):  # T25
    async def later(a, b):
        await pause()
        return a + b

    decorated = observed(functools.partial(later, 1))
    assert inspect.iscoroutinefunction(decorated)
    assert drive(decorated(2)) == 3


def test_an_observed_partial_in_a_class_is_no_method_as_ever(observed):  # T25
    class A:
        plain = observed(functools.partial(add, 1))

    if not hasattr(functools.partial, "__get__"):  # a partial becomes a method in some future Python
        assert A().plain(2) == 3


BUILTINS = {
    "max": (max, (3, 9), {}, 9),  # T26
    "len": (len, ([1, 2],), {}, 2),
    "str.upper bound": ("abc".upper, (), {}, "ABC"),
    "str.upper unbound": (str.upper, ("abc",), {}, "ABC"),
    "sorted": (sorted, ([2, 1],), {"reverse": True}, [2, 1]),
    "operator.add": (operator.add, (1, 2), {}, 3),
    "method-wrapper": ((3).__add__, (4,), {}, 7),
    "slot wrapper": (int.__add__, (3, 4), {}, 7),
    "itemgetter": (operator.itemgetter(1), ([1, 2],), {}, 2),
    "dict.fromkeys": (dict.fromkeys, ("ab", 0), {}, {"a": 0, "b": 0}),
    "getattr": (getattr, (3, "missing", 5), {}, 5),
}


@pytest.mark.parametrize(("builtin", "args", "kwargs", "value"), BUILTINS.values(), ids=BUILTINS)
def test_builtins_work(observed, builtin, args, kwargs, value):  # T26
    decorated = observed(builtin)
    assert decorated(*args, **kwargs) == value
    assert decorated(*args, **kwargs) == value
    assert str(decorated) == str(builtin)


@pytest.mark.parametrize(("builtin", "args", "kwargs", "value"), BUILTINS.values(), ids=BUILTINS)
def test_builtins_are_observed(builtin, args, kwargs, value):  # T26
    witness = Witness()
    CallPyBack([witness])(builtin)(*args, **kwargs)
    assert witness.told == TOLD
    assert witness.last.result.value == value
    assert witness.last.function_signature.name
    assert isinstance(witness.last.arguments, dict)


def test_a_builtin_that_raises_raises_the_same(observed):  # T26
    raised = ended(lambda: observed(len)(5)).exception
    assert repr(raised) == repr(ended(lambda: len(5)).exception)


def test_a_builtin_without_a_signature_shows_its_arguments_as_args():  # T26
    witness = Witness()
    CallPyBack([witness])(max)(3, 9)
    assert witness.last.arguments == {"args": (3, 9)}
    assert witness.last.function_signature.parameters == {}


def test_unbound_methods_of_builtin_classes_bind_in_a_class(observed):
    class Text(str):
        __slots__ = ()
        shout = observed(str.upper)

    assert Text("abc").shout() == "ABC"


def test_builtins_do_not_bind_in_a_class_as_ever(observed):
    class A:
        size = observed(len)

    assert A().size("abc") == 3


def test_bound_methods_work(observed):
    class A:
        def method(self, x):
            return self, x

    a = A()
    decorated = observed(a.method)
    assert decorated(1) == (a, 1)
    assert decorated.__self__ is a
    assert decorated.__func__ is A.method
    assert decorated == a.method


def test_a_bound_method_shows_its_instance():
    witness = Witness()

    class A:
        def method(self, x):
            return x

    a = A()
    CallPyBack([witness])(a.method)(1)
    assert witness.last.instance is a
    assert witness.last.arguments == {"x": 1}


def test_lru_cache_works_over_and_under(observed):
    calls = []

    def square(n):
        calls.append(n)
        return n * n

    over = functools.lru_cache(observed(square))
    assert (over(2), over(2), calls) == (4, 4, [2])
    calls.clear()
    under = observed(functools.lru_cache(square))
    assert (under(2), under(2), calls) == (4, 4, [2])
    assert under.cache_info().hits == 1
    under.cache_clear()
    assert under.cache_info().currsize == 0


def test_an_observed_lru_cache_binds_to_instances(observed):
    class A:
        @observed
        @functools.lru_cache  # noqa: B019 - binding is the subject
        def method(self, x):
            return self, x

    a = A()
    assert a.method(1) == (a, 1)
    assert A.method(a, 1) == (a, 1)
    A.method.cache_clear()


def test_calls_of_an_observed_lru_cache_are_told_hits_included():
    witness = Witness()
    cached = CallPyBack([witness])(functools.lru_cache(lambda n: n))
    assert [cached(1), cached(1)] == [1, 1]
    assert witness.told == TOLD * 2


def test_cached_functions_of_other_decorators_keep_their_attributes(observed):
    @functools.singledispatch
    def show(x):
        return "object"

    decorated = observed(show)
    decorated.register(int, lambda x: "int")
    assert (decorated(1), decorated("a")) == ("int", "object")
    assert decorated.registry is show.registry


@pytest.mark.parametrize("target", [Adder, int, ValueError, abc.ABC, type], ids=lambda cls: cls.__name__)
def test_a_class_is_refused_with_the_way_out(observed, target):  # T27
    with pytest.raises(ConfigurationError, match=f"the class {target.__name__}: .*decorate its methods"):
        observed(target)


@pytest.mark.parametrize("target", [5, None, "text", [], object()], ids=["int", "None", "str", "list", "object"])
def test_what_cannot_be_called_is_refused(observed, target):
    with pytest.raises(ConfigurationError, match="expected a callable"):
        observed(target)


def test_the_same_callable_decorated_twice_by_one_instance_is_observed_once():  # T48
    witness = Witness()
    decorator = CallPyBack([witness])
    decorated = decorator(decorator(Adder(3)))
    assert decorated(4) == 7
    assert witness.told == TOLD


def test_two_observed_callables_of_one_class_are_apart():
    first, second = Witness(), Witness()
    one, two = CallPyBack([first])(Adder(1)), CallPyBack([second])(Adder(2))
    assert (one(0), two(0), one(0)) == (1, 2, 1)
    assert first.told == TOLD * 2
    assert second.told == TOLD


def test_handles_and_hooks_of_callables_that_are_no_functions():
    seen = []
    decorated = CallPyBack()(Adder(3))

    @decorated.on_success
    def note(value):
        seen.append(value)

    assert decorated(4) == 7
    assert seen == [7]
    with handle(decorated).paused():
        decorated(4)
    assert seen == [7]
    assert decorated.callpyback is handle(decorated)


def test_observers_added_later_are_told_about_callables():
    decorated = CallPyBack()(Adder(3))
    decorated(4)
    handle(decorated).add_observer(witness := Witness())
    decorated(4)
    assert witness.told == TOLD


def test_copies_of_observed_callables_are_observed():
    witness = Witness()
    decorated = CallPyBack([witness])(Adder(3))
    assert copy.copy(decorated)(4) == copy.deepcopy(decorated)(4) == 7
    assert witness.told == TOLD * 2


def test_observed_callables_can_be_collected(observed):
    decorated = observed(Adder(3))
    decorated(4)
    reference = weakref.ref(decorated.__wrapped__)
    for kept in observed.observers:
        vars(kept).get("contexts", []).clear()
    del decorated
    gc.collect()
    assert reference() is None


class Attributes:
    """Answers every attribute, as mocks and remote proxies do."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Attributes()

    def __call__(self, *args):
        return args


def test_objects_that_have_every_attribute_work(observed):
    assert observed(Attributes())(1, 2) == (1, 2)


def test_mocks_work(observed):
    assert observed(mock.Mock(return_value=5))(1, a=2) == 5
    assert observed(mock.MagicMock(return_value=5))() == 5
    assert asyncio.run(observed(mock.AsyncMock(return_value=5))()) == 5


def test_an_object_whose_attributes_are_all_odd_works():
    assert CallPyBack([Witness()])(mock.call)(1) == mock.call(1)


def test_a_decorated_function_can_be_mocked(observed):
    decorated = observed(add)
    imitation = mock.create_autospec(decorated, return_value=7)
    assert imitation(1, 2) == 7
    with pytest.raises(TypeError, match="missing a required argument"):
        imitation(1)


class Unfriendly:
    """Refuses everything but being called."""

    def __call__(self, x):
        return x

    def refuse(self, *_):
        raise AssertionError("the callable was touched")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = refuse


def test_callables_are_only_called(observed):
    assert observed(Unfriendly())(5) == 5


def test_unfriendly_callables_are_observed_all_the_same():
    witness = Witness()
    decorator = CallPyBack([witness])
    assert decorator(Unfriendly())(5) == 5
    assert witness.last.arguments == {"x": 5}


def test_an_exception_of_a_callable_object_is_its_own(observed):
    error = KeyError("k")

    class Failing:
        def __call__(self):
            raise error

    witness = Witness()
    observed.add_observer(witness)
    assert ended(observed(Failing())) == Ended(exception=error)
    assert error.__context__ is None
    assert witness.outcome is Outcome.FAILURE


def test_iterators_as_callables_work(observed):
    assert observed(itertools.count(5).__next__)() == 5
    assert list(map(observed("{}".format), [1, 2])) == ["1", "2"]
