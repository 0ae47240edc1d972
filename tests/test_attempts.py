"""A retried call is one call: its attempts, its waits, its one end, and the caller's own error, over every kind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import math
import sys
import time
import traceback

import pytest

from callpyback import (
    CallbackObserver,
    CallPyBack,
    CallVetoed,
    ExecutionState,
    MockTimeSource,
    Notice,
    Outcome,
    StopProcessing,
    SystemTimeSource,
    on_call,
    on_retry,
)
from callpyback.core.decisions import Again
from kinds import KINDS, BoundWitness, Witness, ended
from retrying import WAYS, BodyError, Flaky, WaitingClock, make, repeating

S, RETRY = ExecutionState, Notice.RETRY


@pytest.fixture(params=["straight", "general"])
def clock(request):
    """With the system's clock the first attempt takes the straight path."""
    return None if request.param == "straight" else MockTimeSource()


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def options(request):
    return request.param()


@pytest.fixture
def collector_off():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class TestOneCall:
    def test_the_body_runs_again_until_it_returns(self, kind, options):
        body = Flaky(BodyError(1), BodyError(2))
        assert kind.call(make(kind, body, CallPyBack(retry=repeating(), **options))) == "value"
        assert body.ran == 3

    def test_each_attempt_that_fails_is_told_and_the_end_once(self, kind, clock):
        witness, bound = Witness(), BoundWitness()
        function = make(
            kind, Flaky(BodyError(1), BodyError(2)), CallPyBack([witness, bound], retry=repeating(), time_source=clock)
        )
        kind.call(function)
        assert [(c.state.name, c.attempt) for c in witness.contexts] == [
            ("PRE_EXECUTION", 1),
            ("POST_FAILURE", 1),
            ("POST_FAILURE", 2),
            ("POST_SUCCESS", 3),
            ("COMPLETED", 3),
        ]
        assert [context.outcome for context in witness.contexts] == [None] * 4 + [Outcome.SUCCESS]
        assert (bound.begun, bound.ends) == (1, [(kind.shown("value"), None, Outcome.SUCCESS)])

    def test_those_who_ask_for_executing_are_told_it_in_each_attempt(self, kind, clock):
        witness = Witness(*S)
        kind.call(
            make(kind, Flaky(BodyError(1), BodyError(2)), CallPyBack([witness], retry=repeating(), time_source=clock))
        )
        assert [(c.state.name, c.attempt) for c in witness.contexts] == [
            ("INITIALIZED", 1),
            ("PRE_EXECUTION", 1),
            ("EXECUTING", 1),
            ("POST_FAILURE", 1),
            ("EXECUTING", 2),
            ("POST_FAILURE", 2),
            ("EXECUTING", 3),
            ("POST_SUCCESS", 3),
            ("COMPLETED", 3),
        ]
        assert all(context.notice is None for context in witness.contexts)

    def test_the_last_attempt_is_told_like_any_other_failure(self, kind, clock):
        witness, errors = Witness(), [BodyError(1), BodyError(2), BodyError(3)]
        function = make(kind, Flaky(*errors), CallPyBack([witness], retry=repeating(), time_source=clock))
        assert kind.ended(function).exception is errors[-1]
        assert [(c.state.name, c.attempt) for c in witness.contexts] == [
            ("PRE_EXECUTION", 1),
            ("POST_FAILURE", 1),
            ("POST_FAILURE", 2),
            ("POST_FAILURE", 3),
            ("COMPLETED", 3),
        ]
        assert witness.outcome is Outcome.FAILURE

    def test_id_timestamp_arguments_and_slot_are_those_of_the_one_call(self, kind, clock):
        class Remembering(Witness):
            def update(self, context):
                super().update(context)
                context.slot.setdefault("told", []).append(context.state.name)
                self.remembered = list(context.slot["told"])

        witness, reader = Remembering(), Witness(priority=-1)
        decorator = CallPyBack([witness, reader], retry=repeating(), time_source=clock)
        kind.call(make(kind, Flaky(BodyError(1), BodyError(2)), decorator), 1, b=2)
        assert witness.remembered == witness.told
        for observer in (witness, reader):  # read after the call, in another order than told
            shown = [(c.call_id, c.timestamp, c.arguments) for c in reversed(observer.contexts)]
            assert shown == [shown[0]] * 5
        assert witness.last.arguments == {"args": (1,), "b": 2}
        assert witness.last.call_id == reader.last.call_id

    def test_the_next_call_is_another_and_begins_with_its_first_attempt(self, kind, clock):
        witness = Witness(S.COMPLETED)
        body = Flaky(BodyError(1), BodyError(2))
        function = make(kind, body, CallPyBack([witness], retry=repeating(), time_source=clock))
        for _ in range(2):
            kind.call(function)
        assert [context.attempt for context in witness.contexts] == [3, 1]
        assert len({context.call_id for context in witness.contexts}) == 2

    def test_contexts_kept_from_an_earlier_attempt_keep_showing_it(self, kind):
        clock, witness = WaitingClock(), Witness()
        errors = [BodyError(1), BodyError(2)]
        function = make(
            kind,
            Flaky(*errors, clock=clock, seconds=2.0),
            CallPyBack([witness], retry=repeating(wait=10), time_source=clock),
        )
        kind.call(function)
        _, first, second, success, last = witness.contexts
        assert [(c.attempt, c.execution_time) for c in (first, second, success, last)] == [
            (1, 2.0),
            (2, 4.0),
            (3, 6.0),
            (3, 6.0),
        ]
        assert [repr(c.result.exception) for c in (first, second)] == ["BodyError(1)", "BodyError(2)"]
        assert [(c.is_failed, c.is_successful) for c in (first, second, last)] == [
            (True, False),
            (True, False),
            (False, True),
        ]
        assert [c.outcome for c in (first, second)] == [None, None]

    def test_while_a_failure_is_told_its_exception_is_the_users_own(self, kind, clock):
        seen, errors = [], [BodyError(1), BodyError(2)]

        class Seeing(Witness):
            def update(self, context):
                seen.append(context.result.exception)

        function = make(
            kind, Flaky(*errors), CallPyBack([Seeing(S.POST_FAILURE)], retry=repeating(), time_source=clock)
        )
        kind.call(function)
        assert [error is own for error, own in zip(seen, errors, strict=True)] == [True, True]

    def test_an_attempt_uses_the_same_arguments(self, kind, clock):
        given = []

        def body(*args, **kwargs):
            given.append((args, kwargs))
            if len(given) < 3:
                raise BodyError

        held = object()
        kind.call(make(kind, body, CallPyBack(retry=repeating(), time_source=clock)), held, [1], key=held)
        assert given == [((held, [1]), {"key": held})] * 3
        assert len({id(args[1]) for args, _ in given}) == 1


