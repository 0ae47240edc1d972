"""A retry is told inside EXECUTING to those who ask for it, and to nobody else."""

from __future__ import annotations

import copy
import functools
import gc
import operator
import pickle
import weakref

import pytest

from callpyback import (
    BaseObserver,
    CallbackObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionContext,
    ExecutionState,
    FunctionSignature,
    Notice,
    RetryNotice,
    create_callback_observer,
    handle,
    on_retry,
)
from callpyback.handlers import Handler
from callpyback.testing import build_context
from kinds import Kind, Witness, ended, pause
from retrying import ASYNC_KINDS, BodyError, Flaky, WaitingClock, make, repeating

S, RETRY = ExecutionState, Notice.RETRY


@pytest.fixture(params=["straight", "general"])
def clock(request):
    """With the system's clock the first attempt takes the straight path."""
    return None if request.param == "straight" else WaitingClock()


def told_of(observer, kind=Kind("plain"), failures=2, clock=None, wait=0, **options):  # noqa: B008 - it never changes
    """Call a function that fails a few times and then returns, observed by one observer; return the errors."""
    errors = [BodyError(number + 1) for number in range(failures)]
    decorator = CallPyBack([observer], retry=repeating(wait=wait, attempts=9), time_source=clock, **options)
    assert kind.call(make(kind, Flaky(*errors), decorator)) == "value"
    return errors


class TestContexts:
    def test_a_notice_says_what_failed_and_how_long_the_call_waits(self, kind):
        seen, clock = [], WaitingClock()

        class Seeing(Witness):
            def update(self, context):
                super().update(context)
                seen.append((context.notice, context.notice.exception))

        observer = Seeing(notices=RETRY)
        observer.states = ()
        errors = told_of(observer, kind, clock=clock, wait=lambda attempt: 10.0 * attempt)
        assert [notice for notice, _ in seen] == [RetryNotice(1, errors[0], 10.0), RetryNotice(2, errors[1], 20.0)]
        assert [exception is own for (_, exception), own in zip(seen, errors, strict=True)] == [True, True]

    def test_it_is_told_in_executing_without_a_result(self, kind, clock):
        witness = Witness(S.COMPLETED, notices=RETRY)
        told_of(witness, kind, clock=clock)
        notices = witness.contexts[:-1]
        assert [(c.state, c.attempt, c.outcome, c.result, c.execution_time) for c in notices] == [
            (S.EXECUTING, 1, None, None, None),
            (S.EXECUTING, 2, None, None, None),
        ]
        assert [(c.is_successful, c.is_failed, c.local_variables, c.lifetime) for c in notices] == [
            (False, False, {}, None)
        ] * 2
        assert witness.last.notice is None
        assert len({context.call_id for context in witness.contexts}) == 1

    def test_it_comes_after_the_failure_and_before_the_next_attempt(self, kind, clock):
        witness = Witness(*S, notices=RETRY)
        told_of(witness, kind, failures=1, clock=clock)
        assert [(c.state.name, c.notice is not None, c.attempt) for c in witness.contexts] == [
            ("INITIALIZED", False, 1),
            ("PRE_EXECUTION", False, 1),
            ("EXECUTING", False, 1),
            ("POST_FAILURE", False, 1),
            ("EXECUTING", True, 1),
            ("EXECUTING", False, 2),
            ("POST_SUCCESS", False, 2),
            ("COMPLETED", False, 2),
        ]

    def test_it_is_told_before_the_wait(self, kind):
        order, clock = [], WaitingClock(lambda: order.append("wait"))
        told_of(on_retry(lambda: order.append("notice")), kind, clock=clock)
        assert order == ["notice", "wait"] * 2

    def test_those_who_do_not_ask_are_not_told(self, kind, clock):
        witness = Witness()
        told_of(witness, kind, clock=clock)
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "POST_FAILURE", "POST_SUCCESS", "COMPLETED"]

    def test_nothing_is_told_where_nothing_is_run_again(self, kind, clock):
        witness = Witness(notices=RETRY)
        decorator = CallPyBack([witness], retry=repeating(attempts=1), time_source=clock)
        function = make(kind, Flaky(BodyError(1)), decorator)
        kind.ended(function)
        kind.call(function)
        assert [context.notice for context in witness.contexts] == [None] * 6

    def test_the_slot_is_that_of_the_call(self, kind, clock):
        seen = []

        class Remembering(Witness):
            def update(self, context):
                context.slot["told"] = context.slot.get("told", 0) + 1
                seen.append((context.notice is not None, context.slot["told"]))

        told_of(Remembering(S.PRE_EXECUTION, notices=RETRY), kind, clock=clock)
        assert seen == [(False, 1), (True, 2), (True, 3)]

    def test_higher_priorities_are_told_earlier(self, kind, clock):
        order = []
        observers = [on_retry(lambda n=number: order.append(n), priority) for number, priority in enumerate((1, 5, 5))]
        decorator = CallPyBack(observers, retry=repeating(), time_source=clock)
        kind.call(make(kind, Flaky(BodyError(1)), decorator))
        assert order == [1, 2, 0]

    def test_many_may_listen(self, kind, clock):
        told = []
        observers = [on_retry(lambda n=number: told.append(n)) for number in range(20)]
        kind.call(make(kind, Flaky(BodyError(1)), CallPyBack(observers, retry=repeating(), time_source=clock)))
        assert told == list(range(20))

    def test_a_subclass_of_base_observer_may_ask_for_notices(self, clock):
        class Counting(BaseObserver):
            states = S.COMPLETED
            notices = RETRY
            retries = 0

            def update(self, context):
                self.retries += context.notice is not None

        counting = Counting()
        told_of(counting, clock=clock)
        assert counting.retries == 2

    @pytest.mark.parametrize("notices", [RETRY, [RETRY], {RETRY}, iter([RETRY]), (RETRY, RETRY)], ids=range(5))
    def test_notices_are_one_or_several(self, notices):
        witness = Witness(S.COMPLETED, notices=notices)
        told_of(witness)
        assert witness.told == ["EXECUTING", "EXECUTING", "COMPLETED"]

    @pytest.mark.parametrize("notices", [None, (), []], ids=str)
    def test_none_are_told_to_those_who_ask_for_none(self, notices):
        witness = Witness(S.COMPLETED, notices=notices)
        told_of(witness)
        assert witness.told == ["COMPLETED"]

    @pytest.mark.parametrize(
        "notices", ["retry", "RETRY", S.EXECUTING, [S.EXECUTING], [RETRY, None], 5, [[RETRY]]], ids=repr
    )
    def test_what_is_no_notice_is_refused(self, notices):
        with pytest.raises(ConfigurationError, match=r"notices=.* is no Notice; expected some of RETRY"):
            CallPyBack([Witness(notices=notices)])

    @pytest.mark.parametrize("states", [RETRY, [RETRY], [S.COMPLETED, RETRY]], ids=repr)
    def test_a_notice_is_no_state(self, states):
        class Observer(Witness):
            pass

        observer = Observer()
        observer.states = states
        with pytest.raises(ConfigurationError, match="is no ExecutionState"):
            CallPyBack([observer])


