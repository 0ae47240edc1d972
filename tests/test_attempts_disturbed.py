"""What comes between the attempts of a call: interrupts, cancellation, failing observers, other calls, forks."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from callpyback import (
    CallPyBack,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    Notice,
    NullVariable,
    Outcome,
    handle,
    on_completion,
    on_failure,
    on_retry,
)
from callpyback.core.telling import TELLING
from kinds import KINDS, Kind, Witness, drive, ended, pause
from retrying import ASYNC_KINDS, BodyError, Flaky, WaitingClock, make, repeating

S, RETRY = ExecutionState, Notice.RETRY
GENERATORS = [kind for kind in KINDS if kind.is_generator]


@pytest.fixture(params=["straight", "general"])
def clock(request):
    """With the system's clock the first attempt takes the straight path."""
    return None if request.param == "straight" else MockTimeSource()


class BoundGuard:
    priority = 0
    guard = True

    def __init__(self):
        self.ends = []

    def bind_guard(self, function_signature, clock):
        def end(elapsed, value, exception, outcome, token):
            self.ends.append((outcome, token))

        return lambda args, kwargs: "token", end


class Suspended(MockTimeSource):
    """Suspends a coroutine once in each wait; without an event loop it never goes on by itself."""

    async def sleep_async(self, seconds):
        await pause()
        self.advance(seconds)


def begun(kind, function):
    """Begin a call of an async kind, to its first suspension in the wait between two attempts."""
    step = function() if kind.name == "coroutine" else function().__anext__()
    steps = step.__await__()
    next(steps)
    if kind.name == "coroutine":
        next(steps)  # it suspends once before the body
    return steps


