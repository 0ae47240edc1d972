"""Calls have become slower when their mean and their ranks say so; outliers and scatter are no alarm."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import random

import pytest

from callpyback import ConfigurationError
from callpyback.observers.parts.degradation import Degradation, chance_of_ranks, checked_degradation


def test_twice_as_slow_is_worse():
    assert Degradation().is_worse([0.2] * 10, [0.1] * 90)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_up_to_the_factor_is_not(factor):
    assert not Degradation().is_worse([0.125 * factor] * 10, [0.125] * 90)


@pytest.mark.parametrize(("recent", "is_worse"), [(3e-7, False), (9e-4, False), (1.2e-3, True)])
def test_a_difference_of_less_than_a_millisecond_is_none(recent, is_worse):
    assert Degradation().is_worse([recent] * 10, [1e-7] * 90) is is_worse
    assert Degradation(least=0).is_worse([recent] * 10, [1e-7] * 90)


def test_one_outlier_is_an_alarm_for_the_means_alone():
    recent, history = [0.1] * 9 + [5.0], [0.1] * 90
    assert Degradation(chance=None).is_worse(recent, history)
    assert not Degradation().is_worse(recent, history)


def test_scatter_is_no_alarm_and_a_change_within_scatter_is():
    rng = random.Random(4)
    times = [rng.lognormvariate(0, 1) for _ in range(10_090)]
    calm = [(times[at + 90 : at + 100], times[at : at + 90]) for at in range(0, 9_990, 10)]
    assert sum(Degradation(chance=None).is_worse(*samples) for samples in calm) > 50
    assert sum(Degradation().is_worse(*samples) for samples in calm) <= 1
    slower = [([10 * sample for sample in recent], history) for recent, history in calm]
    assert sum(Degradation().is_worse(*samples) for samples in slower) > 800


def test_it_is_over_when_half_of_the_difference_is_gone():
    degradation = Degradation(factor=2.0)
    assert not degradation.is_over([0.31] * 10, [0.2] * 90)
    assert degradation.is_over([0.25] * 10, [0.2] * 90)


def test_the_chance_of_ranks_is_close_to_the_share_of_all_orders():
    values = range(9)
    orders = list(itertools.combinations(values, 4))

    def wins(recent):
        return sum(one > other for one in recent for other in values if other not in recent)

    for recent in orders[::7]:
        exact = sum(wins(other) >= wins(recent) for other in orders) / len(orders)
        history = [value for value in values if value not in recent]
        assert chance_of_ranks(recent, history) == pytest.approx(exact, abs=0.015)


def test_equal_samples_tell_nothing():
    assert chance_of_ranks([1.0] * 5, [1.0] * 20) == 1.0
    assert chance_of_ranks([1.0], []) == 1.0


BAD = [
    {"recent": 0},
    {"history": 1.5},
    {"factor": 1},
    {"factor": math.nan},
    {"factor": math.inf},
    {"factor": "2"},
    {"factor": True},
    {"least": -1},
    {"least": math.nan},
    {"chance": 0},
    {"chance": 1.0},
    {"chance": "0.1"},
    {"recent": 2, "history": 10},
]


@pytest.mark.parametrize("options", BAD, ids=repr)
def test_other_numbers_are_refused(options):
    with pytest.raises(ConfigurationError):
        Degradation(**options)


def test_a_test_that_could_never_succeed_is_refused_with_the_way_out():
    with pytest.raises(ConfigurationError, match=r"chance=0\.0001 .*at least 0\.0\d+, the least that 2 against 10"):
        Degradation(2, 10)
    assert Degradation(2, 10, chance=None).needed == 12


def test_a_tuple_does_as_well():
    assert repr(checked_degradation((20, 180, 2))) == repr(Degradation(20, 180, 2.0))
    assert checked_degradation(None) is None


@pytest.mark.parametrize("given", [(), (1, 2, 3, 4), [10, 90, 1.5], "10", 3, (10, 90, "x")], ids=repr)
def test_other_degradations_are_refused(given):
    with pytest.raises(ConfigurationError):
        checked_degradation(given)


@pytest.mark.parametrize("again", [lambda d: pickle.loads(pickle.dumps(d)), copy.deepcopy, copy.copy])
def test_a_copy_is_the_same(again):
    degradation = again(Degradation(20, 50, 3, least=0.25, chance=None))
    assert repr(degradation) == "Degradation(20, 50, 3.0, least=0.25, chance=None)"
