"""`DeduplicateObserver`: the first of equal calls, in bounded memory, and how many there were besides."""

from __future__ import annotations

import copy
import json
import pickle
import threading

import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    FunctionSignature,
    MockTimeSource,
    Notice,
    Retry,
    TimingObserver,
    handle,
    on_call,
    on_failure,
)
from callpyback.core.raised import OfOneCall
from callpyback.observers.deduplicate import DeduplicateObserver, call_of, failure_of
from callpyback.testing import build_context
from kinds import KINDS, BoundWitness, Witness, ended

S = ExecutionState
PAY = FunctionSignature("pay", module="shop")
ASYNC_KINDS = [kind for kind in KINDS if kind.is_async]


def by_n(context):
    return context.arguments["n"]


def fail(text):
    raise ValueError(text)


def counts(observer):
    metrics = observer.get_metrics()
    return metrics["passed"], metrics["suppressed"]


def passed(observer, *keys, at=S.COMPLETED):
    """Return which calls of these keys pass."""
    return [observer.passes(build_context(state=at, arguments={"n": key})) for key in keys]


class TestByDefault:
    def test_equal_failures_pass_once(self, kind):
        witness = Witness(S.POST_FAILURE)
        observer = DeduplicateObserver(witness)
        function = kind.make(fail, CallPyBack([observer]))
        for text in "aabab":
            kind.ended(function, text)
        assert [str(context.result.exception) for context in witness.contexts] == ["a", "b"]
        assert counts(observer) == (2, 3)

    @pytest.mark.parametrize(
        ("context", "is_equal"),
        [
            (build_context(PAY, exception=ValueError("a")), True),
            (build_context(PAY, exception=ValueError("b")), False),
            (build_context(PAY, exception=KeyError("a")), False),
            (build_context("other", exception=ValueError("a")), False),
        ],
        ids=["equal", "text", "type", "function"],
    )
    def test_equal_is_function_type_and_text(self, context, is_equal):
        observer = DeduplicateObserver(Witness())
        assert observer.passes(build_context(PAY, exception=ValueError("a")))
        assert observer.passes(context) is not is_equal

    def test_successes_always_pass(self):
        witness = Witness(S.COMPLETED)
        function = CallPyBack([DeduplicateObserver(witness)])(lambda: 1)
        function(), function()
        assert len(witness.contexts) == 2

    def test_beginnings_are_not_told_and_the_rest_of_an_equal_call_neither(self):
        witness = Witness()
        observer = DeduplicateObserver(witness)
        assert observer.states == {S.POST_SUCCESS, S.POST_FAILURE, S.COMPLETED, S.ERROR}
        function = CallPyBack([observer])(fail)
        for text in "aab":
            ended(lambda text=text: function(text))
        assert witness.told == ["POST_FAILURE", "COMPLETED"] * 2

    def test_an_observer_of_beginnings_alone_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"key=None.*hears nothing of the ends of calls"):
            DeduplicateObserver(on_call(print))

    def test_an_exception_whose_text_can_t_be_made_is_compared_all_the_same(self):
        class Broken(Exception):
            def __str__(self):
                raise RuntimeError

        observer = DeduplicateObserver(Witness())
        assert [observer.passes(build_context(exception=Broken())) for _ in range(2)] == [True, False]

    def test_a_failure_that_keeps_its_exception_keeps_it_as_text(self):
        assert failure_of(build_context(PAY, exception=ValueError("a\nb"))) == ("shop.pay", r"ValueError: a\nb")
        assert failure_of(build_context(PAY)) is None
        assert failure_of(build_context(PAY, state=S.PRE_EXECUTION)) is None


