"""A guard by plain values: asked in order, decides first, and hears of the end of every call it was asked about."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import math
import os
import signal
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import pytest
import trio

from callpyback import (
    BaseObserver,
    BindableGuard,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    FunctionKind,
    MetricsObserver,
    MockTimeSource,
    Outcome,
    RateLimitObserver,
    StopProcessing,
    Wait,
    handle,
    on_call,
    on_completion,
    on_success,
)
from callpyback.core.dispatch import TELLING
from handling import OwnHandler, raising
from kinds import FIRST_ITEM, KINDS, BoundWitness, Forgetful, Kind, Witness, collected, drive, ended, pause

ASYNC_KINDS = tuple(kind for kind in KINDS if kind.is_async)
THREAD_KINDS = tuple(kind for kind in KINDS if not kind.is_async)


class Guard:
    """Keeps what it is asked, and how each call ended; `decide(*args, **kwargs)` is its decision."""

    guard = True

    def __init__(self, decide=lambda *args, **kwargs: None, *, priority=0, name="guard", **options):
        self.priority = priority
        self.name = name
        self.decide = decide
        self.asked = []
        self.ends = []
        self.elapsed = []
        vars(self).update(options)

    def bind_guard(self, function_signature, clock):
        def admit(args, kwargs):
            self.asked.append((args, kwargs))
            return self.decide(*args, **kwargs)

        def end(elapsed, value, exception, outcome, token):
            self.elapsed.append(elapsed)
            self.ends.append((value, exception, outcome, token))

        return admit, end

    @property
    def outcomes(self):
        return [(outcome, token) for _, _, outcome, token in self.ends]


class Token:
    """Can be weakly referenced, and neither compared, hashed nor asked for its truth."""

    __hash__ = None

    def __eq__(self, other):
        raise AssertionError("compared")

    def __bool__(self):
        raise AssertionError("truth tested")


class Never:
    """A retry that gives up at once: it only makes the wrapper one that could run the body again."""

    def next_wait(self, error, attempt, elapsed):
        return None


class Noting(Witness):
    """Puts its name on a list that several observers share."""

    def __init__(self, notes, **options):
        super().__init__(**options)
        self.notes = notes

    def update(self, context):
        self.notes.append((context.state.name, self.name))


class Waiting(Wait):
    """A wait that runs a function in the caller's thread, or in its task after giving others a turn."""

    def __init__(self, decide):
        self.decide = decide

    def block(self):
        return self.decide()

    async def wait(self):
        await pause()
        return self.decide()


class Endless(Wait):
    """A task waits for ever; what ends it is kept."""

    def __init__(self):
        self.ended_by = None

    async def wait(self):
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.ended_by = error
            raise


