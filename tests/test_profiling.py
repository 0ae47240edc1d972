"""`ProfilingObserver`: what telling each observer takes, exactly counted, and changing nothing."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import threading

import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    Notice,
    Outcome,
    RateLimitObserver,
    Retry,
    StopProcessing,
    TimingObserver,
    on_call,
    on_retry,
    on_success,
)
from callpyback.observers.profiling import OVERFLOW, ProfilingObserver
from callpyback.testing import build_context
from kinds import KINDS, BoundWitness, Witness, drive

S = ExecutionState
ASYNC_KINDS = [kind for kind in KINDS if kind.is_async]


class Slow(BaseObserver):
    """Takes as long as the function's argument says, in seconds of a mock clock."""

    def __init__(self, clock, **options):
        super().__init__(**options)
        self.clock = clock

    def update(self, context):
        self.clock.advance(context.arguments["seconds"])


def about(seconds):
    return pytest.approx(seconds, rel=0.011)  # what the sketch promises


def told(profiler, name=None):
    return profiler.get_performance_report(name)["events_by_type"]


class TestAlone:
    def test_it_measures_the_observer_it_is_given(self):
        clock = MockTimeSource()
        profiler = ProfilingObserver(Slow(clock, states=S.COMPLETED), time_source=clock)
        function = CallPyBack([profiler])(lambda seconds: None)
        for seconds in (1.0, 2.0, 6.0):
            function(seconds)
        expected = {
            "total_events": 3,
            "avg_processing_time": 3.0,
            "median_processing_time": about(2.0),
            "max_processing_time": 6.0,
            "total_processing_time": 9.0,
            "error_rate": 0.0,
            "events_by_type": {"COMPLETED": 3},
        }
        assert profiler.get_performance_report() == {**expected, "observers": {"Slow": expected}}
        assert profiler.get_performance_report("Slow") == expected
        assert profiler.get_performance_report("nobody") == {}
        json.dumps(profiler.get_performance_report())

    def test_before_anything_was_told_there_are_no_times(self):
        assert ProfilingObserver(Witness()).get_performance_report() == {
            "total_events": 0,
            "avg_processing_time": None,
            "median_processing_time": None,
            "max_processing_time": None,
            "total_processing_time": 0.0,
            "error_rate": 0.0,
            "events_by_type": {},
            "observers": {},
        }

    def test_events_are_told_apart_by_state_and_notice(self):
        witness = Witness(notices=frozenset({Notice.RETRY}))
        profiler, errors = ProfilingObserver(witness), [OSError()]

        def body():
            if errors:
                raise errors.pop()

        CallPyBack([profiler], retry=Retry(attempts=2, wait=0, on=OSError))(body)()
        assert told(profiler) == {"COMPLETED": 1, "POST_FAILURE": 1, "POST_SUCCESS": 1, "PRE_EXECUTION": 1, "RETRY": 1}
        assert len(witness.contexts) == 5

    def test_plain_values_stay_plain_values(self):
        bound = BoundWitness()
        profiler = ProfilingObserver(bound)
        function = CallPyBack([profiler])(lambda n: 1 // n)
        function(1)
        with pytest.raises(ZeroDivisionError):
            function(0)
        assert bound.begun == 2
        assert [outcome for _, _, outcome in bound.ends] == [Outcome.SUCCESS, Outcome.FAILURE]
        assert told(profiler) == {"begin": 2, "end": 2}
        assert not hasattr(profiler, "update")
        assert not hasattr(ProfilingObserver(Witness()), "bind")

    def test_an_end_without_a_beginning(self):
        profiler = ProfilingObserver(TimingObserver())
        assert profiler.bind(build_context().function_signature)[0] is None
        CallPyBack([profiler])(lambda: None)()
        assert told(profiler) == {"end": 1}

    def test_one_that_wants_contexts_for_this_function_gets_them(self):
        profiler = ProfilingObserver(TimingObserver(arguments=True))
        assert profiler.bind(build_context().function_signature) is None
        CallPyBack([profiler])(lambda: None)()
        assert told(profiler) == {"COMPLETED": 1}

    def test_an_async_one_is_measured_until_it_has_been_awaited(self):
        clock = MockTimeSource()

        class Waiting(BaseObserver):
            states = frozenset({S.COMPLETED})

            async def update(self, context):
                await clock.sleep_async(2.0)

        profiler = ProfilingObserver(Waiting(), time_source=clock)
        asyncio.run(profiler.update(build_context()))
        assert profiler.get_performance_report()["max_processing_time"] == 2.0

    def test_a_veto_is_no_failure_and_anything_else_is(self):
        def decide(arguments):
            if arguments["n"] == 1:
                raise CallVetoed("no")
            if arguments["n"] == 2:
                raise StopProcessing(2)
            if arguments["n"] == 3:
                raise LookupError

        profiler = ProfilingObserver(on_call(decide))
        function = CallPyBack([profiler])(lambda n: n)
        with pytest.raises(CallVetoed):
            function(1)
        assert [function(n) for n in (2, 3, 4)] == [2, 3, 4]
        report = profiler.get_performance_report()
        assert (report["total_events"], report["error_rate"]) == (4, 0.25)

    def test_a_veto_after_the_body_is_a_failure(self):
        def veto():
            raise CallVetoed

        profiler = ProfilingObserver(on_success(veto))
        CallPyBack([profiler])(lambda: None)()
        assert profiler.get_performance_report()["error_rate"] == 1.0


class TestAmongOthers:
    def test_it_measures_the_others_each_by_its_name(self, kind):
        profiler, witness = ProfilingObserver(), Witness(S.PRE_EXECUTION, S.COMPLETED)
        others = [witness, MetricsObserver(), BoundWitness(), on_success(lambda: None, name="hook")]
        function = kind.make(lambda: 1, CallPyBack([profiler, *others]))
        for _ in range(3):
            assert kind.call(function) == 1
        parts = profiler.get_performance_report()["observers"]
        assert {name: part["events_by_type"] for name, part in parts.items()} == {
            "witness": {"PRE_EXECUTION": 3, "COMPLETED": 3},
            "MetricsObserver": {"end": 3},
            "BoundWitness": {"begin": 3, "end": 3},
            "hook": {"POST_SUCCESS": 3},
        }
        assert profiler.get_performance_report()["total_events"] == 18

    def test_guards_are_measured_and_go_on_deciding(self):
        profiler = ProfilingObserver()
        function = CallPyBack([profiler, RateLimitObserver(1, 60, name="limit")])(lambda: 1)
        function()
        with pytest.raises(CallVetoed):
            function()
        assert told(profiler, "limit")["begin"] == 2
        assert profiler.get_performance_report()["error_rate"] == 0.0

    def test_durations_are_those_of_the_observers_alone(self):
        clock = MockTimeSource()
        profiler = ProfilingObserver(time_source=clock)

        def body(seconds):
            clock.advance(100.0)

        CallPyBack([profiler, Slow(clock, states=S.COMPLETED)], time_source=clock)(body)(3.0)
        assert profiler.get_performance_report("Slow")["max_processing_time"] == 3.0

    def test_it_hears_nothing_itself(self):
        profiler = ProfilingObserver()
        assert (profiler.states, profiler.profiles_observers) == (frozenset(), True)
        assert profiler.bind(build_context().function_signature) == (None, None)
        assert not ProfilingObserver(Witness()).profiles_observers
        profiler.reset()
        profiler.close()
        assert profiler.flush()

    def test_observers_that_come_later_are_measured_too(self):
        profiler = ProfilingObserver()
        watch = CallPyBack([profiler])
        function = watch(lambda: None)
        function()
        watch.add_observer(on_retry(print))
        watch.add_observer(Witness(S.COMPLETED))
        function()
        assert told(profiler) == {"COMPLETED": 1}

    @pytest.mark.parametrize("kind", ASYNC_KINDS, ids=str)
    def test_async_observers_are_awaited(self, kind):
        class Waiting(BaseObserver):
            async def update(self, context):
                seen.append(context.state.name)

        seen, profiler = [], ProfilingObserver()
        kind.call(kind.make(lambda: 1, CallPyBack([profiler, Waiting()])))
        assert seen == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
        assert profiler.get_performance_report("Waiting")["total_events"] == 3

    def test_slots_stay_those_of_the_observer(self):
        class Slotted(BaseObserver):
            def update(self, context):
                context.slot.setdefault("told", []).append(context.state.name)
                self.last = context.slot["told"]

        slotted = Slotted()
        CallPyBack([ProfilingObserver(), slotted])(lambda: 1)()
        assert slotted.last == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


class TestTimed:
    def test_what_is_given_and_returned_passes_through(self):
        profiler = ProfilingObserver()
        timed = profiler.timed("a", "end", lambda *given: given)
        assert timed(1, 2) == (1, 2)

    def test_an_exception_passes_through_and_counts(self):
        profiler, error = ProfilingObserver(), SystemExit()

        def tell():
            raise error

        with pytest.raises(SystemExit) as caught:
            profiler.timed("a", "begin", tell)()
        assert caught.value is error
        assert profiler.get_performance_report("a")["error_rate"] == 1.0

    def test_an_awaitable_is_measured_until_it_was_awaited(self):
        profiler = ProfilingObserver()

        async def tell(n):
            if not n:
                raise LookupError
            return n

        assert drive(profiler.timed("a", "COMPLETED", tell)(3)) == 3
        awaitable = profiler.timed("a", "COMPLETED", lambda n: tell(n))(4)
        assert profiler.get_performance_report("a")["total_events"] == 1
        assert drive(awaitable) == 4
        with pytest.raises(LookupError):
            drive(profiler.timed("a", "COMPLETED", tell)(0))
        report = profiler.get_performance_report("a")
        assert (report["total_events"], report["error_rate"]) == (3, pytest.approx(1 / 3))

    def test_counts_of_many_threads_are_exact(self):
        profiler = ProfilingObserver()
        fine = profiler.timed("a", "end", lambda: None)

        def fail():
            raise LookupError

        failing = profiler.timed("a", "begin", fail)

        def work():
            for _ in range(5000):
                fine()
                with pytest.raises(LookupError):
                    failing()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report = profiler.get_performance_report("a")
        assert (report["events_by_type"], report["error_rate"]) == ({"begin": 20_000, "end": 20_000}, 0.5)

    def test_observers_beyond_the_limit_share_an_entry(self):
        profiler = ProfilingObserver()
        for number in range(1500):
            profiler.timed(str(number), "end", lambda: None)()
        report = profiler.get_performance_report()
        assert len(report["observers"]) == 1001
        assert report["observers"][OVERFLOW]["total_events"] == 500
        assert report["total_events"] == 1500

    def test_a_failing_clock_counts_events_without_a_time(self):
        class Failing:
            def now(self):
                raise OSError

        profiler = ProfilingObserver(time_source=Failing())
        profiler.timed("a", "end", lambda: None)()
        report = profiler.get_performance_report()
        assert (report["total_events"], report["avg_processing_time"]) == (1, None)

    def test_a_clock_that_goes_back_gives_nothing_below_zero(self):
        clock = MockTimeSource(100.0)
        profiler = ProfilingObserver(time_source=clock)
        profiler.timed("a", "end", lambda: clock.set_time(0.0))()
        assert profiler.get_performance_report()["max_processing_time"] == 0.0

    def test_samples_do_not_pile_up(self):
        profiler = ProfilingObserver()
        timed = profiler.timed("a", "end", lambda: None)
        for _ in range(10_000):
            timed()
        (measured,) = profiler._measured.values()
        assert len(measured.waiting) < 4096


def test_reset_starts_anew_for_those_who_are_measured_already():
    profiler, witness = ProfilingObserver(), Witness(S.COMPLETED)
    function = CallPyBack([profiler, witness])(lambda: None)
    function()
    profiler.reset()
    assert profiler.get_performance_report()["observers"] == {}
    function()
    assert told(profiler) == {"COMPLETED": 1}


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_has_the_numbers_and_goes_its_own_way(again):
    profiler = ProfilingObserver(priority=3, name="mine")
    profiler.timed("a", "end", gc.isenabled)()
    twin = again(profiler)
    twin.timed("a", "end", gc.isenabled)()
    assert (told(profiler, "a"), told(twin, "a")) == ({"end": 1}, {"end": 2})
    assert (twin.priority, twin.name) == (3, "mine")


@pytest.mark.parametrize(("parameter", "value"), [("time_source", 3), ("priority", "high"), ("name", 3)])
def test_other_values_are_refused_by_name(parameter, value):
    with pytest.raises(ConfigurationError, match=f"{parameter}="):
        ProfilingObserver(**{parameter: value})
