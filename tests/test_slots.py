"""Slots go from hand to hand: to the first who waits, past those who left, and never to two."""

from __future__ import annotations

import gc
import weakref

from callpyback.guards.slots import Slots


def test_a_lost_slot_goes_to_who_waits():
    pool, woken = Slots(1, set()), []
    lost = pool.take()
    place = pool.queue(lambda: woken.append(1))
    assert not woken
    del lost
    assert woken == [1]
    assert pool.leave(place) is not None


def test_a_slot_given_back_twice_is_one_slot():
    pool = Slots(1, set())
    slot = pool.take()
    slot.give_back()
    slot.give_back()
    assert [pool.take(), pool.take()] == [slot, None]


def test_a_slot_given_to_a_thread_whose_time_is_just_up_is_taken_or_goes_on():
    pool, woken = Slots(1, set()), []
    slot = pool.take()
    late, next_one = (pool.queue(lambda name=name: woken.append(name)) for name in ("late", "next"))
    slot.give_back()
    assert woken == ["late"]
    given = pool.leave(late)  # its time was up before it was woken
    assert given is slot
    given.give_back()
    assert woken == ["late", "next"]
    assert pool.leave(next_one) is slot


def test_who_has_left_is_given_nothing():
    pool, woken = Slots(1, set()), []
    slot = pool.take()
    left, staying = (pool.queue(lambda name=name: woken.append(name)) for name in ("left", "staying"))
    assert pool.leave(left) is None
    assert pool.waiting == 1
    slot.give_back()
    assert woken == ["staying"]
    assert not left.give(slot)
    assert pool.leave(staying) is slot


def test_one_that_queues_while_a_slot_comes_free_is_given_it_at_once():
    pool, woken = Slots(1, set()), []
    slot = pool.take()
    slot.give_back()  # between the look for a free slot and the queueing
    place = pool.queue(lambda: woken.append(1))
    assert woken == [1]
    assert pool.leave(place) is slot


def test_slots_are_freed_without_the_garbage_collector():
    pool = Slots(3, set())
    slot = pool.take()
    slot.give_back()
    gone = [weakref.ref(pool), weakref.ref(slot)]
    gc.disable()
    try:
        del pool, slot
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()