class TestTheWait:
    @pytest.mark.parametrize(
        ("error", "outcome", "terminal"),
        [
            (KeyboardInterrupt("k"), Outcome.ABORTED, S.ERROR),
            (SystemExit(3), Outcome.ABORTED, S.ERROR),
            (BaseException("own"), Outcome.ABORTED, S.ERROR),
            (asyncio.CancelledError("c"), Outcome.CANCELLED, S.COMPLETED),
        ],
        ids=repr,
    )
    def test_what_ends_it_ends_the_call(self, kind, error, outcome, terminal):
        def interrupt():
            raise error

        clock, witness, guard, body = (
            WaitingClock(interrupt),
            Witness(),
            BoundGuard(),
            Flaky(BodyError(1), BodyError(2)),
        )
        function = make(kind, body, CallPyBack([witness, guard], retry=repeating(wait=5), time_source=clock))
        assert kind.ended(function).exception is error
        assert (error.__context__, body.ran) == (None, 1)
        assert [(c.state, c.outcome) for c in witness.contexts[1:]] == [(S.POST_FAILURE, None), (terminal, outcome)]
        assert witness.last.result.exception_type is type(error)
        assert witness.last.attempt == 1
        assert guard.ends == [(outcome, "token")]
        assert TELLING == []

    def test_the_attempt_before_it_is_still_shown_as_it_was(self, kind):
        def interrupt():
            raise KeyboardInterrupt

        witness = Witness(S.POST_FAILURE, S.ERROR, notices=RETRY)
        decorator = CallPyBack([witness], retry=repeating(wait=5), time_source=WaitingClock(interrupt))
        kind.ended(make(kind, Flaky(BodyError(1)), decorator))
        assert [type(c.result and c.result.exception).__name__ for c in witness.contexts] == [
            "BodyError",
            "NoneType",
            "KeyboardInterrupt",
        ]

    def test_the_lifetime_of_a_call_that_ended_in_it_has_its_part_of_the_wait(self, kind):
        def interrupt():
            clock.advance(3)
            raise KeyboardInterrupt

        clock, witness = WaitingClock(interrupt), Witness()
        body = Flaky(BodyError(1), clock=clock, seconds=2.0)
        kind.ended(make(kind, body, CallPyBack([witness], retry=repeating(wait=5), time_source=clock)))
        assert (witness.last.execution_time, witness.last.lifetime) == (2.0, 5.0)

    def test_a_time_source_that_can_not_sleep_delays_nothing(self, kind, caplog):
        clock, witness = WaitingClock(lambda: 1 / 0), Witness()
        function = make(kind, Flaky(BodyError(1)), CallPyBack([witness], retry=repeating(wait=5), time_source=clock))
        assert kind.call(function) == "value"
        assert witness.outcome is Outcome.SUCCESS
        assert "division by zero" in caplog.text

    def test_what_runs_in_it_is_not_inside_an_observer(self, kind):
        clock, seen = WaitingClock(), Witness()
        other = CallPyBack([seen])(lambda: list(TELLING))
        marks = []
        clock.meanwhile = lambda: marks.append(other())
        decorator = CallPyBack([Witness(notices=RETRY)], retry=repeating(wait=5), time_source=clock)
        kind.call(make(kind, Flaky(BodyError(1)), decorator))
        assert marks == [[]]
        assert seen.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
        assert handle(other).unobserved == 0

    @pytest.mark.parametrize("async_kind", ASYNC_KINDS, ids=str)
    @pytest.mark.parametrize("by_loop", [True, False], ids=["by the loop", "by a time source"])
    def test_a_task_that_is_cancelled_in_it_is_cancelled(self, async_kind, by_loop):
        witness, body = Witness(), Flaky(BodyError(1), BodyError(2))

        class Endless(MockTimeSource):
            async def sleep_async(self, seconds):
                await asyncio.get_running_loop().create_future()

        clock, waits = None if by_loop else Endless(), []
        observers = [witness, on_retry(lambda: waits[-1].set())]
        function = make(async_kind, body, CallPyBack(observers, retry=repeating(wait=3600), time_source=clock))

        async def consume():
            if async_kind.name == "coroutine":
                return await function()
            return [item async for item in function()]

        async def main():
            waits.append(asyncio.Event())
            task = asyncio.create_task(consume())
            await waits[-1].wait()
            task.cancel("why")
            await asyncio.wait([task])
            return task

        task = asyncio.run(main())
        assert task.cancelled()
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
        assert (witness.outcome, witness.last.is_failed, body.ran) == (Outcome.CANCELLED, False, 1)
        assert witness.last.result.exception.args == ("why",)

    def test_a_timeout_around_it_fires(self):
        witness = Witness(S.COMPLETED)

        @CallPyBack([witness], retry=repeating(wait=3600))
        async def coroutine():
            raise BodyError

        async def main():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await coroutine()
            assert asyncio.current_task().cancelling() == 0

        asyncio.run(main())
        assert witness.outcome is Outcome.CANCELLED

    def test_a_cancel_scope_of_trio_around_it_ends_the_call(self):
        witness = Witness()

        @CallPyBack([witness], retry=repeating(wait=3600))
        async def coroutine():
            raise BodyError

        async def main():
            with trio.CancelScope() as scope:
                handle(coroutine).on_retry(scope.cancel)
                await coroutine()
            return scope.cancelled_caught

        assert trio.run(main)
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
        assert witness.outcome is Outcome.CANCELLED

    @pytest.mark.parametrize(
        ("name", "how"), [("coroutine", "closed"), ("coroutine", "dropped"), ("async generator", "dropped")]
    )
    def test_a_call_that_is_given_up_in_it_is_abandoned(self, name, how):
        class Awaited(Witness):
            async def update(self, context):
                await pause()
                self.contexts.append(context)

        async_kind, body = Kind(name), Flaky(BodyError(1))
        witness, awaited = Witness(notices=RETRY), Awaited(S.COMPLETED, name="awaited")
        decorator = CallPyBack([witness, awaited], retry=repeating(wait=5), time_source=Suspended())
        function = make(async_kind, body, decorator)
        steps = begun(async_kind, function)
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "EXECUTING"]
        if how == "closed":
            steps.close()
        del steps
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "EXECUTING", "COMPLETED"]
        assert (witness.outcome, witness.last.is_failed, body.ran) == (Outcome.ABANDONED, False, 1)
        assert (awaited.told, handle(function).health["awaited"].skipped) == ([], 1)

    @pytest.mark.parametrize("async_kind", ASYNC_KINDS, ids=str)
    def test_what_is_thrown_into_it_ends_the_call_if_it_is_no_exception_of_the_time_source(self, async_kind):
        witness, error = Witness(), KeyboardInterrupt("thrown")
        decorator = CallPyBack([witness], retry=repeating(wait=5), time_source=Suspended())
        steps = begun(async_kind, make(async_kind, Flaky(BodyError(1)), decorator))
        assert ended(lambda: steps.throw(error)).exception is error
        assert (witness.told[-1], witness.outcome) == ("ERROR", Outcome.ABORTED)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_parent_and_child_of_a_fork_in_it_both_end_the_call(self, clock):
        read, write = os.pipe()
        parent, children = os.getpid(), []

        class Forking(WaitingClock):
            def sleep(self, seconds):
                children.append(os.fork())

        told = Witness()
        metrics = MetricsObserver()

        @CallPyBack([told, metrics], retry=repeating(wait=5), time_source=Forking())
        def function():
            if not children:
                raise BodyError
            return "value"

        value = function()
        states = (value, told.told, told.last.outcome.name, metrics.get_metrics()["total_calls"], TELLING)
        if os.getpid() != parent:
            os.write(write, repr(states).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            in_child = pipe.read()
        os.waitpid(children[0], 0)
        assert states == ("value", ["PRE_EXECUTION", "POST_FAILURE", "POST_SUCCESS", "COMPLETED"], "SUCCESS", 1, [])
        assert in_child == repr(states)


@pytest.mark.parametrize("generator_kind", GENERATORS, ids=str)
class TestGenerators:
    def test_what_has_yielded_is_not_retried_and_the_handler_is_asked(self, generator_kind, clock):
        asked, witness, body = [], Witness(), Flaky(BodyError(1))

        class Handler:
            def handle_error(self, error, context):
                asked.append((context.attempt, context.items))
                raise error

        error = body.errors[0]
        decorator = CallPyBack([witness], retry=repeating(), error_handler=Handler(), time_source=clock)
        assert generator_kind.ended(generator_kind.make(body, decorator)).exception is error  # yields before its body
        assert (body.ran, asked) == (1, [(1, 1)])
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]

    def test_what_failed_before_it_yielded_and_again_after_is_retried_once(self, generator_kind, clock):
        runs, items = [], []

        def first():
            runs.append("run")
            if len(runs) == 1:
                raise BodyError("before")
            return "first"

        decorator = CallPyBack(retry=repeating(), time_source=clock)
        if generator_kind.name == "generator":

            @decorator
            def function():
                yield first()
                raise BodyError("after")

            came = ended(lambda: items.extend(function()))
        else:

            @decorator
            async def function():
                yield first()
                raise BodyError("after")

            async def consume():
                async for item in function():
                    items.append(item)  # noqa: PERF401 - what came before the error counts

            came = ended(lambda: drive(consume()))
        assert repr(came.exception) == "BodyError('after')"
        assert (items, runs) == (["first"], ["run", "run"])

    def test_each_attempt_is_a_generator_of_its_own_and_the_last_gets_what_is_sent(self, generator_kind, clock):
        runs, got, closed = [], [], []

        def begin():
            runs.append("run")
            if len(runs) < 3:
                raise BodyError
            return "first"

        decorator = CallPyBack(retry=repeating(), time_source=clock)
        if generator_kind.name == "generator":

            @decorator
            def function():
                try:
                    got.append((yield begin()))
                    yield "second"
                finally:
                    closed.append(len(runs))

            running = function()
            step, close = running.send, running.close
        else:

            @decorator
            async def function():
                try:
                    got.append((yield begin()))
                    yield "second"
                finally:
                    closed.append(len(runs))

            running = function()
            step, close = (lambda value: drive(running.asend(value))), (lambda: drive(running.aclose()))
        assert step(None) == "first"
        assert step("sent") == "second"
        close()
        assert (got, closed) == (["sent"], [1, 2, 3])


