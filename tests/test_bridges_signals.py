"""The bridge from psygnal: what its signals emit reaches hooks and buses, and nothing of ours reaches it."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from dataclasses import dataclass

import pytest
from psygnal import EmissionInfo, Signal, SignalGroup, evented
from psygnal.containers import EventedDict, EventedList

from callpyback import ConfigurationError, EventBus, EventHook, observes
from callpyback.events.bridges import Bridge, bridge


class Shop:
    sold = Signal(str, int)
    closed = Signal()


@evented
@dataclass
class Point:
    x: int = 0
    y: int = 0


@pytest.fixture
def warnings_of(caplog):
    caplog.set_level(logging.WARNING, "callpyback")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "callpyback"]


def breaking(*_):
    raise ValueError("broken")


def heard(bus):
    events = []
    bus.register(events.append, name="heard")
    return events


# Signals


def test_a_hook_emits_what_a_signal_emits():
    shop, seen, hook = Shop(), [], EventHook("sales")
    hook.connect(lambda *args: seen.append(args))
    bridge(shop.sold, hook)
    bridge(shop.closed, hook)
    shop.sold.emit("apple", 3)
    shop.closed.emit()
    Shop().sold.emit("pear", 1)
    assert seen == [("apple", 3), ()]


def test_a_bridge_without_a_target_has_a_hook():
    shop, seen = Shop(), []
    sold = bridge(shop.sold)

    @observes(sold)
    def note(what, count):
        seen.append((what, count))

    @sold.connect(priority=5)
    def note_earlier(what, count):
        seen.append("first")

    shop.sold.emit("apple", 3)
    assert seen == ["first", ("apple", 3)]
    assert sold.hook.name == "Shop.sold"
    sold.hook.disconnect(note)
    sold.hook.disconnect("test_a_bridge_without_a_target_has_a_hook.<locals>.note_earlier")
    shop.sold.emit("apple", 3)
    assert len(seen) == 2


def test_a_bus_tells_events_with_what_a_signal_emits():
    shop, bus = Shop(), EventBus("bus")
    events = heard(bus)
    bridge(shop.sold, bus)
    bridge(shop.closed, bus, name="shop.closed")
    shop.sold.emit("apple", 3)
    shop.closed.emit()
    assert [(event.name, event.data, event.ctxt) for event in events] == [
        ("Shop.sold", {"args": ("apple", 3)}, shop),
        ("shop.closed", {"args": ()}, shop),
    ]


def test_the_signal_of_a_class_is_refused():
    with pytest.raises(ConfigurationError, match="a signal of an instance; this one belongs to the class"):
        bridge(Shop.sold)


# Lists, dictionaries, attributes


@pytest.mark.parametrize("of", ["list", "events"])
def test_a_list_tells_all_its_events(of):
    numbers, bus = EventedList([1]), EventBus("bus")
    events = heard(bus)
    bridge(numbers if of == "list" else numbers.events, bus, name="numbers")
    numbers.append(5)
    numbers[0] = 2
    del numbers[1]
    told = [(event.name, event.data["args"]) for event in events if "batch" not in event.name]
    assert told == [
        ("numbers.inserting", (1,)),
        ("numbers.inserted", (1, 5)),
        ("numbers.changed", (0, 1, 2)),
        ("numbers.removing", (1,)),
        ("numbers.removed", (1, 5)),
    ]
    assert list(numbers) == [2]


def test_events_of_a_list_are_called_after_its_class_and_have_it_as_context():
    numbers, bus = EventedList([1]), EventBus("bus")
    events = heard(bus)
    bridge(numbers, bus)
    numbers.append(5)
    assert {event.name for event in events} >= {"EventedList.inserted", "EventedList.inserting"}
    assert all(event.ctxt is numbers for event in events)


def test_a_dictionary_tells_what_was_added_changed_and_removed():
    prices, bus = EventedDict({"apple": 1}), EventBus("bus")
    events = heard(bus)
    bridge(prices, bus, name="prices")
    prices["pear"] = 2
    prices["apple"] = 3
    del prices["pear"]
    assert [(event.name, event.data["args"]) for event in events if not event.name.endswith("ing")] == [
        ("prices.added", ("pear", 2)),
        ("prices.changed", ("apple", 1, 3)),
        ("prices.removed", ("pear", 2)),
    ]


def test_an_attribute_tells_its_new_and_old_value():
    point, seen = Point(), []
    bridge(point.events.x).connect(lambda new, old: seen.append((new, old)))
    point.x = 5
    point.x = 5
    point.y = 7
    assert seen == [(5, 0)]


def test_an_evented_object_tells_all_its_attributes():
    point, bus = Point(), EventBus("bus")
    events = heard(bus)
    bridge(point, bus)
    point.x = 5
    point.y = 7
    assert [(event.name, event.data) for event in events] == [
        ("Point.x", {"args": (5, 0), "path": ".x"}),
        ("Point.y", {"args": (7, 0), "path": ".y"}),
    ]
    assert events[0].ctxt is point


def test_a_hook_gets_psygnals_own_record_of_several_signals():
    point, seen = Point(), []
    bridge(point).connect(seen.append)
    point.x = 5
    assert [(type(info), info.signal.name, info.args) for info in seen] == [(EmissionInfo, "x", (5, 0))]


def test_a_namespace_of_another_name_is_found():
    @evented(events_namespace="changes")
    @dataclass
    class Circle:
        radius: int = 0

    circle, bus = Circle(), EventBus("bus")
    events = heard(bus)
    bridge(circle, bus)
    circle.radius = 5
    assert [event.name for event in events] == ["Circle.radius"]


def test_a_group_that_belongs_to_nobody_stands_for_itself():
    class Sounds(SignalGroup):
        rang = Signal(int)

    sounds, bus = Sounds(), EventBus("bus")
    events = heard(bus)
    bridge(sounds, bus)
    sounds.rang.emit(5)
    assert [(event.name, event.data["args"], event.ctxt) for event in events] == [("Sounds.rang", (5,), sounds)]


# Isolation


@pytest.mark.parametrize("errors", ["isolate", "raise"])
@pytest.mark.parametrize("target", [EventHook, EventBus])
def test_an_error_of_ours_disturbs_neither_the_change_nor_other_slots(target, errors, warnings_of):
    numbers, seen, to = EventedList([1]), [], target("target", errors=errors)
    observes(to)(breaking)
    bridged = bridge(numbers.events.inserted, to)
    numbers.events.inserted.connect(lambda index, value: seen.append(value))
    numbers.append(5)
    assert list(numbers) == [1, 5]
    assert seen == [5]
    assert bridged.health.failures == (errors == "raise")
    assert any("ValueError: broken" in warning for warning in warnings_of())


def test_a_connected_function_alone_would_break_the_change():
    """What the bridge is for: psygnal hands errors of callbacks on to whoever makes the change."""
    numbers, seen = EventedList([1]), []
    numbers.events.inserted.connect(breaking)
    numbers.events.inserted.connect(lambda *args: seen.append(args))
    with pytest.raises(Exception, match="broken"):
        numbers.append(5)
    assert seen == []


def test_ctrl_c_passes():
    shop = Shop()

    @observes(bridge(shop.closed))
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.closed.emit()


def test_who_listens_may_change_the_source():
    numbers = EventedList([1])

    @observes(bridge(numbers.events.inserted))
    def count_up(index, value):
        if value < 5:
            numbers.append(value + 1)

    numbers.append(2)
    assert list(numbers) == [1, 2, 3, 4, 5]


def test_changes_that_make_changes_without_end_end():
    numbers = EventedList()
    changes = bridge(numbers.events.inserted)
    for _ in range(2):
        changes.connect(lambda index, value: numbers.append(value))
    numbers.append(1)
    assert 1 < len(numbers) < 4 * sys.getrecursionlimit()


# Ending


def test_a_closed_bridge_tells_nothing_and_leaves_nothing():
    shop, seen = Shop(), []
    one, other = bridge(shop.sold), bridge(shop.sold)
    one.connect(lambda *args: seen.append(("one", args)))
    other.connect(lambda *args: seen.append(("other", args)))
    assert len(shop.sold) == 2
    one.close()
    one.close()
    shop.sold.emit("apple", 1)
    assert seen == [("other", ("apple", 1))]
    assert len(shop.sold) == 1
    assert (one.is_closed, other.is_closed) == (True, False)
    assert repr(one) == "<Bridge Shop.sold closed>"
    assert repr(other) == "<Bridge Shop.sold to <EventHook Shop.sold: 1 connected>>"


def test_a_bridge_of_several_signals_can_be_closed_too():
    point, seen = Point(), []
    one, other = bridge(point), bridge(point)
    one.connect(lambda info: seen.append("one"))
    other.connect(lambda info: seen.append("other"))
    with one:
        point.x = 1
    point.x = 2
    assert seen == ["one", "other", "other"]


def test_a_bridge_that_is_closed_while_it_tells_tells_the_rest_of_that_change_and_no_more():
    shop, seen = Shop(), []
    changes = bridge(shop.closed)
    changes.connect(lambda: changes.close())
    changes.connect(lambda: seen.append(1))
    shop.closed.emit()
    shop.closed.emit()
    assert seen == [1]


@pytest.mark.parametrize("of", ["signal", "object"])
def test_a_bridge_lives_as_long_as_its_source_and_keeps_it_no_longer(of):
    point, seen, hook = Point(), [], EventHook("hook")
    hook.connect(lambda *args: seen.append(args))
    gone = [weakref.ref(point), weakref.ref(bridge(point.events.x if of == "signal" else point, hook))]
    gc.collect()
    point.x = 5
    assert len(seen) == 1
    seen.clear()
    del point
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_a_list_goes_with_its_bridge():
    numbers = EventedList([1])
    gone = weakref.ref(numbers)
    bridge(numbers).connect(lambda info, numbers=numbers: numbers)
    del numbers
    gc.collect()
    assert gone() is None


# Misuse, which is the same for every source


@pytest.mark.parametrize(
    "source",
    [5, None, [1, 2], object(), print, Shop(), Shop, EventedList, EventHook()],
    ids=lambda source: type(source).__name__,
)
def test_what_cannot_be_bridged_is_refused(source):
    with pytest.raises(
        ConfigurationError, match=r"source=.*expected a signal of an instance.*callpyback\[observables\]"
    ):
        bridge(source)


@pytest.mark.parametrize("to", [5, "bus", print, EventHook])
def test_what_cannot_be_told_is_refused(to):
    shop = Shop()
    with pytest.raises(ConfigurationError, match=r"to=.*expected an EventHook or an EventBus"):
        bridge(shop.sold, to)
    assert len(shop.sold) == 0


def test_a_bad_name_is_refused():
    shop = Shop()
    with pytest.raises(ConfigurationError, match=r"name=5 .*leave it out for the usual one, 'Shop\.sold'"):
        bridge(shop.sold, name=5)


def test_a_bridge_to_a_bus_has_no_hook():
    to_a_bus = bridge(Shop().sold, EventBus("bus"))
    assert isinstance(to_a_bus, Bridge)
    with pytest.raises(ConfigurationError, match="tells a bus: register handlers there"):
        to_a_bus.connect(print)
