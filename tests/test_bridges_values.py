"""The bridge from reaktiv: signals and computed values tell their old and new value, when it is another one."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
import weakref

import pytest
from reaktiv import Computed, Effect, Linked, Signal, batch

from callpyback import EventBus, EventHook, observes
from callpyback.events.bridges import bridge


@pytest.fixture
def warnings_of(caplog):
    caplog.set_level(logging.WARNING, "callpyback")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "callpyback"]


def changes_of(value, seen):
    changes = bridge(value)
    changes.connect(lambda old, new: seen.append((old, new)))
    return changes


def test_a_signal_tells_its_old_and_new_value():
    seen, price = [], Signal(3)
    changes_of(price, seen)
    price.set(5)
    price.update(lambda n: n + 1)
    assert seen == [(3, 5), (5, 6)]


def test_a_value_that_is_set_to_an_equal_one_is_not_told():
    seen, words = [], Signal(["a"])
    changes_of(words, seen)
    words.set(["a"])
    words.set(["b"])
    assert seen == [(["a"], ["b"])]


def test_values_that_cannot_be_compared_count_as_changed():
    class Odd:
        def __eq__(self, other):
            raise RuntimeError("not to be compared")

        __hash__ = None

    seen, one, other = [], Odd(), Odd()
    value = Signal(one)
    changes_of(value, seen)
    value.set(other)
    value.set(other)
    assert [tuple(map(id, pair)) for pair in seen] == [(id(one), id(other))]


def test_a_computed_value_tells_only_what_comes_out_different():
    seen, computed, price, count = [], [], Signal(3), Signal(2)

    @Computed
    def total():
        computed.append(1)
        return price() * count()

    changes_of(total, seen)
    price.set(4)
    with batch():
        price.set(2)
        count.set(4)
    assert seen == [(6, 8)]
    assert total() == 8
    assert len(computed) == 3


def test_without_a_bridge_a_computed_value_stays_lazy():
    computed, price = [], Signal(3)
    total = Computed(lambda: computed.append(1) or price())
    changes = bridge(total)
    assert len(computed) == 1
    changes.close()
    price.set(4)
    assert len(computed) == 1
    assert total() == 4


def test_a_batch_is_told_as_one_change():
    seen, price = [], Signal(3)
    changes_of(price, seen)
    with batch():
        for n in range(10):
            price.set(n)
    assert seen == [(3, 9)]


def test_a_batch_that_changes_nothing_in_the_end_is_not_told():
    seen, price = [], Signal(3)
    changes_of(price, seen)
    with batch():
        price.set(5)
        price.set(3)
    assert seen == []


def test_linked_and_read_only_values_tell_too():
    seen, price = [], Signal(3)
    linked = Linked(lambda: price() * 10)
    changes_of(linked, seen)
    changes_of(price.as_readonly(), seen)
    price.set(5)
    linked.set(7)
    assert sorted(seen) == [(3, 5), (30, 50), (50, 7)]


def test_a_bus_tells_events_of_changes():
    bus, events, price = EventBus("bus"), [], Signal(3)
    bus.register(events.append)
    bridge(price, bus)
    bridge(price, bus, name="price.changed")
    price.set(5)
    assert sorted((event.name, event.data["old"], event.data["new"]) for event in events) == [
        ("price.changed", 3, 5),
        ("value.changed", 3, 5),
    ]
    assert all(event.ctxt is price for event in events)


def test_a_value_that_cannot_be_computed_is_told_once_it_can():
    seen, price = [], Signal(3)

    @Computed
    def ratio():
        return 12 / price()

    changes_of(ratio, seen)
    price.set(0)
    with pytest.raises(ZeroDivisionError):
        ratio()
    price.set(4)
    assert seen == [(4.0, 3.0)]


def test_a_value_that_cannot_be_computed_at_first_is_known_from_then_on():
    seen, price = [], Signal(0)
    ratio = Computed(lambda: 12 / price())
    changes_of(ratio, seen)
    price.set(4)
    price.set(6)
    assert seen == [(3.0, 2.0)]


@pytest.mark.parametrize("errors", ["isolate", "raise"])
@pytest.mark.parametrize("target", [EventHook, EventBus])
def test_an_error_of_ours_disturbs_neither_the_change_nor_other_effects(target, errors, warnings_of, capsys):
    price, seen, to = Signal(3), [], target("target", errors=errors)

    @observes(to)
    def breaking(*_):
        raise ValueError("broken")

    bridged = bridge(price, to)
    effect = Effect(lambda: seen.append(price()))
    price.set(5)
    price.set(6)
    assert seen == [3, 5, 6]
    effect.dispose()
    assert bridged.health.failures == (2 if errors == "raise" else 0)
    assert any("ValueError: broken" in warning for warning in warnings_of())
    assert capsys.readouterr() == ("", "")  # reaktiv prints what it sees of errors


def test_what_callbacks_read_is_not_watched():
    seen, price, other = [], Signal(3), Signal(1)
    bridge(price).connect(lambda old, new: seen.append((new, other())))
    price.set(4)
    other.set(2)
    assert seen == [(4, 1)]


def test_who_listens_may_change_the_value():
    seen, price = [], Signal(0)
    changes = changes_of(price, seen)
    changes.connect(lambda old, new: price.set(min(new + 1, 5)))
    price.set(2)
    assert price() == 5
    assert seen == [(0, 2), (2, 3), (3, 4), (4, 5)]


def test_values_that_change_each_other_are_told():
    seen, price, double = [], Signal(1), Signal(2)
    bridge(price).connect(lambda old, new: double.set(2 * new))
    bridge(double).connect(lambda old, new: price.set(new / 2))
    changes_of(double, seen)
    price.set(5)
    double.set(20)
    assert (price(), double()) == (10, 20)
    assert seen == [(2, 10), (10, 20)]


def test_a_change_that_makes_changes_without_end_ends(warnings_of):
    seen, price = [], Signal(0)
    changes = changes_of(price, seen)
    changes.connect(lambda old, new: price.set(new + 1))
    price.set(1)
    assert len(seen) == 100
    assert "its callbacks change the value each time they are told" in warnings_of()[-1]
    price.set(-5)
    assert seen[-100][1] == -5  # and it goes on


def test_a_closed_bridge_tells_nothing():
    seen, price = [], Signal(3)
    one, other = changes_of(price, seen), changes_of(price, seen)
    one.close()
    one.close()
    price.set(5)
    assert seen == [(3, 5)]
    with other:
        price.set(6)
    price.set(7)
    assert seen == [(3, 5), (5, 6)]


def test_a_bridge_lives_as_long_as_its_value_and_no_longer():
    """reaktiv's own effects end when nobody holds them; that would be lost on `@observes(bridge(value))`."""

    class Mark: ...

    seen, price = [], Signal(3)
    total = Computed(lambda price=price: price() * 2)
    gone = [weakref.ref(changes_of(value, seen)) for value in (price, total)]
    gc.collect()
    price.set(5)
    assert sorted(seen) == [(3, 5), (6, 10)]
    assert all(reference() is not None for reference in gone)
    mark = Mark()
    gone.append(weakref.ref(mark))
    bridge(price).connect(lambda old, new, mark=mark, price=price: None)
    del price, total, mark
    gc.collect()
    assert [reference() for reference in gone] == [None, None, None]


def test_changes_by_several_threads_are_each_told_in_order():
    seen, counter = [], Signal(0)
    changes_of(counter, seen)

    def count():
        for _ in range(200):
            counter.update(lambda n: n + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counter.set(-1)
    assert all(old == before for (_, before), (old, _) in itertools.pairwise(seen))
    assert seen[0][0] == 0
    assert seen[-1] == (800, -1)
