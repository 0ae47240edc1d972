"""Misuse is refused when decorating, in words that name the parameter, the value and the way out (F01 to F18)."""

from __future__ import annotations

import dataclasses
import math
import sys

import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    NoOpVariableExtractor,
    TracingVariableExtractor,
    factory,
    handle,
    on_success,
)
from kinds import Witness


class WithoutUpdate:
    priority = 0


class WithoutPriority:
    def update(self, context) -> None: ...


class Prioritised(WithoutPriority):
    def __init__(self, priority) -> None:
        self.priority = priority


def function_to_decorate(a):
    return a


REFUSED = [
    # F01 to F04: observers
    ({"observers": Witness()}, ["observers=", "a list of observers"]),
    ({"observers": None}, ["observers=None", "NoneType", "a list of observers"]),
    ({"observers": 5}, ["observers=5 (int)", "a list of observers"]),
    ({"observers": "metrics"}, ["observers='metrics' (str)", "a list of observers"]),
    ({"observers": [Witness]}, ["did you mean Witness()?"]),
    ({"observers": MetricsObserver}, ["a list of observers"]),
    ({"observers": [WithoutUpdate()]}, ["WithoutUpdate", "lacks `update`", "update(context)"]),
    ({"observers": [WithoutPriority()]}, ["WithoutPriority", "lacks `priority`", "0 for no preference"]),
    ({"observers": [print]}, ["lacks `update`", "on_success(print)"]),
    ({"observers": [Prioritised("high")]}, ["priority='high'", "str", "a finite number", "higher"]),
    ({"observers": [Prioritised(math.nan)]}, ["priority=nan", "a finite number"]),
    ({"observers": [Prioritised(math.inf)]}, ["priority=inf", "a finite number"]),
    ({"observers": [Prioritised(None)]}, ["priority=None", "a finite number"]),
    ({"observers": [Prioritised(True)]}, ["priority=True", "a finite number"]),
    # F06: exception classes
    ({"exception_classes": ("ValueError",)}, ["exception_classes", "'ValueError' is no exception class"]),
    ({"exception_classes": "ValueError"}, ["exception_classes='ValueError'", "Exception subclasses"]),
    ({"exception_classes": (KeyboardInterrupt,)}, ["KeyboardInterrupt belongs to the program"]),
    ({"exception_classes": (int,)}, ["exception_classes", "int", "is no exception class"]),
    ({"exception_classes": [ValueError()]}, ["exception_classes", "is no exception class"]),
    # F09: variable names
    ({"variable_names": "total"}, ["variable_names='total' (str)", 'variable_names=["total"]']),
    ({"variable_names": ["a b"]}, ["variable_names", "'a b' is no name"]),
    ({"variable_names": [1]}, ["variable_names", "1 is no name"]),
    # F10: the number of failures
    *[
        ({"max_observer_failures": value}, [f"max_observer_failures={value!r}", "a whole number of at least 1"])
        for value in (0, -1, "5", None, 2.5, True)
    ],
    # F11: time sources; F16: handlers; extractors; metadata
    ({"time_source": object()}, ["time_source", "an object with now()", "MockTimeSource()"]),
    ({"time_source": MockTimeSource}, ["time_source", "did you mean MockTimeSource()?"]),
    ({"error_handler": lambda error, context: 1}, ["error_handler", "handle_error(error, context)"]),
    ({"error_handler": MockTimeSource}, ["error_handler", "an instance, got the class"]),
    ({"variable_extractor": object()}, ["variable_extractor", "setup_extraction()"]),
    ({"variable_extractor": NoOpVariableExtractor}, ["did you mean NoOpVariableExtractor()?"]),
    ({"metadata": ["team"]}, ["metadata=['team'] (list)", "a mapping"]),
    ({"metadata": {1: "team"}}, ["metadata", "names as keys"]),
    *(({"max_execution_time": wrong}, ["max_execution_time", "above 0"]) for wrong in ("5", [1], True, 0, -1)),
    *(({"max_execution_time": float(wrong)}, [f"max_execution_time={wrong}"]) for wrong in ("nan", "inf")),
    ({"enable_async_observers": 1}, ["enable_async_observers=1", "True or False"]),
    ({"retry": 3}, ["retry=3", "Retry(attempts=3"]),
    ({"retry": MockTimeSource}, ["retry", "an instance, got the class"]),
]