class TestTheError:
    def test_the_last_error_reaches_the_caller_as_itself(self, kind, options):  # E34
        cause, errors = KeyError("cause"), [BodyError(1), BodyError(2), BodyError(3)]
        last = errors[-1]
        last.add_note("a note")
        last.__cause__ = cause
        function = make(kind, Flaky(*errors), CallPyBack(retry=repeating(), **options))
        assert kind.ended(function).exception is last
        assert (last.__context__, last.__cause__, last.__notes__) == (None, cause, ["a note"])

    def test_nothing_of_an_earlier_attempt_is_its_context(self, kind, options):
        raised = []

        def body():
            raised.append(BodyError(len(raised)))
            raise raised[-1]

        kind.ended(make(kind, body, CallPyBack(retry=repeating(), **options)))
        assert [error.__context__ for error in raised] == [None] * 3

    def test_what_the_caller_handles_is_its_context_as_ever(self, kind, options):  # E02
        error, outer = BodyError(2), KeyError("outer")
        function = make(kind, Flaky(BodyError(1), error), CallPyBack(retry=repeating(attempts=2), **options))
        try:
            raise outer
        except KeyError:
            assert kind.ended(function).exception is error
        assert error.__context__ is outer

    def test_its_traceback_is_that_of_one_attempt(self, kind, options):  # E03
        def body():
            raise BodyError

        bare = names(kind.ended(make(kind, body)).exception)
        decorated = make(kind, body, CallPyBack(retry=repeating(), **options))
        for _ in range(3):  # the first call makes the code
            found = names(kind.ended(decorated).exception)
            assert found[-1] == "body"
            assert len(found) - len(bare) <= 1

    def test_an_error_raised_by_every_attempt_has_the_traceback_of_a_loop_by_hand(self, kind, options):
        def looped(error):
            for left in range(3):
                try:
                    kind.call(make(kind, raising(error)))
                except BodyError:
                    if left == 2:
                        raise

        by_hand, retried = BodyError("by hand"), BodyError("retried")
        ended(lambda: looped(by_hand))
        assert kind.ended(make(kind, raising(retried), CallPyBack(retry=repeating(), **options))).exception is retried
        assert len(names(retried)) <= len(names(by_hand))

    def test_each_attempt_runs_at_the_same_depth(self, kind, options):
        depths = []

        def body():
            depths.append(len(inspect.stack(0)))
            if len(depths) < 4:
                raise BodyError

        kind.call(make(kind, body, CallPyBack(retry=repeating(attempts=4), **options)))
        bare = []
        kind.call(make(kind, lambda: bare.append(len(inspect.stack(0)))))
        assert len(set(depths)) == 1
        assert depths[0] - bare[0] <= 1

    def test_each_attempt_sees_the_exception_its_caller_handles_and_no_other(self, kind, options):
        seen, outer = [], KeyError("outer")

        def body():
            seen.append(sys.exc_info()[1])
            if len(seen) % 3:
                raise BodyError

        function = make(kind, body, CallPyBack(retry=repeating(), **options))
        kind.call(function)
        try:
            raise outer
        except KeyError:
            kind.call(function)
        assert seen == [None] * 3 + [outer] * 3
        assert sys.exc_info()[1] is None

    def test_observers_see_the_exception_under_way_only_while_it_is(self, kind, clock):
        seen, errors = [], [BodyError(1), BodyError(2)]

        class Seeing(Witness):
            def update(self, context):
                seen.append((context.state.name, context.notice is not None, sys.exc_info()[1]))

        decorator = CallPyBack([Seeing(*S, notices=RETRY)], retry=repeating(attempts=2), time_source=clock)
        function = make(kind, Flaky(*errors), decorator)
        first, last = errors
        kind.ended(function)
        assert seen == [
            ("INITIALIZED", False, None),
            ("PRE_EXECUTION", False, None),
            ("EXECUTING", False, None),
            ("POST_FAILURE", False, first),
            ("EXECUTING", True, None),
            ("EXECUTING", False, None),
            ("POST_FAILURE", False, last),
            ("COMPLETED", False, last),
        ]

    @pytest.mark.parametrize(
        "error",
        [KeyboardInterrupt("k"), SystemExit(3), GeneratorExit("g"), asyncio.CancelledError("c"), BaseException("own")],
        ids=repr,
    )
    @pytest.mark.parametrize("attempt", [1, 2])
    def test_what_belongs_to_the_program_is_never_retried(self, kind, clock, error, attempt):  # E33
        class Always:
            def next_wait(self, error, attempt, elapsed):
                return 0.0

        witness, body = Witness(), Flaky(*[BodyError(1)] * (attempt - 1), error)
        function = make(kind, body, CallPyBack([witness], retry=Always(), time_source=clock))
        assert kind.ended(function).exception is error
        assert error.__context__ is None
        assert body.ran == attempt
        assert witness.told == ["PRE_EXECUTION", *["POST_FAILURE"] * (attempt - 1), witness.last.state.name]
        assert witness.last.state.is_terminal
        assert (witness.last.attempt, witness.outcome in (Outcome.SUCCESS, Outcome.FAILURE)) == (attempt, False)

    def test_an_exception_group_is_retried_as_one_error(self, kind, clock):
        group = ExceptionGroup("many", [BodyError(1), KeyError("k")])
        body = Flaky(group, ExceptionGroup("many", [BodyError(2)]))
        function = make(kind, body, CallPyBack(retry=repeating(on=ExceptionGroup), time_source=clock))
        assert kind.call(function) == "value"

    @pytest.mark.parametrize(
        "error", [StopIteration("s"), StopAsyncIteration("s"), RecursionError(), MemoryError()], ids=repr
    )
    def test_exceptions_with_a_meaning_of_their_own_are_retried_too(self, clock, error):
        body = Flaky(error)
        assert CallPyBack(retry=repeating(on=Exception), time_source=clock)(body.__call__)() == "value"


