"""`max_execution_time`: what ends when the time is up, what the caller and the observers get, and what stays untouched.

C30 to C33, C09 to C12, K10, F07, F08; C29, fork, exit and Ctrl-C are in test_deadline_processes.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import inspect
import pickle
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import freezegun
import pytest
import trio
import trio.testing

from callpyback import (
    CallPyBack,
    CallPyBackError,
    ConfigurationError,
    ExecutionState,
    ExecutionTimeout,
    MetricsObserver,
    MockTimeSource,
    NullVariable,
    Outcome,
    Retry,
    StopProcessing,
    handle,
    late_jobs,
)
from callpyback.core.telling import TELLING
from handling import OwnHandler, raising
from kinds import KINDS, BoundWitness, Kind, Witness, collected, drive, ended, pause

SHORT = 0.02
ENOUGH = 60.0
LIMIT = 5.0
"""Of functions whose clock is moved by hand; their bodies take twice as long."""


@dataclass(frozen=True)
class Slow:
    """One kind of function whose body lets a `MockTimeSource` pass its limit."""

    name: str

    @property
    def is_generator(self):
        return "generator" in self.name

    def make(self, clock, decorator, *, seconds=2 * LIMIT, before=lambda: None):
        """Return a decorated function that calls `before`, lets the time pass, and would then give "value"."""
        return decorator(getattr(self, self.name.replace(" ", "_"))(clock, seconds, before))

    def plain(self, clock, seconds, before):
        def function():
            before()
            clock.advance(seconds)
            return "value"

        return function

    def coroutine(self, clock, seconds, before):
        async def function():
            before()
            clock.advance(seconds)
            await asyncio.sleep(0)
            return "value"

        return function

    def generator(self, clock, seconds, before):
        def function():
            before()
            yield "first"
            clock.advance(seconds)
            yield "value"

        return function

    def async_generator(self, clock, seconds, before):
        async def function():
            before()
            yield "first"
            clock.advance(seconds)
            await asyncio.sleep(0)
            yield "value"

        return function

    def call(self, function):
        """Call to the end; return the value, for generators the last item."""
        begun = function()
        if self.name == "coroutine":
            return in_asyncio(begun)
        if self.name == "generator":
            return list(begun)[-1]
        if self.name == "async generator":
            return in_asyncio(collected(begun))[-1]
        return begun

    def ended(self, function):
        return ended(lambda: self.call(function))

    def __str__(self):
        return self.name


SLOW = tuple(Slow(name) for name in ("plain", "coroutine", "generator", "async generator"))


@pytest.fixture(params=SLOW, ids=str)
def slow(request):
    """Each kind of function in turn, its body beyond its limit."""
    return request.param


@pytest.fixture
def clock():
    return MockTimeSource(initial_time=100.0)


@pytest.fixture
def limited(clock):
    """Return a `CallPyBack` with the limit, by the clock."""
    return lambda *observers, **options: CallPyBack(observers, max_execution_time=LIMIT, time_source=clock, **options)


@pytest.fixture
def hung():
    """A plain body that does not return until the test is over."""
    release = threading.Event()
    yield lambda *args: release.wait(ENOUGH)
    release.set()
    until(lambda: late_jobs() == 0)


@pytest.fixture
def collector_off():
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class BodyError(Exception):
    pass


class Thing:
    """Can be weakly referenced."""


def until(condition):
    """Wait for what another thread is about to do."""
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


def in_asyncio(coroutine):
    """Run it in an event loop, for so long that only a hang takes longer."""

    async def main():
        async with asyncio.timeout(20):
            return await coroutine

    return asyncio.run(main())


def in_trio(function, **options):
    """Call it in trio, for so long that only a hang takes longer."""

    async def main():
        with trio.fail_after(20):
            return await function()

    return trio.run(main, **options)


async def into(got, items):
    """Put items on a list one by one: those before an error are wanted too."""
    async for item in items:
        got.append(item)


def frames_of(error):
    """Return the names of the functions in the traceback of an exception, the caller's first."""
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


class TestTheError:
    def test_it_is_a_timeout_that_names_the_function_and_the_limit(self, slow, clock, limited):
        error = slow.ended(slow.make(clock, limited())).exception
        assert type(error) is ExecutionTimeout
        assert isinstance(error, TimeoutError)
        assert isinstance(error, CallPyBackError)
        assert error.function == f"Slow.{slow.name.replace(' ', '_')}.<locals>.function"
        assert error.limit == LIMIT
        assert str(error) == f"{error.function} took longer than its limit of 5 s"

    def test_it_can_be_copied_and_pickled(self):
        error = ExecutionTimeout("shop.checkout", 2.5)
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert (type(twin), twin.function, twin.limit, str(twin)) == (
                ExecutionTimeout,
                "shop.checkout",
                2.5,
                "shop.checkout took longer than its limit of 2.5 s",
            )

    def test_the_traceback_has_one_frame_of_ours(self, slow, clock, limited):
        function = slow.make(clock, limited())
        names = frames_of(slow.ended(function).exception)
        assert names[-1] == "function"
        assert names.count("function") == 1

    def test_the_cause_is_what_ended_the_body(self, slow, clock, limited):
        error = slow.ended(slow.make(clock, limited())).exception
        cancelled = slow.name in ("coroutine", "async generator")
        assert type(error.__cause__) is (asyncio.CancelledError if cancelled else type(None))
        assert error.__context__ is error.__cause__

    def test_it_is_a_new_one_for_each_call(self, slow, clock, limited):
        function = slow.make(clock, limited())
        first, second = slow.ended(function).exception, slow.ended(function).exception
        assert first is not second


