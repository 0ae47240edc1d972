"""EventBus: who can be a handler, who is told, in which order, by which name."""

from __future__ import annotations

import functools
import gc
import weakref
from dataclasses import dataclass
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    Event,
    EventBus,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    Subscription,
    handle,
    on_success,
    required_by,
    requires,
)
from callpyback.events import lineup


class Listener:
    """An observer as one writes it without inheriting anything."""

    def __init__(self, log=None, name=None, **attributes):
        self.log = [] if log is None else log
        if name is not None:
            self.name = name
        vars(self).update(attributes)

    def on_event(self, event):
        self.log.append((getattr(self, "name", "Listener"), event.name))

    def heard(self, event):
        self.log.append(event.name)


def told(bus, *names):
    """Emit events of these names and return who was told, by a log that handlers made by `noting` write to."""
    for name in names or ("x",):
        bus.emit(name)
    taken, bus.log[:] = list(bus.log), []
    return taken


@pytest.fixture
def bus():
    bus = EventBus("shop")
    bus.log = []
    return bus


def noting(bus, name, **asked):
    bus.register(lambda event: bus.log.append(name), name, **asked)


class TestEmitting:
    def test_handler_gets_the_event(self, bus):
        got = []
        bus.register(got.append)
        event = Event("order.paid", order_id=7)
        assert bus.emit(event) is event
        assert got == [event]

    def test_name_and_data_make_an_event(self, bus):
        got = []
        bus.register(got.append)
        event = bus.emit("order.paid", order_id=7, self=1, event=2)
        assert got == [event]
        assert (type(event), event.name, event.data) == (Event, "order.paid", {"order_id": 7, "self": 1, "event": 2})

    def test_name_may_be_of_a_class_of_texts(self, bus):
        class Name(str):
            __slots__ = ()

        assert bus.emit(Name("order.paid")).name == "order.paid"

    def test_bus_sets_the_time_of_an_event_that_has_none(self):
        clock = MockTimeSource(100.0)
        bus = EventBus(time_source=clock)

        @dataclass(frozen=True)
        class Frozen(Event):
            number: int

        assert bus.emit("x").timestamp == 100.0
        assert bus.emit(Frozen(1)).timestamp == 100.0
        clock.advance(5)
        assert bus.emit(Event("x", timestamp=3.0)).timestamp == 3.0
        assert bus.emit(Event("x")).timestamp == 105.0

    def test_nobody_needs_to_listen(self, bus):
        assert bus.emit("x").name == "x"
        assert bus.process("x") is None

    @pytest.mark.parametrize(
        "event", [None, 7, "", object(), Event, ["x"]], ids=lambda value: repr(value).partition(" at 0x")[0]
    )
    def test_what_is_no_event_is_refused(self, event):
        bus = EventBus()
        for emit in (bus.emit, bus.process, bus.explain):
            with pytest.raises(ConfigurationError, match="event="):
                emit(event)

    def test_data_beside_an_event_are_refused(self, bus):
        with pytest.raises(ConfigurationError, match="data"):
            bus.emit(Event("x"), order_id=7)

    def test_name_of_an_event_that_is_no_text_is_refused(self, bus):
        class Odd(Event):
            name = ("odd",)

        bus.register(lambda event: None, match="x")
        with pytest.raises(ConfigurationError, match=r"event\.name"):
            bus.emit(Odd())

    def test_what_handlers_call_is_observed(self, bus):
        metrics = MetricsObserver()

        @CallPyBack(observers=[metrics])
        def book():
            return "booked"

        bus.register(lambda event: book() and None)
        bus.emit("x")
        assert handle(book).unobserved == 0
        assert metrics.get_metrics()["total_calls"] == 1