class TestCallbacks:
    def test_a_callback_gets_what_it_names(self, kind):
        got, clock = [], WaitingClock()

        def note(attempt, exception, wait, state, arguments, result, outcome, value, execution_time):
            got.append((attempt, exception, wait, state, arguments, result, outcome, value, execution_time))

        decorator = CallPyBack([on_retry(note)], retry=repeating(wait=5), time_source=clock)
        errors = [BodyError(1), BodyError(2)]
        kind.call(make(kind, Flaky(*errors), decorator), 7)
        assert got == [
            (1, errors[0], 5.0, S.EXECUTING, {"args": (7,)}, None, None, None, None),
            (2, errors[1], 5.0, S.EXECUTING, {"args": (7,)}, None, None, None, None),
        ]

    def test_a_callback_may_take_the_context(self, kind, clock):
        contexts = []
        errors = told_of(on_retry(lambda context: contexts.append(context)), kind, clock=clock)
        told_of(on_retry(lambda ctx, attempt: contexts.append(ctx)), kind, clock=clock)
        assert [context.notice.attempt for context in contexts] == [1, 2, 1, 2]
        assert contexts[0].notice == RetryNotice(1, errors[0], 0.0)

    def test_a_builtin_gets_the_context(self, clock):
        contexts = []
        told_of(on_retry(contexts.append), clock=clock)
        assert [(context.state, context.notice.wait) for context in contexts] == [(S.EXECUTING, 0.0)] * 2

    def test_outside_a_retry_there_is_no_wait(self, clock):
        waits = []
        told_of(create_callback_observer(lambda wait, attempt: waits.append((wait, attempt)), S.COMPLETED), clock=clock)
        assert waits == [(None, 3)]

    @pytest.mark.parametrize("name", ["exception", "wait", "attempt", "state", "context"])
    def test_a_callback_gets_the_same_however_it_is_told(self, name, clock):
        """Compiled, by `update` of a subclass, and by `update` called by hand."""

        class Own(CallbackObserver):
            def update(self, context):
                updated.append(context)
                return super().update(context)

        namespace = {"got": []}
        exec(f"def note({name}): got.append({name})", namespace)
        got, updated = namespace["got"], []
        compiled, own = CallbackObserver(namespace["note"], RETRY), Own(namespace["note"], RETRY)
        decorator = CallPyBack([compiled, own], retry=repeating(), time_source=clock)
        decorator(Flaky(BodyError(1)).__call__)()
        compiled.update(updated[0])
        assert len(got) == 3
        assert repr(got[0]) == repr(got[1]) == repr(got[2])
        assert got[0] is not None

    def test_states_and_notices_can_be_asked_for_together(self, kind, clock):
        told = []
        told_of(
            create_callback_observer(lambda state, wait: told.append((state, wait)), [RETRY, S.COMPLETED]),
            kind,
            clock=clock,
        )
        assert told == [(S.EXECUTING, 0.0), (S.EXECUTING, 0.0), (S.COMPLETED, None)]

    def test_other_states_can_be_asked_for_when_it_is_added(self, clock):
        told = []
        observer = on_retry(lambda state: told.append(state))
        decorator = CallPyBack(retry=repeating(), time_source=clock)
        decorator.add_observer(observer, S.COMPLETED)
        decorator(Flaky(BodyError(1)).__call__)()
        assert told == [S.EXECUTING, S.COMPLETED]

    def test_a_callback_that_raises_is_isolated(self, kind, clock):
        told = []
        decorator = CallPyBack(
            [on_retry(lambda: 1 / 0), on_retry(lambda: told.append(1))], retry=repeating(), time_source=clock
        )
        function = make(kind, Flaky(BodyError(1)), decorator)
        assert kind.call(function) == "value"
        assert told == [1]
        assert sorted(health.failures for health in handle(function).health.values()) == [0, 1]

    def test_a_callback_of_notices_alone_is_paused_like_any_other(self, clock):
        raised = []
        decorator = CallPyBack(
            [on_retry(lambda: raised.append(1) or 1 / 0)],
            retry=repeating(attempts=9),
            max_observer_failures=2,
            time_source=clock,
        )
        body = Flaky()
        function = decorator(lambda: body())
        for _ in range(4):
            body.errors = [BodyError(1), BodyError(2)]
            function()
        assert len(raised) == 3  # with the failure that makes it two calls in a row it is paused
        [health] = handle(function).health.values()
        assert (health.paused, health.failures) == (True, 3)

    @pytest.mark.parametrize("async_kind", ASYNC_KINDS, ids=str)
    def test_a_coroutine_function_is_awaited_before_the_wait(self, async_kind):
        order, clock = [], WaitingClock(lambda: order.append("wait"))

        async def note(attempt, exception):
            await pause()
            order.append((attempt, repr(exception)))

        told_of(on_retry(note), async_kind, clock=clock)
        assert order == [(1, "BodyError(1)"), "wait", (2, "BodyError(2)"), "wait"]

    def test_a_coroutine_function_is_refused_where_nothing_awaits_it(self):
        async def note(attempt): ...

        with pytest.raises(ConfigurationError, match="there is nothing to await it"):
            CallPyBack([on_retry(note)], retry=repeating())(lambda: None)

    def test_a_parameter_of_another_name_is_refused(self):
        with pytest.raises(ConfigurationError, match="did you mean 'attempt'"):
            on_retry(lambda attempts: None)

    def test_calls_it_makes_are_unobserved(self, kind, clock):
        witness = Witness()
        inner = CallPyBack([witness])(lambda: "inner")
        told_of(on_retry(lambda: inner()), kind, clock=clock)
        assert witness.told == []
        assert handle(inner).unobserved == 2