class TestWhatObserversSee:
    def test_the_call_timed_out(self, slow, clock, limited):
        witness = Witness()
        error = slow.ended(slow.make(clock, limited(witness))).exception
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
        assert witness.outcome is Outcome.TIMED_OUT
        assert witness.last.is_failed
        assert witness.last.result.exception_type is ExecutionTimeout
        assert str(witness.last.result.exception) == str(error)
        assert witness.last.execution_time == 2 * LIMIT

    def test_observers_without_contexts_are_told(self, slow, clock, limited):
        bound = BoundWitness()
        error = slow.ended(slow.make(clock, limited(bound))).exception
        assert (bound.begun, bound.ends) == (1, [(None, error, Outcome.TIMED_OUT)])

    def test_it_counts_as_a_failure_that_timed_out(self, slow, clock, limited):
        metrics = MetricsObserver(in_progress=True)
        slow.ended(slow.make(clock, limited(metrics)))
        known = metrics.get_metrics()
        assert (known["counters"]["failures"], known["counters"]["timed_out"], known["in_progress"]) == (1, 1, 0)

    def test_a_guard_gets_its_token_back(self, slow, clock, limited):
        ends = []

        class Guard:
            guard = True
            priority = 0

            def bind_guard(self, function_signature, clock):
                return (lambda args, kwargs: "token"), (lambda *end: ends.append(end[2:]))

        error = slow.ended(slow.make(clock, limited(Guard()))).exception
        assert ends == [(error, Outcome.TIMED_OUT, "token")]

    def test_a_call_in_time_is_a_success(self, slow, clock, limited):
        witness = Witness()
        function = slow.make(clock, limited(witness), seconds=LIMIT / 2)
        assert slow.call(function) == "value"
        assert witness.outcome is Outcome.SUCCESS
        assert witness.last.execution_time == LIMIT / 2

    def test_a_deadline_alone_works(self, slow, clock, limited):  # F08
        function = slow.make(clock, limited())
        assert handle(function).observers == ()
        assert type(slow.ended(function).exception) is ExecutionTimeout

    def test_an_unobserved_function_keeps_its_deadline(self, slow, clock, limited):
        function = slow.make(clock, limited(Witness()))
        with handle(function).paused():
            assert type(slow.ended(function).exception) is ExecutionTimeout

    def test_an_answered_call_takes_no_time(self, slow, clock, limited):
        answering = Witness()
        answering.update = raising(StopProcessing(["answer"]))
        function = slow.make(clock, limited(answering))
        assert slow.call(function) == ("answer" if slow.is_generator else ["answer"])

    def test_the_variables_of_a_plain_body_that_goes_on_are_unknown(self, clock, limited):
        witness = Witness()

        @limited(witness, variable_names=["total"])
        def function(seconds):
            total = seconds
            clock.advance(seconds)
            return total

        with pytest.raises(ExecutionTimeout):
            function(2 * LIMIT)
        assert witness.last.local_variables == {"total": NullVariable}
        assert function(1.0) == 1.0
        assert witness.last.local_variables == {"total": 1.0}

    def test_the_variables_of_a_body_that_was_ended_are_known(self, clock, limited):
        witness = Witness()

        @limited(witness, variable_names=["total"])
        async def coroutine():
            total = 1
            clock.advance(2 * LIMIT)
            await asyncio.sleep(0)
            return total

        @limited(witness, variable_names=["total"])
        def items():
            total = 1
            clock.advance(2 * LIMIT)
            yield total

        assert type(ended(lambda: in_asyncio(coroutine())).exception) is ExecutionTimeout
        assert type(ended(lambda: list(items())).exception) is ExecutionTimeout
        seen = [c.local_variables for c in witness.contexts if c.state is ExecutionState.COMPLETED]
        assert seen == [{"total": 1}, {"total": 1}]


class TestHandling:
    def test_a_handler_may_answer(self, slow, clock, limited):
        witness, asked = Witness(), []

        def answer(error, context):
            asked.append((type(error), context.state.name))
            return "answer"

        function = slow.make(clock, limited(witness, error_handler=OwnHandler(answer)))
        assert slow.call(function) == ("first" if slow.is_generator else "answer")
        assert asked == [(ExecutionTimeout, "POST_FAILURE")]
        assert witness.outcome is Outcome.HANDLED
        assert witness.last.returned == "answer"

    def test_a_handler_that_passes_by_raising_it_passes(self, slow, clock, limited):
        def passing(error, context):
            raise error

        witness = Witness()
        error = slow.ended(slow.make(clock, limited(witness, error_handler=OwnHandler(passing)))).exception
        assert type(error) is ExecutionTimeout
        assert witness.outcome is Outcome.TIMED_OUT

    def test_a_handler_may_raise_another_error(self, slow, clock, limited):
        def translate(error, context):
            raise BodyError("unavailable") from error

        error = slow.ended(slow.make(clock, limited(error_handler=OwnHandler(translate)))).exception
        assert type(error) is BodyError
        assert type(error.__cause__) is ExecutionTimeout

    @pytest.mark.parametrize(
        ("classes", "state"),
        [
            (TimeoutError, "COMPLETED"),
            (ExecutionTimeout, "COMPLETED"),
            (OSError, "COMPLETED"),
            (ValueError, "ERROR"),
            (ConnectionError, "ERROR"),
        ],
    )
    def test_exception_classes_say_whether_it_was_expected(self, slow, clock, limited, classes, state):
        witness = Witness()
        error = slow.ended(slow.make(clock, limited(witness, exception_classes=classes))).exception
        assert type(error) is ExecutionTimeout
        assert (witness.told[-1], witness.outcome) == (state, Outcome.TIMED_OUT)

    @pytest.mark.parametrize("slow", [slow for slow in SLOW if not slow.is_generator], ids=str)
    def test_a_default_is_given(self, slow, clock, limited):
        assert slow.call(slow.make(clock, limited(default_return="late"))) == "late"

    @pytest.mark.parametrize("slow", [slow for slow in SLOW if not slow.is_generator], ids=str)
    def test_each_attempt_has_the_whole_limit(self, slow, clock, limited):
        witness, durations = Witness(), [2 * LIMIT, 2 * LIMIT, 0.8 * LIMIT]
        options = {"retry": Retry(attempts=3, on=TimeoutError, wait=3.0)}
        function = slow.make(
            clock, limited(witness, **options), seconds=0.0, before=lambda: clock.advance(durations.pop(0))
        )
        assert slow.call(function) == "value"
        assert [context.attempt for context in witness.contexts] == [1, 1, 2, 3, 3]
        assert witness.outcome is Outcome.SUCCESS
        assert durations == []

    @pytest.mark.parametrize("slow", [slow for slow in SLOW if not slow.is_generator], ids=str)
    def test_the_last_attempts_error_reaches_the_caller(self, slow, clock, limited):
        witness, begun = Witness(), []
        options = {"retry": Retry(attempts=3, on=TimeoutError, wait=0)}
        function = slow.make(clock, limited(witness, **options), before=lambda: begun.append(len(begun)))
        assert type(slow.ended(function).exception) is ExecutionTimeout
        assert begun == [0, 1, 2]
        assert witness.outcome is Outcome.TIMED_OUT
        assert witness.told.count("COMPLETED") == 1


class Unusual(Exception):
    """Its methods must not be called on the way."""

    def with_traceback(self, trace):
        raise AssertionError("with_traceback of the user's class")

    def __bool__(self):
        raise AssertionError("truth tested")

    def __eq__(self, other):
        raise AssertionError("compared")

    __hash__ = None


ERRORS = {
    "an error": ValueError("v"),
    "its own timeout": TimeoutError("mine"),
    "another function's deadline": ExecutionTimeout("another", 1.0),
    "a group": ExceptionGroup("several", [ValueError("v"), TimeoutError()]),
    "an unusual one": Unusual("u"),
    "Ctrl-C": KeyboardInterrupt("c"),
    "exit": SystemExit(3),
    "a cancellation": asyncio.CancelledError("why"),
    "one of trio's": type("Cancelled", (BaseException,), {})("t"),
}