class TestHandlers:
    def test_handler_of_two_arguments_gets_the_bus_it_is_registered_on(self, bus):
        got = []
        bus.register(lambda proc, event: got.append((proc, event.name)))
        bus.child("orders").emit("x")
        assert got == [(bus, "x")]

    @pytest.mark.parametrize(
        "handler",
        [
            lambda event: None,
            lambda event, more=None: None,
            lambda *events: None,
            lambda event=None: None,
            lambda event, *, keyword=1: None,
            lambda bus, event: None,
            lambda bus, event, more=None: None,
            functools.partial(lambda extra, event: None, 1),
        ],
    )
    def test_ways_to_take_an_event(self, bus, handler):
        bus.register(handler, "handler")
        bus.emit("x")
        assert bus.health["handler"].failures == 0

    @pytest.mark.parametrize(
        "handler", [lambda: None, lambda one, two, three: None, lambda event, *, needed: None, Listener, 7, None, "x"]
    )
    def test_what_can_not_take_an_event_is_refused(self, handler):
        bus = EventBus()
        with pytest.raises(ConfigurationError, match="handler="):
            bus.register_observer(handler)
        assert bus.get_registered_observers() == []

    def test_observer_is_told_by_on_event(self, bus):
        observer = Listener(bus.log)
        assert bus.register_observer(observer) is observer
        assert told(bus) == [("Listener", "x")]

    def test_observer_is_told_by_update_unless_it_has_on_event(self, bus):
        class Updated(BaseObserver):
            def update(self, event):
                bus.log.append(("update", event.name))

        class Both(Updated):
            def on_event(self, event):
                bus.log.append(("on_event", event.name))

        bus.register_observer(Updated())
        bus.register_observer(Both())
        assert told(bus) == [("update", "x"), ("on_event", "x")]

    @pytest.mark.parametrize("observer", [MetricsObserver(), on_success(print)], ids=["bound", "callback"])
    def test_observer_of_calls_alone_is_refused(self, bus, observer):
        with pytest.raises(ConfigurationError, match="handler="):
            bus.register_observer(observer)

    def test_observer_is_configured_and_validated_as_on_a_function(self, bus):
        class Configured(BaseObserver):
            limit = 1

            def validate(self):
                if self.limit > 5:
                    raise ValueError("too much")

            def on_event(self, event):
                bus.log.append(self.limit)

        bus.register_observer(Subscription(Configured(), options={"limit": 3}))
        assert told(bus) == [3]
        with pytest.raises(ConfigurationError, match="too much"):
            bus.register_observer(Subscription(Configured(), options={"limit": 9}))

    @pytest.mark.parametrize(
        "mock", [Mock(), MagicMock(), Mock(spec=lambda event: None)], ids=lambda m: type(m).__name__
    )
    def test_mock_is_a_function_of_the_event(self, bus, mock):
        bus.register(mock, requires="other")
        bus.register(lambda event: None, "other")
        event = bus.emit("x")
        mock.assert_called_once_with(event)
        assert bus.get_registered_observers()[1] is mock
        bus.unregister(mock)
        assert len(bus.get_registered_observers()) == 1

    def test_async_mock_is_async(self, bus):
        bus.register(AsyncMock(), "mock")
        bus.emit("x")
        assert bus.health["mock"].skipped == 1

    def test_decorator_with_and_without_parentheses_gives_the_function_back(self, bus):
        def plain(event): ...

        def chosen(event): ...

        assert bus.register(plain) is plain
        assert bus.register(match="y")(chosen) is chosen
        assert list(bus.health) == ["plain", "chosen"]

    def test_observer_may_be_told_in_the_background(self, bus):
        class Slow(BaseObserver):
            def update(self, event):
                bus.log.append(event.name)

        with bus:
            bus.register_observer(BackgroundObserver(Slow()))
            bus.emit("a")
            bus.emit("b")
        assert bus.log == ["a", "b"]

    def test_decorated_function_is_a_handler_and_observed(self, bus):
        metrics = MetricsObserver()

        @bus.register
        @CallPyBack(observers=[metrics])
        def handler(event):
            bus.log.append(event.name)

        assert told(bus) == ["x"]
        assert list(bus.health) == ["handler"]
        assert metrics.get_metrics()["total_calls"] == 1

    def test_builtin_and_method_are_handlers(self, bus):
        got, listener = [], Listener(bus.log)
        bus.register(got.append)
        bus.register(listener.heard)
        event = bus.emit("x")
        assert (got, bus.log) == ([event], ["x"])

    def test_subscription_says_what_is_asked(self, bus):
        bus.register(Subscription(lambda event: bus.log.append("late"), name="late", priority=-1))
        noting(bus, "early")
        assert told(bus) == ["early", "late"]
        with pytest.raises(ConfigurationError, match="Subscription"):
            bus.register(Subscription(print), priority=3)
        with pytest.raises(ConfigurationError, match="states="):
            bus.register(Subscription(print, states=ExecutionState.COMPLETED))

    def test_unknown_option_is_a_type_error(self, bus):
        with pytest.raises(TypeError, match="prioriti"):
            bus.register(print, prioriti=3)
        with pytest.raises(TypeError, match="prioriti"):
            bus.register_observer(print, prioriti=3)


