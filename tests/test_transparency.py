"""Calling a decorated function does what calling the function does.

The cases of group T (`T01`...) are named beside the tests, here and in the other `test_transparency_*` modules.
Not tested, and why:

* T07 on Python 3.14: this version supports 3.11 to 3.13; that annotations are never evaluated is tested on these.
* T18-T20 have two allowed ends; the one chosen is that the decorator works above the other one.
* T35, the duration until a returned awaitable is awaited: an option of a later issue; that it passes is tested.
* T45 is tested in `test_typing.py`.
* T49, the link between the records of nested calls: contexts have none in this version; the records are tested.
* E14, E17 and E18, the text of values: `test_safe_repr.py`; the time of E18: `benchmarks/`.
* E33 and E34, retries and breakers: a later issue.
* T50 with Cython: no compiler is part of the test environment; callables that are no Python functions are tested in
  `test_transparency_odd_callables.py`.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import threading
import weakref

import pytest

from callpyback import CallPyBack, MockTimeSource, handle
from kinds import BoundWitness, Forgetful, Kind, Witness, ended

CALLS = {
    "positional-only": ("a, b, /", "(1, 2)"),  # T08
    "same name in **kw": ("a, /, **kw", "(1, a=2)"),  # T09
    "mixed": ("a, *rest, b=5, **options", "(1, 2, 3, z=9)"),  # T11
    "mixed, named": ("a, *rest, b=5, **options", "(a=1, b=2, c=3)"),  # T11
    "only options": ("**options", "(x=1)"),  # T12
    "no arguments": ("*args, **kwargs", "()"),  # T12
    "parameters called kwargs and args": ("kwargs, args=()", "(1, 2)"),  # T13
    "parameters called kwargs and args, by name": ("kwargs, args=()", "(args=1, kwargs=2)"),  # T13
    "a defaulted positional-only": ("a=1, b=2, /, c=3", "(5)"),
    "a keyword-only without default": ("*, a, b=2", "(a=1)"),
    "names of this library": (
        "function, call, plan, watch, current, at, started, elapsed, value, error, inner, state",
        "(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)",
    ),
    "names of this library, by name": (
        "func, context, this, cls, wrapper, function, call, plan, watch, args, kwargs",
        "(func=1, context=2, this=3, cls=4, wrapper=5, function=6, call=7, plan=8, watch=9, args=10, kwargs=11)",
    ),
    "names of this library in **kw": (
        "**options",
        "(func=1, context=2, wrapper=5, function=6, call=7, plan=8, watch=9, args=10, kwargs=11, cls=12)",
    ),
}


def test_arguments_arrive_as_given(kind, observed):  # T08-T13
    def arrived(decorator):
        results = {}
        for name, (parameters, arguments) in CALLS.items():
            function = kind.make(lambda *args, **kwargs: (args, kwargs), decorator, parameters)
            results[name] = eval(f"kind.call(function, {arguments[1:-1]})", {"kind": kind, "function": function})
        return results

    assert arrived(observed) == arrived(lambda function: function)


def test_no_parameter_name_is_stolen(observed):
    def f(self=1, func=2, context=3, *, self_=4, cls=5, instance=6):
        return self, func, context, self_, cls, instance

    assert observed(f)() == (1, 2, 3, 4, 5, 6)
    assert observed(f)(self=7, func=8, context=9, cls=10, instance=11) == (7, 8, 9, 4, 10, 11)


WRONG_CALLS = {
    "one too few": ("a, b", (1,), {}),  # T15
    "one too many": ("a, b", (1, 2, 3), {}),
    "unknown keyword": ("a, b=2", (1,), {"c": 3}),
    "positional-only by name": ("a, /", (), {"a": 1}),
    "twice": ("a", (1,), {"a": 1}),
    "keyword-only missing": ("*, a", (), {}),
    "none taken": ("", (1,), {}),
}


def test_a_wrong_call_raises_what_the_function_raises(kind, observed):  # T15
    ran = []

    def raised(decorator):
        texts = {}
        for name, (parameters, args, kwargs) in WRONG_CALLS.items():
            error = kind.ended(kind.make(ran.append, decorator, parameters), *args, **kwargs).exception
            texts[name] = type(error), str(error)
        return texts

    texts = raised(observed)
    assert texts == raised(lambda function: function)
    assert {cls for cls, _ in texts.values()} == {TypeError}
    assert not ran


def test_a_wrong_call_is_one_failure(kind):  # T15
    witness = Witness()
    kind.ended(kind.make(print, CallPyBack([witness]), "a, b"), 1)
    assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
    assert witness.last.arguments == {"a": 1}
    assert witness.last.result.exception_type is TypeError


def test_a_mutable_default_stays_shared(observed):  # T16
    @observed
    def remember(item, memory=[]):  # noqa: B006 - sharing is the subject
        memory.append(item)
        return memory

    assert remember(1) is remember(2)
    assert remember(3) == [1, 2, 3]
    assert remember.__defaults__[0] is remember.__wrapped__.__defaults__[0]


def test_arguments_and_results_are_the_same_objects(kind, observed):  # T16
    given, named = object(), object()

    def body(first, *, second):
        assert first is given
        assert second is named
        return first

    assert kind.call(kind.make(body, observed, "first, *, second"), given, second=named) is given


def test_keyword_dictionaries_are_not_changed(kind, observed):  # T16
    options = {"b": 2, "a": 1}

    def body(**kwargs):
        kwargs["c"] = 3
        return list(kwargs)

    assert kind.call(kind.make(body, observed), **options) == ["b", "a", "c"]
    assert options == {"b": 2, "a": 1}


def test_observers_cannot_alter_the_arguments(kind):  # S28
    class Meddler:
        priority = 0

        def update(self, context):
            context.arguments["a"] = "altered"
            context.arguments.clear()
            context.arguments["args"] = ()

    assert kind.call(kind.make(lambda *a, **kw: (a, kw), CallPyBack([Meddler()])), 1, a=2) == ((1,), {"a": 2})


class Untouchable:
    """A value that no library has any business with."""

    def __getattribute__(self, name):
        if name == "__class__":
            return object.__getattribute__(self, name)
        raise AssertionError(f"{name} was read")

    def refuse(self, *_):
        raise AssertionError("this value was touched")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __call__ = refuse
    __getitem__ = __contains__ = __format__ = __copy__ = __deepcopy__ = __reduce_ex__ = refuse


def test_arguments_and_values_are_never_touched(kind, observed):
    value = Untouchable()
    decorated = kind.make(lambda x, *, y: x, observed, "x, *, y")
    assert kind.call(decorated, value, y=value) is value


def test_callbacks_get_untouched_values(kind):
    value, seen = Untouchable(), []
    decorated = kind.make(lambda x: x, CallPyBack(), "x")
    handle(decorated).on_call(lambda arguments: seen.append(arguments["x"]))
    handle(decorated).on_success(lambda value, result, arguments, local_variables: seen.append(arguments["x"]))
    assert kind.call(decorated, value) is value
    assert len(seen) == 2
    assert seen[0] is seen[1] is value


class RudeObserver:
    """An observer none of whose ordinary methods works."""

    __slots__ = ("__weakref__", "told")
    priority = 0

    def __init__(self):
        self.told = 0

    def update(self, context):
        self.told += 1

    def refuse(self, *_):
        raise AssertionError("this observer was touched")

    __repr__ = __str__ = __eq__ = __ne__ = __hash__ = __bool__ = __len__ = __iter__ = refuse


def test_observers_are_only_told(kind):
    observer = RudeObserver()
    decorator = CallPyBack([observer])
    assert kind.call(kind.make(lambda: 5, decorator)) == 5
    assert observer.told == 3
    decorator.remove_observer(observer)


def test_a_returned_awaitable_passes_untouched(observed):  # T35
    async def later():
        return 5

    @observed
    def make():
        return later()

    coroutine = make()
    assert inspect.iscoroutine(coroutine)
    assert inspect.getcoroutinestate(coroutine) == "CORO_CREATED"
    assert asyncio.run(coroutine) == 5
    assert not inspect.iscoroutinefunction(make)


def test_a_returned_generator_passes_untouched(observed):
    @observed
    def make():
        return (n for n in (1, 2))

    generator = make()
    assert inspect.getgeneratorstate(generator) == "GEN_CREATED"
    assert list(generator) == [1, 2]


def test_calling_does_not_run_a_suspended_body(observed):  # T36
    witness = Witness()
    observed.add_observer(witness)
    ran = []
    for kind in (Kind("coroutine"), Kind("generator"), Kind("async generator")):
        begun = kind.make(lambda: ran.append(1), observed)()
        assert not ran
        assert witness.told == []
        if kind.name != "async generator":
            begun.close()
    assert witness.told == []


def test_a_generator_never_started_tells_nothing(observed):
    witness = Witness()
    observed.add_observer(witness)
    for kind in (Kind("generator"), Kind("async generator")):
        begun = kind.make(lambda: 5, observed)()
        del begun
        gc.collect()
    assert witness.told == []


def test_recursion_is_right(observed):  # T41
    @observed
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(12) == 144


def test_recursion_takes_one_frame_more_a_level(observed):  # T41; DESIGN rule 1
    @observed
    def depth(n):
        if n:
            return depth(n - 1)
        frame, frames = sys._getframe(), 0
        while frame is not None:
            frame, frames = frame.f_back, frames + 1
        return frames

    depth(2)
    assert depth(50) - depth(0) == 2 * 50


def test_recursion_300_deep_fits_under_a_limit_of_1000(observed):  # T41
    @observed
    def depth(n):
        return 0 if n == 0 else 1 + depth(n - 1)

    results = []

    def run():
        # In a thread of its own, where the stack of the test run does not count.
        results.append(ended(lambda: depth(300)))

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(before)
    assert results[0].value == 300


def test_recursion_of_coroutines_and_generators_is_right(observed):  # T41
    @observed
    async def add(n):
        return n + await add(n - 1) if n else 0

    @observed
    def count_down(n):
        if n:
            yield n
            yield from count_down(n - 1)

    assert asyncio.run(add(50)) == sum(range(51))
    assert list(count_down(50)) == list(range(50, 0, -1))


@pytest.mark.parametrize("names", [(), ("value",)], ids=["no locals", "locals"])
def test_a_decorated_function_can_be_collected(kind, names):  # T42
    decorator = CallPyBack([Forgetful(), BoundWitness()], variable_names=names)
    decorated = kind.make(lambda: 5, decorator)
    kind.call(decorated)
    kind.call(decorated)
    references = [weakref.ref(inspect.unwrap(decorated)), weakref.ref(getattr(decorated, "__func__", decorated))]
    del decorated
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert kind.call(kind.make(lambda: 6, decorator)) == 6


def test_a_decorator_can_be_collected():  # T42
    decorator = CallPyBack([Forgetful()])
    decorator(lambda: 5)()
    reference = weakref.ref(decorator)
    del decorator
    gc.collect()
    assert reference() is None


def test_decorating_with_the_same_instance_twice_records_a_call_once(kind):  # T48
    witness = Witness()
    decorator = CallPyBack([witness])
    decorated = kind.make(lambda: 5, lambda function: decorator(decorator(function)))
    assert kind.call(decorated) == 5
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_decorating_with_two_instances_records_a_call_by_each(kind):
    outer, inner = Witness(), Witness()
    decorated = kind.make(lambda: 5, lambda function: CallPyBack([outer])(CallPyBack([inner])(function)))
    assert kind.call(decorated) == 5
    assert outer.told == inner.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_a_call_runs_in_the_calling_thread(observed):  # C09
    assert observed(lambda: threading.get_ident())() == threading.get_ident()


def test_calls_by_another_clock_are_as_transparent(kind):
    clock = MockTimeSource(5.0)
    decorated = kind.make(lambda: clock.advance(2.0), CallPyBack([witness := Witness()], time_source=clock))
    kind.call(decorated)
    assert witness.last.timestamp == 5.0
    assert witness.last.execution_time == 2.0
