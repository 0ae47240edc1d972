"""EventBus: what a handler hears of, by name, class, predicate and its own word; decided once for each name."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from typing import TypeVar

import pytest

from callpyback import BaseObserver, ConfigurationError, Event, EventBus, TypedObserver, want
from callpyback.events import lineup


class Order(Event):
    name = "order"


@dataclass
class OrderPaid(Order):
    total: int


class OrderSent(Order):
    name = "order.sent"


class Other(Event):
    pass


EVENTS = [OrderPaid(5), OrderSent(), Order(), Other(), Event("order.paid", total=5), Event("order"), Event("ORDER")]


def heard(**asked):
    """Return the numbers of those of EVENTS that a handler hears of."""
    bus, got = EventBus(), []
    bus.register(lambda event: got.append(event), **asked)
    for event in EVENTS:
        bus.emit(event)
    return [number for number, event in enumerate(EVENTS) if any(event is known for known in got)]


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"match": "order.*"}, [1, 4]),
        ({"match": "order*"}, [0, 1, 2, 4, 5]),
        ({"match": ["order.paid", "O?her"]}, [3, 4]),
        ({"match": lambda name: name.isupper()}, [6]),
        ({"events": "order"}, [0, 2, 5]),
        ({"events": ("order.sent", "Other")}, [1, 3]),
        ({"events": Order}, [0, 1, 2]),
        ({"events": OrderPaid}, [0]),
        ({"events": OrderPaid | OrderSent}, [0, 1]),
        ({"events": [OrderPaid, "order.paid"]}, [0, 4]),
        ({"events": Event}, [0, 1, 2, 3, 4, 5, 6]),
        ({"when": lambda event: event.data.get("total") == 5}, [0, 4]),
        ({"when": [lambda event: event.data, lambda event: isinstance(event, OrderPaid)]}, [0]),
        ({"match": "order.*", "events": Order}, [1]),
        ({"match": "order.*", "when": lambda event: event.data}, [4]),
    ],
)
def test_handler_hears_what_it_was_registered_for(asked, numbers):
    assert heard(**asked) == numbers


@pytest.fixture
def bus():
    return EventBus()


def test_criteria_of_one_want_hold_together_and_wants_are_alternatives(bus):
    got = []

    @bus.register
    @want("ev1", "ev2")
    @want("ev3", lambda event: event.data["resource"] == "resource")
    def handler(event):
        got.append((event.name, event.data.get("resource")))

    for name in ("ev1", "ev2", "ev3", "ev4"):
        bus.emit(name, resource="resource")
        bus.emit(name, resource="another")
    assert got == [
        ("ev1", "resource"), ("ev1", "another"), ("ev2", "resource"), ("ev2", "another"), ("ev3", "resource"),
    ]  # fmt: skip


def test_want_takes_classes_of_events(bus):
    got = []

    @bus.register
    @want(OrderPaid, lambda event: event.total > 3)
    @want(Other)
    def handler(event):
        got.append(event)

    events = [OrderPaid(5), OrderPaid(1), OrderSent(), Other()]
    for event in events:
        bus.emit(event)
    assert got == [events[0], events[3]]


def test_observer_is_asked_whether_it_is_interested_once_for_each_name(bus):
    asked = []

    class ByName:
        def on_event(self, event): ...

        def is_interested(self, event_type: str) -> bool:
            asked.append(event_type)
            return event_type.startswith("test.")

    bus.register_observer(ByName())
    for name in ("test.started", "metrics.collected", "test.started", "metrics.collected"):
        bus.emit(name)
    assert asked == ["test.started", "metrics.collected"]


@pytest.mark.parametrize("parameter", ["event_type", "event_name", "name"])
def test_parameter_tells_that_a_name_is_wanted(bus, parameter):
    got = []
    namespace = {}
    exec(f"def is_interested({parameter}): return {parameter} == 'a'", namespace)

    class ByName:
        def on_event(self, event):
            got.append(event.name)

    observer = ByName()
    observer.is_interested = namespace["is_interested"]
    bus.register_observer(observer)
    bus.emit("a")
    bus.emit("b")
    assert got == ["a"]


def test_observer_that_is_interested_in_events_is_asked_for_each(bus):
    got = []

    class ByEvent:
        def on_event(self, event):
            got.append(event.data["n"])

        def is_interested(self, event):
            return event.data["n"] % 2 == 0

    bus.register_observer(ByEvent())
    for number in range(4):
        bus.emit("x", n=number)
    assert got == [0, 2]


def test_observer_says_what_it_hears_by_attributes_and_registration_adds_to_it(bus):
    got = []

    class Choosy(BaseObserver):
        match = "order.*"
        when = staticmethod(lambda event: event.data["n"] > 0)

        def on_event(self, event):
            got.append((event.name, event.data["n"]))

    bus.register_observer(Choosy(), when=lambda event: event.data["n"] < 3)
    for name in ("order.paid", "other"):
        for number in range(4):
            bus.emit(name, n=number)
    assert got == [("order.paid", 1), ("order.paid", 2)]


def test_events_attribute_of_an_observer_counts_unless_others_are_asked_for(bus):
    class Choosy:
        events = (OrderPaid,)

        def __init__(self):
            self.got = []

        def on_event(self, event):
            self.got.append(type(event))

    own, asked = Choosy(), Choosy()
    bus.register_observer(own)
    bus.register_observer(asked, events=OrderSent)
    bus.emit(OrderPaid(5))
    bus.emit(OrderSent())
    assert (own.got, asked.got) == ([OrderPaid], [OrderSent])


@pytest.mark.parametrize("where", ["predicate", "interest in names", "interest in events"])
def test_question_that_fails_is_the_handlers_failure_and_nobody_elses(bus, where):
    got = []

    def fails(event_or_name):
        raise RuntimeError("don't ask")

    class Observer:
        def on_event(self, event):
            got.append("never")

    observer = Observer()
    if where == "interest in names":
        observer.is_interested = lambda name: fails(name)
    elif where == "interest in events":
        observer.is_interested = lambda event: fails(event)
    bus.register_observer(observer, when=fails if where == "predicate" else None)
    bus.register(lambda event: got.append("other"))
    for _ in range(3):
        bus.emit("x")
    health = bus.health["Observer"]
    assert (got, health.failures, health.last_error) == (["other"] * 3, 3, "RuntimeError: don't ask")


class TestTypedObserver:
    def test_hears_its_class_and_subclasses_alone(self, bus):
        class OfOrders(TypedObserver[Order]):
            def __init__(self):
                self.got = []

            def on_event(self, event):
                self.got.append(type(event))

        observer = bus.register_observer(OfOrders())
        for event in EVENTS:
            bus.emit(event)
        assert observer.got == [OrderPaid, OrderSent, Order]

    def test_hears_several_classes(self, bus):
        class OfTwo(TypedObserver[OrderPaid | Other]):
            def on_event(self, event): ...

        class OfTheSame(OfTwo):
            pass

        assert OfTwo.events == OfTheSame.events == (OrderPaid, Other)

    def test_class_left_open_is_named_by_a_subclass(self):
        T = TypeVar("T", bound=Order)

        class Open(TypedObserver[T]):
            def on_event(self, event): ...

        class Closed(Open[OrderSent]):
            pass

        assert (Open.events, Closed.events) == (None, (OrderSent,))

    @pytest.mark.parametrize("given", [int, "OrderPaid", OrderPaid | None], ids=repr)
    def test_what_is_no_class_of_events_is_refused_where_the_class_is_made(self, given):
        with pytest.raises(ConfigurationError, match="class of events"):
            exec("class Wrong(TypedObserver[given]): ...", {**globals(), "given": given})

    def test_observer_that_handles_nothing_is_refused(self, bus):
        class Nothing(TypedObserver[Order]):
            pass

        with pytest.raises(ConfigurationError, match="on_event"):
            bus.register_observer(Nothing())


class TestRequirementsAcrossFilters:
    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ({"match": "order.*"}, {"match": "user.*"}),
            ({"events": "order.paid"}, {"match": "user.*"}),
            ({"events": ("order.paid", "order.sent")}, {"events": "order"}),
            ({"match": "order.p*"}, {"match": "order.s*"}),
            ({"events": OrderPaid}, {"events": OrderSent}),
            ({"events": OrderPaid}, {"events": (Other, OrderSent)}),
        ],
    )
    @pytest.mark.parametrize("is_swapped", [False, True])
    @pytest.mark.parametrize("side", ["requires", "required_by"])
    def test_required_handler_that_never_hears_the_same_is_named(self, bus, one, two, is_swapped, side):
        one, two = (two, one) if is_swapped else (one, two)
        bus.register(lambda event: None, "report", **one, **({"requires": "audit"} if side == "requires" else {}))
        bus.register(lambda event: None, "audit", **two, **({"required_by": "report"} if side != "requires" else {}))
        with pytest.raises(ConfigurationError, match="'report' requires 'audit', which on bus 'EventBus' never hears"):
            bus.check()

    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ({}, {"match": "user.*"}),
            ({"match": "order.*"}, {"match": "order.p*"}),
            ({"match": "*.paid"}, {"match": "order.*"}),
            ({"events": ("order.paid", "user.seen")}, {"match": "user.*"}),
            ({"events": Order}, {"events": OrderPaid}),
            ({"events": OrderPaid}, {"match": "order"}),
            ({"when": lambda event: False}, {"when": lambda event: True}),
        ],
    )
    def test_handlers_that_may_hear_the_same_can_require_each_other(self, bus, one, two):
        bus.register(lambda event: None, "report", requires="audit", **one)
        bus.register(lambda event: None, "audit", **two)
        bus.check()


class TestMemory:
    def test_names_without_end_take_bounded_memory(self, monkeypatch):
        monkeypatch.setattr(lineup, "_MAX_KNOWN", 100)
        bus = EventBus()
        got = []
        bus.register(lambda event: got.append(event.name), match="x.*9999")
        bus.register(lambda event: None)

        def emit(first, last):
            for number in range(first, last):
                bus.emit(f"x.{number}")

        emit(0, 1000)
        tracemalloc.start()
        try:
            emit(1000, 2000)
            before = tracemalloc.get_traced_memory()[0]
            emit(2000, 20_000)
            after = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert after - before < 50_000
        assert got == ["x.9999", "x.19999"]

    def test_names_too_long_to_remember_are_heard_all_the_same(self):
        bus, got = EventBus(), []
        bus.register(lambda event: got.append(len(event.name)), match="x*")
        for _ in range(2):
            bus.emit("x" * 100_000)
        assert got == [100_000] * 2
        assert not bus._channel.ready.get(Event)