class TestRemoving:
    def test_removed_handler_is_told_no_more(self, bus):
        @bus.register
        def handler(event):
            bus.log.append("told")

        bus.unregister(handler)
        assert told(bus) == []

    @pytest.mark.parametrize("by", ["itself", "name"])
    def test_handlers_are_found_by_themselves_or_by_name(self, bus, by):
        observer = Listener()
        bus.register_observer(observer, "audit")
        bus.remove_observer(observer if by == "itself" else "audit")
        assert bus.get_registered_observers() == []

    def test_method_read_anew_is_the_same_handler(self, bus):
        listener = Listener()
        bus.register(listener.heard)
        with pytest.raises(ConfigurationError, match="already"):
            bus.register(listener.heard)
        bus.unregister(listener.heard)
        bus.register(listener.heard)

    def test_equal_observers_are_told_apart(self, bus):
        @dataclass
        class Equal:
            number: int

            def on_event(self, event):
                bus.log.append(id(self))

        one, two = Equal(1), Equal(1)
        bus.register_observer(one)
        bus.register_observer(two)
        bus.remove_observer(two)
        assert told(bus) == [id(one)]

    def test_what_is_not_registered_is_refused_with_the_nearest_name(self, bus):
        noting(bus, "audit")
        with pytest.raises(ConfigurationError, match="did you mean 'audit'"):
            bus.unregister("audti")
        with pytest.raises(ConfigurationError, match="not registered on bus 'shop'"):
            bus.unregister(print)

    def test_handler_may_remove_itself_and_others_that_come_later(self, bus):
        @bus.register
        def first(event):
            bus.log.append("first")
            bus.unregister(first)
            bus.unregister("second")

        noting(bus, "second")
        noting(bus, "third")
        assert told(bus, "x", "x") == ["first", "third", "third"]

    def test_handler_registered_while_an_event_is_told_hears_the_next_one(self, bus):
        @bus.register
        def first(event):
            if event.data.get("register"):
                noting(bus, "second")

        bus.emit("x", register=True)
        assert told(bus) == ["second"]

    def test_weakly_held_method_goes_with_its_object(self, bus):
        listener = Listener(bus.log)
        bus.register(listener.heard, weak=True)
        bus.register_observer(weak_observer := Listener(bus.log), weak=True)
        assert told(bus) == ["x", ("Listener", "x")]
        assert len(bus.get_registered_observers()) == 2
        seen = weakref.ref(listener)
        del listener, weak_observer
        gc.collect()
        assert seen() is None
        assert told(bus) == []
        assert (bus.get_registered_observers(), bus.health) == ([], {})

    def test_weak_handler_is_found_while_it_lives(self, bus):
        listener = Listener()
        bus.register(listener.heard, weak=True)
        bus.unregister(listener.heard)
        assert bus.health == {}

    def test_function_can_not_be_held_weakly(self, bus):
        with pytest.raises(ConfigurationError, match="weak=True"):
            bus.register(lambda event: None, weak=True)

    def test_close_removes_everybody_and_closes_observers(self):
        closed = []

        class Closable(Listener):
            def close(self):
                closed.append(self.name)
                raise OSError("disk full")

        with EventBus("shop") as bus:
            bus.register_observer(Closable(name="one"))
            bus.register_observer(Closable(name="two"))
            bus.child("orders").register_observer(Closable(name="below"))
        assert closed == ["below", "one", "two"]
        assert bus.get_registered_observers() == []
        bus.close()