class TestWhatPasses:
    """Bodies in time: everything is as it is without a deadline."""

    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    def test_every_exception_is_the_callers_own(self, kind, error):
        cause, noted = KeyError("cause"), copy.copy(error)
        witness = Witness()

        def body():
            noted.add_note("a note")
            raise noted from cause

        noted.__traceback__ = None
        got = kind.ended(kind.make(body, CallPyBack([witness], max_execution_time=ENOUGH))).exception
        assert got is noted
        assert (got.__cause__, got.__context__, got.__notes__) == (cause, None, ["a note"])
        assert witness.outcome is not Outcome.TIMED_OUT

    def test_a_stop_iteration_of_a_plain_function_passes(self):
        error = StopIteration(5)
        assert ended(CallPyBack(max_execution_time=ENOUGH)(raising(error))).exception is error

    def test_the_traceback_has_one_frame_more(self, kind):
        def tail_of(decorator):
            names = frames_of(kind.ended(kind.make(raising(BodyError()), decorator)).exception)
            return names[names.index("call") :]

        undecorated = tail_of(lambda function: function)
        decorated = tail_of(CallPyBack(max_execution_time=ENOUGH))
        assert len(decorated) == len(undecorated) + 1
        assert decorated[-2:] == undecorated[-2:]

    def test_the_context_of_an_exception_is_kept_while_the_caller_handles_another(self, kind):
        first, second, outer = BodyError("first"), BodyError("second"), BodyError("outer")

        def body():
            try:
                raise first
            except BodyError:
                raise second

        function = kind.make(body, CallPyBack(max_execution_time=ENOUGH))
        try:
            raise outer
        except BodyError:
            assert kind.ended(function).exception is second
        assert second.__context__ is first
        assert first.__context__ is outer

    @pytest.mark.parametrize("name", ["plain", "method"])
    def test_what_the_caller_handles_ends_the_chain_of_contexts(self, name):
        kind, error, outer = Kind(name), BodyError("of the body"), BodyError("outer")
        function = kind.make(raising(error), CallPyBack(max_execution_time=ENOUGH))
        try:
            raise outer
        except BodyError:
            assert kind.ended(function).exception is error
        assert error.__context__ is outer
        assert outer.__context__ is None

    def test_an_error_that_suppresses_its_context_goes_on_doing_so(self, kind):
        def body():
            try:
                raise KeyError
            except KeyError:
                raise BodyError from None

        error = kind.ended(kind.make(body, CallPyBack(max_execution_time=ENOUGH))).exception
        assert error.__suppress_context__
        assert type(error.__context__) is KeyError

    def test_arguments_and_values_are_the_same_objects(self, kind):
        decorated = kind.make(lambda *args, **kwargs: (args, kwargs), CallPyBack(max_execution_time=ENOUGH))
        thing = Thing()
        args, kwargs = kind.call(decorated, thing, job=thing, function=1, args=2)
        assert args[0] is kwargs["job"] is thing
        assert kwargs == {"job": thing, "function": 1, "args": 2}

    def test_a_wrong_call_is_refused_as_ever(self, kind):
        plain = kind.make(lambda x: x, parameters="x")
        limited = kind.make(lambda x: x, CallPyBack(max_execution_time=ENOUGH), parameters="x")
        expected, got = kind.ended(plain).exception, kind.ended(limited).exception
        assert (type(got), str(got)) == (type(expected), str(expected))

    def test_context_variables_are_the_callers_and_go_back_to_it(self, kind):  # C30, C09
        inherited, changed, made = (contextvars.ContextVar(name) for name in ("inherited", "changed", "made"))
        seen = []

        def body(fail):
            seen.append((inherited.get(), changed.get(), made.get(None)))
            changed.set("by the body")
            made.set("by the body")
            if fail:
                raise BodyError

        function = kind.make(body, CallPyBack(max_execution_time=ENOUGH))
        for fail in (False, True):
            context = contextvars.copy_context()
            context.run(inherited.set, "of the caller")
            context.run(changed.set, "of the caller")
            context.run(kind.ended, function, fail)
            assert seen.pop() == ("of the caller", "of the caller", None)
            assert (context[inherited], context[changed], context[made]) == (
                "of the caller",
                "by the body",
                "by the body",
            )
            assert set(context) - {inherited, changed, made} <= set(contextvars.copy_context())

    def test_a_generator_is_driven_as_ever(self, limited):
        @limited()
        def echo():
            got = []
            while len(got) < 3:
                try:
                    got.append((yield len(got)))
                except BodyError as error:
                    got.append(error)
            return got

        iterator, thrown = echo(), BodyError()
        assert (next(iterator), iterator.send("a"), iterator.throw(thrown)) == (0, 1, 2)
        with pytest.raises(StopIteration) as stop:
            iterator.send("c")
        assert stop.value.value == ["a", thrown, "c"]

    def test_an_async_generator_is_driven_as_ever(self, limited):
        cleaned = []

        @limited()
        async def echo():
            got = []
            try:
                while True:
                    try:
                        got.append((yield len(got)))
                    except BodyError as error:
                        got.append(error)
                    await asyncio.sleep(0)
            finally:
                await asyncio.sleep(0)
                cleaned.extend(got)

        async def main():
            items, thrown = echo(), BodyError()
            assert [await anext(items), await items.asend("a"), await items.athrow(thrown)] == [0, 1, 2]
            await items.aclose()
            return thrown

        thrown = in_asyncio(main())
        assert cleaned == ["a", thrown]

    def test_the_kind_stays_the_kind(self, kind):
        plain, limited = kind.make(print), kind.make(print, CallPyBack(max_execution_time=ENOUGH))
        for question in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
            assert question(limited) == question(plain)
        assert inspect.signature(limited) == inspect.signature(plain)


