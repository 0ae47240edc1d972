"""What EvProc's documentation says its users can do, each ability under our names.

Its order of unrelated handlers was random, and a requirement that nobody met was reported as a loop: here the order is
that of priority and registration, and the message names who is missing.
"""

from __future__ import annotations

from importlib import metadata

import pytest

from callpyback import ConfigurationError, Event, EventBus, StopProcessing, required_by, requires, want


class AppEvent(Event):
    """An event as EvProc's users define it: a name, a context, whatever else is needed."""

    def __init__(self, name, resource=None, ctxt=None):
        super().__init__(name, ctxt=ctxt)
        self.resource = resource


class Resource:
    name = "resource"


@pytest.fixture
def proc():
    return EventBus()


def test_event_is_a_subclass_with_a_name_property_and_a_context():
    class OfResource(Event):
        def __init__(self, resource, ctxt=None):
            super().__init__(ctxt=ctxt)
            self.resource = resource

        @property
        def name(self):
            return "resource.changed"

    event = OfResource("r", ctxt="context")
    assert (event.name, event.ctxt, event.resource) == ("resource.changed", "context", "r")
    assert OfResource("r").ctxt is None


def test_proc_of_an_event_is_namespaced():
    event = AppEvent("ev")
    event.shared.tests.args = ("a",)
    event.shared.tests.kwargs = {"b": 1}
    assert (event.shared.tests.args, event.shared.tests.kwargs) == (("a",), {"b": 1})
    with pytest.raises(AttributeError):
        event.shared.args = ("a",)


def test_handler_is_called_with_the_processor_and_the_event(proc):
    got = []

    def handler(proc, ev):
        got.append((proc, ev))

    proc.register(handler)
    event = AppEvent("ev")
    proc.process(event)
    assert got == [(proc, event)]


def test_name_of_a_handler_is_the_functions_unless_another_is_given(proc):
    def handler(proc, ev): ...

    def other(proc, ev): ...

    proc.register(handler)
    proc.register(other, name="renamed")
    assert list(proc.health) == ["handler", "renamed"]
    with pytest.raises(ConfigurationError, match="renamed"):
        proc.register(lambda ev: None, name="renamed")


def test_want_filters_by_names_and_predicates_and_wants_are_alternatives(proc):
    got = []

    @want("ev1", "ev2")
    @want("ev3", lambda ev: ev.resource.name == "resource")
    def handler(proc, ev):
        got.append((ev.name, ev.resource and ev.resource.name))

    proc.register(handler)
    other = Resource()
    other.name = "other"
    for event in (
        AppEvent("ev1"),
        AppEvent("ev2"),
        AppEvent("ev3", Resource()),
        AppEvent("ev3", other),
        AppEvent("ev4"),
    ):
        proc.process(event)
    assert got == [("ev1", None), ("ev2", None), ("ev3", "resource")]


def test_want_with_several_predicates_needs_all_of_them(proc):
    got = []

    @want(lambda ev: ev.resource > 1, lambda ev: ev.resource < 4)
    def handler(proc, ev):
        got.append(ev.resource)

    proc.register(handler)
    for number in range(6):
        proc.process(AppEvent("ev", number))
    assert got == [2, 3]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_requires_and_required_by_order_handlers(proc, order):
    done = []

    def test_prepare(proc, ev):
        ev.shared.tests.args = (1, 2)
        done.append("prepare")

    @requires("test_prepare")
    def test_run(proc, ev):
        done.append(("run", ev.shared.tests.args, getattr(ev.shared.tests, "auxiliary", [])))

    @required_by("test_run")
    @requires("test_prepare")
    def test_auxiliary(proc, ev):
        ev.shared.tests.auxiliary = ["results"]
        done.append("auxiliary")

    handlers = [test_prepare, test_run, test_auxiliary]
    for number in order:
        proc.register(handlers[number])
    proc.process(AppEvent("ev"))
    assert done == ["prepare", "auxiliary", ("run", (1, 2), ["results"])]


def test_wants_of_handlers_that_require_each_other_must_be_compatible(proc):
    @want("ev1")
    def one(proc, ev): ...

    @want("ev2")
    @requires("one")
    def two(proc, ev): ...

    proc.register(one)
    proc.register(two)
    with pytest.raises(ConfigurationError, match="'two' requires 'one'"):
        proc.process(AppEvent("ev2"))


def test_loop_is_an_error_that_names_the_handlers(proc):
    proc.register(lambda ev: None, "a", requires="b")
    proc.register(lambda ev: None, "b", requires="a")
    with pytest.raises(ConfigurationError, match="circle"):
        proc.check()


def test_missing_requirement_is_no_loop_but_named(proc):
    proc.register(lambda ev: None, "a", requires="missing")
    with pytest.raises(ConfigurationError, match="nobody on bus 'EventBus' is called that"):
        proc.check()


def test_unrelated_handlers_keep_the_order_of_registration(proc):
    done = []
    for name in "hgfedcba":
        proc.register(lambda ev, name=name: done.append(name), name)
    proc.process(AppEvent("ev"))
    assert done == [*"hgfedcba"]


def test_handler_may_return_a_list_of_events_processed_in_order(proc):
    done = []

    def handler(proc, ev):
        done.append(ev.name)
        return [AppEvent("second"), AppEvent("third")] if ev.name == "first" else None

    proc.register(handler)
    assert proc.process(AppEvent("first")) is None
    assert done == ["first", "second", "third"]


def test_process_may_be_called_again_and_again(proc):
    count = []
    proc.register(lambda proc, ev: count.append(1))
    for _ in range(5):
        assert proc.process(AppEvent("ev")) is None
    assert len(count) == 5


def two_stages(proc, stop):
    """Return two events from the first one, and stop at a later handler for it; what was processed."""
    done = []

    def first(proc, ev):
        done.append(ev.name)
        return [AppEvent("returned")] if ev.name == "ev" else None

    @requires("first")
    @want("ev")
    def authorize(proc, ev):
        raise stop

    @requires("authorize")
    def last(proc, ev):
        done.append(f"{ev.name} reached the last")

    for handler in (first, authorize, last):
        proc.register(handler)
    return done


def test_stop_without_a_value_goes_on_with_the_events_returned_before(proc):
    done = two_stages(proc, StopProcessing())
    assert proc.process(AppEvent("ev")) is None
    assert done == ["ev", "returned", "returned reached the last"]


@pytest.mark.parametrize("retval", [None, False, "denied"])
def test_stop_with_a_value_even_none_ends_everything_and_returns_it(proc, retval):
    done = two_stages(proc, StopProcessing(retval))
    assert proc.process(AppEvent("ev")) is retval
    assert done == ["ev"]


def test_handlers_are_loaded_from_entry_points(proc, monkeypatch):
    points = [
        metadata.EntryPoint("prepare", "json:dumps", "app.handlers"),
        metadata.EntryPoint("printed", "builtins:print", "app.handlers"),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point for point in points if point.group == group])
    assert proc.load_entry_points("app.handlers").registered == ("prepare", "printed")
    assert list(proc.health) == ["prepare", "printed"]


def test_whole_application_is_a_loop_around_process(proc):
    said = []

    @proc.register
    def greet(proc, ev):
        said.append(f"hello {ev.resource}")
        if ev.resource == "last":
            raise StopProcessing("bye")

    for resource in ("first", "last", "never"):
        if proc.process(AppEvent("visit", resource)) == "bye":
            break
    assert said == ["hello first", "hello last"]