# What makes the wrapper run different code: its straight path in several forms, and the general path.
WAYS = {
    "straight": dict,
    "with contexts": lambda: {"observers": [Forgetful()]},
    "with plain values": lambda: {"observers": [BoundWitness()]},
    "with locals": lambda: {"observers": [Forgetful()], "variable_names": ["value"]},
    "that may be retried": lambda: {"retry": Never()},
    "by another clock": lambda: {"time_source": MockTimeSource()},
    "in a loop": lambda: {"observers": [Witness(priority=-9) for _ in range(9)]},
    "with a deadline": lambda: {"max_execution_time": 60.0},
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def decorator(request):
    """Return a `CallPyBack` with the given observers, and with what makes one of the ways."""

    def made(*observers, **options):
        way = request.param()
        return CallPyBack([*observers, *way.pop("observers", ())], **{**way, **options})

    return made


@pytest.fixture(params=[dict, lambda: {"time_source": MockTimeSource()}], ids=["straight", "general"])
def path(request):
    """The two paths of the wrapper alone, where the ways between make no difference."""
    return request.param()


@pytest.fixture
def collector_off():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def body(*args, **kwargs):
    return "of the body"


def failures(function):
    return {name: health.failures for name, health in handle(function).health.items() if health.failures}


class TestAsking:
    def test_it_is_asked_with_the_arguments_as_given(self, decorator):
        guard = Guard()
        function = decorator(guard)(lambda x, *rest, y=3, **more: (x, rest, y, more))
        assert function(1, 2, z=4) == (1, (2,), 3, {"z": 4})
        assert guard.asked == [((1, 2), {"z": 4})]

    def test_a_method_is_asked_with_its_instance(self, decorator):
        guard = Guard()

        class Host:
            method = decorator(guard)(lambda self, x: x)

        host = Host()
        host.method(5)
        assert guard.asked == [((host, 5), {})]

    def test_it_is_asked_where_the_call_begins(self, kind, decorator):
        guard = Guard()
        function = kind.make(body, decorator(guard))
        begun = None if kind.function_kind is FunctionKind.FUNCTION else function()
        assert guard.asked == []
        del begun
        gc.collect()
        assert guard.ends == []

    test_it_is_asked_where_the_call_begins = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")(
        test_it_is_asked_where_the_call_begins
    )

    def test_guards_and_observers_are_asked_in_one_order(self, kind, path):
        notes = []

        def noting(name):
            return Guard(lambda *args: notes.append(("PRE_EXECUTION", name)), name=name)

        observers = [
            Noting(notes, priority=0, name="0"),
            noting("3"),
            Noting(notes, priority=2, name="2"),
            noting("1"),
            noting("-1"),
        ]
        for observer in observers:
            observer.priority = int(observer.name)
        kind.call(kind.make(body, CallPyBack(observers, **path)))
        assert [name for state, name in notes if state == "PRE_EXECUTION"] == ["3", "2", "1", "0", "-1"]

    def test_ends_are_told_in_the_same_order(self, path):
        notes = []

        class Ending(Guard):
            def bind_guard(self, function_signature, clock):
                return (lambda args, kwargs: None), (lambda *end: notes.append(("COMPLETED", self.name)))

        observers = [Ending(name="b", priority=1), Noting(notes, name="a", priority=2), Ending(name="c")]
        CallPyBack(observers, **path)(body)()
        assert [name for state, name in notes if state == "COMPLETED"] == ["a", "b", "c"]

    def test_one_object_may_guard_two_functions_each_with_what_it_was_bound_to(self, path):
        signatures = []

        class Binding(Guard):
            def bind_guard(self, function_signature, clock):
                signatures.append(function_signature.name)
                return (lambda args, kwargs: StopProcessing(function_signature.name)), None

        decorator = CallPyBack([Binding()], **path)

        @decorator
        def first(): ...

        @decorator
        def second(): ...

        assert (first(), second(), first()) == ("first", "second", "first")
        assert signatures == ["first", "second"]

    def test_its_clock_is_the_decorators_monotonic_clock(self):
        clocks = []

        class Timed(Guard):
            def bind_guard(self, function_signature, clock):
                clocks.append(clock)
                return super().bind_guard(function_signature, clock)

        class Broken:
            def now(self):
                raise OSError

        mock = MockTimeSource(initial_time=5.0)
        for source in (None, mock, Broken()):
            CallPyBack([Timed()], time_source=source)(body)
        system, mocked, broken = clocks
        assert 0 <= time.perf_counter() - system() < 60
        mock.advance(2.0)
        assert mocked() == 7.0
        assert math.isnan(broken())

    def test_an_observer_that_calls_the_function_is_not_asked_about(self, path):
        guard = Guard()
        function = CallPyBack([guard], **path)(body)
        CallPyBack([on_call(lambda: function())])(body)()
        assert (guard.asked, guard.ends) == ([], [])
        assert handle(function).unobserved == 1

    def test_without_an_end_nothing_is_told(self, kind, decorator):
        class Asking(Guard):
            def bind_guard(self, function_signature, clock):
                return super().bind_guard(function_signature, clock)[0], None

        guard = Asking(lambda *args: "token")
        function = kind.make(body, decorator(guard))
        assert kind.call(function) == "of the body"
        assert (len(guard.asked), guard.ends, failures(function)) == (1, [], {})


def veto(*args):
    raise CallVetoed("no")


def fail(*args):
    raise LookupError("of the guard")


class Critical(Witness):
    """A critical observer that fails at one state."""

    critical = True

    def __init__(self, state, **options):
        super().__init__(**options)
        self.state = state

    def update(self, context):
        if context.state.name == self.state:
            raise RuntimeError("critical")


