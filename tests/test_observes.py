"""@observes: a function is connected where it is defined, and stays what it is."""

from __future__ import annotations

import asyncio
import types

import blinker
import psygnal
import pytest

from callpyback import (
    CallPyBack,
    ConfigurationError,
    Event,
    EventBus,
    EventHook,
    ExecutionState,
    Notice,
    Retry,
    handle,
    observes,
    remove_global_observer,
)


@pytest.fixture
def watched():
    @CallPyBack()
    def double(n):
        return 2 * n

    return double


def test_the_function_is_given_back_unchanged(watched):
    def function(value=None): ...

    before = dict(vars(function))
    for target in (EventHook(), watched, watched.on_success, EventBus()):
        assert observes(target)(function) is function
    assert vars(function) == before


# What can be observed


def test_a_hook_calls_it_with_what_is_emitted():
    hook, seen = EventHook(), []

    @observes(hook)
    def note(*args, **kwargs):
        seen.append((args, kwargs))

    hook.emit(1, b=2)
    assert seen == [((1,), {"b": 2})]
    hook.disconnect(note)
    hook.emit(3)
    assert len(seen) == 1


def test_the_hook_of_a_class_and_of_an_instance_are_told_apart():
    class Dish:
        moved = EventHook()

    seen, one, other = [], Dish(), Dish()

    @observes(one.moved)
    def note(value):
        seen.append(("one", value))

    @observes(Dish.moved)
    def note_all(value):
        seen.append(("all", value))

    one.moved.emit(1)
    other.moved.emit(2)
    assert seen == [("one", 1), ("all", 1), ("all", 2)]


def test_a_decorated_function_tells_how_its_calls_end(watched):
    seen = []

    @observes(watched)
    def note(arguments, outcome, value):
        seen.append((arguments, outcome.name, value))

    watched(4)
    with pytest.raises(TypeError):
        watched(None)
    assert seen == [({"n": 4}, "SUCCESS", 8), ({"n": None}, "FAILURE", None)]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param((ExecutionState.PRE_EXECUTION, ExecutionState.POST_SUCCESS), id="states"),
        pytest.param(([ExecutionState.PRE_EXECUTION, ExecutionState.POST_SUCCESS],), id="list"),
    ],
)
def test_a_decorated_function_tells_states_that_are_asked_for(watched, told):
    seen = []
    observes(watched, *told)(lambda state: seen.append(state.name))
    watched(4)
    assert seen == ["PRE_EXECUTION", "POST_SUCCESS"]


def test_a_notice_can_be_observed():
    seen, answers = [], iter([ConnectionError, 5])

    @CallPyBack(retry=Retry(attempts=2, wait=0))
    def fetch():
        answer = next(answers)
        if answer is ConnectionError:
            raise answer
        return answer

    @observes(fetch, Notice.RETRY)
    def note(attempt):
        seen.append(attempt)

    assert fetch() == 5
    assert seen == [1]


def test_a_handle_stands_for_its_function(watched):
    seen = []
    observes(handle(watched), ExecutionState.POST_SUCCESS)(lambda value: seen.append(value))
    watched(4)
    assert seen == [8]


def test_methods_of_every_sort_can_be_observed():
    seen = []

    class Shop:
        @CallPyBack()
        def sell(self, n):
            return n

        @classmethod
        @CallPyBack()
        def open(cls):
            return "open"

        @property
        @CallPyBack()
        def size(self):
            return 5

    for target in (Shop.sell, Shop.open, Shop.__dict__["size"]):
        observes(target, ExecutionState.POST_SUCCESS)(lambda value: seen.append(value))
    with pytest.raises(ConfigurationError, match=r"the method of the class, Shop\.sell"):
        observes(Shop().sell)  # it would hear of every instance
    shop = Shop()
    shop.sell(1)
    shop.open()
    _ = shop.size
    assert seen == [1, "open", 5]


def test_a_functions_hook_can_be_observed(watched):
    seen = []

    @observes(watched.on_failure, priority=5, name="alert")
    def note(exception):
        seen.append(type(exception))

    watched(1)
    with pytest.raises(TypeError):
        watched(None)
    assert seen == [TypeError]
    handle(watched).remove_observer("alert")
    with pytest.raises(TypeError):
        watched(None)
    assert seen == [TypeError]


def test_a_state_alone_is_observed_at_every_decorated_function(watched):
    seen = []

    @observes(ExecutionState.COMPLETED, name="everywhere", match="*double*")
    def note(function_signature):
        seen.append(function_signature.name)

    try:

        @CallPyBack()
        def double_later(n):
            return n

        @CallPyBack()
        def other():
            pass

        watched(1)
        double_later(1)
        other()
    finally:
        remove_global_observer("everywhere")
    watched(1)
    assert seen == ["double", "double_later"]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param((ExecutionState.PRE_EXECUTION, ExecutionState.COMPLETED), id="tuple"),
        pytest.param(frozenset({ExecutionState.PRE_EXECUTION, ExecutionState.COMPLETED}), id="set"),
    ],
)
def test_several_states_are_observed_everywhere(watched, target):
    seen = []
    observes(target, name="everywhere")(lambda state: seen.append(state.name))
    try:
        watched(1)
    finally:
        remove_global_observer("everywhere")
    assert seen == ["PRE_EXECUTION", "COMPLETED"]


def test_one_state_and_more_of_them_are_observed_everywhere(watched):
    seen = []
    observes(ExecutionState.POST_SUCCESS, ExecutionState.POST_FAILURE, name="everywhere")(
        lambda state: seen.append(state.name)
    )
    try:
        watched(1)
        with pytest.raises(TypeError):
            watched(None)
    finally:
        remove_global_observer("everywhere")
    assert seen == ["POST_SUCCESS", "POST_FAILURE"]