class TestKeys:
    def test_a_key_decides_whole_calls(self, kind):
        witness = Witness()
        observer = DeduplicateObserver(witness, lambda context: context.arguments["args"][0])
        assert observer.states is None
        function = kind.make(lambda n: n, CallPyBack([observer]))
        for n in (1, 2, 1):
            kind.call(function, n)
        assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"] * 2

    def test_overlapping_calls_keep_their_own_decisions(self):
        witness = Witness(S.PRE_EXECUTION, S.COMPLETED)

        @CallPyBack([DeduplicateObserver(witness, by_n)])
        def count(n):
            yield n
            yield n

        first, second = count(1), count(1)
        next(first), next(second)
        list(second)
        assert witness.told == ["PRE_EXECUTION"]
        list(first)
        assert witness.told == ["PRE_EXECUTION", "COMPLETED"]
        assert len({context.call_id for context in witness.contexts}) == 1

    def test_none_is_not_compared(self):
        assert passed(DeduplicateObserver(Witness(), by_n), None, None) == [True, True]

    def test_what_passed_at_the_beginning_passes_at_the_end(self):
        def late(context):
            return None if context.state is S.PRE_EXECUTION else "equal"

        witness = Witness()
        function = CallPyBack([DeduplicateObserver(witness, late)])(lambda: 1)
        function(), function()
        assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"] * 2

    def test_attempts_of_one_call_are_one_call(self):
        witness = Witness(S.POST_FAILURE, notices=frozenset({Notice.RETRY}))
        retry = Retry(attempts=3, wait=0, on=ValueError)
        function = CallPyBack([DeduplicateObserver(witness)], retry=retry)(fail)
        ended(lambda: function("a"))
        first = list(witness.told)
        ended(lambda: function("a"))
        assert first == ["POST_FAILURE", "EXECUTING", "POST_FAILURE", "EXECUTING", "POST_FAILURE"]
        assert witness.told == first

    def test_a_call_that_is_heard_of_in_two_ways_is_told_once(self):
        witness = Witness(S.COMPLETED)
        observer = DeduplicateObserver(witness, call_of)
        inner = CallPyBack([observer])
        function = inner(lambda: 1)
        function(), function()
        for context in list(witness.contexts):
            observer.update(context)
        assert (len(witness.contexts), counts(observer)) == (2, (2, 2))

    def test_equal_keys_of_different_types_are_equal_as_in_a_dictionary(self):
        assert passed(DeduplicateObserver(Witness(), by_n), 1, 1.0, True, "1") == [True, False, False, True]


class TestBrokenKeys:
    @pytest.mark.parametrize("key", [lambda context: 1 / 0, lambda context: []], ids=["raises", "unhashable"])
    def test_the_call_passes_and_the_failure_is_counted_without_a_pause(self, key):
        witness = Witness(S.POST_SUCCESS, S.COMPLETED, name="witness")
        function = CallPyBack([DeduplicateObserver(witness, key)], max_observer_failures=2)(lambda: 1)
        for _ in range(10):
            function()
        assert len(witness.contexts) == 20
        health = handle(function).health["witness"]
        assert (health.failures, health.paused) == (10, False)
        assert health.last_error.startswith(("ZeroDivisionError", "TypeError: "))

    @pytest.mark.parametrize("kind", ASYNC_KINDS, ids=str)
    def test_of_an_async_observer_too(self, kind):
        class Waiting(BaseObserver):
            states = frozenset({S.COMPLETED})

            async def update(self, context):
                seen.append(context)

        seen = []
        kind.call(kind.make(lambda: 1, CallPyBack([DeduplicateObserver(Waiting(), lambda context: 1 / 0)])))
        assert len(seen) == 1

    def test_told_directly_it_raises_what_belongs_to_one_call(self):
        witness = Witness()
        with pytest.raises(OfOneCall):
            DeduplicateObserver(witness, lambda context: 1 / 0).update(build_context())
        assert len(witness.contexts) == 1


class TestWindow:
    def test_an_equal_call_passes_again_when_the_window_is_over(self):
        clock = MockTimeSource()
        observer = DeduplicateObserver(Witness(), by_n, window=10, time_source=clock)
        assert passed(observer, 1, 1) == [True, False]
        clock.advance(9.5)
        assert passed(observer, 1, 2) == [False, True]
        clock.advance(0.5)
        assert passed(observer, 1, 2) == [True, False]
        clock.advance(9.5)
        assert passed(observer, 1, 2) == [False, True]

    def test_without_a_window_it_never_does(self):
        clock = MockTimeSource()
        observer = DeduplicateObserver(Witness(), by_n, time_source=clock)
        assert passed(observer, 1) == [True]
        clock.advance(1e9)
        assert passed(observer, 1) == [False]

    @pytest.mark.parametrize("back", [-100.0, 0.0])
    def test_a_clock_that_goes_back_begins_the_window_anew(self, back):
        clock = MockTimeSource(1000.0)
        observer = DeduplicateObserver(Witness(), by_n, window=10, time_source=clock)
        passed(observer, 1)
        clock.set_time(back)
        assert passed(observer, 1) == [False]
        clock.advance(10)
        assert passed(observer, 1) == [True]

    def test_a_clock_that_failed_once_is_harmless(self):
        class Failing:
            def __init__(self, *readings):
                self.readings = list(readings)

            def now(self):
                return self.readings.pop(0)

        clock = Failing(float("nan"), None, 100.0, 105.0, 110.0)
        observer = DeduplicateObserver(Witness(), by_n, window=10, time_source=clock)
        assert passed(observer, 1, 1, 1, 1, 1) == [True, False, False, False, True]


