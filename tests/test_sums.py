"""Sums keep the small samples, and stay in the range of a float."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from callpyback.observers.parts.sums import CompensatedSum


def total(samples):
    added = CompensatedSum()
    for sample in samples:
        added.add(sample)
    return added.value


def test_a_million_tenths_are_a_hundred_thousand():
    assert total([0.1] * 1_000_000) == 100_000.0


@given(st.lists(st.floats(-1e12, 1e12), max_size=200))
def test_a_sum_is_that_of_exact_arithmetic_but_for_the_last_digits(samples):
    scale = math.fsum(map(abs, samples))
    assert math.isclose(total(samples), math.fsum(samples), rel_tol=1e-15, abs_tol=1e-28 * scale + 1e-300)


def test_what_would_leave_the_range_is_left_out():
    added = CompensatedSum()
    assert added.add(1.7e308)
    assert not added.add(1.7e308)
    assert added.value == 1.7e308
