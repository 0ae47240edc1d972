"""The sketch against exact order statistics: within 1 %, in any order, in bounded memory."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callpyback import ConfigurationError
from callpyback.observers.parts.quantiles import QuantileSketch

durations = st.floats(1e-9, 1e6)
samples = st.lists(durations, min_size=1, max_size=60)


def sketch_of(*batches, accuracy=0.01):
    sketch = QuantileSketch(accuracy)
    for batch in batches:
        sketch.add_many(batch)
    return sketch


def state_of(sketch):
    """Everything but the sum, whose last bits depend on the order of adding."""
    return sketch._buckets, sketch._zeros, sketch.count, sketch.minimum, sketch.maximum


@given(samples, st.floats(0, 1), st.sampled_from([0.001, 0.01, 0.1, 0.5]))
def test_every_quantile_is_within_the_accuracy_of_the_exact_one(values, q, accuracy):
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    found = sketch_of(values, accuracy=accuracy).quantile(q)
    assert abs(found - exact) <= accuracy * exact * (1 + 1e-9)


@given(samples, samples)
def test_batches_count_like_one(first, second):
    assert state_of(sketch_of(first, second)) == state_of(sketch_of(first + second))


@given(samples)
def test_count_sum_minimum_and_maximum_are_exact(values):
    sketch = sketch_of(values)
    assert (sketch.count, sketch.minimum, sketch.maximum) == (len(values), min(values), max(values))
    assert sketch.sum == pytest.approx(math.fsum(values))
    assert sketch.quantile(0) >= min(values)
    assert sketch.quantile(1) <= max(values)


wide = st.lists(st.floats(1e-300, 1e300) | st.floats(-1, 1e-3), max_size=40)


@given(wide, wide, wide)
def test_merging_is_associative_and_commutative_even_beyond_the_window(a, b, c):
    def merged(*parts):
        whole = QuantileSketch()
        for part in parts:
            whole.merge(part)
        return whole

    left = merged(merged(sketch_of(a), sketch_of(b)), sketch_of(c))
    right = merged(sketch_of(a), merged(sketch_of(b), sketch_of(c)))
    turned = merged(sketch_of(c), sketch_of(b), sketch_of(a))
    assert state_of(left) == state_of(right) == state_of(turned) == state_of(sketch_of(a, b, c))


@given(wide)
def test_buckets_are_bounded_and_high_quantiles_keep_their_accuracy(values):
    values = [*values, 1e9]
    sketch = sketch_of(values)
    assert len(sketch._buckets) <= 2048
    exact = max(values)
    assert abs(sketch.quantile(1) - exact) <= 0.01 * exact


@pytest.mark.parametrize(("accuracy", "most"), [(0.01, 2048), (0.001, 20480), (0.1, 205)])
def test_a_sweep_over_everything_stays_bounded(accuracy, most):
    step = 1 + accuracy
    values = [1e-12 * step**n for n in range(int(math.log(1e24) / math.log(step)))]
    sketch = sketch_of(values, accuracy=accuracy)
    assert len(sketch._buckets) == most
    assert sketch.count == len(values)
    assert sketch.quantile(1) == pytest.approx(values[-1], rel=accuracy)
    exact = values[math.floor(0.5 * (len(values) - 1))]
    assert sketch.quantile(0.5) == pytest.approx(exact, rel=accuracy)


def test_without_samples_there_are_no_quantiles():
    sketch = QuantileSketch()
    assert sketch.quantiles((0, 0.5, 1)) == [None, None, None]
    assert (sketch.count, sketch.sum, sketch.minimum, sketch.maximum) == (0, 0.0, None, None)
    sketch.add_many([])
    assert sketch.quantile(0.5) is None


def test_one_sample_is_every_quantile():
    assert sketch_of([0.3]).quantiles((0, 0.5, 0.99, 1)) == [0.3, 0.3, 0.3, 0.3]


@pytest.mark.parametrize("rubbish", [[math.nan], [math.inf], [-math.inf, math.inf], [math.nan, math.inf, -math.inf]])
def test_what_is_no_duration_is_left_out(rubbish):
    assert state_of(sketch_of([2.0, *rubbish, 1.0, 3.0])) == state_of(sketch_of([1.0, 2.0, 3.0]))
    assert sketch_of(rubbish).count == 0


def test_zero_and_less_count_as_zero():
    sketch = sketch_of([0.0, -5.0, -0.0, 1e-310, 2.0])
    assert (sketch.count, sketch.minimum, sketch.maximum, sketch.sum) == (5, 0.0, 2.0, pytest.approx(2.0))
    assert sketch.quantiles((0, 0.5, 0.75)) == [0.0, 0.0, 0.0]
    assert sketch.quantile(1) == pytest.approx(2.0, rel=0.01)


def test_numbers_at_the_end_of_the_range_do_no_harm():
    sketch = sketch_of([1.7e308, 1.7e308, 5e-324, 1.0])
    assert sketch.count == 4
    assert sketch.quantile(1) == pytest.approx(1e300, rel=0.01)


def test_merging_an_empty_sketch_changes_nothing_and_the_other_is_left_alone():
    one, two = sketch_of([1.0]), QuantileSketch()
    before = state_of(one)
    one.merge(two)
    assert state_of(one) == before
    two.merge(one)
    two.add_many([5.0])
    assert (one.count, two.count) == (1, 2)


def test_sketches_of_different_accuracy_do_not_merge():
    with pytest.raises(ConfigurationError, match=r"relative_accuracy=0\.02 into one of 0\.01"):
        QuantileSketch(0.01).merge(QuantileSketch(0.02))


@pytest.mark.parametrize("accuracy", [0, 1, -0.1, math.nan, "0.01", None])
def test_an_accuracy_out_of_range_is_refused(accuracy):
    with pytest.raises(ConfigurationError, match="relative_accuracy="):
        QuantileSketch(accuracy)


@pytest.mark.parametrize("q", [-0.1, 1.1, 95, math.nan, "p95", None])
def test_a_quantile_out_of_range_is_refused(q):
    with pytest.raises(ConfigurationError, match="q="):
        sketch_of([1.0]).quantile(q)


@given(samples)
def test_a_sketch_survives_pickling(values):
    sketch = sketch_of(values)
    twin = pickle.loads(pickle.dumps(sketch))
    assert (state_of(twin), twin.sum) == (state_of(sketch), sketch.sum)
    twin.add_many([1.0])
    assert twin.count == sketch.count + 1


def test_clear_forgets_everything():
    sketch = sketch_of([1e-12, 1.0, 0.0])
    sketch.clear()
    assert state_of(sketch) == state_of(QuantileSketch())
