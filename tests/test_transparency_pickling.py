"""Decorated functions, their hosts, and contexts travel: pickle, copy, spawned processes, cloudpickle (T28, T30)."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import math
import multiprocessing
import operator
import os
import pickle
import subprocess
import sys

import cloudpickle
import pytest

from callpyback import (
    CallPyBack,
    ExecutionContext,
    ExecutionFailure,
    ExecutionResult,
    ExecutionState,
    FunctionSignature,
    MetricsObserver,
    MockTimeSource,
    Outcome,
    TracingVariableExtractor,
    factory,
    handle,
    on_success,
)
from callpyback.core.plan import EMPTY, STALE
from callpyback.errors import NO_VALUE, CallVetoed, ConfigurationError, StopProcessing
from kinds import WAYS, BoundWitness, Witness, ended

TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
witness = Witness()


@CallPyBack([witness])
def of_module(x):
    """Found by name."""
    return x + 1


@CallPyBack([witness])
async def coroutine_of_module(x):
    return x + 1


@CallPyBack([Witness()], variable_names=["square"])
def square(x):
    square = x * x
    return square, len(handle(of_module).observers)


class Host:
    """A class with observed methods."""

    def __init__(self, x):
        self.x = x

    @CallPyBack([witness])
    def method(self, y):
        return self.x + y

    @CallPyBack([witness])
    @classmethod
    def of_class(cls, y):
        return cls, y

    def __eq__(self, other):
        return self.x == other.x

    __hash__ = None


@dataclasses.dataclass
class Task:
    """Holds a decorated function as a field."""

    function: object


observed_partial = CallPyBack([witness])(functools.partial(operator.add, 1))

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def round_trip(value, protocol=pickle.HIGHEST_PROTOCOL):
    return pickle.loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("function", [of_module, coroutine_of_module, Host.method], ids=lambda f: f.__name__)
def test_functions_are_pickled_by_name(function, protocol):  # T28
    assert round_trip(function, protocol) is function


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bound_methods_are_pickled_with_their_instance(protocol):  # T28
    method = round_trip(Host(3).method, protocol)
    assert method.__self__ == Host(3)
    assert method(4) == 7


def test_bound_classmethods_are_pickled():  # T28
    assert round_trip(Host.of_class)(4) == (Host, 4)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_observed_partials_are_pickled_with_their_observers(protocol):  # T28
    there = round_trip(observed_partial, protocol)
    assert there(4) == 5
    [told] = handle(there).observers
    assert told.told[-3:] == TOLD


def test_observed_callables_are_pickled_by_name_where_the_name_leads_back(monkeypatch):  # T28
    monkeypatch.setattr(math, "sqrt", observed := CallPyBack()(math.sqrt))
    assert round_trip(observed) is observed


def test_what_holds_a_decorated_function_is_pickled():  # T28
    assert round_trip(Task(of_module)) == Task(of_module)
    assert round_trip(functools.partial(of_module, 1))() == 2


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_function_is_the_function(make):  # T28
    assert make(of_module) is of_module
    assert make(coroutine_of_module) is coroutine_of_module
    assert make(observed_partial) is observed_partial
    assert make(Task(of_module)) == Task(of_module)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_a_copy_of_an_instance_has_working_methods(make):  # T28
    assert make(Host(3)).method(4) == 7


def test_a_spawned_pool_calls_decorated_functions():  # T28
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(square, [1, 2]) == [(1, 1), (4, 1)]
        assert pool.apply(Host(3).method, (4,)) == 7
        assert pool.apply(observed_partial, (4,)) == 5


MAIN = """
import multiprocessing, pickle
from callpyback import CallPyBack, handle

@CallPyBack()
def double(x):
    return 2 * x

if __name__ == "__main__":
    assert pickle.loads(pickle.dumps(double)) is double
    assert handle(double).signature.module == "__main__"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))