@pytest.mark.parametrize(
    ("options", "parts"), REFUSED, ids=lambda part: ",".join(part) if isinstance(part, dict) else ""
)
def test_a_wrong_value_is_refused_in_helpful_words(options, parts):
    with pytest.raises(ConfigurationError) as refusal:
        CallPyBack(**options)
    for part in parts:
        assert part in str(refusal.value)
    assert isinstance(refusal.value, ValueError)


TAKEN = [
    {"exception_classes": [ValueError, KeyError]},  # F05: a list
    {"exception_classes": ValueError},  # F06: one class
    {"exception_classes": ExceptionGroup},
    {"variable_names": ["a", "a", "b"]},
    {"variable_names": iter(["a"])},
    {"observers": iter([Witness()])},
    {"observers": ()},
    {"max_observer_failures": 10**9},
    {"metadata": {"team": "shop"}},
    {"time_source": MockTimeSource()},
    {"variable_extractor": TracingVariableExtractor()},
    {"default_return": None},
    {"default_return": factory(dict)},
    {"max_execution_time": None, "enable_async_observers": False},
]


@pytest.mark.parametrize("options", TAKEN, ids=lambda options: ",".join(options))
def test_what_is_meant_well_is_taken(options):
    assert CallPyBack(**options)(function_to_decorate)(1) == 1


def test_a_bare_decorator_says_that_parentheses_are_missing():
    with pytest.raises(ConfigurationError, match=r"write @CallPyBack\(\) with parentheses"):

        @CallPyBack
        def function(): ...


def test_a_class_is_refused_with_the_way_out():
    with pytest.raises(ConfigurationError, match="decorate its methods, such as __init__ or __call__"):

        @CallPyBack()
        class Service: ...


@pytest.mark.parametrize("target", [5, None, "function", [len]])
def test_what_cannot_be_called_is_refused(target):
    with pytest.raises(ConfigurationError, match="expected a callable"):
        CallPyBack()(target)


@pytest.mark.parametrize(
    ("keyword", "hint"),
    [
        ("observer", "did you mean 'observers'?"),
        ("variable_name", "did you mean 'variable_names'?"),
        ("default_retrun", "did you mean 'default_return'?"),
        ("on_call", "known: observers, variable_names"),
    ],
)
def test_an_unknown_keyword_is_a_type_error_with_the_nearest_name(keyword, hint):
    with pytest.raises(TypeError) as refusal:
        CallPyBack(**{keyword: 1})
    assert f"unexpected keyword argument {keyword!r}" in str(refusal.value)
    assert hint in str(refusal.value)


@dataclasses.dataclass
class DataObserver:
    """Unhashable, and equal to its like."""

    told: list = dataclasses.field(default_factory=list)
    priority: int = 0

    def update(self, context) -> None:
        self.told.append(context.state.name)


class Slotted:
    __slots__ = ("told",)
    priority = 0

    def __init__(self) -> None:
        self.told = []

    def update(self, context) -> None:
        self.told.append(context.state.name)


def test_unhashable_and_slotted_observers_work(kind):
    observers = [DataObserver(), DataObserver(), Slotted()]
    decorator = CallPyBack(observers)
    function = kind.make(lambda: 1, decorator)
    kind.call(function)
    decorator.remove_observer(observers[1])
    kind.call(function)
    told = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert [observer.told for observer in observers] == [told * 2, told, told * 2]


def test_an_observer_made_while_decorating_is_not_told_of_a_refused_decorator():
    good = Witness()
    with pytest.raises(ConfigurationError):
        CallPyBack([good, WithoutUpdate()])
    function = CallPyBack([good])(lambda: 1)  # as if for the first time
    function()
    assert good.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


@pytest.mark.parametrize("first", ["decorator", "function"])
@pytest.mark.parametrize("second", ["decorator", "function"])
def test_the_same_observer_twice_is_refused(first, second):
    decorator, witness = CallPyBack(), Witness()
    function = decorator(lambda: 1)
    holders = {"decorator": decorator, "function": handle(function)}
    holders[first].add_observer(witness)
    with pytest.raises(ConfigurationError, match="already"):
        holders[second].add_observer(witness)
    function()
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_an_observer_of_no_function_of_the_decorator_may_watch_two_functions():
    decorator, witness = CallPyBack(), Witness()
    for _ in range(2):
        handle(decorator(lambda: 1)).add_observer(witness)
    assert decorator.observers == ()