class TestNumbers:
    def test_the_next_that_passes_says_how_many_did_not(self):
        clock, told = MockTimeSource(), []
        hook = on_failure(lambda exception, metadata: told.append((str(exception), metadata)))
        function = CallPyBack([DeduplicateObserver(hook, window=10, time_source=clock)], metadata={"team": "shop"})(
            fail
        )

        def times(number):
            for _ in range(number):
                ended(lambda: function("a"))

        times(3)
        clock.advance(10)
        times(1)
        clock.advance(10)
        times(1)
        assert told == [("a", {"team": "shop"}), ("a", {"team": "shop", "suppressed": 2}), ("a", {"team": "shop"})]

    def test_every_context_of_that_call_says_it(self):
        clock, witness = MockTimeSource(), Witness()
        observer = DeduplicateObserver(witness, by_n, window=10, time_source=clock)
        function = CallPyBack([observer])(lambda n: n)
        function(1), function(1)
        clock.advance(10)
        function(1)
        assert [context.metadata for context in witness.contexts] == [{}] * 3 + [{"suppressed": 1}] * 3

    def test_metrics_show_the_keys_with_the_most_suppressed(self):
        observer = DeduplicateObserver(Witness(), by_n)
        passed(observer, "a", "b", "b", "c", "c", "c", *"xyz")
        assert observer.get_metrics() == {
            "passed": 6,
            "suppressed": 3,
            "keys": 6,
            "max_keys": 10_000,
            "evicted": 0,
            "most_suppressed": [{"key": "'c'", "suppressed": 2}, {"key": "'b'", "suppressed": 1}],
        }
        json.dumps(observer.get_metrics())

    def test_keys_are_shown_as_bounded_text(self):
        observer = DeduplicateObserver(Witness(), by_n)
        passed(observer, "x\n" * 10**6, "x\n" * 10**6)
        ((shown,),) = [[most["key"] for most in observer.get_metrics()["most_suppressed"]]]
        assert len(shown) <= 200
        assert shown.isprintable()

    def test_only_so_many_keys_are_remembered(self):
        observer = DeduplicateObserver(Witness(), by_n, max_keys=2)
        assert passed(observer, 1, 2, 1, 3, 1, 2) == [True, True, False, True, False, True]
        metrics = observer.get_metrics()
        assert (metrics["keys"], metrics["evicted"]) == (2, 2)

    def test_reset_forgets_keys_and_counts(self):
        observer = DeduplicateObserver(Witness(), by_n)
        passed(observer, 1, 1)
        observer.reset()
        assert counts(observer) == (0, 0)
        assert passed(observer, 1) == [True]

    def test_of_equal_calls_in_many_threads_exactly_one_passes(self):
        observer = DeduplicateObserver(Witness(), by_n, max_keys=50)
        threads = [threading.Thread(target=passed, args=(observer, *range(50), *range(50))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts(observer) == (50, 750)


class TestRefusals:
    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            ("key", 3),
            ("key", lambda: 1),
            ("key", lambda a, b: 1),
            ("key", "n"),
            ("window", 0),
            ("window", "1"),
            ("max_keys", 0),
            ("time_source", 3),
        ],
        ids=range(8),
    )
    def test_other_values_are_refused_by_name(self, parameter, value):
        with pytest.raises(ConfigurationError, match=f"{parameter}="):
            DeduplicateObserver(Witness(), **{parameter: value})

    def test_an_async_key_is_refused(self):
        async def key(context):
            return 1

        with pytest.raises(ConfigurationError, match=r"key=.*a plain function"):
            DeduplicateObserver(Witness(), key)

    def test_one_that_hears_no_contexts_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"one with update\(context\)"):
            DeduplicateObserver(BoundWitness())

    def test_the_counters_of_the_library_are_told_by_contexts(self):
        timing = TimingObserver(threshold=0.0)
        function = CallPyBack([DeduplicateObserver(timing)])(fail)
        for _ in range(3):
            ended(lambda: function("a"))
        assert timing.get_metrics()["slow_count"] == 1


class Kept:  # at module level, to be pickled
    priority = 0

    def update(self, context):
        pass


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_remembers_the_keys_and_goes_its_own_way(again):
    observer = DeduplicateObserver(Kept(), by_n, max_keys=10)
    passed(observer, 1, 1)
    twin = again(observer)
    assert passed(twin, 1, 2) == [False, True]
    assert passed(observer, 2) == [True]
    assert (counts(observer), counts(twin)) == ((2, 1), (2, 2))