class Raising(Witness):
    """Raises an exception at one state or notice of one attempt, after noting that it was told."""

    def __init__(self, error, at, attempt=1, **options):
        super().__init__(*S, notices=RETRY, **options)
        self.error = error
        self.at = (at, attempt)

    def update(self, context):
        super().update(context)
        if (context.state if context.notice is None else RETRY, context.attempt) == self.at:
            raise self.error


BETWEEN = {
    "failure": (S.POST_FAILURE, 1, ["INITIALIZED", "PRE_EXECUTION", "EXECUTING", "POST_FAILURE"]),
    "notice": (RETRY, 1, ["INITIALIZED", "PRE_EXECUTION", "EXECUTING", "POST_FAILURE", "EXECUTING"]),
    "next attempt": (
        S.EXECUTING,
        2,
        ["INITIALIZED", "PRE_EXECUTION", "EXECUTING", "POST_FAILURE", "EXECUTING", "EXECUTING"],
    ),
}


@pytest.fixture(params=BETWEEN.values(), ids=BETWEEN)
def between(request):
    """A state or notice between two attempts, the attempt whose it is, and what is told up to it."""
    return request.param


class TestObservers:
    @pytest.mark.parametrize("error", [LookupError("l"), SystemExit(2), GeneratorExit("g")], ids=repr)
    def test_one_that_fails_between_two_attempts_is_isolated(self, kind, clock, between, error):
        at, attempt, told = between
        failing, below = Raising(error, at, attempt, priority=1), Witness(*S, notices=RETRY, name="below")
        function = make(
            kind, Flaky(BodyError(1)), CallPyBack([failing, below], retry=repeating(wait=0), time_source=clock)
        )
        assert kind.call(function) == "value"
        assert below.told == failing.told
        assert below.told[: len(told)] == told
        assert below.outcome is Outcome.SUCCESS
        assert handle(function).health["witness"].failures == 1

    def test_a_critical_one_that_fails_between_two_attempts_ends_the_call(self, kind, clock, between):
        at, attempt, told = between
        error, body = BodyError(1), Flaky()
        body.errors = [error, BodyError(2)]
        critical = Raising(RuntimeError("critical"), at, attempt, critical=True, priority=1)
        below, guard = Witness(*S, notices=RETRY, name="below"), BoundGuard()
        decorator = CallPyBack([critical, below, guard], retry=repeating(wait=0), time_source=clock)
        assert kind.ended(make(kind, body, decorator)).exception is error
        assert (error.__context__, error.__cause__, body.ran) == (None, None, 1)
        assert critical.told == below.told == [*told, "ERROR"]
        assert (below.outcome, below.last.result.exception_type) == (Outcome.FAILURE, BodyError)
        assert (below.last.attempt, below.last.decided_by) == (attempt, None)
        assert guard.ends == [(Outcome.FAILURE, "token")]

    def test_the_error_a_critical_one_leaves_has_the_traceback_of_one_attempt(self, kind, clock, between):
        def body():
            raise BodyError

        def names(error):
            trace, found = error.__traceback__, []
            while trace is not None:
                found.append(trace.tb_frame.f_code.co_name)
                trace = trace.tb_next
            return found

        at, attempt, _ = between
        critical = Raising(RuntimeError("critical"), at, attempt, critical=True)
        decorated = make(kind, body, CallPyBack([critical], retry=repeating(wait=0), time_source=clock))
        bare = names(kind.ended(make(kind, body)).exception)
        for _ in range(2):
            found = names(kind.ended(decorated).exception)
            assert found[-1] == "body"
            assert len(found) - len(bare) <= 1

    @pytest.mark.parametrize("critical_at", [None, RETRY, S.EXECUTING], ids=str)
    def test_what_one_does_to_the_error_of_a_notice_does_not_last(self, kind, clock, critical_at):  # rule 2
        error, seen = BodyError(1), []

        class Meddling(Witness):
            def update(self, context):
                context.notice.exception.add_note("a note of the observer's")
                try:
                    raise KeyError("of the observer")
                except KeyError as own:
                    raise context.notice.exception from own

        def body():
            seen.append((error.__context__, error.__cause__, getattr(error, "__notes__", None)))
            raise error

        meddling = Meddling(notices=RETRY, priority=9)
        meddling.states = ()
        critical = Raising(RuntimeError("critical"), critical_at, 2 if critical_at is S.EXECUTING else 1, critical=True)
        function = make(kind, body, CallPyBack([meddling, critical], retry=repeating(attempts=2), time_source=clock))
        assert kind.ended(function).exception is error
        assert seen == [(None, None, None)] * len(seen)
        assert (error.__context__, error.__cause__, error.__suppress_context__) == (None, None, False)
        assert getattr(error, "__notes__", None) is None

    def test_a_call_that_a_critical_one_ends_keeps_the_time_of_its_attempts(self, kind, between):
        at, attempt, _ = between
        clock, below = WaitingClock(), Witness(name="below")
        critical = Raising(RuntimeError("critical"), at, attempt, critical=True)
        body = Flaky(BodyError(1), clock=clock, seconds=2.0)
        kind.ended(make(kind, body, CallPyBack([critical, below], retry=repeating(wait=5), time_source=clock)))
        assert below.last.execution_time == 2.0
        assert below.last.lifetime == (7.0 if at is S.EXECUTING else 2.0)

    def test_a_deadline_that_passed_in_the_attempt_before_is_still_a_timeout(self, between):
        at, attempt, _ = between
        clock, below = WaitingClock(), Witness(name="below")
        critical = Raising(RuntimeError("critical"), at, attempt, critical=True)
        decorator = CallPyBack(
            [critical, below], retry=repeating(on=TimeoutError), time_source=clock, max_execution_time=1.0
        )

        @decorator
        def items():
            clock.advance(2.0)
            yield 1

        assert type(ended(lambda: list(items())).exception).__name__ == "ExecutionTimeout"
        assert below.outcome is Outcome.TIMED_OUT

    @pytest.mark.parametrize("attempts", [1, 2])
    def test_one_that_fails_in_every_attempt_has_failed_in_one_call(self, kind, clock, attempts):
        class Failing(Witness):
            def update(self, context):
                raise LookupError

        failing = Failing(S.POST_FAILURE)
        decorator = CallPyBack([failing], retry=repeating(), max_observer_failures=2, time_source=clock)
        function = make(kind, Flaky(BodyError(1), BodyError(2)), decorator)
        kind.call(function)
        health = handle(function).health["witness"]
        assert (health.failures, health.failures_in_a_row, health.paused) == (2, 1, False)

    def test_a_keyboard_interrupt_in_one_passes_after_book_keeping(self, kind, clock, between):
        at, attempt, told = between
        error, body = KeyboardInterrupt("k"), Flaky(BodyError(1))
        interrupted, below = Raising(error, at, attempt, priority=1), Witness(*S, notices=RETRY, name="below")
        decorator = CallPyBack([interrupted, below], retry=repeating(wait=0), time_source=clock)
        assert kind.ended(make(kind, body, decorator)).exception is error
        assert body.ran == 1
        assert below.told == [*told, "ERROR"]
        assert below.outcome is Outcome.ABORTED

    @pytest.mark.parametrize("async_kind", ASYNC_KINDS, ids=str)
    @pytest.mark.parametrize("at", [S.POST_FAILURE, RETRY], ids=str)
    def test_a_task_cancelled_while_one_is_awaited_between_two_attempts_is_cancelled(self, async_kind, clock, at):
        waits, body, witness = [], Flaky(BodyError(1)), Witness()

        class Awaited(Witness):
            async def update(self, context):
                if (context.state if context.notice is None else RETRY) is at:
                    waits[-1].set()
                    await asyncio.get_running_loop().create_future()

        decorator = CallPyBack([Awaited(notices=RETRY), witness], retry=repeating(), time_source=clock)
        function = make(async_kind, body, decorator)

        async def consume():
            if async_kind.name == "coroutine":
                return await function()
            return [item async for item in function()]

        async def main():
            waits.append(asyncio.Event())
            task = asyncio.create_task(consume())
            await waits[-1].wait()
            task.cancel()
            await asyncio.wait([task])
            return task

        assert asyncio.run(main()).cancelled()
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
        assert (witness.outcome, body.ran) == (Outcome.CANCELLED, 1)

    def test_one_added_in_a_failed_attempt_is_told_of_the_next_call(self, kind, clock):
        late = Witness(*S, notices=RETRY, name="late")
        body = Flaky(BodyError(1), BodyError(2))
        decorator = CallPyBack(
            [on_failure(lambda: late in decorator.observers or decorator.add_observer(late))],
            retry=repeating(),
            time_source=clock,
        )
        function = make(kind, body, decorator)
        assert kind.call(function) == "value"
        assert late.told == []
        body.errors = [BodyError(3)]
        kind.call(function)
        assert late.told == [
            "INITIALIZED",
            "PRE_EXECUTION",
            "EXECUTING",
            "POST_FAILURE",
            "EXECUTING",
            "EXECUTING",
            "POST_SUCCESS",
            "COMPLETED",
        ]

    def test_one_removed_in_a_failed_attempt_is_told_no_more(self, kind, clock):
        witness = Witness(*S, notices=RETRY)
        remove = on_failure(lambda: witness in decorator.observers and decorator.remove_observer(witness), priority=-1)
        decorator = CallPyBack([witness, remove], retry=repeating(), time_source=clock)
        assert kind.call(make(kind, Flaky(BodyError(1), BodyError(2)), decorator)) == "value"
        assert witness.told == ["INITIALIZED", "PRE_EXECUTION", "EXECUTING", "POST_FAILURE"]

    def test_a_pause_in_a_failed_attempt_changes_nothing_for_the_call(self, kind, clock):
        witness = Witness(notices=RETRY)
        decorator = CallPyBack(
            [witness, on_failure(lambda: handle(function).pause())], retry=repeating(), time_source=clock
        )
        function = make(kind, Flaky(BodyError(1)), decorator)
        assert kind.call(function) == "value"
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "EXECUTING", "POST_SUCCESS", "COMPLETED"]

    def test_retries_go_on_while_a_function_is_paused(self, kind, clock):
        witness, body = Witness(notices=RETRY), Flaky(BodyError(1))
        function = make(kind, body, CallPyBack([witness], retry=repeating(), time_source=clock))
        with handle(function).paused():
            assert kind.call(function) == "value"
        assert (witness.told, body.ran) == ([], 2)

    @pytest.mark.parametrize("name", ["plain", "coroutine"])
    def test_locals_are_those_of_each_attempt(self, name, clock):
        witness, ran = Witness(), []

        if name == "plain":

            def function():
                ran.append("run")
                number = len(ran)
                if number == 3:
                    later = [number]
                    return later[0]
                raise BodyError(number)

        else:

            async def function():
                ran.append("run")
                number = len(ran)
                await pause()
                if number == 3:
                    later = [number]
                    return later[0]
                raise BodyError(number)

        decorator = CallPyBack([witness], variable_names=["number", "later"], retry=repeating(), time_source=clock)
        assert Kind(name).call(decorator(function)) == 3
        assert [context.local_variables for context in witness.contexts] == [
            {},
            {"number": 1, "later": NullVariable},
            {"number": 2, "later": NullVariable},
            {"number": 3, "later": [3]},
            {"number": 3, "later": [3]},
        ]