class Handler:
    def __init__(self, act):
        self.act = act
        self.asked = []

    def handle_error(self, error, context):
        self.asked.append((error, context.attempt))
        return self.act(error, context)


class TestDeciding:
    def test_retry_is_asked_first_whatever_exception_classes_says(self, kind, clock):
        witness = Witness()
        options = {"retry": repeating(), "exception_classes": (KeyError,), "time_source": clock}
        assert kind.call(make(kind, Flaky(BodyError(1)), CallPyBack([witness], **options))) == "value"
        assert witness.outcome is Outcome.SUCCESS
        function = make(kind, Flaky(*[BodyError(n) for n in range(3)]), CallPyBack([witness], **options))
        assert type(kind.ended(function).exception) is BodyError
        assert (witness.last.state, witness.last.attempt, witness.outcome) == (S.ERROR, 3, Outcome.FAILURE)

    def test_an_error_it_is_not_for_ends_the_attempts(self, kind, clock):
        body, error = Flaky(BodyError(1), KeyError("k")), None
        error = body.errors[-1]
        assert kind.ended(make(kind, body, CallPyBack(retry=repeating(), time_source=clock))).exception is error
        assert body.ran == 2

    def test_a_handler_is_asked_once_retry_has_given_up(self, kind, clock):
        witness, handler = Witness(), Handler(lambda error, context: "handled")
        errors = [BodyError(1), BodyError(2)]
        decorator = CallPyBack([witness], retry=repeating(attempts=2), error_handler=handler, time_source=clock)
        came = kind.ended(make(kind, Flaky(*errors), decorator))
        assert came.value == "handled" or kind.is_generator
        assert [(error is errors[-1], attempt) for error, attempt in handler.asked] == [(True, 2)]
        assert (witness.outcome, witness.last.returned, witness.last.decided_by) == (
            Outcome.HANDLED,
            "handled",
            "Handler",
        )
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "POST_FAILURE", "COMPLETED"]

    def test_another_error_of_the_handler_goes_to_the_caller(self, kind, clock):
        witness, other, last = Witness(), KeyError("other"), BodyError(2)

        def act(error, context):
            raise other

        decorator = CallPyBack([witness], retry=repeating(attempts=2), error_handler=Handler(act), time_source=clock)
        assert kind.ended(make(kind, Flaky(BodyError(1), last), decorator)).exception is other
        assert other.__context__ is last
        assert (witness.outcome, witness.last.decided_by) == (Outcome.FAILURE, "Handler")

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.is_generator], ids=str)
    def test_a_default_follows_once_retry_has_given_up(self, kind, clock):
        witness = Witness()
        decorator = CallPyBack([witness], retry=repeating(attempts=2), default_return=None, time_source=clock)
        assert kind.call(make(kind, Flaky(BodyError(1), BodyError(2)), decorator)) is None
        assert (witness.outcome, witness.last.decided_by) == (Outcome.HANDLED, "default_return")
        assert repr(witness.last.result.exception) == "BodyError(2)"

    def test_a_retry_that_raises_sends_that_with_the_users_as_its_context(self, kind, clock):  # E28
        class Raising:
            def next_wait(self, error, attempt, elapsed):
                raise LookupError(attempt)

        error, witness = BodyError(1), Witness()
        function = make(kind, Flaky(error), CallPyBack([witness], retry=Raising(), time_source=clock))
        came = kind.ended(function).exception
        assert (repr(came), came.__context__) == ("LookupError(1)", error)
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]

    @pytest.mark.parametrize("wait", [-1, math.nan, "5"], ids=repr)
    def test_a_wait_that_is_no_number_of_seconds_gives_up(self, kind, clock, wait, caplog):
        class Garbled:
            def next_wait(self, error, attempt, elapsed):
                return wait

        witness, error = Witness(notices=RETRY), BodyError(1)
        body = Flaky(error, BodyError(2))
        function = make(kind, body, CallPyBack([witness], retry=Garbled(), time_source=clock))
        assert kind.ended(function).exception is error
        assert (body.ran, witness.told) == (1, ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"])
        assert "seconds" in caplog.text

    def test_retry_is_asked_with_the_number_of_the_attempt_and_the_seconds_since_the_beginning(self, kind):
        asked, clock = [], WaitingClock()

        class Asked:
            def next_wait(self, error, attempt, elapsed):
                asked.append((repr(error), attempt, elapsed))
                return 10.0

        body = Flaky(BodyError(1), BodyError(2), clock=clock, seconds=2.0)
        kind.call(make(kind, body, CallPyBack(retry=Asked(), time_source=clock)))
        assert asked == [("BodyError(1)", 1, 2.0), ("BodyError(2)", 2, 14.0)]

    def test_a_handler_that_decides_for_another_attempt_needs_no_retry_beside_it(self, kind, clock):
        class Repeating:
            is_async = False
            name = "repeating"

            def decide(self, error, context):
                yield from ()
                return Again(0.0, self.name) if context.attempt < 3 else None

            def handle_error(self, error, context):
                raise error

        witness, body = Witness(), Flaky(BodyError(1), BodyError(2))
        assert (
            kind.call(make(kind, body, CallPyBack([witness], error_handler=Repeating(), time_source=clock))) == "value"
        )
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "POST_FAILURE", "POST_SUCCESS", "COMPLETED"]

    def test_guards_are_asked_once_a_call(self, kind, clock):
        guard, bound = Witness(guard=True), BoundGuard()
        function = make(
            kind, Flaky(BodyError(1), BodyError(2)), CallPyBack([guard, bound], retry=repeating(), time_source=clock)
        )
        kind.call(function)
        assert guard.told.count("PRE_EXECUTION") == 1
        assert bound.admitted == 1
        assert bound.ends == [(kind.shown("value"), None, Outcome.SUCCESS, "token")]

    def test_a_guard_that_decides_is_not_retried(self, kind, clock):
        def decide():
            raise next(decisions)

        decisions = iter([StopProcessing(kind.answer("answer")), BodyVeto("no")])
        body = Flaky()
        function = make(kind, body, CallPyBack([on_call(decide)], retry=repeating(on=Exception), time_source=clock))
        assert kind.call(function) == "answer"
        assert type(kind.ended(function).exception) is BodyVeto
        assert body.ran == 0


