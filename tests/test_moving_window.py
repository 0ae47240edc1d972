"""Each permit is free again a period after it was taken, whatever threads and clocks do."""

from __future__ import annotations

import itertools
import math
import threading

import pytest

from callpyback import MockTimeSource
from callpyback.guards.moving_window import MovingWindow
from test_concurrency import hurried, in_threads

__all__ = ["hurried"]


def waits(*answers):
    return [wait for wait in answers if wait is not None]


@pytest.mark.usefixtures("hurried")
def test_permits_of_different_ages_come_free_in_their_order_whatever_threads_do():
    time = MockTimeSource()
    window = MovingWindow(40, 100.0, time.monotonic)
    for _ in range(40):
        window.take()
        time.advance(1.0)
    time.set_time(100.0)
    for step in range(40):
        taken = in_threads(lambda _: window.take(), 4)
        assert sum(wait is None for wait in taken) == 1, step
        assert set(waits(*taken)) == {1.0 if step < 39 else 61.0}
        time.advance(1.0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(("max_calls", "period"), [(1, 10), (7, 50), (64, 500)])
def test_no_window_holds_more_than_the_limit_while_time_goes_on(max_calls, period):
    readings = itertools.count()
    taken_at = threading.local()

    def clock():
        taken_at.last = now = next(readings)  # no two readings are the same, and later ones are greater
        return now

    window = MovingWindow(max_calls, period, clock)

    def work(_):
        return [taken_at.last for _ in range(3000) if window.take() is None]

    times = sorted(itertools.chain(*in_threads(work, 6)))
    assert len(times) > 10 * max_calls
    assert all(later - sooner >= period for sooner, later in zip(times, times[max_calls:], strict=False))


class Interrupted(float):
    """A time in whose first comparison another thread gets its turn."""

    def __new__(cls, seconds, meanwhile):
        made = super().__new__(cls, seconds)
        made.meanwhile = [meanwhile]
        return made

    def __ge__(self, other):
        result = float.__ge__(self, other)
        if self.meanwhile:
            self.meanwhile.pop()()
        return result


def test_a_permit_that_another_thread_takes_just_before_is_not_taken_twice():
    readings, others = [], []
    window = MovingWindow(3, 100.0, lambda: readings.pop(0))
    readings += [0.0, 60.0, 70.0]
    assert waits(window.take(), window.take(), window.take()) == []
    readings += [Interrupted(100.0, lambda: others.append(window.take())), *[100.0] * 10]
    assert window.take() == 60.0
    assert others == [None]
    readings[:] = [165.0] * 10
    assert [window.take(), window.take()] == [None, 5.0]


def test_a_window_is_idle_only_when_all_of_it_is_free_whatever_the_order_of_threads():
    readings, meanwhile = [0.0, 5.0], [lambda: window.take()]

    def clock():
        now = readings.pop(0)
        if meanwhile:
            meanwhile.pop()()  # another thread reads the clock later, and is faster
        return now

    window = MovingWindow(2, 60.0, clock)
    assert window.take() is None
    readings += [62.0, 65.0]
    assert not window.is_idle()
    assert window.is_idle()


def test_the_last_permit_in_the_hand_of_another_thread_is_not_free():
    readings, others = [0.0], []
    window = MovingWindow(1, 100.0, lambda: readings.pop(0))
    window.take()
    readings += [Interrupted(100.0, lambda: others.append(window.take())), *[100.0] * 10]
    assert window.take() == 100.0
    assert others == [None]


def test_nothing_is_noted_of_a_time_that_is_unknown():
    readings = iter([math.nan] * 3 + [0.0] * 10)
    window = MovingWindow(2, 60.0, lambda: next(readings))
    for _ in range(3):
        with pytest.raises(ValueError, match="clock"):
            window.take()
    assert [window.take(), window.take(), window.take()] == [None, None, 60.0]


def test_a_clock_that_fails_between_two_looks_is_looked_at_again():
    readings = iter([0.0, 1.0, math.nan, 2.0, 2.0])
    window = MovingWindow(1, 60.0, lambda: next(readings))
    assert [window.take(), window.take()] == [None, 58.0]


def test_a_permit_that_comes_free_between_two_looks_is_taken():
    readings = iter([0.0, 59.0, 60.0, 60.0])
    window = MovingWindow(1, 60.0, lambda: next(readings))
    assert [window.take(), window.take()] == [None, None]


def test_permits_that_are_free_are_used_again_before_others_are_made():
    time = MockTimeSource()
    window = MovingWindow(1000, 10.0, time.monotonic)
    for _ in range(5000):
        window.take()
        time.advance(1.0)
    assert len(window._free_at) <= 11
