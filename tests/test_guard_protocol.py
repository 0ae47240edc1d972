"""A guard by plain values: asked in order, decides first, and hears of the end of every call it was asked about."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import math
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import NamedTuple

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
    MetricsObserver,
    MockTimeSource,
    Outcome,
    RateLimitObserver,
    Retry,
    StopProcessing,
    Wait,
    handle,
    on_call,
    on_completion,
    on_success,
)
from callpyback.core.telling import TELLING
from handling import OwnHandler, raising
from kinds import FIRST_ITEM, KINDS, BoundWitness, Forgetful, Witness, collected, drive, ended, pause
from retrying import BodyError, Flaky

ASYNC_KINDS = tuple(kind for kind in KINDS if kind.is_async)
THREAD_KINDS = tuple(kind for kind in KINDS if not kind.is_async)


class Guard:
    """Keeps what it is asked, and how each call ended; decides as `decide` does with the arguments without `self`."""

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
        first = 1 if function_signature.takes_instance else 0

        def admit(args, kwargs):
            self.asked.append((args, kwargs))
            return self.decide(*args[first:], **kwargs)

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
    "that may be retried": lambda: {"retry": Never()},
    "by another clock": lambda: {"time_source": MockTimeSource()},
    "in a loop": lambda: {"observers": [Witness(priority=-9) for _ in range(9)]},
    "with a deadline": lambda: {"max_execution_time": 60.0},
}


def made_in(way):
    def made(*observers, **options):
        options = {**way(), **options}
        return CallPyBack([*observers, *options.pop("observers", ())], **options)

    return made


@pytest.fixture(params=WAYS)
def any_decorator(request):
    """Return a `CallPyBack` with the given observers, and with what makes one of all ways."""
    return made_in(WAYS[request.param])


@pytest.fixture(params=["straight", "with contexts", "by another clock"])
def decorator(request):
    """Return a `CallPyBack` with the given observers, on the straight path without and with contexts, or off it."""
    return made_in(WAYS[request.param])


@pytest.fixture(params=["straight", "by another clock"])
def path(request):
    """The options for the straight path, and those for the general one."""
    return WAYS[request.param]()


@pytest.fixture
def collector_off():
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
        before = time.perf_counter()
        assert before <= system() < before + 60
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


def give_token():
    return "token"


def answer():
    return StopProcessing(["answer"])


class Ending(NamedTuple):
    """How a call ends: what the guard is to hear, what it decides, what the body does, who else decides."""

    outcome: Outcome
    token: object = "token"
    decide: Callable[[], object] = give_token
    body: Callable[..., object] = body
    others: tuple[object, ...] = ()
    options: Mapping[str, object] = MappingProxyType({})


FAILING = raising(ValueError("v"))
ENDINGS = {
    "returned": Ending(Outcome.SUCCESS),
    "raised": Ending(Outcome.FAILURE, body=FAILING),
    "handled": Ending(
        Outcome.HANDLED, body=FAILING, options={"error_handler": OwnHandler(lambda error, context: "handled")}
    ),
    "unexpected": Ending(Outcome.FAILURE, body=FAILING, options={"exception_classes": (LookupError,)}),
    "cancelled": Ending(Outcome.CANCELLED, body=raising(asyncio.CancelledError("why"))),
    "aborted": Ending(Outcome.ABORTED, body=raising(KeyboardInterrupt())),
    "exit": Ending(Outcome.ABORTED, body=raising(SystemExit(3))),
    "no token": Ending(Outcome.SUCCESS, None, lambda: None),
    "vetoed": Ending(Outcome.VETOED, None, veto),
    "answered": Ending(Outcome.SUPPLIED, None, answer),
    "answered by raising": Ending(Outcome.SUPPLIED, None, raising(StopProcessing(["answer"]))),
    "guard failed": Ending(Outcome.SUCCESS, None, fail),
    "guard failed, body too": Ending(Outcome.FAILURE, None, fail, FAILING),
    "guard interrupted": Ending(Outcome.ABORTED, None, raising(KeyboardInterrupt())),
    "waited": Ending(Outcome.SUCCESS, "token", lambda: Waiting(give_token)),
    "waited and answered": Ending(Outcome.SUPPLIED, None, lambda: Waiting(answer)),
    "waited and vetoed": Ending(Outcome.VETOED, None, lambda: Waiting(veto)),
    "waited and failed": Ending(Outcome.SUCCESS, None, lambda: Waiting(fail)),
    "vetoed below": Ending(Outcome.VETOED, others=(Guard(veto, priority=-1),)),
    "answered below": Ending(Outcome.SUPPLIED, others=(Guard(answer, priority=-1),)),
    "vetoed by an observer": Ending(Outcome.VETOED, others=(on_call(veto, priority=-1),)),
    "critical failed first": Ending(Outcome.VETOED, others=(Critical("PRE_EXECUTION", priority=-1),)),
    "critical failed first, answered": Ending(
        Outcome.VETOED, None, answer, others=(Critical("PRE_EXECUTION", priority=-1),)
    ),
    "critical failed after": Ending(Outcome.FAILURE, others=(Critical("POST_SUCCESS", priority=-1),)),
    "critical failed last": Ending(Outcome.SUCCESS, others=(Critical("COMPLETED", priority=1),)),
    "critical failed last, answered": Ending(
        Outcome.SUPPLIED, None, answer, others=(Critical("COMPLETED", priority=1),)
    ),
}


class TestEnds:
    @pytest.mark.parametrize("is_leaf", [False, True], ids=["marked", "leaf"])
    @pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
    def test_the_end_is_told_once_however_the_call_ends(self, any_decorator, ending, is_leaf):
        heard = {}
        for kind in KINDS:
            guard = Guard(ending.decide, is_leaf=is_leaf)
            others = (copy.copy(other) for other in ending.others)
            kind.ended(kind.make(ending.body, any_decorator(guard, *others, **ending.options)))
            heard[kind.name] = (len(guard.asked), guard.outcomes)
        assert heard == {kind.name: (1, [(ending.outcome, ending.token)]) for kind in KINDS}
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

    def test_the_first_of_two_critical_ends_that_fail_reaches_the_caller(self, kind, decorator):
        class FailingEnd(Guard):
            critical = True

            def bind_guard(self, function_signature, clock):
                return (lambda args, kwargs: None), lambda *end: raising(LookupError(self.name))()

        guards = [FailingEnd(priority=-1, name="second"), FailingEnd(name="first")]
        assert kind.ended(kind.make(body, decorator(*guards))).exception.args == ("first",)

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

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.is_generator], ids=str)
    def test_attempts_of_one_call_are_one_call(self, kind, path):
        guard, run = Guard(lambda *args: "token"), Flaky(BodyError(1), BodyError(2))
        kind.call(kind.make(run, CallPyBack([guard], retry=Retry(on=BodyError, wait=0), **path)))
        assert (len(guard.asked), run.ran) == (1, 3)
        assert guard.outcomes == [(Outcome.SUCCESS, "token")]


class TestUnfinished:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.is_generator], ids=str)
    @pytest.mark.parametrize("left_by", ["close", "collection"])
    def test_an_abandoned_generator_ends(self, kind, decorator, left_by):
        guard = Guard(lambda: "token")
        items = kind.make(body, decorator(guard))()
        first = drive(anext(items)) if kind.is_async else next(items)
        assert (first, guard.ends) == (FIRST_ITEM, [])
        if left_by == "close":
            drive(items.aclose()) if kind.is_async else items.close()
        del items
        assert guard.outcomes == [(Outcome.ABANDONED, "token")]

    @pytest.mark.parametrize("left_by", ["close", "collection"])
    def test_an_abandoned_coroutine_ends(self, decorator, left_by):
        guard = Guard(lambda: "token")

        @decorator(guard)
        async def function():
            await pause()

        coroutine = function()
        coroutine.send(None)
        assert guard.ends == []
        if left_by == "close":
            coroutine.close()
        del coroutine
        assert guard.outcomes == [(Outcome.ABANDONED, "token")]

    def test_a_generator_nobody_finishes_ends_with_the_error_thrown_into_it(self, decorator):
        guard, error = Guard(lambda: "token"), ValueError("thrown")

        @decorator(guard)
        def items():
            yield 1

        iterator = items()
        next(iterator)
        assert ended(lambda: iterator.throw(error)).exception is error
        assert guard.ends == [(None, error, Outcome.FAILURE, "token")]

    @pytest.mark.parametrize("name", ["coroutine", "async generator"])
    def test_a_cancelled_task_ends(self, decorator, name):
        guard = Guard(lambda: "token")

        @decorator(guard)
        async def coroutine():
            await asyncio.Event().wait()

        @decorator(guard)
        async def items():
            yield 1
            await asyncio.Event().wait()

        async def main():
            task = asyncio.create_task(coroutine() if name == "coroutine" else collected(items()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel("why")
            await asyncio.wait([task])
            return task.cancelled()

        assert asyncio.run(main())
        [(_, error, outcome, token)] = guard.ends
        assert (error.args, outcome, token) == (("why",), Outcome.CANCELLED, "token")

    def test_calls_never_begun_are_not_asked_about(self, decorator):
        guard = Guard()

        @decorator(guard)
        def items():
            yield 1

        @decorator(guard)
        async def async_items():
            yield 1

        @decorator(guard)
        async def coroutine(): ...

        items().close()
        drive(async_items().aclose())
        coroutine().close()
        assert (guard.asked, guard.ends) == ([], [])


class TestTokens:
    def test_recursive_calls_have_their_own(self, kind, decorator):
        guard = Guard(lambda n: ("token", n))

        def run(n):
            return n if n == 0 else kind.call(function, n - 1)

        function = kind.make(run, decorator(guard), "n")
        kind.call(function, 3)
        assert [token for _, token in guard.outcomes] == [("token", n) for n in (0, 1, 2, 3)]

    def test_interleaved_generators_have_their_own(self, decorator):
        guard = Guard(lambda n: ("token", n))

        @decorator(guard)
        def items(n):
            yield n
            yield n

        first, second = items(1), items(2)
        assert (next(first), next(second), next(first)) == (1, 2, 1)
        assert (list(first), list(second)) == ([], [2])
        assert [token for _, token in guard.outcomes] == [("token", 1), ("token", 2)]

    def test_interleaved_tasks_have_their_own(self, decorator):
        guard = Guard(lambda n: ("token", n))

        @decorator(guard)
        async def function(n):
            for _ in range(n % 5):
                await asyncio.sleep(0)
            return n

        async def main():
            return await asyncio.gather(*(function(n) for n in range(100)))

        assert asyncio.run(main()) == list(range(100))
        ended_with = [(value, token) for value, _, _, token in guard.ends]
        assert sorted(ended_with) == [(n, ("token", n)) for n in range(100)]

    def test_threads_have_their_own(self, decorator):
        guard = Guard(lambda n: ("token", n))
        function = decorator(guard)(lambda n: n)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(function, range(1000)))
        assert sorted(guard.ends) == [(n, None, Outcome.SUCCESS, ("token", n)) for n in range(1000)]

    def test_each_guard_has_its_own(self, kind, decorator):
        guards = [Guard(lambda n=n: ("token", n), priority=-n, name=str(n)) for n in range(4)]
        kind.call(kind.make(body, decorator(*guards)))
        assert [guard.outcomes for guard in guards] == [[(Outcome.SUCCESS, ("token", n))] for n in range(4)]

    def test_any_object_may_be_one(self, kind, decorator):
        class Subclass(StopProcessing): ...

        tokens = [Token(), Subclass("value"), 0, (), False, CallVetoed("not raised"), NotImplemented, StopProcessing]
        guard = Guard(iter(tokens).__next__)
        function = kind.make(body, decorator(guard))
        for _ in tokens:
            assert kind.call(function) == "of the body"
        assert all(given is token for (_, given), token in zip(guard.outcomes, tokens, strict=True))
        assert failures(function) == {}

    @pytest.mark.usefixtures("collector_off")
    def test_none_is_kept_after_the_call(self, kind, decorator):
        tokens = []

        def decide():
            token = Token()
            tokens.append(weakref.ref(token))
            return token

        class Asking(Guard):
            def bind_guard(self, function_signature, clock):
                return (lambda args, kwargs: decide()), (lambda *end: None)

        witness = Witness()  # keeps the contexts
        function = kind.make(body, decorator(Asking(), witness))
        kind.call(function)
        assert len(witness.contexts) == 3
        assert [token() for token in tokens] == [None]


class TestDeciding:
    def test_the_first_decision_stands_and_guards_below_hear_nothing(self, kind, decorator):
        first = Guard(lambda: "token", priority=3, name="first")
        deciding = Guard(lambda: StopProcessing(kind.answer("answer")), priority=2, name="deciding")
        vetoing, by_context = Guard(veto, priority=1, name="vetoing"), Witness(guard=True, name="by context")
        function = kind.make(raising(AssertionError("ran")), decorator(first, deciding, vetoing, by_context))
        assert kind.call(function) == "answer"
        assert first.outcomes == [(Outcome.SUPPLIED, "token")]
        assert (vetoing.asked, vetoing.ends, by_context.told) == ([], [], [])

    def test_plain_observers_above_between_and_below_are_told(self, kind, decorator):
        plain = [Witness(priority=priority, name=str(priority)) for priority in (9, 4, 1)]
        guards = [Guard(priority=5), Guard(lambda: StopProcessing(kind.answer("answer")), priority=3), Guard(veto)]
        assert kind.call(kind.make(body, decorator(*plain, *guards))) == "answer"
        assert [witness.told for witness in plain] == [["PRE_EXECUTION", "COMPLETED"]] * 3
        assert [witness.outcome for witness in plain] == [Outcome.SUPPLIED] * 3

    def test_a_guard_passed_over_once_is_asked_the_next_time(self, kind, decorator):
        decisions = iter([StopProcessing(kind.answer("answer")), None])
        first, second = Guard(lambda: next(decisions), priority=1), Guard(lambda: "token")
        function = kind.make(body, decorator(first, second))
        assert (kind.call(function), second.outcomes) == ("answer", [])
        assert (kind.call(function), second.outcomes) == ("of the body", [(Outcome.SUCCESS, "token")])

    @pytest.mark.parametrize("value", [None, False, 0, NotImplemented, ()], ids=repr)
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.is_generator], ids=str)
    def test_any_value_may_be_the_answer(self, kind, decorator, value):
        assert kind.call(kind.make(fail, decorator(Guard(lambda: StopProcessing(value))))) is value

    def test_a_generator_is_answered_by_an_iterable(self, decorator):
        answers = iter([[1, 2], "ab", iter([3]), {"key": "value"}])
        function = decorator(Guard(lambda: StopProcessing(next(answers))))(FIRST_ITEMS)
        assert [list(function()) for _ in range(4)] == [[1, 2], ["a", "b"], [3], ["key"]]

    def test_an_async_generator_is_answered_by_an_async_iterable_too(self, decorator):
        async def answer():
            yield 1
            await pause()
            yield 2

        @decorator(Guard(lambda: StopProcessing(answer())))
        async def function():
            yield "of the body"

        assert drive(collected(function())) == [1, 2]

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.is_generator], ids=str)
    def test_what_has_no_items_is_no_answer_for_a_generator(self, kind, decorator):
        guard = Guard(lambda: StopProcessing(5))
        function = kind.make(body, decorator(guard))
        assert kind.call(function) == "of the body"
        assert guard.outcomes == [(Outcome.SUCCESS, None)]
        assert failures(function) == {"guard": 1}
        assert "can't stand for the items" in handle(function).health["guard"].last_error

    def test_an_answer_without_a_value_only_ends_the_telling(self, kind, decorator):
        guard, plain, below = Guard(StopProcessing, priority=9), Witness(), Guard(lambda: "token", priority=-1)
        function = kind.make(body, decorator(guard, plain, below))
        assert kind.call(function) == "of the body"
        assert plain.told == ["POST_SUCCESS", "COMPLETED"]
        assert (guard.outcomes, below.outcomes) == ([(Outcome.SUCCESS, None)], [(Outcome.SUCCESS, "token")])
        assert failures(function) == {}

    def test_an_answer_without_a_value_answers_nothing(self, kind, path):
        guard, below = Guard(StopProcessing, priority=9), Guard(lambda: "token")
        function = kind.make(body, CallPyBack([guard, below, MetricsObserver()], **path))
        assert kind.call(function) == "of the body"
        assert (guard.outcomes, below.outcomes) == ([(Outcome.SUCCESS, None)], [(Outcome.SUCCESS, "token")])

    def test_one_answer_serves_many_threads_and_is_never_raised(self, kind, decorator):
        answer = StopProcessing(kind.answer("answer"))
        function = kind.make(body, decorator(Guard(lambda: answer)))
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: kind.call(function), range(200)))
        assert results == ["answer"] * 200
        assert (answer.__traceback__, answer.__context__, answer.__cause__) == (None, None, None)

    def test_a_veto_reaches_the_caller_as_itself_with_a_short_traceback(self, kind, decorator):
        refusal = CallVetoed("no", retry_after=3.0)
        error = kind.ended(kind.make(body, decorator(Guard(raising(refusal))))).exception
        assert error is refusal
        assert (error.__context__, error.__cause__) == (None, None)

    def test_a_guard_that_fails_decides_nothing(self, kind, decorator, caplog):
        failing, below = Guard(fail, priority=1, name="failing"), Guard(lambda: "token")
        function = kind.make(body, decorator(failing, below))
        with caplog.at_level(logging.WARNING, "callpyback"):
            assert kind.call(function) == "of the body"
        assert (failing.outcomes, below.outcomes) == ([(Outcome.SUCCESS, None)], [(Outcome.SUCCESS, "token")])
        assert failures(function) == {"failing": 1}
        assert "observer failing failed at PRE_EXECUTION" in caplog.text

    def test_a_system_exit_of_a_guard_is_its_failure(self, kind, decorator):
        function = kind.make(body, decorator(Guard(raising(SystemExit(3)))))
        assert kind.call(function) == "of the body"
        assert failures(function) == {"guard": 1}

    def test_a_failing_critical_guard_refuses_the_call_with_its_error(self, kind, decorator):
        error, below = LookupError("critical"), Guard(priority=-1)
        guard = Guard(raising(error), critical=True)
        function = kind.make(body, decorator(guard, below))
        for _ in range(6):  # it is never paused
            assert kind.ended(function).exception is error
        assert guard.outcomes == [(Outcome.VETOED, None)] * 6
        assert below.ends == []

    def test_who_decided_is_known(self, kind, decorator):
        decisions = {"answered": StopProcessing(kind.answer("answer")), "passed": None}

        def decide(name):
            return veto() if name == "vetoed" else decisions[name]

        witness = Witness(ExecutionState.COMPLETED, ExecutionState.ERROR)
        function = kind.make(body, decorator(Guard(decide, name="gate"), witness))
        for name in ("answered", "vetoed", "passed"):
            kind.ended(function, name)
        assert [context.decided_by for context in witness.contexts] == ["gate", "gate", None]

    def test_a_critical_failure_after_an_answer_decides(self, kind, decorator):
        witness = Witness(ExecutionState.COMPLETED, ExecutionState.ERROR, priority=-1)
        guard = Guard(lambda: StopProcessing(["answer"]), priority=1)
        function = kind.make(body, decorator(guard, Critical("PRE_EXECUTION", name="critical"), witness))
        assert type(kind.ended(function).exception) is RuntimeError
        assert witness.last.decided_by == "critical"

    def test_guards_metrics_and_callbacks_live_together(self, kind, decorator):
        metrics, seen = MetricsObserver(in_progress=True), []
        decisions = {1: StopProcessing(kind.answer("answer")), 2: None}

        def decide(n):
            return veto() if n == 3 else decisions[n]

        observers = [
            Guard(decide),
            metrics,
            on_call(lambda arguments: seen.append("call")),
            on_success(lambda value: seen.append("success")),
            on_completion(lambda outcome: seen.append(outcome.name)),
        ]
        function = kind.make(body, decorator(*observers))
        for n in (1, 2, 3):
            kind.ended(function, n)
        assert seen == ["call", "SUPPLIED", "call", "success", "SUCCESS", "call", "VETOED"]
        known = metrics.get_metrics()
        assert (known["counters"]["supplied"], known["counters"]["vetoed"], known["counters"]["successes"]) == (1, 1, 1)
        assert known["in_progress"] == 0

    def test_more_guards_than_are_written_out_decide_alike(self, kind):
        guards = [Guard(lambda n=n: ("token", n), priority=-n, name=str(n)) for n in range(12)]
        function = kind.make(body, CallPyBack(guards))
        assert kind.call(function) == "of the body"
        guards[9].decide = lambda: StopProcessing(kind.answer("answer"))
        assert kind.call(function) == "answer"
        told = [guard.outcomes for guard in guards]
        success, supplied = Outcome.SUCCESS, Outcome.SUPPLIED
        assert told[:9] == [[(success, ("token", n)), (supplied, ("token", n))] for n in range(9)]
        assert told[9] == [(success, ("token", 9)), (supplied, None)]
        assert told[10:] == [[(success, ("token", n))] for n in (10, 11)]


def FIRST_ITEMS():
    yield FIRST_ITEM


class TestWaiting:
    def test_a_thread_waits_until_it_is_decided(self, decorator):
        release, asked = threading.Event(), threading.Event()

        class UntilReleased(Wait):
            def block(self):
                asked.set()
                assert release.wait(30)
                return StopProcessing("answer")

        guard = Guard(UntilReleased)
        function = decorator(guard)(body)
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(function)
            assert asked.wait(30)
            assert (result.done(), guard.ends) == (False, [])
            release.set()
            assert result.result(30) == "answer"
        assert guard.outcomes == [(Outcome.SUPPLIED, None)]

    def test_others_run_while_a_task_waits(self, decorator):
        waiting = []

        class ForFuture(Wait):
            async def wait(self):
                waiting.append(asyncio.get_running_loop().create_future())
                return await waiting[-1]

        guard = Guard(lambda n: ForFuture() if n < 3 else None)

        @decorator(guard)
        async def function(n):
            return n

        async def main():
            tasks = [asyncio.create_task(function(n)) for n in range(3)]
            await asyncio.sleep(0)
            others = [await function(n) for n in range(3, 6)]
            assert not any(task.done() for task in tasks)
            for future, decision in zip(waiting, ["token", None, StopProcessing("answer")], strict=True):
                future.set_result(decision)
            return await asyncio.gather(*tasks), others

        assert asyncio.run(main()) == ([0, 1, "answer"], [3, 4, 5])
        assert Counter(guard.outcomes) == {
            (Outcome.SUCCESS, None): 4,
            (Outcome.SUCCESS, "token"): 1,
            (Outcome.SUPPLIED, None): 1,
        }
        assert TELLING == []

    def test_a_wait_may_lead_to_another(self, kind, decorator):
        guard = Guard(lambda: Waiting(lambda: Waiting(lambda: Waiting(lambda: "token"))))
        assert kind.call(kind.make(body, decorator(guard))) == "of the body"
        assert guard.outcomes == [(Outcome.SUCCESS, "token")]

    def test_guards_below_are_asked_once_the_wait_is_over(self, kind, decorator):
        order = []
        above = Guard(lambda: Waiting(lambda: order.append("above")), priority=1)
        below = Guard(lambda: Waiting(lambda: order.append("below")))
        function = kind.make(lambda: order.append("body"), decorator(above, below))
        kind.call(function)
        assert order == ["above", "below", "body"]

    def test_calls_made_while_waiting_are_observed(self, kind, decorator):
        inner = Witness()
        called = CallPyBack([inner])(lambda: "inner")
        function = kind.make(body, decorator(Guard(lambda: Waiting(called))))
        assert kind.call(function) == "of the body"
        assert inner.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
        assert handle(called).unobserved == 0

    def test_other_observers_are_inside_again_after_the_wait(self, kind, decorator):
        called = CallPyBack([Witness()])(lambda: "inner")
        observer = on_call(lambda: called())
        kind.call(kind.make(body, decorator(Guard(lambda: Waiting(lambda: None), priority=1), observer)))
        assert handle(called).unobserved == 1

    @pytest.mark.parametrize("kind", ASYNC_KINDS, ids=str)
    def test_a_task_cancelled_while_it_waits_is_cancelled(self, kind, decorator):
        waiting, witness = Endless(), Witness(priority=-1)
        above, guard = Guard(lambda: "token", priority=1), Guard(lambda: waiting)
        function = kind.make(body, decorator(above, guard, witness))

        async def main():
            begun = function()
            task = asyncio.create_task(begun if kind.name == "coroutine" else collected(begun))
            await asyncio.sleep(0)
            task.cancel("why")
            await asyncio.wait([task])
            return task

        task = asyncio.run(main())
        assert task.cancelled()
        assert waiting.ended_by.args == ("why",)
        assert above.outcomes == [(Outcome.CANCELLED, "token")]
        [(_, error, outcome, token)] = guard.ends
        assert (error, outcome, token) == (waiting.ended_by, Outcome.CANCELLED, None)
        assert witness.outcome is Outcome.CANCELLED
        assert failures(function) == {}
        assert TELLING == []

    @pytest.mark.parametrize("kind", ASYNC_KINDS, ids=str)
    def test_a_cancelled_task_waits_for_no_further_guard(self, kind, decorator):
        first, second = Guard(Endless, priority=1, name="first"), Guard(Endless, name="second")
        function = kind.make(body, decorator(first, second))

        async def main():
            begun = function()
            task = asyncio.create_task(begun if kind.name == "coroutine" else collected(begun))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=20)
            return task.cancelled()

        assert asyncio.run(main())
        assert (first.outcomes, second.asked, second.ends) == ([(Outcome.CANCELLED, None)], [], [])

    def test_a_coroutine_closed_while_it_waits_asks_no_further_guard(self, decorator):
        first, second = (Guard(lambda: Waiting(lambda: "token"), name=name) for name in ("first", "second"))
        plain = Witness(priority=-1)

        @decorator(first, second, plain)
        async def function(): ...

        coroutine = function()
        coroutine.send(None)
        coroutine.close()
        assert (first.outcomes, second.asked, second.ends) == ([(Outcome.ABANDONED, None)], [], [])
        assert plain.told[-1] == "COMPLETED"

    @pytest.mark.parametrize("kind", THREAD_KINDS, ids=str)
    def test_after_ctrl_c_no_further_guard_is_asked(self, kind, decorator):
        interrupt = KeyboardInterrupt()
        first = Guard(lambda: Waiting(raising(interrupt)), priority=1, name="first")
        second = Guard(lambda: Waiting(veto), name="second")
        assert kind.ended(kind.make(body, decorator(first, second))).exception is interrupt
        assert (first.outcomes, second.asked, second.ends) == ([(Outcome.ABORTED, None)], [], [])

    def test_a_timeout_around_a_waiting_call_passes(self, decorator):
        guard = Guard(Endless)

        @decorator(guard)
        async def function(): ...

        async def main():
            async with asyncio.timeout(0.01):
                await function()

        with pytest.raises(TimeoutError):
            asyncio.run(main())
        assert guard.outcomes == [(Outcome.CANCELLED, None)]

    def test_a_coroutine_closed_while_it_waits_is_abandoned(self, decorator):
        class Suspended(Wait):
            async def wait(self):
                await pause()
                return "token"

        guard = Guard(Suspended)

        @decorator(guard)
        async def function():
            raise AssertionError("ran")

        coroutine = function()
        coroutine.send(None)
        coroutine.close()
        assert guard.outcomes == [(Outcome.ABANDONED, None)]
        assert TELLING == []

    @pytest.mark.parametrize("kind", THREAD_KINDS, ids=str)
    def test_ctrl_c_while_a_thread_waits_ends_the_call(self, kind, decorator):
        interrupt = KeyboardInterrupt()
        guard = Guard(lambda: Waiting(raising(interrupt)))
        function = kind.make(body, decorator(guard))
        assert kind.ended(function).exception is interrupt
        assert guard.outcomes == [(Outcome.ABORTED, None)]

    def test_a_trio_task_waits_too(self, decorator):
        class Sleeping(Wait):
            async def wait(self):
                await trio.lowlevel.checkpoint()
                return StopProcessing("answer")

        @decorator(Guard(Sleeping))
        async def function(): ...

        assert trio.run(function) == "answer"

    def test_a_trio_scope_around_a_waiting_call_passes(self, decorator):
        class Forever(Wait):
            async def wait(self):
                await trio.sleep_forever()

        guard = Guard(Forever)

        @decorator(guard)
        async def function(): ...

        async def main():
            with trio.move_on_after(0.01) as scope:
                await function()
            return scope.cancelled_caught

        assert trio.run(main)
        assert guard.outcomes == [(Outcome.CANCELLED, None)]


class TestHealth:
    def test_a_guard_that_fails_too_often_is_paused_and_tried_again(self, kind):
        clock, guard = MockTimeSource(), Guard(fail)
        function = kind.make(body, CallPyBack([guard], max_observer_failures=2, time_source=clock))
        for _ in range(5):
            assert kind.call(function) == "of the body"
        assert (len(guard.asked), len(guard.ends)) == (2, 2)
        assert handle(function).health["guard"].paused
        clock.advance(30.0)
        guard.decide = lambda: StopProcessing(kind.answer("answer"))
        assert [kind.call(function) for _ in range(2)] == ["answer", "answer"]
        assert not handle(function).health["guard"].paused
        assert guard.outcomes[2:] == [(Outcome.SUPPLIED, None)] * 2

    def test_an_answer_at_once_ends_the_run_of_failures(self, kind, path):
        guard = Guard(fail)
        function = kind.make(body, CallPyBack([guard], max_observer_failures=2, **path))
        for _ in range(3):
            guard.decide = fail
            kind.call(function)
            guard.decide = lambda: StopProcessing(kind.answer("answer"))
            assert kind.call(function) == "answer"
        health = handle(function).health["guard"]
        assert (health.failures, health.failures_in_a_row, health.paused) == (3, 0, False)

    def test_failures_of_admit_and_end_in_one_call_count_as_one_in_a_row(self, path):
        class Failing(Guard):
            def bind_guard(self, function_signature, clock):
                return (lambda args, kwargs: fail()), (lambda *end: fail())

        function = CallPyBack([Failing()], max_observer_failures=2, **path)(body)
        function()
        health = handle(function).health["guard"]
        assert (health.failures, health.failures_in_a_row, health.paused) == (2, 1, False)


class TestBinding:
    @pytest.mark.parametrize(
        "bound",
        [5, "ab", (), (len,), (None, None), (None, len), (len, 5), (5, len), (len, len, len), [len, len]],
        ids=repr,
    )
    def test_something_else_than_a_pair_is_refused(self, bound):
        class Wrong(Guard):
            def bind_guard(self, function_signature, clock):
                return bound

        with pytest.raises(ConfigurationError, match=r"'guard': bind_guard\(\) gave .*expected \(admit, end\)"):
            CallPyBack([Wrong()])(body)

    def test_a_bind_guard_that_raises_is_refused(self):
        class Broken(Guard):
            def bind_guard(self, function_signature, clock):
                raise LookupError("no table")

        with pytest.raises(ConfigurationError, match=r"bind_guard\(\) raised LookupError: no table for body"):
            CallPyBack([Broken()])(body)

    def test_none_means_update(self, kind, path):
        class ByContext(Guard):
            def bind_guard(self, function_signature, clock):
                return None

            def update(self, context):
                if context.state is ExecutionState.PRE_EXECUTION:
                    raise StopProcessing(kind.answer("answer"))

        below = Guard()
        assert kind.call(kind.make(body, CallPyBack([ByContext(priority=1), below], **path))) == "answer"
        assert below.asked == []

    def test_none_without_an_update_is_refused(self):
        class Nothing(Guard):
            def bind_guard(self, function_signature, clock):
                return None

        with pytest.raises(ConfigurationError, match="no update"):
            CallPyBack([Nothing()])(body)

    def test_a_guard_without_the_word_is_refused(self):
        guard = Guard(guard=False)
        with pytest.raises(ConfigurationError, match="guard = True"):
            CallPyBack([guard])(body)

    def test_a_weak_guard_is_refused_or_guards(self):
        decorator, guard = CallPyBack(), RateLimitObserver(1, 60.0)
        with pytest.raises(ConfigurationError, match="weak=True"):
            decorator.add_observer(guard, weak=True)

    def test_the_protocol_is_recognised(self):
        assert isinstance(Guard(), BindableGuard)
        assert isinstance(RateLimitObserver(), BindableGuard)
        assert not isinstance(Witness(), BindableGuard)

    def test_a_guard_may_have_metrics_and_be_closed(self):
        closed = []

        class Closing(Guard, BaseObserver):
            def get_metrics(self):
                return {"asked": len(self.asked)}

            def close(self):
                closed.append(self.name)

        with CallPyBack([Closing()]) as decorator:
            decorator(body)()
            assert decorator.get_metrics()["guard_metrics"] == {"asked": 1}
        assert closed == ["guard"]


class TestCopies:
    def test_a_function_unpickled_elsewhere_is_guarded_by_a_guard_of_its_own(self):
        limit = RateLimitObserver(1, 60.0, name="limit")

        @CallPyBack([limit])
        def function():
            return "of the body"

        function()
        copied = cloudpickle.loads(cloudpickle.dumps(function))
        assert copied() == "of the body"
        assert type(ended(copied).exception) is type(ended(function).exception)
        assert handle(copied).observers[0] is not limit

    def test_a_copied_function_is_the_function(self):
        function = CallPyBack([guard := Guard(lambda: StopProcessing("answer"))])(body)
        assert copy.copy(function) is function
        assert copy.deepcopy(function) is function
        assert function() == "answer"
        assert len(guard.asked) == 1


DECISIONS = {
    "passed": lambda argument: None,
    "token": lambda argument: Token(),
    "answered": lambda argument: StopProcessing(["answer"]),
    "vetoed": veto,
    "failed": fail,
    "waited": lambda argument: Waiting(lambda: "token"),
    "waited and answered": lambda argument: Waiting(lambda: StopProcessing(["answer"])),
    "waited and vetoed": lambda argument: Waiting(veto),
}


@pytest.mark.usefixtures("collector_off")
class TestMemory:
    @pytest.mark.parametrize("decide", DECISIONS.values(), ids=DECISIONS)
    def test_nothing_of_a_call_is_kept(self, kind, path, decide):
        class Asking(Guard):
            def bind_guard(self, function_signature, clock):
                return (lambda args, kwargs: self.decide(args[-1])), (lambda *end: None)

        function = kind.make(body, CallPyBack([Asking(decide), MetricsObserver()], **path))
        argument = Witness()
        kept = weakref.ref(argument)
        kind.ended(function, argument)
        del argument
        assert kept() is None
