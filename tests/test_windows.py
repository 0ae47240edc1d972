"""Moving windows drop what is too old and never hold more than their steps; hysteresis does not flutter."""

from __future__ import annotations

import copy
import math
import pickle

import pytest

from callpyback.observers.parts.windows import Hysteresis, TimeBuckets


def filled(*times, span=60.0, steps=6):
    window = TimeBuckets(span, steps, list)
    for now in times:
        window.at(now).append(now)
    return window


def test_what_falls_into_one_step_shares_a_bucket():
    assert list(filled(0.0, 9.9, 10.0, 35.0)) == [[0.0, 9.9], [10.0], [35.0]]


def test_what_is_older_than_the_span_is_dropped():
    window = filled(5.0, 15.0, 59.0)
    assert window.expire(59.9) == []
    assert window.expire(60.0) == [[5.0]]
    assert window.expire(1000.0) == [[15.0], [59.0]]
    assert len(window) == 0


def test_there_are_never_more_buckets_than_steps():
    window = filled(*map(float, range(10_000)))
    assert len(window) == 6
    assert list(window)[-1][-1] == 9999.0


def test_a_clock_that_goes_back_or_fails_adds_to_the_newest_bucket():
    window = filled(100.0, 20.0, math.nan, -math.inf)
    assert len(list(window)) == 1
    assert window.expire(math.nan) == []


def test_a_clock_that_fails_at_first_starts_a_bucket_that_any_time_follows():
    window = filled(math.nan)
    assert len(window) == 1
    window.at(1e9).append(1)
    assert list(window) == [[1]]


def test_negative_times_are_times_too():
    assert list(filled(-100.0, -95.0, -80.0, -41.0)) == [[-100.0, -95.0], [-80.0], [-41.0]]


def test_times_of_one_step_are_told_from_others():
    window = filled()
    assert window.are_one_step(10.0, 19.9)
    assert not window.are_one_step(9.9, 10.0)


def test_cleared_it_is_empty():
    window = filled(1.0)
    window.clear()
    assert list(window) == []


@pytest.mark.parametrize("again", [lambda w: pickle.loads(pickle.dumps(w)), copy.deepcopy])
def test_a_copy_goes_its_own_way(again):
    window = filled(1.0)
    twin = again(window)
    twin.at(2.0).append(2.0)
    assert (list(window), list(twin)) == ([[1.0]], [[1.0, 2.0]])


def test_hysteresis_turns_at_its_two_bounds_only():
    switch = Hysteresis(above=0.5, until=0.25)
    seen = [(value, switch.turns(value), switch.is_on) for value in (0.5, 0.51, 0.26, 0.9, 0.25, 0.5)]
    assert seen == [
        (0.5, False, False),
        (0.51, True, True),
        (0.26, False, True),
        (0.9, False, True),
        (0.25, True, False),
        (0.5, False, False),
    ]


def test_hysteresis_ignores_what_is_no_number():
    switch = Hysteresis(above=0.5, until=0.25)
    assert not switch.turns(math.nan)
    switch.turns(1.0)
    assert not switch.turns(math.nan)
    assert switch.is_on