# What the guard decides, what the body does, who else decides, options; the outcome and the token the guard hears.
ENDINGS = {
    "returned": (lambda: "token", body, (), {}, Outcome.SUCCESS, "token"),
    "raised": (lambda: "token", raising(ValueError("v")), (), {}, Outcome.FAILURE, "token"),
    "handled": (
        lambda: "token",
        raising(ValueError("v")),
        (),
        {"error_handler": OwnHandler(lambda error, context: "handled")},
        Outcome.HANDLED,
        "token",
    ),
    "unexpected": (
        lambda: "token",
        raising(ValueError("v")),
        (),
        {"exception_classes": (LookupError,)},
        Outcome.FAILURE,
        "token",
    ),
    "cancelled": (lambda: "token", raising(asyncio.CancelledError("why")), (), {}, Outcome.CANCELLED, "token"),
    "aborted": (lambda: "token", raising(KeyboardInterrupt()), (), {}, Outcome.ABORTED, "token"),
    "exit": (lambda: "token", raising(SystemExit(3)), (), {}, Outcome.ABORTED, "token"),
    "no token": (lambda: None, body, (), {}, Outcome.SUCCESS, None),
    "vetoed": (veto, body, (), {}, Outcome.VETOED, None),
    "guard failed": (fail, body, (), {}, Outcome.SUCCESS, None),
    "guard failed, body too": (fail, raising(ValueError("v")), (), {}, Outcome.FAILURE, None),
    "guard interrupted": (raising(KeyboardInterrupt()), body, (), {}, Outcome.ABORTED, None),
    "answered": (lambda: StopProcessing(["answer"]), body, (), {}, Outcome.SUPPLIED, None),
    "answered by raising": (raising(StopProcessing(["answer"])), body, (), {}, Outcome.SUPPLIED, None),
    "vetoed below": (lambda: "token", body, (Guard(veto, priority=-1),), {}, Outcome.VETOED, "token"),
    "vetoed by an observer": (lambda: "token", body, (on_call(veto, priority=-1),), {}, Outcome.VETOED, "token"),
    "answered below": (
        lambda: "token",
        body,
        (Guard(lambda: StopProcessing(["answer"]), priority=-1),),
        {},
        Outcome.SUPPLIED,
        "token",
    ),
    "waited": (lambda: Waiting(lambda: "token"), body, (), {}, Outcome.SUCCESS, "token"),
    "waited and answered": (
        lambda: Waiting(lambda: StopProcessing(["answer"])),
        body,
        (),
        {},
        Outcome.SUPPLIED,
        None,
    ),
    "waited and vetoed": (lambda: Waiting(veto), body, (), {}, Outcome.VETOED, None),
    "waited and failed": (lambda: Waiting(fail), body, (), {}, Outcome.SUCCESS, None),
    "critical failed before": (
        lambda: "token",
        body,
        (Critical("PRE_EXECUTION", priority=-1),),
        {},
        Outcome.VETOED,
        "token",
    ),
    "critical failed before an answered call": (
        lambda: StopProcessing(["answer"]),
        body,
        (Critical("PRE_EXECUTION", priority=-1),),
        {},
        Outcome.VETOED,
        None,
    ),
    "critical failed after": (
        lambda: "token",
        body,
        (Critical("POST_SUCCESS", priority=-1),),
        {},
        Outcome.FAILURE,
        "token",
    ),
    "critical failed last": (
        lambda: "token",
        body,
        (Critical("COMPLETED", priority=1),),
        {},
        Outcome.SUCCESS,
        "token",
    ),
    "critical failed last, answered": (
        lambda: StopProcessing(["answer"]),
        body,
        (Critical("COMPLETED", priority=1),),
        {},
        Outcome.SUPPLIED,
        None,
    ),
}


