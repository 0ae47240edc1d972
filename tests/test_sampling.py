"""`SamplingObserver`: whole calls by chance, the first ones, and all that failed or were slow."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import random
import threading

import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    FunctionSignature,
    LoggingObserver,
    MetricsObserver,
    MockTimeSource,
    Notice,
    Outcome,
    Retry,
    StopProcessing,
    Subscription,
    TimingObserver,
    on_call,
    on_failure,
)
from callpyback.observers.sampling import OVERFLOW, SamplingObserver
from callpyback.testing import build_context
from kinds import BoundWitness, Witness, ended
from watching import run_python

S = ExecutionState
PAY = FunctionSignature("pay", module="shop")


class Script:
    """Decides by a script: what `random` gives, one after the other."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0)


class Ends(BaseObserver):
    """Told plain values at the ends of calls alone."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def bind(self, function_signature):
        return None, lambda *given: self.ends.append(given)


def counts(sampling):
    metrics = sampling.get_metrics()
    return metrics["seen"], metrics["sampled"], metrics["kept"]


def fail(message="no"):
    raise ValueError(message)


class TestByChance:
    @pytest.mark.parametrize(("rate", "passed"), [(0, 0), (1, 100)])
    def test_none_and_all(self, kind, rate, passed):
        witness = Witness(S.COMPLETED)
        sampling = SamplingObserver(witness, rate=rate)
        function = kind.make(lambda: 1, CallPyBack([sampling]))
        for _ in range(100):
            kind.call(function)
        assert len(witness.contexts) == passed
        assert counts(sampling) == (100, passed, 0)

    @pytest.mark.parametrize("observer", [Witness(), Witness(S.COMPLETED), Ends()], ids=["all", "ends", "plain values"])
    def test_a_call_passes_if_the_number_is_below_the_rate(self, observer):
        sampling = SamplingObserver(observer, rate=0.5, random=Script(0.4, 0.5, 0.6, 0.0))
        function = CallPyBack([sampling])(lambda n: n)
        for n in range(4):
            function(n)
        assert counts(sampling) == (4, 2, 0)

    def test_a_seed_gives_the_same_sample_again_with_and_without_contexts(self):
        def passed(observer):
            sampling = SamplingObserver(observer, rate=0.3, random=random.Random(7))
            function = CallPyBack([sampling])(lambda n: n)
            for n in range(200):
                function(n)

        ends, witness = Ends(), Witness(S.COMPLETED)
        passed(ends)
        passed(witness)
        assert [value for _, value, _, _ in ends.ends] == [context.result.value for context in witness.contexts]
        assert 30 < len(ends.ends) < 90

    def test_the_rate_may_be_set_at_any_time(self):
        ends = Ends()
        sampling = SamplingObserver(ends, rate=0)
        function = CallPyBack([sampling])(lambda: 1)
        function()
        sampling.rate = 1
        function()
        assert (len(ends.ends), sampling.get_metrics()["rate"]) == (1, 1.0)

    def test_the_random_numbers_of_the_program_stay_as_they_are(self):
        random.seed(7)
        expected = [random.random() for _ in range(3)]
        random.seed(7)
        function = CallPyBack([SamplingObserver(Witness())])(lambda: 1)
        got = []
        for _ in range(3):
            function()
            got.append(random.random())
        assert got == expected


class TestWholeCalls:
    def test_who_is_told_the_beginning_is_told_the_end(self, kind):
        witness = Witness()
        sampling = SamplingObserver(witness, rate=0.5, always_failures=False, random=random.Random(1))
        function = kind.make(lambda n: 1 // (n % 3), CallPyBack([sampling]))
        for n in range(30):
            kind.ended(function, n)
        by_call = {}
        for context in witness.contexts:
            by_call.setdefault(context.call_id, []).append(context.state.name)
        assert 5 < len(by_call) < 25
        after = {"POST_SUCCESS", "POST_FAILURE"}
        assert all((states[0], states[2]) == ("PRE_EXECUTION", "COMPLETED") for states in by_call.values())
        assert all(len(states) == 3 and states[1] in after for states in by_call.values())

    def test_interleaved_generators_keep_their_own_decisions(self):
        witness = Witness(S.PRE_EXECUTION, S.COMPLETED)
        sampling = SamplingObserver(witness, rate=0.5, random=Script(0.9, 0.1))

        @CallPyBack([sampling])
        def count(n):
            yield n
            yield n

        first, second = count(1), count(2)
        next(first), next(second)
        list(first), list(second)
        assert [context.arguments["n"] for context in witness.contexts] == [2, 2]

    def test_recursion_keeps_them_apart(self):
        witness = Witness()
        sampling = SamplingObserver(witness, rate=0.5, random=Script(0.1, 0.9, 0.1))

        @CallPyBack([sampling])
        def down(n):
            return down(n - 1) if n else 0

        down(2)
        assert [(c.state.name, c.arguments["n"]) for c in witness.contexts if c.state is not S.POST_SUCCESS] == [
            ("PRE_EXECUTION", 2),
            ("PRE_EXECUTION", 0),
            ("COMPLETED", 0),
            ("COMPLETED", 2),
        ]

    def test_retries_belong_to_their_call(self):
        witness = Witness(notices=frozenset({Notice.RETRY}))
        sampling = SamplingObserver(witness, rate=0.5, always_failures=False, random=Script(0.9, 0.1))
        errors = [OSError(), OSError()]

        @CallPyBack([sampling], retry=Retry(attempts=2, wait=0, on=OSError))
        def flaky():
            if len(errors) % 2 == 0:
                raise errors.pop()
            errors.pop()

        flaky()
        assert witness.told == []
        errors[:] = [OSError(), OSError()]
        flaky()
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "EXECUTING", "POST_SUCCESS", "COMPLETED"]

    def test_states_asked_for_at_the_registration_are_sampled_with_their_call(self):
        witness = Witness(S.COMPLETED)
        sampling = SamplingObserver(witness, rate=0.5, random=Script(0.1, 0.9, 0.9, 0.1))
        function = CallPyBack([Subscription(sampling, states=[S.PRE_EXECUTION, S.COMPLETED])])(lambda n: n)
        for n in range(4):
            function(n)
        assert [context.arguments["n"] for context in witness.contexts] == [0, 0, 3, 3]


class TestFirst:
    def test_the_first_of_each_function_pass_whatever_chance_says(self):
        witness = Witness(S.COMPLETED)
        watch = CallPyBack([SamplingObserver(witness, rate=0, first=2)])

        @watch
        def one(n):
            return "one", n

        @watch
        def two(n):
            return "two", n

        for n in range(4):
            one(n)
            two(n)
        assert [context.result.value for context in witness.contexts] == [
            ("one", 0),
            ("two", 0),
            ("one", 1),
            ("two", 1),
        ]

    def test_functions_are_told_apart_by_module_and_qualified_name(self):
        sampling = SamplingObserver(Witness(S.COMPLETED), rate=0, first=2)
        other = FunctionSignature("pay", module="other")
        told = [sampling.passes(build_context(function)) for function in (PAY, PAY, other, PAY, other, other)]
        assert told == [True, True, True, False, True, False]
        assert sampling.get_metrics()["functions"] == {
            "shop.pay": {"seen": 3, "sampled": 2, "kept": 0},
            "other.pay": {"seen": 3, "sampled": 2, "kept": 0},
        }

    @pytest.mark.parametrize("observer", [Ends, lambda: Witness(S.COMPLETED)], ids=["plain values", "contexts"])
    def test_under_threads_there_are_exactly_so_many(self, observer):
        sampling = SamplingObserver(observer(), rate=0, first=1000)
        function = CallPyBack([sampling])(lambda: None)
        threads = [threading.Thread(target=lambda: [function() for _ in range(2000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts(sampling) == (8000, 1000, 0)

    def test_reset_lets_the_first_pass_again(self):
        ends = Ends()
        sampling = SamplingObserver(ends, rate=0, first=1)
        function = CallPyBack([sampling])(lambda: None)
        function(), function()
        sampling.reset()
        function(), function()
        assert (len(ends.ends), counts(sampling)) == (2, (2, 1, 0))

    def test_functions_beyond_the_limit_share_an_entry(self):
        sampling = SamplingObserver(Witness(S.COMPLETED), rate=0)
        for number in range(2500):
            sampling.passes(build_context(FunctionSignature(str(number))))
        metrics = sampling.get_metrics()
        assert (len(metrics["functions"]), metrics["functions"][OVERFLOW]["seen"], metrics["seen"]) == (2001, 500, 2500)


class TestNotable:
    def test_a_failure_passes_from_where_it_shows(self, kind):
        witness = Witness()
        sampling = SamplingObserver(witness, rate=0)
        function = kind.make(lambda n: 1 // n, CallPyBack([sampling]))
        kind.ended(function, 1)
        kind.ended(function, 0)
        assert witness.told == ["POST_FAILURE", "COMPLETED"]
        assert counts(sampling) == (2, 0, 1)

    def test_without_the_rule_failures_are_sampled_like_others(self):
        witness = Witness()
        function = CallPyBack([SamplingObserver(witness, rate=0, always_failures=False)])(fail)
        ended(function)
        assert witness.told == []

    @pytest.mark.parametrize(
        ("context", "passes"),
        [
            (build_context(exception=ValueError()), True),
            (build_context(exception=ValueError(), returned=1), True),
            (build_context(exception=ValueError(), outcome=Outcome.TIMED_OUT), True),
            (build_context(exception=SystemExit(), state=S.ERROR), True),
            (build_context(exception=ValueError(), state=S.POST_FAILURE), True),
            (build_context(exception=CallVetoed(), state=S.ERROR), False),
            (build_context(exception=GeneratorExit()), False),
            (build_context(returned=1), False),
            (build_context(), False),
            (build_context(state=S.POST_SUCCESS), False),
            (build_context(state=S.PRE_EXECUTION), False),
        ],
        ids=range(11),
    )
    def test_what_counts_as_a_failure(self, context, passes):
        assert SamplingObserver(Witness(), rate=0).passes(context) is passes

    @pytest.mark.parametrize(
        ("seconds", "passes"), [(0.5, False), (1.0, False), (1.001, True), (math.nan, False), (math.inf, True)]
    )
    def test_slow_is_strictly_more_than_the_limit(self, seconds, passes):
        sampling = SamplingObserver(Witness(), rate=0, slow=1.0)
        assert sampling.passes(build_context(execution_time=seconds)) is passes
        ends = Ends()
        SamplingObserver(ends, rate=0, slow=1.0).bind(PAY)[1](seconds, None, None, Outcome.SUCCESS)
        assert len(ends.ends) == passes

    def test_a_slow_success_passes_from_where_it_shows(self):
        clock, witness = MockTimeSource(), Witness()
        sampling = SamplingObserver(witness, rate=0, slow=1.0)
        function = CallPyBack([sampling], time_source=clock)(clock.advance)
        function(0.5)
        function(2.0)
        assert witness.told == ["POST_SUCCESS", "COMPLETED"]

    def test_a_hook_for_failures_hears_them_all(self):
        told = []
        function = CallPyBack([SamplingObserver(on_failure(lambda exception: told.append(str(exception))), rate=0)])(
            fail
        )
        for text in "ab":
            ended(lambda text=text: function(text))
        assert told == ["a", "b"]

    def test_a_hook_for_beginnings_hears_a_part(self):
        told = []
        sampling = SamplingObserver(on_call(told.append), rate=0.5, random=Script(0.1, 0.9, 0.1))
        function = CallPyBack([sampling])(fail)
        for _ in range(3):
            ended(function)
        assert len(told) == 2

    def test_an_attempt_that_failed_counts(self):
        witness, errors = Witness(), [OSError()]

        def flaky():
            if errors:
                raise errors.pop()

        CallPyBack([SamplingObserver(witness, rate=0)], retry=Retry(attempts=2, wait=0, on=OSError))(flaky)()
        assert witness.told == ["POST_FAILURE", "POST_SUCCESS", "COMPLETED"]


class TestPlainValues:
    def test_they_are_told_without_contexts(self, kind):
        ends = Ends()
        sampling = SamplingObserver(ends, rate=0)
        function = kind.make(lambda n: 1 // n, CallPyBack([sampling]))
        kind.ended(function, 1)
        kind.ended(function, 0)
        ((_, value, exception, outcome),) = ends.ends
        assert (value, type(exception), outcome) == (None, ZeroDivisionError, Outcome.FAILURE)
        assert counts(sampling) == (2, 0, 1)

    @pytest.mark.parametrize("observer", [MetricsObserver(), TimingObserver(), LoggingObserver()], ids=str)
    def test_the_counters_of_the_library_are_sampled_that_way(self, observer):
        begin, end = SamplingObserver(observer).bind(PAY)
        assert begin is None
        assert callable(end)

    def test_one_that_hears_beginnings_is_told_by_contexts_if_it_can_be(self):
        metrics = MetricsObserver(in_progress=True)
        sampling = SamplingObserver(metrics, rate=0.5, random=Script(0.1, 0.9))
        assert sampling.bind(PAY) is None
        function = CallPyBack([sampling])(lambda: None)
        function(), function()
        assert metrics.get_metrics()["total_calls"] == 1

    def test_and_is_refused_if_it_cannot(self):
        with pytest.raises(
            ConfigurationError, match=r"observer=.*one with update\(context\), or whose bind\(\) gives no begin"
        ):
            CallPyBack([SamplingObserver(BoundWitness())])(lambda: None)

    def test_retries_pass_as_failures_do_and_else_by_chance(self):
        def retries(**options):
            metrics = MetricsObserver()
            errors = [OSError()]

            def flaky():
                if errors:
                    raise errors.pop()

            retry = Retry(attempts=2, wait=0, on=OSError)
            CallPyBack([SamplingObserver(metrics, rate=0, **options)], retry=retry)(flaky)()
            return metrics.get_metrics()["counters"]["retries"]

        assert (retries(), retries(always_failures=False)) == (1, 0)

    def test_the_thread_is_marked_only_if_something_could_call(self):
        assert SamplingObserver(MetricsObserver()).is_leaf
        assert SamplingObserver(MetricsObserver(), random=random.Random(1)).is_leaf
        assert not SamplingObserver(MetricsObserver(), random=Script()).is_leaf
        assert not SamplingObserver(TimingObserver()).is_leaf


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("rate", value) for value in (-0.1, 1.1, math.nan, "0.1", None, True)),
        *(("first", value) for value in (-1, 1.5, None, True, 10**9)),
        ("always_failures", 1),
        *(("slow", value) for value in (-1, "1", math.inf, math.nan)),
        *(("random", value) for value in (7, random.Random, object())),
    ],
    ids=range(19),
)
def test_other_values_are_refused_by_name(parameter, value):
    with pytest.raises(ConfigurationError, match=f"{parameter}="):
        SamplingObserver(Witness(), **{parameter: value})


def test_a_rate_set_later_is_checked_too():
    with pytest.raises(ConfigurationError, match="rate=2"):
        SamplingObserver(Witness()).rate = 2


def test_metrics_are_plain_data():
    sampling = SamplingObserver(MetricsObserver())
    sampling.passes(build_context(PAY))
    json.dumps(sampling.get_metrics())


def test_a_vetoed_or_answered_call_is_one_like_others(kind):
    witness = Witness(S.PRE_EXECUTION, S.COMPLETED, S.ERROR)
    answers = [StopProcessing(kind.answer(7)), CallVetoed("no")]

    def decide():
        raise answers.pop()

    sampling = SamplingObserver(witness, rate=1)
    function = kind.make(lambda: 1, CallPyBack([sampling, on_call(decide, priority=1)]))
    kind.ended(function)
    kind.ended(function)
    assert witness.told == ["PRE_EXECUTION", "ERROR", "PRE_EXECUTION", "COMPLETED"]


class Kept:  # at module level, to be pickled
    priority = 0

    def update(self, context):
        pass


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_has_the_counts_and_goes_its_own_way(again):
    sampling = SamplingObserver(Kept(), rate=1, first=1, slow=3.0)
    sampling.passes(build_context(PAY))
    twin = again(sampling)
    twin.passes(build_context(PAY))
    assert (counts(sampling), counts(twin)) == ((1, 1, 0), (2, 2, 0))
    assert twin.rate == 1
    assert twin._random is not sampling._random


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_draws_numbers_of_its_own():
    source = """
        import os, sys
        from callpyback import on_completion
        from callpyback.observers.sampling import SamplingObserver
        sampling = SamplingObserver(on_completion(print))
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, repr(sampling._random.random()).encode())
            os._exit(0)
        os.wait()
        print(os.read(reading, 100).decode() != repr(sampling._random.random()))
    """
    assert run_python(source) == "True"