class TestOtherCalls:
    def test_a_function_may_call_itself_in_every_attempt(self, kind, clock):
        witness, runs = Witness(S.COMPLETED), {}

        def body(depth):
            runs[depth] = runs.get(depth, 0) + 1
            inner = kind.call(function, depth - 1) if depth else "deepest"
            if runs[depth] % 2:
                raise BodyError(depth)
            return inner

        function = make(kind, body, CallPyBack([witness], retry=repeating(attempts=2), time_source=clock))
        assert kind.call(function, 3) == "deepest"
        assert runs == {3: 2, 2: 4, 1: 8, 0: 16}
        assert [context.attempt for context in witness.contexts] == [2] * 15
        assert len({context.call_id for context in witness.contexts}) == 15

    def test_a_function_decorated_twice_retries_inside_and_outside(self, kind, clock):
        inside, outside = Witness(), Witness()
        body = Flaky(*[BodyError(number) for number in range(5)])
        inner = make(kind, body, CallPyBack([inside], retry=repeating(attempts=2), time_source=clock))
        outer = CallPyBack([outside], retry=repeating(attempts=3), time_source=clock)(inner)
        assert kind.call(outer) == "value"
        assert body.ran == 6
        assert [(c.state.name, c.attempt) for c in outside.contexts] == [
            ("PRE_EXECUTION", 1),
            ("POST_FAILURE", 1),
            ("POST_FAILURE", 2),
            ("POST_SUCCESS", 3),
            ("COMPLETED", 3),
        ]
        assert inside.told == [
            *["PRE_EXECUTION", "POST_FAILURE", "POST_FAILURE", "COMPLETED"] * 2,
            *["PRE_EXECUTION", "POST_FAILURE", "POST_SUCCESS", "COMPLETED"],
        ]

    def test_a_retried_call_inside_a_retried_wait_is_its_own(self, kind):
        outer, inner = Witness(), Witness()
        inside = make(kind, Flaky(BodyError("inner")), CallPyBack([inner], retry=repeating()))
        clock = WaitingClock(lambda: kind.call(inside))
        function = make(kind, Flaky(BodyError("outer")), CallPyBack([outer], retry=repeating(), time_source=clock))
        assert kind.call(function) == "value"
        for witness in (outer, inner):
            assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "POST_SUCCESS", "COMPLETED"]
            assert len({context.call_id for context in witness.contexts}) == 1

    def test_a_function_called_by_an_observer_is_still_retried(self, kind, clock):
        witness, body, values = Witness(), Flaky(BodyError(1)), []
        function = make(kind, body, CallPyBack([witness], retry=repeating(), time_source=clock))
        CallPyBack([on_completion(lambda: values.append(kind.call(function)))])(lambda: None)()
        assert (values, body.ran) == (["value"], 2)
        assert (witness.told, handle(function).unobserved) == ([], 1)

    def test_sixteen_threads_keep_their_attempts_apart(self):
        mixed, metrics = [], MetricsObserver()

        class Separate(Witness):
            def update(self, context):
                number, slot = context.arguments["number"], context.slot
                slot.setdefault("seen", []).append((number, context.attempt, context.call_id))
                numbers, attempts, ids = zip(*slot["seen"], strict=True)
                if set(numbers) != {number} or len(set(ids)) != 1 or sorted(attempts) != list(attempts):
                    mixed.append(slot["seen"])
                if context.state.is_terminal and context.attempt != 1 + number % 3:
                    mixed.append((number, context.attempt))

        attempts = threading.local()

        @CallPyBack([Separate(), metrics], retry=repeating())
        def function(number):
            attempts.left = getattr(attempts, "left", 0) + 1
            if attempts.left <= number % 3:
                raise BodyError(number)
            attempts.left = 0
            return number

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with ThreadPoolExecutor(16) as pool:
                assert list(pool.map(function, range(1000))) == list(range(1000))
        finally:
            sys.setswitchinterval(interval)
        assert mixed == []
        assert metrics.get_metrics()["total_calls"] == 1000
        assert TELLING == []

    def test_interleaved_tasks_keep_their_attempts_apart(self):
        ends = []

        @CallPyBack(
            [on_completion(lambda context: ends.append((context.arguments["number"], context.attempt)))],
            retry=repeating(),
        )
        async def function(number, left):
            await asyncio.sleep(0)
            if left.pop():
                raise BodyError(number)
            return number

        async def main():
            return await asyncio.gather(*(function(n, [0] + [1] * (n % 3)) for n in range(200)))

        assert asyncio.run(main()) == list(range(200))
        assert sorted(ends) == [(n, 1 + n % 3) for n in range(200)]


