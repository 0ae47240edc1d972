"""Moving counts are those of a model that remembers every call, whatever the clock does."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from callpyback import FunctionSignature, MockTimeSource, Outcome
from callpyback.observers.alert import AlertObserver
from callpyback.observers.parts.windows import TimeBuckets

STEPS = 60
WINDOW = 60.0

CALLS = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0, 7.5, 59.0, 61.0]), st.booleans()), max_size=120)


@given(CALLS, st.sampled_from([0.0, 0.3, 0.5]), st.integers(1, 8))
def test_an_alert_is_on_exactly_when_the_model_says_so(calls, threshold, min_calls):
    clock, turns = MockTimeSource(1000.0), []
    observer = AlertObserver(
        threshold,
        window=WINDOW,
        min_calls=min_calls,
        on_alert=lambda alert: turns.append(True),
        on_resolve=lambda alert: turns.append(False),
        time_source=clock,
    )
    _, end = observer.bind(FunctionSignature("f"))
    remembered, is_on = [], False
    for wait, fails in calls:
        clock.advance(wait)
        now = clock.monotonic()
        end(0.0, None, None, Outcome.FAILURE if fails else Outcome.SUCCESS)
        observer.check()
        remembered.append((now, fails))
        inside = [failed for at, failed in remembered if math.floor(at) > math.floor(now) - STEPS]
        rate = sum(inside) / len(inside)
        if is_on and rate <= threshold / 2:
            is_on = False
        elif not is_on and rate > threshold and len(inside) >= min_calls:
            is_on = True
        numbers = observer.get_metrics()["functions"]["f"]
        assert (numbers["calls"], numbers["failures"], numbers["firing"]) == (len(inside), sum(inside), is_on)
    assert turns == [True, False] * (len(turns) // 2) + [True] * (len(turns) % 2)


TIMES = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=100)


@given(TIMES, st.floats(0.5, 1000.0), st.integers(1, 20))
def test_a_window_never_loses_a_sample_it_still_covers_nor_grows(times, span, steps):
    window = TimeBuckets(span, steps, list)
    dropped, newest = 0, -math.inf
    for now in times:
        dropped += sum(map(len, window.expire(now)))
        window.at(now).append(now)
        newest = max(newest, now) if math.isfinite(now) else newest
        assert len(window) <= steps
    kept = [sample for bucket in window for sample in bucket]
    assert dropped + len(kept) == len(times)
    covered = [at for at in times if math.isfinite(at) and at > newest - span + span / steps * 1.01]
    assert all(at in kept for at in covered)