class TestPlainFunctions:
    def test_the_caller_goes_on_when_the_real_time_is_up(self, hung):
        witness = Witness()
        function = CallPyBack([witness], max_execution_time=SHORT)(hung)
        began = time.perf_counter()
        with pytest.raises(ExecutionTimeout):
            function()
        assert SHORT <= time.perf_counter() - began < ENOUGH / 2
        assert witness.outcome is Outcome.TIMED_OUT
        assert witness.last.execution_time >= SHORT

    def test_the_body_runs_in_another_thread_without_the_rest_of_the_call(self):  # C32: asked for
        threads = {}

        class Noting(Witness):
            def update(self, context):
                threads.setdefault(context.state.name, threading.get_ident())

        @CallPyBack([Noting()], max_execution_time=ENOUGH)
        def function():
            threads["body"] = threading.get_ident()
            return threading.current_thread().daemon

        assert function() is True
        own = threading.get_ident()
        assert threads.pop("body") != own
        assert set(threads.values()) == {own}

    def test_calls_one_after_another_share_a_thread(self):
        function = CallPyBack(max_execution_time=ENOUGH)(threading.get_ident)
        function()
        before = threading.active_count()
        for _ in range(50):
            function()
        assert threading.active_count() <= before + 1

    def test_bodies_that_hang_keep_nobody_waiting(self, hung):  # C31
        function = CallPyBack(max_execution_time=SHORT / 10)(hung)
        for _ in range(20):
            with pytest.raises(ExecutionTimeout):
                function()
        assert late_jobs() == 20
        assert CallPyBack(max_execution_time=ENOUGH)(lambda: "fast")() == "fast"

    def test_bodies_that_go_on_are_counted_until_they_end(self):
        release, ends = threading.Event(), []

        @CallPyBack(max_execution_time=SHORT / 10)
        def function(fails):
            assert release.wait(ENOUGH)
            ends.append(fails)
            if fails:
                raise BodyError

        for fails in (False, True):
            with pytest.raises(ExecutionTimeout):
                function(fails)
        assert (late_jobs(), ends) == (2, [])
        release.set()
        until(lambda: late_jobs() == 0)
        assert sorted(ends) == [False, True]

    def test_what_a_late_body_sets_stays_its_own(self, hung):
        variable = contextvars.ContextVar("variable", default="unset")

        @CallPyBack(max_execution_time=SHORT)
        def function():
            variable.set("by the body")
            hung()

        with pytest.raises(ExecutionTimeout):
            function()
        assert variable.get() == "unset"

    def test_a_late_value_and_a_late_error_are_dropped(self, caplog):
        release = threading.Event()
        held = []

        @CallPyBack(max_execution_time=SHORT / 10)
        def function(fails):
            thing = Thing()
            held.append(weakref.ref(thing))
            assert release.wait(ENOUGH)
            if fails:
                raise BodyError(thing)
            return thing

        for fails in (False, True):
            with pytest.raises(ExecutionTimeout):
                function(fails)
        release.set()
        until(lambda: late_jobs() == 0)
        until(lambda: [reference() for reference in held] == [None, None])
        assert caplog.records == []

    def test_threads_get_their_own_values(self):
        function = CallPyBack([bound := BoundWitness()], max_execution_time=ENOUGH)(lambda number: number)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(function, range(800))) == list(range(800))
        assert sorted(value for value, _, _ in bound.ends) == list(range(800))
        assert TELLING == []

    def test_a_function_may_call_itself(self):
        @CallPyBack([witness := Witness(ExecutionState.COMPLETED)], max_execution_time=ENOUGH)
        def factorial(n):
            return 1 if n == 0 else n * factorial(n - 1)

        assert factorial(20) == 2432902008176640000
        assert [context.arguments["n"] for context in witness.contexts] == list(range(21))

    def test_a_deadline_inside_another_keeps_its_own_error(self, clock):
        outer_witness, inner_witness = Witness(), Witness()

        @CallPyBack([inner_witness], max_execution_time=1.0, time_source=clock)
        def inner():
            clock.advance(2.0)

        @CallPyBack([outer_witness], max_execution_time=LIMIT, time_source=clock)
        def outer():
            inner()

        error = ended(outer).exception
        assert (type(error), error.limit) == (ExecutionTimeout, 1.0)
        assert (inner_witness.outcome, outer_witness.outcome) == (Outcome.TIMED_OUT, Outcome.FAILURE)

    def test_the_outer_deadline_passes_while_the_inner_call_runs(self, clock):
        witness = Witness()

        @CallPyBack([witness], max_execution_time=ENOUGH, time_source=clock)
        def inner():
            clock.advance(2 * LIMIT)
            return "value"

        @CallPyBack(max_execution_time=LIMIT, time_source=clock)
        def outer():
            return inner()

        assert ended(outer).exception.limit == LIMIT
        until(lambda: late_jobs() == 0)
        assert witness.outcome is Outcome.SUCCESS

    def test_an_event_loop_may_run_in_the_body(self, clock, limited):
        @limited()
        def function():
            return in_asyncio(asyncio.sleep(0, "value"))

        assert function() == "value"

    def test_callables_that_are_no_functions_have_deadlines_too(self, hung):
        assert CallPyBack(max_execution_time=ENOUGH)(len)([1, 2]) == 2
        late = CallPyBack(max_execution_time=SHORT)(threading.Event().wait)
        with pytest.raises(ExecutionTimeout, match=r"Event\.wait took longer"):
            late(1.0)
        until(lambda: late_jobs() == 0)

    def test_a_call_made_by_an_observer_has_its_deadline(self, clock, limited):
        function = limited()(lambda: clock.advance(2 * LIMIT))
        came = []
        calling = Witness(ExecutionState.COMPLETED)
        calling.update = lambda context: came.append(ended(function).exception)
        CallPyBack([calling])(lambda: None)()
        assert [type(error) for error in came] == [ExecutionTimeout]

    def test_what_a_body_calls_inside_an_observer_is_unobserved_too(self):  # C05
        witness = Witness(ExecutionState.COMPLETED)

        class Calling(Witness):
            def update(self, context):
                super().update(context)
                assert len(self.contexts) < 10
                limited()

        calling = Calling(ExecutionState.COMPLETED)
        observed = CallPyBack([calling, witness])(lambda: "value")
        limited = CallPyBack(max_execution_time=ENOUGH)(lambda: observed())
        assert observed() == "value"
        assert (calling.told, witness.told) == (["COMPLETED"], ["COMPLETED"])
        assert handle(observed).unobserved == 1
        assert TELLING == []

    @pytest.mark.usefixtures("collector_off")
    @pytest.mark.parametrize("ending", ["returned", "raised", "late"])
    def test_nothing_of_a_call_is_kept(self, ending):
        local, held = [], []

        @CallPyBack([MetricsObserver()], max_execution_time=SHORT if ending == "late" else ENOUGH)
        def function(thing):
            own = Thing()
            local.append(weakref.ref(own))
            if ending == "raised":
                raise BodyError
            if ending == "late":
                release.wait(ENOUGH)
            return own

        release, thing = threading.Event(), Thing()
        held.append(weakref.ref(thing))
        argument = [thing]
        del thing
        ended(lambda: function(argument.pop()))
        release.set()
        until(lambda: [reference() for reference in (*local, *held)] == [None, None])

    def test_beyond_the_limit_of_recursion_the_body_runs_at_most_once(self):
        limit, ran = sys.getrecursionlimit(), []
        function = CallPyBack(max_execution_time=ENOUGH)(lambda: ran.append(None))

        def deep(n):
            return function() if n == 0 else deep(n - 1)

        depth = len(inspect.stack(0))
        results = []
        try:
            sys.setrecursionlimit(depth + 150)
            for n in range(90, 150):
                ran.clear()
                came = ended(lambda n=n: deep(n)).exception
                results.append((type(came), len(ran)))
        finally:
            sys.setrecursionlimit(limit)
        assert set(results) <= {(type(None), 1), (RecursionError, 0), (RecursionError, 1)}
        assert (type(None), 1) in results
        assert RecursionError in {cls for cls, _ in results}