class TestKept:
    @pytest.mark.parametrize(
        "copied",
        [copy.copy, copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))],
        ids=["copy", "deepcopy", "pickle"],
    )
    def test_contexts_of_every_attempt_can_be_copied(self, clock, copied):
        witness = Witness(*S, notices=RETRY)
        body = Flaky(ValueError(1), ValueError(2))
        CallPyBack([witness], retry=repeating(on=ValueError), time_source=clock)(body.__call__)(5)
        copies = [copied(context) for context in witness.contexts]
        for kept, made in zip(witness.contexts, copies, strict=True):
            assert made == kept
            assert (made.attempt, made.call_id, made.lifetime, made.execution_time, made.notice) == (
                kept.attempt,
                kept.call_id,
                kept.lifetime,
                kept.execution_time,
                kept.notice,
            )

    def test_contexts_can_be_copied_while_the_call_runs(self, kind, clock):
        copies = []

        class Copying(Witness):
            def update(self, context):
                super().update(context)
                copies.append(copy.deepcopy(context))

        witness = Copying(*S, notices=RETRY)
        assert (
            kind.call(
                make(
                    kind,
                    Flaky(ValueError(1), ValueError(2)),
                    CallPyBack([witness], retry=repeating(on=ValueError), time_source=clock),
                )
            )
            == "value"
        )
        assert [(c.state, c.attempt, c.notice) for c in copies] == [
            (c.state, c.attempt, c.notice) for c in witness.contexts
        ]
