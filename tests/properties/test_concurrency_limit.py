"""Slots do what a count and a queue would do, whoever comes, waits, leaves or vanishes."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from callpyback.guards.slots import Slots

indexes = st.integers(0, 100)


class Queueing(RuleBasedStateMachine):
    """Calls take slots or queue for them; the model counts who holds one and remembers who waits, in order."""

    @initialize(limit=st.integers(1, 3))
    def start(self, limit):
        self.limit, self.peaks = limit, set()
        self.slots = Slots(limit, self.peaks)
        self.held = []
        self.places, self.waiting, self.given = {}, [], []  # places by number; the numbers that wait; that have a slot
        self.woken, self.gone, self.number, self.most = [], set(), 0, 0

    @property
    def used(self):
        return len(self.held) + len(self.given)

    def wake(self, number):
        self.woken.append(number)
        if number in self.gone:
            raise RuntimeError

    def expect_hand_out(self):
        """Give what is free to those who wait, the first first; asleep event loops are passed over."""
        expected = []
        while self.used < self.limit and self.waiting:
            number = self.waiting.pop(0)
            expected.append(number)
            if number not in self.gone:
                self.given.append(number)
        self.most = max(self.most, self.used)
        assert self.woken == expected
        self.woken.clear()

    @rule()
    def take(self):
        may_take = self.used < self.limit and not self.waiting
        slot = self.slots.take()
        assert (slot is not None) == may_take
        if slot is not None:
            assert slot not in self.held
            self.held.append(slot)

    @rule()
    def queue(self):
        self.number += 1
        number = self.number
        self.waiting.append(number)
        self.places[number] = self.slots.queue(lambda: self.wake(number))
        self.expect_hand_out()

    @precondition(lambda self: self.waiting)
    @rule(index=indexes)
    def stop_waiting(self, index):
        number = self.waiting.pop(index % len(self.waiting))
        assert self.slots.leave(self.places.pop(number)) is None

    @precondition(lambda self: self.waiting)
    @rule(index=indexes)
    def close_the_event_loop_of_one_that_waits(self, index):
        self.gone.add(self.waiting[index % len(self.waiting)])

    @precondition(lambda self: self.given)
    @rule(index=indexes)
    def go_on_with_the_slot_that_was_given(self, index):
        number = self.given.pop(index % len(self.given))
        slot = self.slots.leave(self.places.pop(number))
        assert slot not in [None, *self.held]
        self.held.append(slot)

    @precondition(lambda self: self.given)
    @rule(index=indexes)
    def be_cancelled_with_the_slot_that_was_given(self, index):
        number = self.given.pop(index % len(self.given))
        self.slots.leave(self.places.pop(number)).give_back()
        self.expect_hand_out()

    @precondition(lambda self: self.held)
    @rule(index=indexes)
    def give_back(self, index):
        self.held.pop(index % len(self.held)).give_back()
        self.expect_hand_out()

    @precondition(lambda self: self.held)
    @rule(index=indexes)
    def vanish(self, index):
        del self.held[index % len(self.held)]
        self.expect_hand_out()

    @invariant()
    def numbers_are_right(self):
        self.most = max(self.most, self.used)
        assert (self.slots.held, self.slots.waiting) == (self.used, len(self.waiting))
        assert max(self.peaks, default=0) == self.most <= self.limit
        assert self.slots.is_idle() == (self.used == 0 and not self.waiting)


TestQueueing = Queueing.TestCase