@pytest.mark.parametrize("states", ["COMPLETED", 5, ["COMPLETED"], [None], [ExecutionState.COMPLETED, 7]])
def test_states_that_are_none_are_refused(states):
    with pytest.raises(ConfigurationError, match="ExecutionState"):
        CallPyBack().add_observer(Witness(), states)


@pytest.mark.parametrize("hook", ["on_call", "on_success", "on_failure", "on_completion", "on_error"])
def test_a_callback_that_needs_what_there_is_not_is_refused_with_the_nearest_name(hook):
    function = CallPyBack()(lambda: 1)
    with pytest.raises(ConfigurationError) as refusal:
        getattr(function, hook)(lambda exeption: None)
    for part in ("Invalid callback parameter: 'exeption'", "did you mean 'exception'?", "local_variables"):
        assert part in str(refusal.value)


def test_a_weak_callback_that_is_no_bound_method_is_refused():
    function = CallPyBack()(lambda: 1)
    with pytest.raises(ConfigurationError, match="weak=True"):
        function.on_success(lambda: None, weak=True)


def test_a_default_that_cannot_be_copied_is_refused_when_decorating():
    with pytest.raises(ConfigurationError, match="factory"):
        CallPyBack(default_return=[sys._getframe()])


def test_a_default_on_generators_is_refused(kind):
    decorator = CallPyBack(default_return=None)
    if not kind.is_generator:
        assert kind.call(kind.make(lambda: 1 / 0, decorator)) is None
        return
    with pytest.raises(ConfigurationError, match=r"default_return on function: .* has no single value"):
        kind.make(lambda: 1, decorator)


def test_an_async_observer_where_nothing_awaits_it_is_refused(kind):
    class Awaited(BaseObserver):
        async def update(self, context) -> None: ...

    decorator = CallPyBack([Awaited()])
    if kind.is_async:
        assert kind.call(kind.make(lambda: 1, decorator)) == 1
        return
    with pytest.raises(ConfigurationError, match=r"'Awaited' is async.*plain function"):
        kind.make(lambda: 1, decorator)


@pytest.mark.parametrize("bound", [5, (), (1, 2), (None,), (None, None, None), "ab", [None, None]])
def test_a_binding_that_is_none_is_refused(bound):
    class Bound:
        priority = 0

        def bind(self, function_signature):
            return bound

    with pytest.raises(ConfigurationError, match=r"bind\(\) gave"):
        CallPyBack([Bound()])(lambda: 1)


def test_an_observer_that_refuses_itself_is_refused():
    class Unready(BaseObserver):
        def update(self, context) -> None: ...

        def validate(self) -> None:
            raise RuntimeError("no connection")

    with pytest.raises(ConfigurationError, match=r"'Unready' refused to be registered.*no connection"):
        CallPyBack([Unready()])


def test_options_nobody_takes_are_refused():
    with pytest.raises(ConfigurationError, match="options"):
        CallPyBack().add_observer(Witness(), options={"threshold": 1})


def test_an_observer_that_does_not_fit_one_function_is_added_to_none():
    class Awaited(BaseObserver):
        async def update(self, context) -> None: ...

    decorator = CallPyBack()

    @decorator
    async def coroutine(): ...

    plain = decorator(function_to_decorate)
    with pytest.raises(ConfigurationError, match="async"):
        decorator.add_observer(Awaited())
    assert (decorator.observers, handle(coroutine).observers, handle(plain).observers) == ((), (), ())


def test_removing_what_is_not_there_names_the_nearest():
    decorator = CallPyBack([Witness(name="metrics")])
    with pytest.raises(ConfigurationError, match=r"'metrcis' is not registered.*did you mean 'metrics'"):
        decorator.remove_observer("metrcis")


def test_a_handle_is_only_on_what_is_decorated():
    with pytest.raises(ConfigurationError, match=r"decorate it with @CallPyBack\(\)"):
        handle(len)


def test_the_observer_of_a_refused_decoration_can_be_used_elsewhere():
    observer = on_success(lambda value: None)
    with pytest.raises(ConfigurationError):
        CallPyBack([observer, observer])
    assert CallPyBack([observer])(function_to_decorate)(1) == 1
