"""CallEvents: what happens in calls comes as events to a bus."""

from __future__ import annotations

import pickle

import pytest

from callpyback import (
    CallEvents,
    CallPyBack,
    ConfigurationError,
    Event,
    EventBus,
    ExecutionState,
    MetricsObserver,
    Notice,
    Outcome,
    Retry,
    get_event_bus,
    handle,
)
from callpyback.events.calls import CallEvent
from kinds import KINDS, drive, kind  # noqa: F401 - a fixture


@pytest.fixture
def bus():
    return EventBus("calls", history=100)


def names(bus):
    return [event.name for event in bus.history]


def test_each_state_is_an_event_for_every_kind_of_function(kind, bus):  # noqa: F811
    function = kind.make(lambda value: value, CallPyBack(observers=[CallEvents(bus)]))
    kind.call(function, 3)
    assert names(bus) == ["call.pre_execution", "call.post_success", "call.completed"]
    last = bus.history[-1]
    assert (type(last), last.context.outcome, last.data["context"] is last.context) == (
        CallEvent,
        Outcome.SUCCESS,
        True,
    )
    assert last.context.arguments == {"args": (3,)}


def test_failures_come_too_and_states_can_be_chosen(bus):
    @CallPyBack(observers=[CallEvents(bus, states=[ExecutionState.POST_FAILURE, ExecutionState.EXECUTING])])
    def fails():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fails()
    assert names(bus) == ["call.executing", "call.post_failure"]
    assert repr(bus.history[-1].context.result.exception) == "ValueError('broken')"


def test_notices_are_forwarded_where_asked_for(bus):
    attempts = []

    @CallPyBack(observers=[CallEvents(bus, notices=Notice.RETRY, prefix="shop")], retry=Retry(attempts=2, wait=0))
    def sometimes():
        attempts.append(1)
        if len(attempts) < 2:
            raise ConnectionError

    sometimes()
    assert "shop.retry" in names(bus)
    assert {name.partition(".")[0] for name in names(bus)} == {"shop"}


def test_handlers_choose_by_pattern_and_function(bus):
    failed = []

    @bus.register(match="call.post_*", when=lambda event: event.context.is_failed)
    def note(event):
        failed.append(event.context.function_signature.name)

    watch = CallPyBack(observers=[CallEvents(bus)])

    @watch
    def works(): ...

    @watch
    def fails():
        raise ValueError

    works()
    with pytest.raises(ValueError):
        fails()
    assert failed == ["fails"]


def test_handlers_that_fail_or_stop_change_nothing_for_the_call(bus):
    bus.register(lambda event: 1 / 0, "broken")
    observer = CallEvents(bus)

    @CallPyBack(observers=[observer])
    def works():
        return "done"

    assert works() == "done"
    assert bus.health["broken"].failures == 3
    assert handle(works).health["CallEvents"].failures == 0


def test_what_its_handlers_call_is_not_observed(bus):
    metrics = MetricsObserver()
    watch = CallPyBack(observers=[CallEvents(bus), metrics])

    @watch
    def works(): ...

    bus.register(lambda event: works(), "again")
    works()
    assert metrics.get_metrics()["total_calls"] == 1


def test_async_handlers_are_awaited_where_asked_for(bus):
    got = []

    @bus.register
    async def slow(event):
        got.append(event.name)

    @CallPyBack(observers=[CallEvents(bus, awaited=True)])
    async def works():
        return "done"

    assert drive(works()) == "done"
    assert got == ["call.pre_execution", "call.post_success", "call.completed"]
    with pytest.raises(ConfigurationError):
        CallPyBack(observers=[CallEvents(bus, awaited=True)])(lambda: None)


def test_event_of_a_call_is_pickled_where_its_context_is(bus):
    @CallPyBack(observers=[CallEvents(bus)])
    def works(number):
        return number

    works(3)
    event = pickle.loads(pickle.dumps(bus.history[-1]))
    assert (event.name, event.context.arguments, isinstance(event, Event)) == ("call.completed", {"number": 3}, True)


def test_it_travels_with_the_name_of_its_bus():
    observer = pickle.loads(pickle.dumps(CallEvents(get_event_bus("calls.travel"), awaited=True)))
    assert observer.bus is get_event_bus("calls.travel")


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"bus": None}, "bus"),
        ({"bus": EventBus}, "bus"),
        ({"states": "completed"}, "states"),
        ({"notices": 3}, "notices"),
        ({"prefix": ""}, "prefix"),
        ({"awaited": 1}, "awaited"),
        ({"priority": "high"}, "priority"),
    ],
    ids=repr,
)
def test_misuse_is_named(arguments, parameter):
    with pytest.raises(ConfigurationError, match=parameter):
        CallEvents(**{"bus": EventBus(), **arguments})