"""


def test_a_decorated_function_of_main_is_pickled_and_spawned(tmp_path):  # T28, T50
    script = tmp_path / "script.py"
    script.write_text(MAIN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("[2, 4]\n", "")


def closure(decorator, offset):
    @decorator
    def add(x):
        value = x + offset
        return value  # noqa: RET504 - the local is captured

    return add


def cloud_round_trip(value):
    return cloudpickle.loads(cloudpickle.dumps(value))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("called_before", [True, False], ids=["called before", "never called"])
def test_a_decorated_closure_survives_cloudpickle(way, called_before):  # T30
    function = closure(WAYS[way](), 5)
    if called_before:
        function(1)
        function(1)
    there = cloud_round_trip(function)
    assert there is not function
    assert there(1) == there(1) == 6
    assert ended(lambda: there("x")).exception.args == ended(lambda: function("x")).exception.args
    assert there.__name__ == "add"


def test_a_decorated_closure_is_observed_after_cloudpickle():  # T30
    local, bound = Witness(), BoundWitness()
    function = closure(CallPyBack([local, bound]), 5)
    there = cloud_round_trip(function)
    told, told_bound = handle(there).observers
    assert there(1) == 6
    assert told.told == TOLD
    assert [outcome for _, _, outcome in told_bound.ends] == [Outcome.SUCCESS]
    assert local.told == []
    assert ended(lambda: there(None)).exception.args
    assert told.outcome is Outcome.FAILURE


def test_what_happens_to_a_closure_elsewhere_does_not_come_back():  # T30
    function = closure(CallPyBack(), 5)
    there = cloud_round_trip(function)
    handle(there).add_observer(Witness())
    there(1)
    assert handle(function).observers == ()
    assert len(handle(there).observers) == 1
    handle(there).pause()
    assert there(1) == function(1) == 6


def test_captured_locals_are_captured_after_cloudpickle():  # T30
    function = closure(CallPyBack([Witness()], variable_names=["value"]), 5)
    function(1)
    there = cloud_round_trip(function)
    there(2)
    [told] = handle(there).observers
    assert told.last.local_variables == {"value": 7}
    assert handle(function).observers[0].last.local_variables == {"value": 6}


def test_a_decorated_coroutine_function_survives_cloudpickle():  # T30
    @CallPyBack([Witness()])
    async def later(x):
        await asyncio.sleep(0)
        return x + 1

    there = cloud_round_trip(later)
    assert asyncio.run(there(1)) == 2
    assert handle(there).observers[0].told == TOLD


def test_a_decorated_generator_function_survives_cloudpickle():  # T30
    @CallPyBack([Witness()])
    def count(n):
        yield from range(n)

    there = cloud_round_trip(count)
    assert list(there(3)) == [0, 1, 2]
    assert handle(there).observers[0].told == TOLD


def test_hooks_and_handles_survive_cloudpickle():  # T30
    function = closure(CallPyBack(), 5)
    function.on_success(lambda value, seen=[]: seen.append(value))
    there = cloud_round_trip(function)
    assert there(1) == 6
    there.on_success(Witness().contexts.append)
    assert there(1) == 6
    assert len(handle(there).observers) == 2
    assert there.callpyback is handle(there)


def test_a_class_with_decorated_methods_survives_cloudpickle():  # T30
    class Local:
        @CallPyBack([Witness()])
        def method(self):
            return type(self).__name__, 5

    there = cloud_round_trip(Local)
    assert there().method() == ("Local", 5)


def test_an_observed_partial_of_a_closure_survives_cloudpickle():  # T30
    function = CallPyBack([Witness()])(functools.partial(lambda x, y: x + y, 1))
    there = cloud_round_trip(function)
    assert there(2) == 3
    assert handle(there).observers[0].told == TOLD


def test_a_shared_decorator_stays_shared_in_cloudpickle():  # T30
    decorator = CallPyBack([Witness()])
    first, second = cloud_round_trip((closure(decorator, 1), closure(decorator, 2)))
    assert handle(first).decorator is handle(second).decorator
    handle(first).decorator.add_observer(added := Witness())
    assert (first(1), second(1)) == (2, 3)
    assert added.told == TOLD * 2


def test_a_decorator_survives_pickle():
    decorator = round_trip(CallPyBack([Witness()], metadata={"team": "shop"}, default_return=[]))
    function = decorator(lambda: 1 / 0)
    assert function() == []
    [told] = decorator.observers
    assert told.outcome is Outcome.HANDLED
    assert told.last.metadata == {"team": "shop"}


def test_a_shut_down_decorator_stays_shut_down():
    decorator = CallPyBack([Witness()])
    decorator.shutdown()
    there = round_trip(decorator)
    assert there(lambda: 5)() == 5
    assert there.observers[0].told == []


def test_a_deep_copy_of_a_decorator_is_apart():
    decorator = CallPyBack([told := Witness()])
    other = copy.deepcopy(decorator)
    assert other(lambda: 5)() == 5
    assert told.told == []
    assert other.observers[0].told == TOLD


@pytest.mark.parametrize(
    "value",
    [NO_VALUE, EMPTY, STALE, ExecutionState.COMPLETED, Outcome.SUPPLIED],
    ids=["NO_VALUE", "EMPTY", "STALE", "a state", "an outcome"],
)
def test_single_objects_stay_single(value):
    assert round_trip(value) is value
    assert copy.deepcopy(value) is value
    assert cloud_round_trip(value) is value


def test_exceptions_of_the_library_survive_pickle():
    for error in (CallVetoed("no"), ConfigurationError("wrong"), StopProcessing(5), StopProcessing()):
        there = round_trip(error)
        assert type(there) is type(error)
        assert there.args == error.args
    assert round_trip(StopProcessing(5)).value == 5
    assert round_trip(StopProcessing(None)).has_value
    assert not round_trip(StopProcessing()).has_value


def test_extractors_factories_and_clocks_survive_pickle():
    clock = round_trip(MockTimeSource(5.0))
    assert clock.now() == 5.0
    assert round_trip(factory(list)).make() == []
    assert callable(round_trip(TracingVariableExtractor()).setup_extraction)


def divide(a, b=1):
    quotient = a / b
    return quotient  # noqa: RET504 - the local is captured


def contexts_of(call, **options):
    told = Witness()
    decorated = CallPyBack([told], time_source=MockTimeSource(7.0), variable_names=["quotient"], **options)(divide)
    ended(lambda: call(decorated))
    return told.contexts


@pytest.mark.parametrize("make", [round_trip, copy.copy, copy.deepcopy, cloud_round_trip], ids=lambda f: f.__name__)
@pytest.mark.parametrize("index", range(3))
def test_contexts_of_a_success_survive(make, index):
    original = contexts_of(lambda f: f(6, b=2), metadata={"team": "shop"})[index]
    there = make(original)
    assert there == original
    for name in ("arguments", "outcome", "timestamp", "call_id", "metadata", "local_variables", "execution_time"):
        assert getattr(there, name) == getattr(original, name)
    assert there.is_successful == original.is_successful
    assert there.function_signature.qualname == "divide"
    assert list(there.function_signature.parameters) == ["a", "b"]


@pytest.mark.parametrize("make", [round_trip, copy.copy, copy.deepcopy, cloud_round_trip], ids=lambda f: f.__name__)
@pytest.mark.parametrize("options", [{}, {"default_return": 0}], ids=["raised", "handled"])
def test_contexts_of_a_failure_survive(make, options):
    original = contexts_of(lambda f: f(1, 0), **options)[-1]
    there = make(original)
    assert there == original
    assert there.outcome is original.outcome
    assert there.returned == original.returned
    assert there.is_failed
    assert there.result.exception_type is ZeroDivisionError
    assert there.result.exception.args == ("division by zero",)
    assert "in divide" in there.result.traceback_info
    assert there.result.traceback_info == original.result.traceback_info


def test_contexts_of_a_generator_survive():
    told = Witness()
    list(CallPyBack([told])(lambda: (yield from "ab"))())
    there = round_trip(told.last)
    assert (there.items, there.lifetime) == (2, told.last.lifetime)
    assert there.time_to_first_item == told.last.time_to_first_item


def test_a_context_of_a_call_under_way_survives():
    copies = []

    class Copying:
        priority = 0

        def update(self, context):
            copies.append(round_trip(context))

    CallPyBack([Copying()])(divide)(1)
    assert [context.state.name for context in copies] == TOLD


def test_results_and_failures_survive_pickle():
    result = ExecutionResult(5, 0.5, memory_usage=3)
    assert round_trip(result) == result
    failure = ExecutionFailure(ValueError("v"), execution_time=0.5)
    there = round_trip(failure)
    assert there == failure
    assert there.exception.args == ("v",)


def test_a_context_built_by_hand_survives_pickle():
    context = ExecutionContext(
        function_signature=FunctionSignature("checkout"),
        arguments={"cart": 3},
        state=ExecutionState.COMPLETED,
        result=ExecutionResult(30, 0.1),
        timestamp=5.0,
    )
    assert round_trip(context) == context


def test_built_in_observers_are_observing_after_cloudpickle():  # T30
    function = closure(CallPyBack([MetricsObserver(), on_success(lambda value: None)]), 5)
    function(1)
    there = cloud_round_trip(function)
    there(1)
    metrics = handle(there).observers[0].get_metrics()
    assert metrics["total_calls"] == 2