class TestCoroutines:
    def test_real_time_ends_it_at_its_await(self):
        order, witness = [], Witness()

        @CallPyBack([witness], max_execution_time=SHORT)
        async def function():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                order.append("cleaned")

        error = ended(lambda: in_asyncio(function())).exception
        assert type(error) is ExecutionTimeout
        assert order == ["cleaned"]
        assert witness.outcome is Outcome.TIMED_OUT
        assert witness.last.execution_time >= SHORT

    def test_it_stays_in_its_task_and_thread(self, limited):  # C10
        where = []

        @limited()
        async def function():
            where.append((asyncio.current_task(), threading.get_ident()))

        async def main():
            await function()
            return asyncio.current_task(), threading.get_ident()

        assert in_asyncio(main()) == where[0]

    def test_its_task_is_not_cancelled(self, clock, limited):
        function = Slow("coroutine").make(clock, limited())

        async def main():
            with pytest.raises(ExecutionTimeout):
                await function()
            await asyncio.sleep(0)
            return asyncio.current_task().cancelling()

        assert in_asyncio(main()) == 0

    def test_a_body_that_never_awaits_keeps_its_value(self, clock, limited):
        @limited()
        async def function():
            clock.advance(2 * LIMIT)
            return "value"

        async def main():
            value = await function()
            await asyncio.sleep(0)
            return value, asyncio.current_task().cancelling()

        assert in_asyncio(main()) == ("value", 0)

    def test_a_body_that_swallows_the_cancellation_keeps_its_value(self, clock, limited):
        witness = Witness()

        @limited(witness)
        async def function():
            try:
                clock.advance(2 * LIMIT)
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                return "still here"

        async def main():
            return await function(), asyncio.current_task().cancelling()

        assert in_asyncio(main()) == ("still here", 0)
        assert witness.outcome is Outcome.SUCCESS

    @pytest.mark.parametrize("error", [ValueError("v"), TimeoutError("mine")], ids=repr)
    def test_what_the_body_makes_of_the_cancellation_is_its_own(self, clock, limited, error):
        witness = Witness()

        @limited(witness)
        async def function():
            try:
                clock.advance(2 * LIMIT)
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                raise error

        assert ended(lambda: in_asyncio(function())).exception is error
        assert type(error.__context__) is asyncio.CancelledError
        assert witness.outcome is Outcome.FAILURE

    def test_a_cancelled_task_is_cancelled_for_its_own_reason(self):  # C11
        witness, cleaned = Witness(), []

        @CallPyBack([witness], max_execution_time=ENOUGH)
        async def function():
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append("cleaned")

        async def main():
            task = asyncio.create_task(function())
            await asyncio.sleep(0)
            task.cancel("why")
            await asyncio.wait([task])
            return task

        task = in_asyncio(main())
        assert task.cancelled()
        assert cleaned == ["cleaned"]
        assert witness.told == ["PRE_EXECUTION", "COMPLETED"]
        assert witness.outcome is Outcome.CANCELLED
        assert witness.last.result.exception.args == ("why",)

    def test_a_task_cancelled_as_its_time_runs_out_is_cancelled(self, clock, limited):
        witness = Witness()

        @limited(witness)
        async def function():
            asyncio.current_task().cancel("why")
            clock.advance(2 * LIMIT)
            await asyncio.sleep(0)

        async def main():
            task = asyncio.create_task(function())
            await asyncio.wait([task])
            return task

        task = in_asyncio(main())
        assert task.cancelled()
        assert task.cancelling() == 1
        assert witness.outcome is Outcome.CANCELLED

    def test_a_timeout_around_it_stays_its_own(self):
        witness = Witness()

        @CallPyBack([witness], max_execution_time=ENOUGH)
        async def function():
            await asyncio.Event().wait()

        async def main():
            async with asyncio.timeout(SHORT) as timeout:
                await function()
            return timeout

        error = ended(lambda: in_asyncio(main())).exception
        assert type(error) is TimeoutError
        assert witness.outcome is Outcome.CANCELLED

    def test_a_timeout_around_it_may_outlast_it(self, clock, limited):
        function = Slow("coroutine").make(clock, limited())

        async def main():
            async with asyncio.timeout(ENOUGH) as timeout:
                with pytest.raises(ExecutionTimeout):
                    await function()
                await asyncio.sleep(0)
            return timeout.expired()

        assert in_asyncio(main()) is False

    def test_both_at_once_end_by_the_outer_one(self, clock, limited):
        witness = Witness()

        @limited(witness)
        async def function():
            clock.advance(2 * LIMIT)
            outer.reschedule(0.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        async def main():
            nonlocal outer
            async with asyncio.timeout(None) as outer:
                await function()

        outer = None
        assert type(ended(lambda: in_asyncio(main())).exception) is TimeoutError
        assert witness.outcome is Outcome.CANCELLED

    def test_a_timeout_inside_it_is_its_own(self):
        witness = Witness()

        @CallPyBack([witness], max_execution_time=ENOUGH)
        async def function():
            async with asyncio.timeout(SHORT / 2):
                await asyncio.Event().wait()

        error = ended(lambda: in_asyncio(function())).exception
        assert type(error) is TimeoutError
        assert witness.outcome is Outcome.FAILURE

    def test_a_deadline_inside_another_keeps_its_own_error(self, clock):
        outer_witness, inner_witness = Witness(), Witness()

        @CallPyBack([inner_witness], max_execution_time=1.0, time_source=clock)
        async def inner():
            clock.advance(2.0)
            await asyncio.sleep(0)

        @CallPyBack([outer_witness], max_execution_time=LIMIT, time_source=clock)
        async def outer():
            await inner()

        assert ended(lambda: in_asyncio(outer())).exception.limit == 1.0
        assert (inner_witness.outcome, outer_witness.outcome) == (Outcome.TIMED_OUT, Outcome.FAILURE)

    def test_the_outer_deadline_cancels_the_inner_call(self, clock):
        outer_witness, inner_witness = Witness(), Witness()

        @CallPyBack([inner_witness], max_execution_time=ENOUGH, time_source=clock)
        async def inner():
            clock.advance(2 * LIMIT)
            await asyncio.sleep(0)

        @CallPyBack([outer_witness], max_execution_time=LIMIT, time_source=clock)
        async def outer():
            await inner()

        assert ended(lambda: in_asyncio(outer())).exception.limit == LIMIT
        assert (inner_witness.outcome, outer_witness.outcome) == (Outcome.CANCELLED, Outcome.TIMED_OUT)

    def test_a_task_group_inside_ends_its_tasks(self, clock, limited):
        cancelled = []

        async def member(name):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(name)
                raise

        @limited()
        async def function():
            async with asyncio.TaskGroup() as group:
                for name in "ab":
                    group.create_task(member(name))
                await asyncio.sleep(0)
                clock.advance(2 * LIMIT)

        assert type(ended(lambda: in_asyncio(function())).exception) is ExecutionTimeout
        assert sorted(cancelled) == ["a", "b"]

    def test_a_task_group_around_it_fails_by_it(self, clock, limited):
        witness = Witness(ExecutionState.COMPLETED)
        slow = Slow("coroutine").make(clock, limited(witness))

        @CallPyBack([witness])
        async def waiting():
            await asyncio.Event().wait()

        async def main():
            async with asyncio.TaskGroup() as group:
                group.create_task(waiting())
                group.create_task(slow())

        error = ended(lambda: in_asyncio(main())).exception
        assert [type(member) for member in error.exceptions] == [ExecutionTimeout]
        assert sorted(context.outcome.name for context in witness.contexts) == ["CANCELLED", "TIMED_OUT"]

    def test_a_thousand_tasks_have_their_own_alarms(self, clock):
        @CallPyBack(max_execution_time=LIMIT, time_source=clock)
        async def function(number):
            await (events[number % 2]).wait()
            return number

        async def main():
            tasks = [asyncio.create_task(function(number)) for number in range(1000)]
            await asyncio.sleep(0)
            events[0].set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            clock.advance(2 * LIMIT)
            return await asyncio.gather(*tasks, return_exceptions=True)

        events = [asyncio.Event(), asyncio.Event()]
        results = in_asyncio(main())
        assert results[::2] == list(range(0, 1000, 2))
        assert {type(result) for result in results[1::2]} == {ExecutionTimeout}

    @pytest.mark.parametrize("left_by", ["value", "error", "close", "timeout"])
    def test_an_alarm_ends_with_its_call(self, clock, limited, left_by):
        @limited()
        async def function():
            if left_by == "error":
                raise BodyError
            if left_by == "timeout":
                clock.advance(2 * LIMIT)
            if left_by != "value":
                await asyncio.sleep(0)

        async def main():
            if left_by == "close":
                coroutine = function()
                coroutine.send(None)
                coroutine.close()
            else:
                await asyncio.gather(function(), return_exceptions=True)
            clock.advance(100 * LIMIT)
            for _ in range(5):
                await asyncio.sleep(0)
            return asyncio.current_task().cancelling()

        assert in_asyncio(main()) == 0

    def test_driven_by_hand_it_has_no_alarm(self, clock, limited):  # C12
        witness = Witness()

        @limited(witness)
        async def function():
            clock.advance(2 * LIMIT)
            await pause()
            return "value"

        assert drive(function()) == "value"
        assert witness.outcome is Outcome.SUCCESS

    def test_stepped_by_hand_beside_a_running_loop_it_has_no_alarm(self, clock, limited):
        witness = Witness()

        @limited(witness)
        async def function():
            clock.advance(2 * LIMIT)
            await pause()
            return "value"

        async def main():
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            loop.call_soon(lambda: done.set_result(ended(lambda: drive(function()))))
            return await done

        assert in_asyncio(main()).value == "value"
        assert witness.outcome is Outcome.SUCCESS

    def test_another_thread_may_move_the_clock(self, clock, limited):
        @limited()
        async def function():
            threading.Thread(target=clock.advance, args=(2 * LIMIT,)).start()
            await asyncio.Event().wait()

        assert type(ended(lambda: in_asyncio(function())).exception) is ExecutionTimeout

    def test_after_the_loop_is_closed_the_clock_may_go_on(self, clock, limited):
        coroutines = []

        @limited()
        async def function():
            await asyncio.Event().wait()

        async def main():
            coroutines.append(function())
            coroutines[0].send(None)

        in_asyncio(main())
        clock.advance(2 * LIMIT)
        coroutines[0].close()

    @pytest.mark.usefixtures("collector_off")
    @pytest.mark.parametrize("name", ["coroutine", "async generator"])
    def test_nothing_of_a_late_call_is_kept(self, clock, limited, name):
        held, slow = [], Slow(name)

        def hold():
            thing = Thing()
            held.append(weakref.ref(thing))
            return thing

        @limited(MetricsObserver())
        async def coroutine(argument):
            own = hold()
            clock.advance(2 * LIMIT)
            await asyncio.sleep(0)
            return own, argument

        @limited(MetricsObserver())
        async def async_generator(argument):
            yield await undecorated(argument)

        undecorated = handle(coroutine).wrapper.__wrapped__
        function = {"coroutine": coroutine, "async generator": async_generator}[slow.name]

        async def main():
            begun = function(hold())
            task = asyncio.create_task(begun if slow.name == "coroutine" else collected(begun))
            del begun
            await asyncio.wait([task])
            assert type(task.exception()) is ExecutionTimeout
            del task
            await asyncio.sleep(0)
            return [reference() for reference in held]

        assert in_asyncio(main()) == [None, None]


class TestTrio:
    def test_real_time_ends_it(self):
        witness, cleaned = Witness(), []

        @CallPyBack([witness], max_execution_time=SHORT)
        async def function():
            try:
                await trio.sleep_forever()
            finally:
                cleaned.append("cleaned")

        error = ended(lambda: in_trio(function)).exception
        assert type(error) is ExecutionTimeout
        assert isinstance(error.__cause__, trio.Cancelled)
        assert (cleaned, witness.outcome) == (["cleaned"], Outcome.TIMED_OUT)

    def test_its_own_clock_may_be_moved_by_tests(self):
        function = CallPyBack(max_execution_time=10)(trio.sleep_forever)
        clock = trio.testing.MockClock(autojump_threshold=0)
        assert type(ended(lambda: in_trio(function, clock=clock)).exception) is ExecutionTimeout

    def test_a_mock_time_source_rings(self, clock, limited):
        @limited()
        async def function():
            clock.advance(2 * LIMIT)
            await trio.sleep_forever()

        assert type(ended(lambda: in_trio(function)).exception) is ExecutionTimeout

    def test_a_mock_time_source_that_stands_still_does_not_ring(self, clock):
        @CallPyBack(max_execution_time=SHORT / 2, time_source=clock)
        async def function():
            await trio.sleep(SHORT)
            return "value"

        assert in_trio(function) == "value"

    def test_another_thread_may_move_the_clock(self, clock, limited):
        @limited()
        async def function():
            threading.Thread(target=clock.advance, args=(2 * LIMIT,)).start()
            await trio.sleep_forever()

        assert type(ended(lambda: in_trio(function)).exception) is ExecutionTimeout

    def test_an_async_generator_is_ended_in_its_step(self, clock, limited):
        witness = Witness()

        @limited(witness)
        async def items():
            yield 1
            clock.advance(2 * LIMIT)
            await trio.lowlevel.checkpoint()
            yield 2

        got = []

        async def main():
            await into(got, items())

        assert type(ended(lambda: in_trio(main)).exception) is ExecutionTimeout
        assert (got, witness.outcome) == ([1], Outcome.TIMED_OUT)

    def test_a_scope_around_it_stays_its_own(self):
        witness = Witness()
        function = CallPyBack([witness], max_execution_time=ENOUGH)(trio.sleep_forever)

        async def main():
            with trio.move_on_after(SHORT) as scope:
                await function()
            return scope.cancelled_caught

        assert in_trio(main) is True
        assert witness.outcome is Outcome.CANCELLED

    def test_a_scope_inside_it_stays_its_own(self):
        witness = Witness()

        @CallPyBack([witness], max_execution_time=ENOUGH)
        async def function():
            with trio.fail_after(SHORT / 2):
                await trio.sleep_forever()

        assert type(ended(lambda: in_trio(function)).exception) is trio.TooSlowError
        assert witness.outcome is Outcome.FAILURE

    def test_a_body_that_swallows_the_cancellation_keeps_its_value(self, clock, limited):
        @limited()
        async def function():
            clock.advance(2 * LIMIT)
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                return "still here"

        assert in_trio(function) == "still here"

    def test_an_error_in_a_nursery_that_is_ended_is_the_callers(self, clock, limited):
        witness, error = Witness(), BodyError("of the child")

        async def child():
            try:
                await trio.sleep_forever()
            finally:
                raise error

        @limited(witness)
        async def function():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                nursery.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                clock.advance(2 * LIMIT)

        got = ended(lambda: in_trio(function)).exception
        assert isinstance(got, ExceptionGroup)
        assert got.exceptions == (error,)
        assert witness.outcome is Outcome.FAILURE

    def test_a_deadline_inside_a_nursery_fails_it(self, clock, limited):
        @limited()
        async def function():
            clock.advance(2 * LIMIT)
            await trio.lowlevel.checkpoint()

        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(function)
                nursery.start_soon(trio.sleep_forever)

        error = ended(lambda: in_trio(main)).exception
        assert [type(member) for member in error.exceptions] == [ExecutionTimeout]


class TestGenerators:
    def test_the_consumers_time_does_not_count(self, clock, limited):
        @limited()
        def items():
            for number in range(4):
                clock.advance(1.0)
                yield number

        got = []
        for number in items():
            clock.advance(100.0)
            got.append(number)
        assert got == [0, 1, 2, 3]

    def test_the_time_of_all_steps_counts(self, clock, limited):
        @limited()
        def items():
            for number in range(10):
                clock.advance(2.0)
                yield number

        got, iterator = [], items()
        with pytest.raises(ExecutionTimeout):
            got.extend(iterator)
        assert got == [0, 1]
        assert list(iterator) == []

    def test_it_is_closed_and_its_late_item_dropped(self, clock, limited):
        order = []

        @limited()
        def items():
            try:
                yield "first"
                clock.advance(2 * LIMIT)
                order.append("passed")
                yield "late"
            finally:
                order.append("closed")

        with pytest.raises(ExecutionTimeout):
            order.extend(items())
        assert order == ["first", "passed", "closed"]

    def test_the_step_in_which_it_returns_is_not_judged(self, clock, limited):
        @limited()
        def items():
            yield 1
            clock.advance(2 * LIMIT)
            return "value"

        def delegating():
            return (yield from items())

        iterator = delegating()
        assert next(iterator) == 1
        assert ended(lambda: next(iterator)).exception.value == "value"

    def test_an_error_of_a_late_step_is_the_bodys_own(self, clock, limited):
        witness, error = Witness(), BodyError()

        @limited(witness)
        def items():
            clock.advance(2 * LIMIT)
            raise error
            yield

        assert ended(lambda: list(items())).exception is error
        assert witness.outcome is Outcome.FAILURE

    @pytest.mark.parametrize("how", ["raises", "ignores"])
    def test_what_its_closing_raises_is_the_cause(self, clock, limited, how):
        @limited()
        def items():
            try:
                clock.advance(2 * LIMIT)
                yield 1
            except GeneratorExit:
                if how == "raises":
                    raise BodyError
                yield 2

        error = ended(lambda: list(items())).exception
        assert type(error) is ExecutionTimeout
        assert type(error.__cause__) is (BodyError if how == "raises" else RuntimeError)

    def test_a_step_taken_by_send_or_throw_counts_too(self, clock, limited):
        @limited()
        def items():
            while True:
                try:
                    seconds = yield
                except BodyError:
                    seconds = 2 * LIMIT
                clock.advance(seconds)

        first, second = items(), items()
        next(first), next(second)
        assert first.send(1.0) is None
        with pytest.raises(ExecutionTimeout):
            first.send(2 * LIMIT)
        with pytest.raises(ExecutionTimeout):
            second.throw(BodyError())

    def test_a_generator_left_half_way_is_abandoned(self, clock, limited):
        witness = Witness()

        @limited(witness)
        def items():
            yield 1

        iterator = items()
        next(iterator)
        clock.advance(2 * LIMIT)
        iterator.close()
        assert witness.outcome is Outcome.ABANDONED

    def test_the_consumers_time_does_not_count_for_async_generators(self, clock, limited):
        @limited()
        async def items():
            for number in range(4):
                clock.advance(1.0)
                await asyncio.sleep(0)
                yield number

        async def consume():
            got = []
            async for number in items():
                clock.advance(100.0)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                got.append(number)
            return got

        assert in_asyncio(consume()) == [0, 1, 2, 3]

    def test_the_time_of_all_steps_counts_for_async_generators(self, clock, limited):
        @limited()
        async def items():
            for number in range(10):
                clock.advance(2.0)
                await asyncio.sleep(0)
                yield number

        got = []

        async def consume():
            await into(got, items())

        assert type(ended(lambda: in_asyncio(consume())).exception) is ExecutionTimeout
        assert got == [0, 1]

    def test_steps_of_an_async_generator_may_be_taken_by_different_tasks(self, clock, limited):
        @limited()
        async def items():
            tasks.append(asyncio.current_task())
            yield 1
            tasks.append(asyncio.current_task())
            clock.advance(2 * LIMIT)
            await asyncio.sleep(0)

        async def step(iterator):
            return await anext(iterator)

        async def main():
            iterator = items()
            assert await asyncio.create_task(step(iterator)) == 1
            with pytest.raises(ExecutionTimeout):
                await asyncio.create_task(step(iterator))

        tasks = []
        in_asyncio(main())
        assert tasks[0] is not tasks[1]

    def test_an_async_generator_left_by_its_consumer_is_cleaned_up(self, clock, limited):
        witness, cleaned = Witness(), []

        @limited(witness)
        async def items():
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                cleaned.append("cleaned")

        async def main():
            async for _ in items():
                clock.advance(2 * LIMIT)
                break
            for _ in range(4):  # it is closed in a task of its own
                await asyncio.sleep(0)

        in_asyncio(main())
        assert (cleaned, witness.outcome) == (["cleaned"], Outcome.ABANDONED)

    def test_a_timeout_inside_an_async_generator_fires(self):  # C10
        @CallPyBack(max_execution_time=ENOUGH)
        async def items():
            yield 1
            async with asyncio.timeout(SHORT / 2):
                await asyncio.Event().wait()

        assert type(ended(lambda: in_asyncio(collected(items()))).exception) is TimeoutError

    def test_a_cancelled_consumer_cancels_an_async_generator(self):
        witness = Witness()

        @CallPyBack([witness], max_execution_time=ENOUGH)
        async def items():
            yield 1
            await asyncio.Event().wait()

        async def main():
            task = asyncio.create_task(collected(items()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel("why")
            await asyncio.wait([task])
            return task.cancelled()

        assert in_asyncio(main())
        assert witness.outcome is Outcome.CANCELLED
        assert witness.last.result.exception.args == ("why",)

    @pytest.mark.usefixtures("collector_off")
    def test_nothing_of_a_late_generator_is_kept(self, clock, limited):
        held = []

        @limited(MetricsObserver())
        def items(argument):
            own = Thing()
            held.append(weakref.ref(own))
            clock.advance(2 * LIMIT)
            yield own, argument

        argument = [Thing()]
        held.append(weakref.ref(argument[0]))
        ended(lambda: list(items(argument.pop())))
        assert [reference() for reference in held] == [None, None]


class Failing:
    """A time source that fails in one way."""

    def __init__(self, **members):
        vars(self).update(members)

    def now(self):
        return 0.0


FAILING = {
    "a clock that raises": lambda: Failing(now=raising(OSError())),
    "a clock that is no number": lambda: Failing(now=lambda: "noon"),
    "alarms that raise": lambda: Failing(call_later=raising(OSError())),
    "alarms that can't be set": lambda: Failing(call_later=raising(RuntimeError())),
    "alarms that can't be called off": lambda: Failing(call_later=lambda seconds, callback: None),
    "alarms that are no method": lambda: Failing(call_later=5),
}


class TestTimeSources:
    @pytest.mark.parametrize("source", FAILING.values(), ids=FAILING)
    def test_a_failing_time_source_hurts_no_call(self, slow, source):
        witness = Witness()
        function = slow.make(MockTimeSource(), CallPyBack([witness], max_execution_time=ENOUGH, time_source=source()))
        assert slow.call(function) == "value"
        assert witness.outcome is Outcome.SUCCESS

    @pytest.mark.parametrize("source", FAILING.values(), ids=FAILING)
    def test_without_its_alarms_real_time_counts(self, source, hung):
        decorator = CallPyBack(max_execution_time=SHORT, time_source=source())

        @decorator
        async def coroutine():
            await asyncio.Event().wait()

        with pytest.raises(ExecutionTimeout):
            decorator(hung)()
        with pytest.raises(ExecutionTimeout):
            in_asyncio(coroutine())

    def test_a_clock_without_alarms_counts_a_generators_steps(self):
        readings = iter(range(0, 1000, 2))

        @CallPyBack(max_execution_time=5.0, time_source=Failing(now=lambda: float(next(readings))))
        def items():
            while True:
                yield "item"

        got = []
        with pytest.raises(ExecutionTimeout):
            got.extend(items())
        assert got == ["item"] * 2

    def test_a_mock_clock_that_stands_still_ends_nothing(self, clock):
        function = CallPyBack(max_execution_time=SHORT / 10, time_source=clock)(time.sleep)
        assert function(SHORT) is None

    def test_a_mock_clock_moved_by_another_thread_ends_a_plain_call(self, clock, limited, hung):
        moving = threading.Timer(SHORT, clock.advance, (2 * LIMIT,))
        moving.start()
        with pytest.raises(ExecutionTimeout):
            limited()(hung)()
        moving.join()

    def test_a_mock_clock_may_be_moved_by_many_threads(self, clock):
        function = CallPyBack(max_execution_time=1.0, time_source=clock)(lambda number: number)

        def work(number):
            clock.advance(0.3)
            return ended(lambda: function(number))

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as pool:
                results = list(pool.map(work, range(400)))
        finally:
            sys.setswitchinterval(interval)
        until(lambda: late_jobs() == 0)
        assert clock.now() == pytest.approx(100.0 + 400 * 0.3)
        for number, came in enumerate(results):
            assert came.value == number or type(came.exception) is ExecutionTimeout

    @pytest.mark.parametrize("real_asyncio", [False, True])
    def test_frozen_time_hangs_nothing(self, hung, real_asyncio):
        @CallPyBack(max_execution_time=SHORT)
        async def coroutine():
            await asyncio.Event().wait()

        @CallPyBack(max_execution_time=SHORT)
        async def async_items():
            yield 1
            await asyncio.Event().wait()

        @CallPyBack(max_execution_time=SHORT)
        def items():
            yield "item"

        with freezegun.freeze_time("2030-01-01", real_asyncio=real_asyncio):
            plain = ended(CallPyBack(max_execution_time=SHORT)(hung)).exception
            awaited = ended(lambda: in_asyncio(coroutine())).exception
            collected_late = ended(lambda: in_asyncio(collected(async_items()))).exception
            assert list(items()) == ["item"]
        assert {type(error) for error in (plain, awaited, collected_late)} == {ExecutionTimeout}

    def test_a_mock_clock_inside_frozen_time_rings(self, slow, clock, limited):
        with freezegun.freeze_time("2030-01-01"):
            assert type(slow.ended(slow.make(clock, limited())).exception) is ExecutionTimeout


class TestConfiguration:
    @pytest.mark.parametrize(
        "wrong", ["5", [1], True, float("nan"), float("inf"), 0, -1, 10**400, 1j, {}, object()], ids=range(11)
    )
    def test_a_limit_that_is_no_number_of_seconds_is_refused(self, wrong):  # F07
        with pytest.raises(ConfigurationError, match="max_execution_time"):
            CallPyBack(max_execution_time=wrong)

    @pytest.mark.parametrize("limit", [1e9, 1e300, sys.float_info.max], ids=repr)
    def test_any_great_limit_will_do(self, slow, limit):
        function = slow.make(MockTimeSource(), CallPyBack(max_execution_time=limit))
        assert slow.call(function) == "value"

    def test_the_smallest_limit_ends_every_body_that_takes_longer(self, hung):
        with pytest.raises(ExecutionTimeout):
            CallPyBack(max_execution_time=5e-324)(hung)()

    def test_one_limit_serves_many_functions(self, clock, limited):
        decorator = limited()
        first, second = (decorator(lambda seconds: clock.advance(seconds)) for _ in range(2))
        assert first(1.0) is None
        with pytest.raises(ExecutionTimeout):
            second(2 * LIMIT)

    @pytest.mark.parametrize("kind", KINDS, ids=str)
    def test_no_deadline_no_other_thread(self, kind):  # C32
        threads = []
        before = set(threading.enumerate())
        kind.call(kind.make(lambda: threads.append(threading.get_ident()), CallPyBack([Witness()])))
        assert threads == [threading.get_ident()]
        assert set(threading.enumerate()) <= before