class TestHooks:
    def test_a_function_has_a_hook(self, kind, clock):
        told = []
        function = make(kind, Flaky(BodyError(1)), CallPyBack(retry=repeating(), time_source=clock))

        @function.on_retry
        def note(attempt, exception, wait):
            told.append((attempt, repr(exception), wait))

        assert kind.call(function) == "value"
        assert told == [(1, "BodyError(1)", 0.0)]
        assert callable(note)

    def test_it_takes_a_priority_and_a_name(self, clock):
        told = []
        function = CallPyBack(retry=repeating(), time_source=clock)(lambda body: body())

        @function.on_retry(priority=-5, name="last")
        def note():
            told.append("last")

        function.on_retry(lambda: told.append("first"))
        function(Flaky(BodyError(1)))
        assert told == ["first", "last"]
        assert "last" in handle(function).health
        assert repr(function.on_retry).startswith("<Hook for RETRY of <FunctionHandle of ")

    @pytest.mark.parametrize(
        "target", [functools.partial(int, base=10), operator.itemgetter(0), len, "a".join], ids=range(4)
    )
    def test_callables_that_are_no_functions_have_it_too(self, target):
        told = []
        observed = CallPyBack(retry=repeating(on=Exception, attempts=2))(target)
        observed.on_retry(lambda attempt: told.append(attempt))
        ended(lambda: observed(None))
        assert told == [1]

    def test_it_may_be_weak(self):
        class Listening:
            def note(self, attempt):
                told.append(attempt)

        told, listening = [], Listening()
        function = CallPyBack(retry=repeating())(lambda body: body())
        function.on_retry(listening.note, weak=True)
        function(Flaky(BodyError(1)))
        gone = weakref.ref(listening)
        del listening
        gc.collect()
        assert gone() is None
        assert function(Flaky(BodyError(1))) == "value"
        assert told == [1]

    def test_it_may_be_removed_by_name(self, clock):
        told = []
        function = CallPyBack(retry=repeating(), time_source=clock)(lambda body: body())
        function.on_retry(lambda: told.append(1), name="note")
        handle(function).remove_observer("note")
        function(Flaky(BodyError(1)))
        assert told == []

    def test_a_handlers_own_retries_are_told_too(self, kind, clock):
        told = []
        chain = Handler(BodyError, retry=repeating(), reraise=True)
        decorator = CallPyBack([on_retry(lambda attempt: told.append(attempt))], error_handler=chain, time_source=clock)
        assert kind.call(make(kind, Flaky(BodyError(1), BodyError(2)), decorator)) == "value"
        assert told == [1, 2]