class TestEnds:
    @pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
    @pytest.mark.parametrize("is_leaf", [False, True], ids=["marked", "leaf"])
    def test_the_end_is_told_once_however_the_call_ends(self, kind, decorator, ending, is_leaf):
        decide, run, others, options, outcome, token = ending
        guard = Guard(lambda *args: decide(), is_leaf=is_leaf)
        function = kind.make(run, decorator(guard, *(copy.copy(other) for other in others), **options))
        kind.ended(function)
        assert len(guard.asked) == 1
        assert guard.outcomes == [(outcome, token)]
        assert TELLING == []

    def test_it_hears_the_value_the_exception_and_the_time(self, kind):
        clock, guard, error = MockTimeSource(), Guard(), ValueError("v")

        def run(seconds):
            clock.advance(seconds)
            if seconds > 2:
                raise error
            return seconds

        function = kind.make(run, CallPyBack([guard], time_source=clock))
        kind.call(function, 2.0)
        assert kind.ended(function, 3.0).exception is error
        assert guard.elapsed == [2.0, 3.0]
        assert guard.ends == [
            (kind.shown(2.0), None, Outcome.SUCCESS, None),
            (None, error, Outcome.FAILURE, None),
        ]

    @pytest.mark.parametrize("decide", [veto, lambda: StopProcessing(["answer"])], ids=["vetoed", "answered"])
    def test_the_time_of_a_body_that_never_ran_is_zero_for_all(self, kind, decorator, decide):
        above, below = Guard(priority=1), Guard(lambda *args: decide())
        ends = []

        class Binding(BoundWitness):
            def bind(self, function_signature):
                return None, lambda *end: ends.append(end)

        kind.ended(kind.make(body, decorator(above, below, Binding())))
        assert above.elapsed == below.elapsed == [ends[0][0]] == [0.0]

    def test_a_failing_end_before_it_takes_nothing_from_the_others(self, kind, decorator):
        ends = []

        class FailingEnd(Guard):
            def bind_guard(self, function_signature, clock):
                return (lambda args, kwargs: StopProcessing(["answer"])), lambda *end: fail()

        class Binding(BoundWitness):
            def bind(self, function_signature):
                return None, lambda *end: ends.append(end)

        first = Guard(lambda *args: "token", priority=2)
        function = kind.make(body, decorator(first, FailingEnd(priority=1, name="failing"), Binding()))
        assert kind.call(function) == kind.call(function) == (["answer"] if not kind.is_generator else "answer")
        assert ends == [(0.0, ["answer"], None, Outcome.SUPPLIED)] * 2
        assert first.outcomes == [(Outcome.SUPPLIED, "token")] * 2
        assert failures(function) == {"failing": 2}

    def test_a_critical_failure_after_success_is_not_the_bodys_exception(self, kind, decorator):
        guard = Guard()
        kind.ended(kind.make(body, decorator(guard, Critical("POST_SUCCESS"))))
        assert guard.ends == [(kind.shown("of the body"), None, Outcome.FAILURE, None)]

    def test_a_failing_end_of_a_critical_guard_reaches_the_caller(self, kind, decorator):
        error = RuntimeError("critical")

        class FailingEnd(Guard):
            critical = True

            def bind_guard(self, function_signature, clock):
                return (lambda args, kwargs: None), lambda *end: raising(error)()

        below = Guard(priority=-1)
        assert kind.ended(kind.make(body, decorator(FailingEnd(), below))).exception is error
        assert below.outcomes == [(Outcome.SUCCESS, None)]

    @pytest.mark.parametrize("removed_by", ["removal", "pause of the function", "shutdown", "health"])
    def test_a_guard_that_goes_during_the_call_gets_its_token_back(self, kind, path, removed_by):
        guard = Guard(lambda *args: "token")
        decorator = CallPyBack([guard], max_observer_failures=1, **path)

        def run():
            if removed_by == "removal":
                decorator.remove_observer(guard)
            elif removed_by == "pause of the function":
                handle(function).pause()
            elif removed_by == "shutdown":
                decorator.shutdown()
            else:
                guard.decide = fail
                kind.call(other)
                assert handle(other).health["guard"].paused
            return "of the body"

        function, other = kind.make(run, decorator), kind.make(body, decorator)
        function_end = 1 if removed_by == "health" else 0
        assert kind.call(function) == "of the body"
        assert guard.outcomes[function_end:] == [(Outcome.SUCCESS, "token")]

    def test_a_guard_that_comes_during_the_call_hears_nothing_of_it(self, kind, path):
        guard = Guard()
        decorator = CallPyBack([Forgetful()], **path)
        function = kind.make(lambda: decorator.add_observer(guard), decorator)
        kind.call(function)
        assert guard.ends == []

    def test_attempts_of_one_call_are_one_call(self, kind, path):
        class Twice:
            def next_wait(self, error, attempt, elapsed):
                return 0.0 if attempt == 1 else None

        guard, errors = Guard(lambda *args: "token"), [ValueError(1), ValueError(2)]

        def run():
            raise errors[len(attempts := guard.attempts) - 1 if attempts.append(1) is None else 0]

        guard.attempts = []
        retrying = CallPyBack([guard], retry=Twice(), **path)
        if kind.is_generator:
            function = kind.make(run, retrying)  # has yielded already, so it is not retried
            expected = 1
        else:
            function = kind.make(run, retrying)
            expected = 2
        assert kind.ended(function).exception is errors[expected - 1]
        assert (len(guard.asked), len(guard.attempts)) == (1, expected)
        assert guard.ends == [(None, errors[expected - 1], Outcome.FAILURE, "token")]
