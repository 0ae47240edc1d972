"""The statistics of a profile are those of the standard library over the newest calls."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callpyback import FunctionSignature, Outcome
from callpyback.observers.performance_profile import PerformanceProfileObserver

TIMES = st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=150)


@given(TIMES, st.integers(1, 120))
def test_a_report_is_that_of_the_newest_calls(times, window):
    profiler = PerformanceProfileObserver(window, 1e9)
    _, end = profiler.bind(FunctionSignature("f"))
    for elapsed in times:
        end(elapsed, None, None, Outcome.SUCCESS)
    report = profiler.get_performance_report("f")["functions"]["f"]
    kept = [elapsed * 1000 for elapsed in times[-window:]]
    assert (report["total_calls"], report["window_calls"]) == (len(times), len(kept))
    assert report["mean_time_ms"] == pytest.approx(statistics.mean(kept))
    assert report["median_time_ms"] == pytest.approx(statistics.median(kept))
    assert (report["min_time_ms"], report["max_time_ms"]) == pytest.approx((min(kept), max(kept)))
    deviation = statistics.stdev(kept) if len(kept) > 1 else 0.0
    assert report["std_dev_ms"] == pytest.approx(deviation, rel=1e-6, abs=1e-9)
    for percent, needed in ((50, 2), (90, 10), (95, 20), (99, 100)):
        expected = statistics.quantiles(kept, n=100)[percent - 1] if len(kept) >= needed else None
        assert report[f"p{percent}_time_ms"] == (None if expected is None else pytest.approx(expected))