class TestRecords:
    def test_a_notice_that_is_kept_shows_the_error_without_its_frames(self, kind, clock):
        witness = Witness(S.COMPLETED, notices=RETRY)
        errors = told_of(witness, kind, clock=clock)
        kept = [context.notice for context in witness.contexts[:-1]]
        assert [notice.attempt for notice in kept] == [1, 2]
        assert [(type(n.exception), n.exception.args, n.exception.__traceback__) for n in kept] == [
            (BodyError, (1,), None),
            (BodyError, (2,), None),
        ]
        assert kept == [RetryNotice(1, errors[0], 0.0), RetryNotice(2, errors[1], 0.0)]

    @pytest.mark.parametrize(
        "copied",
        [copy.copy, copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))],
        ids=["copy", "deepcopy", "pickle"],
    )
    def test_a_notice_can_be_copied(self, clock, copied):
        witness, copies = Witness(S.COMPLETED, notices=RETRY), []
        witness.update = lambda context: (witness.contexts.append(context), copies.append(copied(context.notice)))
        told_of(witness, clock=clock)
        kept = [context.notice for context in witness.contexts]
        assert copies == kept == [copied(notice) for notice in kept]
        assert [notice and notice.attempt for notice in copies] == [1, 2, None]

    def test_notices_are_compared_by_what_they_say(self):
        notice = RetryNotice(1, BodyError("e"), 2.0)
        assert notice == RetryNotice(1, BodyError("e"), 2.0)
        assert hash(notice) == hash(RetryNotice(1, BodyError("e"), 2.0))
        for other in (
            RetryNotice(2, BodyError("e"), 2.0),
            RetryNotice(1, BodyError("f"), 2.0),
            RetryNotice(1, KeyError("e"), 2.0),
            RetryNotice(1, BodyError("e"), 3.0),
            "notice",
        ):
            assert notice != other

    def test_a_notice_never_changes(self):
        notice = RetryNotice(1, BodyError("e"), 2.0)
        for name in ("attempt", "exception", "wait"):
            with pytest.raises(AttributeError):
                setattr(notice, name, 5)

    def test_contexts_of_different_notices_differ(self, clock):
        witness = Witness(S.COMPLETED, notices=RETRY)
        told_of(witness, clock=clock)
        first, second, last = witness.contexts
        assert first != second != last
        assert first == copy.copy(first)

    def test_a_copy_of_a_context_keeps_its_notice(self, clock):
        witness = Witness(S.COMPLETED, notices=RETRY)
        told_of(witness, clock=clock)
        context = witness.contexts[0].with_variables({"x": 1})
        assert (context.notice.attempt, context.local_variables, context.attempt) == (1, {"x": 1}, 1)

    def test_a_context_built_by_hand_has_no_notice(self):
        assert ExecutionContext(state=S.EXECUTING, function_signature=FunctionSignature("f")).notice is None
        assert build_context(state=S.EXECUTING).notice is None