class Paid(Event):
    name = "order.paid"


def test_a_bus_tells_events_by_name_pattern_or_class():
    bus, seen = EventBus(), []

    @observes(bus, "order.paid")
    def by_name(event):
        seen.append(("name", event.name))

    @observes(bus, "order.*", "mail.*", priority=5)
    def by_pattern(event):
        seen.append(("pattern", event.name))

    @observes(bus, Paid)
    def by_class(event):
        seen.append(("class", event.name))

    @observes(bus, name="all", priority=-5)
    def everything(event):
        seen.append(("all", event.name))

    bus.emit("order.sent")
    bus.emit(Paid())
    bus.emit("other")
    assert seen == [
        ("pattern", "order.sent"),
        ("all", "order.sent"),
        ("pattern", "order.paid"),
        ("name", "order.paid"),
        ("class", "order.paid"),
        ("all", "order.paid"),
        ("all", "other"),
    ]


def test_whatever_has_connect_can_be_observed():
    class Shop:
        sold = psygnal.Signal(int)

    shop, signal, seen = Shop(), blinker.Signal(), []

    @observes(shop.sold)
    def note(n):
        seen.append(n)

    @observes(signal)
    def note_sender(sender):
        seen.append(sender)

    shop.sold.emit(5)
    signal.send("ann")
    assert seen == [5, "ann"]


def test_an_async_function_observes_where_it_can_be_awaited():
    hook, seen = EventHook(), []

    @CallPyBack()
    async def fetch():
        return 5

    @observes(hook)
    @observes(fetch, ExecutionState.POST_SUCCESS)
    async def note(value):
        await asyncio.sleep(0)
        seen.append(value)

    asyncio.run(fetch())
    asyncio.run(hook.aemit(6))
    assert seen == [5, 6]


def test_one_function_may_observe_several_things(watched):
    one, other, seen = EventHook(), EventHook(), []

    @observes(watched.on_success)
    @observes(one)
    @observes(other)
    def note(value):
        seen.append(value)

    one.emit(1)
    other.emit(2)
    watched(3)
    assert seen == [1, 2, 6]


# Methods


@pytest.mark.parametrize("order", ["above", "below"])
def test_static_methods_can_observe(order):
    hook, seen = EventHook(), []

    if order == "above":

        class Shop:
            @observes(hook)
            @staticmethod
            def note(value):
                seen.append(value)
    else:

        class Shop:
            @staticmethod
            @observes(hook)
            def note(value):
                seen.append(value)

    assert isinstance(Shop.__dict__["note"], staticmethod)
    hook.emit(5)
    Shop.note(6)
    assert seen == [5, 6]


def test_methods_cannot_observe_where_they_are_defined():
    hook = EventHook("hook")
    with pytest.raises(ConfigurationError, match=r"has no instance yet.*in __init__ for instance") as raised:

        class Shop:
            @observes(hook)
            def note(self, value): ...

    assert "Shop.note" in str(raised.value)
    with pytest.raises(ConfigurationError, match="has no instance yet"):

        class Store:
            @observes(hook)
            @classmethod
            def note(cls, value): ...

    with pytest.raises(ConfigurationError, match="has no instance yet"):

        class Market:
            @observes(hook)
            @property
            def note(self): ...

    assert len(hook) == 0


def test_bound_methods_and_functions_with_a_parameter_called_self_can_observe():
    hook, seen = EventHook(), []

    class Shop:
        def note(self, value):
            seen.append(value)

    @observes(hook)
    def with_self(self):
        seen.append(self)

    observes(hook)(Shop().note)
    hook.emit(5)
    assert seen == [5, 5]


# What cannot be observed


def undecorated(): ...


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (5, r"target=5 \(int\): expected something to observe: an EventHook"),
        (None, "target=None"),
        ("order.paid", "target='order.paid'"),
        ([], r"target=\[\]"),
        ([5], r"target=\[5\]"),
        (EventHook, "this is a class"),
        (undecorated, "decorate it with @CallPyBack"),
        (len, "decorate it with @CallPyBack"),
        (types.SimpleNamespace(connect=5), "target=namespace"),
    ],
)
def test_what_cannot_be_observed_is_refused_at_once(target, message):
    with pytest.raises(ConfigurationError, match=message):
        observes(target)


def test_a_hostile_target_is_refused():
    class Hostile:
        def __getattribute__(self, name):
            raise RuntimeError("no")

    with pytest.raises(ConfigurationError, match="target="):
        observes(Hostile())


def test_what_does_not_go_with_the_target_is_refused_at_once(watched):
    for target in (EventHook(), watched.on_success):
        with pytest.raises(ConfigurationError, match="expected nothing beside"):
            observes(target, ExecutionState.COMPLETED)
    with pytest.raises(ConfigurationError, match=r"told='order.paid' \(str\): expected states of a call"):
        observes(watched, "order.paid")
    with pytest.raises(ConfigurationError, match="events="):
        observes(EventBus(), ExecutionState.COMPLETED)(print)


@pytest.mark.parametrize("target", ["hook", "function", "functions hook", "state", "bus"])
def test_what_cannot_be_called_cannot_observe(target, watched):
    targets = {
        "hook": EventHook(),
        "function": watched,
        "functions hook": watched.on_success,
        "state": ExecutionState.COMPLETED,
        "bus": EventBus(),
    }
    with pytest.raises(ConfigurationError):
        observes(targets[target])(5)