class BodyVeto(CallVetoed):
    pass


class BoundGuard:
    priority = 0
    guard = True

    def __init__(self):
        self.admitted = 0
        self.ends = []
        self.elapsed = []

    def bind_guard(self, function_signature, clock):
        def admit(args, kwargs):
            self.admitted += 1
            return "token"

        def end(elapsed, value, exception, outcome, token):
            self.elapsed.append(elapsed)
            self.ends.append((value, exception, outcome, token))

        return admit, end


class OnlyNow:
    def now(self):
        return 5.0


class TestTime:
    def test_calls_wait_by_the_time_source(self, kind):
        clock = WaitingClock()
        function = make(
            kind,
            Flaky(BodyError(1), BodyError(2)),
            CallPyBack(retry=repeating(wait=lambda attempt: 10.0 * attempt), time_source=clock),
        )
        kind.call(function)
        assert (clock.waits, clock.now()) == ([10.0, 20.0], 30.0)

    @pytest.mark.parametrize("clock", [None, SystemTimeSource(), OnlyNow()], ids=["none", "system", "without sleep"])
    def test_without_one_that_sleeps_they_really_wait(self, kind, clock, monkeypatch):
        waits = []
        monkeypatch.setattr(time, "sleep", waits.append)  # a coroutine that is driven by hand blocks its thread
        function = make(kind, Flaky(BodyError(1)), CallPyBack(retry=repeating(wait=7), time_source=clock))
        kind.call(function)
        assert waits == [7.0]

    def test_the_time_of_the_bodies_adds_up_and_the_lifetime_has_the_waits_too(self, kind):
        clock, witness, bound, guard = WaitingClock(), Witness(), BoundWitness(), BoundGuard()
        function = make(
            kind,
            Flaky(BodyError(1), BodyError(2), clock=clock, seconds=2.0),
            CallPyBack([witness, bound, guard], retry=repeating(wait=10), time_source=clock),
        )
        kind.call(function)
        assert [(c.state.name, c.execution_time, c.lifetime) for c in witness.contexts] == [
            ("PRE_EXECUTION", None, None),
            ("POST_FAILURE", 2.0, 2.0),
            ("POST_FAILURE", 4.0, 14.0),
            ("POST_SUCCESS", 6.0, 26.0),
            ("COMPLETED", 6.0, 26.0),
        ]
        assert guard.elapsed == [6.0]

    def test_the_lifetime_of_a_call_that_was_given_up_has_the_waits_too(self, kind):
        clock, witness = WaitingClock(), Witness()
        body = Flaky(BodyError(1), BodyError(2), clock=clock, seconds=2.0)
        kind.ended(make(kind, body, CallPyBack([witness], retry=repeating(wait=10, attempts=2), time_source=clock)))
        assert (witness.last.execution_time, witness.last.lifetime) == (4.0, 14.0)

    def test_the_lifetime_of_a_call_aborted_in_a_later_attempt_begins_with_the_first(self, kind):
        clock, witness = WaitingClock(), Witness()
        body = Flaky(BodyError(1), KeyboardInterrupt(), clock=clock, seconds=2.0)
        kind.ended(make(kind, body, CallPyBack([witness], retry=repeating(wait=10), time_source=clock)))
        assert witness.outcome is Outcome.ABORTED
        assert (witness.last.execution_time, witness.last.lifetime) == (4.0, 14.0)

    def test_a_call_that_is_not_retried_has_a_lifetime_only_if_it_has_failed(self, kind):
        clock, witness = WaitingClock(), Witness(S.COMPLETED)
        kind.call(make(kind, Flaky(clock=clock), CallPyBack([witness], retry=repeating(), time_source=clock)))
        assert witness.last.lifetime == (1.0 if kind.is_generator else None)

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.is_generator], ids=str)
    def test_the_first_item_of_a_generator_comes_after_all_the_attempts_before_it(self, kind):
        clock, witness = WaitingClock(), Witness()
        body = Flaky(BodyError(1), clock=clock, seconds=2.0)
        kind.call(make(kind, body, CallPyBack([witness], retry=repeating(wait=10), time_source=clock)))
        assert [context.items for context in witness.contexts] == [None, 0, 1, 1]
        assert witness.last.time_to_first_item == 14.0

    def test_the_observers_time_is_not_the_bodys(self, kind):
        clock, witness = WaitingClock(), Witness()
        slow = [on_retry(lambda: clock.advance(100)), CallbackObserver(lambda: clock.advance(100), S.EXECUTING)]
        body = Flaky(BodyError(1), clock=clock, seconds=2.0)
        kind.call(make(kind, body, CallPyBack([*slow, witness], retry=repeating(), time_source=clock)))
        assert witness.last.execution_time == 4.0

    @pytest.mark.parametrize("failing", ["raises", "gives nan"])
    def test_a_clock_that_fails_hurts_no_attempt(self, kind, failing):  # K04
        class Broken:
            def now(self):
                return math.nan if failing == "gives nan" else 1 / 0

        witness, body = Witness(), Flaky(BodyError(1), BodyError(2))
        assert kind.call(make(kind, body, CallPyBack([witness], retry=repeating(), time_source=Broken()))) == "value"
        assert math.isnan(witness.last.execution_time)
        assert math.isnan(witness.last.lifetime)

    def test_a_clock_that_goes_back_gives_no_negative_time(self, kind):  # K02
        clock, witness = WaitingClock(), Witness()
        clock.meanwhile = lambda: clock.set_time(-1e6)
        body = Flaky(BodyError(1), clock=clock, seconds=2.0)
        kind.call(make(kind, body, CallPyBack([witness], retry=repeating(wait=5), time_source=clock)))
        assert (witness.last.execution_time, witness.last.lifetime) == (4.0, 0.0)


def names(error) -> list[str]:
    """Return the functions in a traceback below this module's own helpers."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def raising(error):
    def body():
        raise error

    return body
