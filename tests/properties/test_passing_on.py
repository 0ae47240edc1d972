"""Observers that pass calls on: whole calls, everything that must pass, and never more than was asked."""

from __future__ import annotations

import contextlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import CallPyBack, ExecutionState, MockTimeSource, Retry
from callpyback.observers.deduplicate import DeduplicateObserver
from callpyback.observers.sampling import SamplingObserver
from callpyback.testing import build_context
from kinds import KINDS, Witness

S = ExecutionState
STATES = st.frozensets(
    st.sampled_from([S.PRE_EXECUTION, S.POST_SUCCESS, S.POST_FAILURE, S.COMPLETED, S.ERROR]), min_size=1
)
FAILED_ATTEMPTS = st.lists(st.integers(0, 3), max_size=12)  # of each call; three are all there are


def called(kind, observer, failing):
    """Make one call after the other, each of which fails in so many attempts before it succeeds."""
    left = 0

    def body(number):
        nonlocal left
        if left:
            left -= 1
            raise OSError(number)
        return number

    function = kind.make(body, CallPyBack([observer], retry=Retry(attempts=3, wait=0, on=OSError)))
    for number, times in enumerate(failing):
        left = times
        kind.ended(function, number)
        left = 0


def by_call(witness):
    grouped = {}
    for context in witness.contexts:
        grouped.setdefault(context.arguments["args"][0], []).append(context.state)
    return grouped


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in KINDS if not kind.is_generator]),
    states=STATES,
    failing=FAILED_ATTEMPTS,
    rate=st.floats(0, 1),
    first=st.integers(0, 3),
    always=st.booleans(),
    seed=st.integers(),
)
def test_a_sample_is_of_whole_calls_or_of_their_ends_and_holds_all_that_must_be_in_it(
    kind, states, failing, rate, first, always, seed
):
    everything, sampled = Witness(*states), Witness(*states)
    sampling = SamplingObserver(sampled, rate=rate, first=first, always_failures=always, random=random.Random(seed))
    called(kind, everything, failing)
    called(kind, sampling, failing)
    whole, got = by_call(everything), by_call(sampled)
    for number, told in whole.items():
        heard = got.get(number, [])
        assert heard == told[len(told) - len(heard) :]  # all of it, its end, or nothing
        if S.PRE_EXECUTION in heard:
            assert heard == told
        if number < first:
            assert heard == told
        failed = failing[number] > 0 and S.POST_FAILURE in states
        if always and (failed or (failing[number] > 2 and {S.COMPLETED, S.ERROR} & set(told))):
            assert heard
        if not always and S.PRE_EXECUTION in states:
            assert heard in ([], told)
    metrics = sampling.get_metrics()
    assert metrics["seen"] == len(whole)
    assert metrics["sampled"] + metrics["kept"] == len(got)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.25, 1.0, 4.0])), max_size=40),
    window=st.sampled_from([None, 1.0, 2.5]),
    max_keys=st.integers(1, 7),
)
def test_of_equal_calls_those_pass_that_a_plain_model_lets_pass(steps, window, max_keys):
    clock = MockTimeSource()
    observer = DeduplicateObserver(
        Witness(), lambda context: context.arguments["n"], window=window, max_keys=max_keys, time_source=clock
    )
    known, suppressed = {}, {}
    for key, pause in steps:
        clock.advance(pause)
        context = build_context(arguments={"n": key})
        at = known.pop(key, None)
        is_new = at is None or (window is not None and clock.now() - at >= window)
        if at is None:
            suppressed[key] = 0
        assert observer.passes(context) is is_new
        assert context.metadata == ({"suppressed": suppressed[key]} if is_new and suppressed[key] else {})
        suppressed[key] = 0 if is_new else suppressed[key] + 1
        known[key] = clock.now() if is_new else at  # the most recently used is the last
        if len(known) > max_keys:
            del known[next(iter(known))]
    assert observer.get_metrics()["keys"] == len(known)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), keys=st.lists(st.integers(0, 3), max_size=20))
def test_a_call_passes_whole_or_not_at_all(kind, keys):
    witness = Witness()
    function = kind.make(lambda n: 1 // n, CallPyBack([DeduplicateObserver(witness, lambda c: c.arguments["args"])]))
    for key in keys:
        with contextlib.suppress(ZeroDivisionError):
            kind.call(function, key)
    told = [(context.state.name, context.arguments["args"][0]) for context in witness.contexts]
    assert told == [
        (state, key)
        for key in dict.fromkeys(keys)
        for state in ("PRE_EXECUTION", "POST_SUCCESS" if key else "POST_FAILURE", "COMPLETED")
    ]