class TestNames:
    def test_handlers_are_named_by_their_functions_and_observers_by_class_or_name(self, bus):
        def audit(event): ...

        bus.register(audit)
        bus.register(functools.partial(audit))
        bus.register(Listener().heard)
        bus.register_observer(Listener())
        bus.register_observer(Listener(name="ledger"))
        assert list(bus.health) == ["audit", "audit#2", "heard", "Listener", "ledger"]

    def test_taken_name_is_refused_where_it_was_asked_for(self, bus):
        noting(bus, "audit")
        with pytest.raises(ConfigurationError, match="audit"):
            noting(bus, "audit")
        bus.unregister("audit")
        noting(bus, "audit")

    def test_two_buses_have_names_of_their_own(self, bus):
        noting(bus, "audit")
        other = EventBus()
        other.log = []
        noting(other, "audit")

        assert (told(bus), told(other)) == (["audit"], ["audit"])


class TestOrder:
    def test_higher_priority_first_then_order_of_registration(self, bus):
        for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5.5), ("e", -1)):
            noting(bus, name, priority=priority)
        assert told(bus) == ["d", "b", "a", "c", "e"]

    def test_priority_asked_for_goes_before_the_observers_own(self, bus):
        bus.register_observer(Listener(bus.log, "low", priority=-5), priority=5)
        bus.register_observer(Listener(bus.log, "high", priority=3))
        assert [name for name, _ in told(bus)] == ["low", "high"]

    @pytest.mark.parametrize("order", [("b", "a", "c"), ("c", "a", "b"), ("a", "b", "c")])
    def test_requirements_hold_in_any_order_of_registration_and_against_priority(self, bus, order):
        asked = {"a": {}, "b": {"requires": "a", "priority": 100}, "c": {"requires": ("b",), "priority": 200}}
        for name in order:
            noting(bus, name, **asked[name])
        assert told(bus) == ["a", "b", "c"]

    def test_requirement_of_the_other_side(self, bus):
        noting(bus, "store")
        noting(bus, "audit", required_by="store", priority=-10)
        assert told(bus) == ["audit", "store"]

    def test_decorators_say_the_same_as_options(self, bus):
        @bus.register
        @requires("prepare")
        def run(event):
            bus.log.append("run")

        @bus.register
        @required_by("run")
        @requires("prepare")
        def assist(event):
            bus.log.append("assist")

        @bus.register
        def prepare(event):
            bus.log.append("prepare")

        assert told(bus) == ["prepare", "assist", "run"]

    def test_observers_say_it_by_attributes(self, bus):
        bus.register_observer(Listener(bus.log, "report", requires=("audit",)))
        bus.register_observer(Listener(bus.log, "audit"))
        assert [name for name, _ in told(bus)] == ["audit", "report"]

    def test_what_others_require_comes_before_priorities_only_where_it_must(self, bus):
        noting(bus, "free", priority=5)
        noting(bus, "needy", priority=9, requires="needed")
        noting(bus, "needed", priority=1)
        assert told(bus) == ["free", "needed", "needy"]

    @pytest.mark.parametrize("learns", ["check", "emit", "process", "get_registered_observers", "explain"])
    def test_circle_is_named_at_the_check_and_by_the_first_event(self, bus, learns):
        noting(bus, "a", requires="c")
        noting(bus, "b", requires="a")
        noting(bus, "c", requires="b")
        arguments = ("x",) if learns in ("emit", "process", "explain") else ()
        with pytest.raises(ConfigurationError, match=r"circle: '[abc]' after '[abc]' after '[abc]' after '[abc]'"):
            getattr(bus, learns)(*arguments)
        bus.unregister("c")
        noting(bus, "c")
        assert told(bus) == ["c", "a", "b"]

    def test_unknown_name_is_named_and_may_be_registered_later(self, bus):
        noting(bus, "report", requires="audit")
        with pytest.raises(ConfigurationError, match="'report' has requires='audit', and nobody on bus 'shop'"):
            bus.check()
        noting(bus, "audit")
        bus.check()
        assert told(bus) == ["audit", "report"]

    def test_order_is_found_once_for_each_change(self, bus, monkeypatch):
        solved = []
        found = lineup.in_order
        monkeypatch.setattr(lineup, "in_order", lambda known: solved.append(1) or found(known))
        for name in "abc":
            noting(bus, name, requires=[*"abc"[: "abc".index(name)]])
        told(bus, *"xyz")
        assert len(solved) == 1
        noting(bus, "d")
        told(bus, *"xyz")
        assert len(solved) == 2


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"name": ""},
            {"name": 7},
            {"history": -1},
            {"history": "5"},
            {"history": True},
            {"errors": "ignore"},
            {"errors": False},
            {"deduplicate": True},
            {"deduplicate": 2.5},
            {"max_observer_failures": 0},
            {"max_returned_events": 0},
            {"time_source": object()},
            {"time_source": MockTimeSource},
        ],
        ids=lambda value: repr(value).partition(" at 0x")[0],
    )
    def test_misuse_is_named(self, options):
        with pytest.raises(ConfigurationError, match=f"{next(iter(options))}="):
            EventBus(**options)

    @pytest.mark.parametrize(
        "asked",
        [
            {"name": ""},
            {"name": 3},
            {"events": 7},
            {"events": ""},
            {"events": []},
            {"events": int},
            {"events": [Event, None]},
            {"match": 3},
            {"match": []},
            {"when": 3},
            {"when": "x"},
            {"priority": "high"},
            {"priority": float("nan")},
            {"requires": 3},
            {"required_by": [""]},
            {"weak": "yes"},
        ],
        ids=repr,
    )
    def test_misuse_at_registration_is_named_and_registers_nobody(self, asked):
        bus = EventBus()
        with pytest.raises(ConfigurationError, match=f"{next(iter(asked))}="):
            bus.register(lambda event: None, **asked)
        assert bus.get_registered_observers() == []

    def test_history_keeps_the_newest(self):
        bus = EventBus(history=3)
        events = [bus.emit(f"x.{number}") for number in range(5)]
        assert bus.history == events[2:]
        bus.history.clear()
        assert len(bus.history) == 3

    def test_nothing_is_kept_unless_asked_for(self, bus):
        event = bus.emit("x")
        seen = weakref.ref(event)
        del event
        gc.collect()
        assert seen() is None
        assert bus.history == []

    def test_event_that_comes_again_is_processed_once(self):
        bus = EventBus(deduplicate=10, history=10)
        bus.log = []
        noting(bus, "handler")
        event = Event("x")
        bus.emit(event)
        bus.emit(event)
        bus.emit(Event("x", uuid=event.uuid))
        bus.emit("x")
        assert (bus.log, bus.duplicates, len(bus.history)) == (["handler"] * 2, 2, 2)

    def test_memory_of_uuids_is_bounded(self):
        bus = EventBus(deduplicate=2)
        bus.log = []
        noting(bus, "handler")
        first = bus.emit("x")
        for _ in range(2):
            bus.emit("x")
        bus.emit(first)
        assert (len(bus.log), bus.duplicates) == (4, 0)

    def test_without_it_every_emission_is_processed(self, bus):
        noting(bus, "handler")
        event = Event("x")
        bus.emit(event)
        bus.emit(event)
        assert (bus.log, bus.duplicates) == (["handler"] * 2, 0)

    def test_shown_with_its_name(self, bus):
        noting(bus, "a")
        assert repr(bus) == "<EventBus 'shop': 1 handlers>"
        assert (bus.name, EventBus().name) == ("shop", "EventBus")
