"""The test kit for people who test their own observers: what it records is true, what it asserts is what it says."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import doctest
import importlib
import importlib.metadata
import pickle
import subprocess
import sys
import threading
from unittest import mock

import pytest

import callpyback.testing
from callpyback import (
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionContext,
    ExecutionFailure,
    ExecutionResult,
    ExecutionState,
    FunctionSignature,
    Outcome,
    StopProcessing,
    handle,
    on_call,
    on_success,
)
from callpyback.testing import MockTimeSource, RecordedCall, RecordingObserver, assert_healthy, build_context

pytest_plugins = ["pytester"]

INITIALIZED, PRE_EXECUTION, EXECUTING, POST_SUCCESS, POST_FAILURE, COMPLETED, ERROR = ExecutionState
OF_A_SUCCESS = [PRE_EXECUTION, POST_SUCCESS, COMPLETED]
OF_A_FAILURE = [PRE_EXECUTION, POST_FAILURE, COMPLETED]


@pytest.fixture
def recorder():
    return RecordingObserver()


def divide(dividend, divisor=1, *rest, precise=False, **options):
    return dividend / divisor


def divided(recorder, *calls, **options):
    """Record calls of `divide`, each given as a dictionary of its arguments."""
    observed = CallPyBack(observers=[recorder], default_return=None, **options)(divide)
    for arguments in calls:
        observed(**arguments)
    return recorder


class Opaque:
    """Equal to itself alone, as most objects are."""


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no repr")


# What is recorded


def test_a_recorder_is_told_what_any_plain_observer_is_for_every_kind(kind, recorder):
    function = kind.make(lambda *args: args, CallPyBack(observers=[recorder]))

    kind.call(function, 1)

    assert recorder.told_states == OF_A_SUCCESS
    assert recorder.outcomes == [Outcome.SUCCESS]


def test_all_states_are_told_on_request():
    recorder = divided(RecordingObserver(all_states=True), {"dividend": 1}, {"dividend": 1, "divisor": 0})

    succeeded, failed = recorder.calls
    assert succeeded.states == [INITIALIZED, PRE_EXECUTION, EXECUTING, POST_SUCCESS, COMPLETED]
    assert failed.states == [INITIALIZED, PRE_EXECUTION, EXECUTING, POST_FAILURE, COMPLETED]


def test_chosen_states_alone_are_told():
    recorder = divided(RecordingObserver(states=POST_FAILURE), {"dividend": 1}, {"dividend": 1, "divisor": 0})

    assert recorder.told_states == [POST_FAILURE]


def test_chosen_states_and_all_states_contradict_each_other():
    with pytest.raises(ConfigurationError, match="all_states=True: expected one of the two"):
        RecordingObserver(states=[COMPLETED], all_states=True)


def test_a_recorder_has_a_priority_and_a_name_like_any_observer():
    recorder = RecordingObserver(7, "first")

    assert (recorder.priority, recorder.name) == (7, "first")


def test_one_call_is_read_as_one_thing(recorder):
    divided(recorder, {"dividend": 6, "divisor": 3}, time_source=MockTimeSource(5.0))

    (call,) = recorder.calls
    assert call.name == "divide"
    assert call.arguments == {"dividend": 6, "divisor": 3, "rest": (), "precise": False}
    assert call.states == OF_A_SUCCESS
    assert call.outcome is Outcome.SUCCESS
    assert call.result == ExecutionResult(2.0, 0.0)
    assert (call.value, call.exception, call.returned, call.instance) == (2.0, None, None, None)
    assert call.execution_time == 0.0
    assert {context.call_id for context in call.contexts} == {call.call_id}


def test_a_call_that_has_only_begun_has_no_result(recorder):
    @CallPyBack(observers=[recorder])
    def count():
        yield 1

    running = count()
    next(running)

    (call,) = recorder.calls
    assert (call.outcome, call.result, call.value, call.exception, call.execution_time) == (None,) * 5
    running.close()


def test_a_method_call_shows_its_instance(recorder):
    class Account:
        @CallPyBack(observers=[recorder])
        def pay(self, amount):
            return amount

    account = Account()
    account.pay(3)

    assert recorder.calls[0].instance is account
    recorder.assert_called_once_with(amount=3)


def test_interleaved_calls_are_kept_apart(recorder):
    @CallPyBack(observers=[recorder])
    def count(start):
        yield start

    first, second = count(1), count(2)
    next(first)
    next(second)
    list(second)
    first.close()

    earlier, later = recorder.calls
    assert earlier.arguments == {"start": 1}
    assert recorder.states_of(later.call_id) == OF_A_SUCCESS
    assert recorder.states_of(earlier.call_id) == [PRE_EXECUTION, COMPLETED]
    assert recorder.outcomes == [Outcome.SUCCESS, Outcome.ABANDONED]


def test_nothing_was_told_of_an_unknown_call(recorder):
    divided(recorder, {"dividend": 1})

    assert recorder.states_of("unknown") == []


def test_calls_of_many_threads_are_all_recorded(recorder):
    observed = CallPyBack(observers=[recorder])(divide)
    threads = [threading.Thread(target=lambda: [observed(n) for n in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert recorder.call_count == 200
    assert all(call.states == OF_A_SUCCESS for call in recorder.calls)


def test_reset_forgets_and_goes_on_recording(recorder):
    observed = CallPyBack(observers=[recorder])(divide)
    for forget in (recorder.reset, recorder.reset_mock):
        observed(1)
        forget()
        recorder.assert_not_called()
    observed(2)

    recorder.assert_called_once_with(dividend=2)


def test_what_is_handed_out_is_the_callers_own(recorder):
    divided(recorder, {"dividend": 1})
    recorder.contexts.clear()
    recorder.calls.clear()

    recorder.assert_called_once()


# What later changes do not reach


@pytest.mark.parametrize(
    "make",
    [
        lambda inner: [inner],
        lambda inner: {"key": inner},
        lambda inner: (inner,),
        lambda inner: collections.deque([inner], maxlen=3),
        lambda inner: collections.defaultdict(list, key=inner),
        lambda inner: collections.OrderedDict(key=inner),
        lambda inner: [{"deep": ([inner],)}],
    ],
)
def test_a_later_change_inside_containers_does_not_show(recorder, make):
    @CallPyBack(observers=[recorder], variable_names=["local"])
    def work(given):
        local = make(inner)
        return [local]

    inner = ["then"]
    work(make(inner))
    inner.append("later")

    told = recorder.calls[0]
    then = make(["then"])
    assert told.arguments == {"given": then}
    assert told.value == [then]
    assert told.contexts[-1].local_variables == {"local": then}
    assert type(told.value[0]) is type(then)


@pytest.mark.parametrize("container", [set("a"), bytearray(b"a"), collections.Counter("a")])
def test_a_later_change_of_a_flat_container_does_not_show(recorder, container):
    observed = CallPyBack(observers=[recorder])(lambda given: None)
    then = container.copy()
    observed(container)
    container.clear()

    recorder.assert_called_with(given=then)


def test_a_value_supplied_by_a_guard_does_not_change_later(recorder):
    answer = ["then"]

    def supply():
        raise StopProcessing(answer)

    divided(recorder, {"dividend": 1}, {"dividend": 2})
    recorder.reset()
    observed = CallPyBack(observers=[recorder, on_call(supply)])(divide)
    observed(1)
    answer.append("later")

    assert recorder.calls[0].returned == ["then"]
    assert recorder.outcomes == [Outcome.SUPPLIED]


def test_what_the_body_changed_is_seen_from_the_first_state_to_the_last(recorder):
    @CallPyBack(observers=[recorder])
    def consume(items):
        items.clear()

    consume([1, 2])

    before, _, after = recorder.contexts
    assert (before.arguments, after.arguments) == ({"items": [1, 2]}, {"items": []})
    recorder.assert_called_with(items=[1, 2])


def test_other_objects_are_recorded_themselves(recorder):
    thing, kind_of_list = Opaque(), type("Stack", (list,), {})([1])

    divided(recorder, {"dividend": 1, "thing": thing, "stack": kind_of_list})

    recorder.assert_called_with(dividend=1, thing=thing, stack=kind_of_list)
    assert recorder.calls[0].arguments["stack"] is kind_of_list


def test_a_container_that_contains_itself_is_recorded(recorder):
    loop: list = ["then"]
    loop.append(loop)

    CallPyBack(observers=[recorder])(lambda given: None)(loop)
    loop[0] = "later"

    told = recorder.calls[0].arguments["given"]
    assert told[0] == "then"
    assert told[1] is told


def test_what_is_nested_too_deeply_to_follow_is_recorded_as_it_is(recorder):
    deep: list = []
    for _ in range(sys.getrecursionlimit() * 2):
        deep = [deep]

    CallPyBack(observers=[recorder])(lambda given: None)(deep)

    assert recorder.calls[0].arguments["given"][0] is deep[0]
    while deep:
        deep = deep.pop()  # destroyed level by level, because comparing or dropping it whole recurses as deeply


def test_a_recorded_exception_is_the_programs_own_after_the_call_too(recorder):
    error = ValueError("odd")

    @CallPyBack(observers=[recorder])
    def fail():
        raise error

    with pytest.raises(ValueError, match="odd"):
        fail()

    assert recorder.calls[0].exception is error
    assert error.__traceback__ is not None
    assert recorder.contexts[-1].is_failed
    assert "in fail" in recorder.contexts[-1].result.traceback_info


# Assertions


@pytest.mark.parametrize(
    ("calls", "claim"),
    [
        ([{"dividend": 1}], lambda r: r.assert_called()),
        ([{"dividend": 1}], lambda r: r.assert_called_once()),
        ([], lambda r: r.assert_not_called()),
        ([{"dividend": 1}, {"dividend": 2}], lambda r: r.assert_called_with(dividend=2)),
        ([{"dividend": 1}], lambda r: r.assert_called_with(dividend=1, divisor=1, precise=False, rest=())),
        ([{"dividend": 1, "unit": "m"}], lambda r: r.assert_called_with(dividend=1, unit="m")),
        ([{"dividend": 1}], lambda r: r.assert_called_with(dividend=mock.ANY)),
        ([{"dividend": 1}], lambda r: r.assert_called_once_with(dividend=1)),
        ([{"dividend": 1}, {"dividend": 2}], lambda r: r.assert_any_call(dividend=1)),
        ([{"dividend": 1}], lambda r: r.assert_states(*OF_A_SUCCESS)),
        ([{"dividend": 1}, {"dividend": 1, "divisor": 0}], lambda r: r.assert_states(*OF_A_FAILURE)),
        ([{"dividend": 1, "divisor": 0}], lambda r: r.assert_failed_with(ZeroDivisionError)),
        ([{"dividend": 1, "divisor": 0}], lambda r: r.assert_failed_with((KeyError, ArithmeticError))),
        ([{"dividend": 1, "divisor": 0}], lambda r: r.assert_failed_with(ZeroDivisionError, match="by zero")),
    ],
)
def test_an_assertion_that_holds_says_nothing(recorder, calls, claim):
    claim(divided(recorder, *calls))


@pytest.mark.parametrize(
    ("calls", "claim", "message"),
    [
        ([], lambda r: r.assert_called(), "expected a call; RecordingObserver was told of no call"),
        ([], lambda r: r.assert_called_once(), "expected exactly one call; RecordingObserver was told of no call"),
        (
            [{"dividend": 1}, {"dividend": 1, "divisor": 0}],
            lambda r: r.assert_called_once(),
            (
                "expected exactly one call; RecordingObserver was told of 2 calls:\n"
                "  divide(dividend=1, divisor=1, rest=(), precise=False): "
                "PRE_EXECUTION POST_SUCCESS COMPLETED, SUCCESS, gave 1.0\n"
                "  divide(dividend=1, divisor=0, rest=(), precise=False): "
                "PRE_EXECUTION POST_FAILURE COMPLETED, HANDLED, ZeroDivisionError: division by zero"
            ),
        ),
        ([{"dividend": 1}], lambda r: r.assert_not_called(), "expected no call; "),
        ([], lambda r: r.assert_called_with(dividend=1), "expected the last call with (dividend=1); "),
        (
            [{"dividend": 1}, {"dividend": 2}],
            lambda r: r.assert_called_with(dividend=1),
            "expected the last call with (dividend=1); ",
        ),
        ([{"dividend": 1, "divisor": 2}], lambda r: r.assert_called_with(dividend=1), "expected the last call with "),
        ([{"dividend": 1}], lambda r: r.assert_called_with(dividend=1, unit="m"), "expected the last call with "),
        ([{"dividend": 1}], lambda r: r.assert_called_with(), "expected the last call with (); "),
        ([], lambda r: r.assert_called_once_with(dividend=1), "expected exactly one call, with (dividend=1); "),
        (
            [{"dividend": 1}, {"dividend": 1}],
            lambda r: r.assert_called_once_with(dividend=1),
            "expected exactly one call, with (dividend=1); ",
        ),
        ([{"dividend": 2}], lambda r: r.assert_any_call(dividend=1), "expected a call with (dividend=1); "),
        (
            [{"dividend": 1}],
            lambda r: r.assert_states(PRE_EXECUTION, COMPLETED),
            "expected the states PRE_EXECUTION COMPLETED of the last call; ",
        ),
        ([], lambda r: r.assert_states(), "expected the states  of the last call; "),
        (
            [{"dividend": 1}],
            lambda r: r.assert_states(COMPLETED, call_id="unknown"),
            "expected the states COMPLETED of call unknown; ",
        ),
        (
            [{"dividend": 1}],
            lambda r: r.assert_failed_with(ValueError),
            "expected a failure with ValueError of the last call; ",
        ),
        (
            [{"dividend": 1, "divisor": 0}],
            lambda r: r.assert_failed_with((ValueError, KeyError)),
            "expected a failure with ValueError or KeyError of the last call; ",
        ),
        (
            [{"dividend": 1, "divisor": 0}],
            lambda r: r.assert_failed_with(ZeroDivisionError, match="modulo"),
            "expected a failure with ZeroDivisionError about 'modulo' of the last call; ",
        ),
    ],
)
def test_an_assertion_that_does_not_hold_says_what_was_seen(recorder, calls, claim, message):
    divided(recorder, *calls)

    with pytest.raises(AssertionError) as raised:
        claim(recorder)

    assert str(raised.value).startswith(message)


def test_an_earlier_call_can_be_asserted_by_its_id(recorder):
    divided(recorder, {"dividend": 1, "divisor": 0}, {"dividend": 1})
    failed = recorder.calls[0].call_id

    recorder.assert_states(*OF_A_FAILURE, call_id=failed)
    error = recorder.assert_failed_with(ZeroDivisionError, call_id=failed)

    assert error is recorder.calls[0].exception


def test_a_refused_call_has_failed_with_the_veto(recorder):
    def refuse():
        raise CallVetoed("closed")

    observed = CallPyBack(observers=[recorder, on_call(refuse)])(divide)
    with pytest.raises(CallVetoed):
        observed(1)

    recorder.assert_failed_with(CallVetoed, match="closed")
    recorder.assert_states(PRE_EXECUTION, ERROR)


def test_arguments_may_have_any_name(recorder):
    @CallPyBack(observers=[recorder])
    def function(**options):
        return options

    function(self=1, arguments=2, match=3)

    recorder.assert_called_with(self=1, arguments=2, match=3)
    recorder.assert_any_call(self=1, arguments=2, match=3)
    recorder.assert_called_once_with(self=1, arguments=2, match=3)


def test_a_message_shows_any_value_and_the_last_ten_calls(recorder):
    divided(recorder, *({"dividend": n, "odd": Unshowable()} for n in range(12)))

    with pytest.raises(AssertionError) as raised:
        recorder.assert_not_called()

    lines = str(raised.value).splitlines()
    assert lines[:2] == ["expected no call; RecordingObserver was told of 12 calls:", "  (2 before)"]
    assert len(lines) == 12
    assert "odd=<unrepresentable Unshowable: RuntimeError>" in lines[-1]


# Contexts built by hand


def contexts_of_a_real_call(function, *observers, arguments=(), **options):
    recorder = RecordingObserver(priority=-1, all_states=True)
    observed = CallPyBack(observers=[*observers, recorder], time_source=MockTimeSource(5.0), **options)(function)
    with contextlib.suppress(BaseException):
        observed(*arguments)
    return {context.state: context for context in recorder.contexts}


def raising(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize("state", [INITIALIZED, PRE_EXECUTION, EXECUTING, POST_SUCCESS, COMPLETED])
def test_a_built_context_equals_that_of_a_call_that_succeeds(state):
    ended = {"value": 0.5} if state in (POST_SUCCESS, COMPLETED) else {}

    built = build_context(divide, state=state, arguments={"dividend": 1, "divisor": 2}, timestamp=5.0, **ended)

    assert built == contexts_of_a_real_call(divide, arguments=(1, 2))[state]


@pytest.mark.parametrize("state", [PRE_EXECUTION, POST_FAILURE, COMPLETED])
def test_a_built_context_equals_that_of_a_call_that_fails(state):
    error = ValueError("odd")
    function = raising(error)
    ended = {} if state is PRE_EXECUTION else {"exception": error}

    assert build_context(function, state=state, timestamp=5.0, **ended) == contexts_of_a_real_call(function)[state]


@pytest.mark.parametrize(
    ("error", "state", "outcome", "options"),
    [
        (ValueError("odd"), COMPLETED, Outcome.FAILURE, {}),
        (ValueError("odd"), ERROR, Outcome.FAILURE, {"exception_classes": [KeyError]}),
        (KeyboardInterrupt(), ERROR, Outcome.ABORTED, {}),
        (asyncio.CancelledError(), COMPLETED, Outcome.CANCELLED, {}),
        (GeneratorExit(), COMPLETED, Outcome.ABANDONED, {}),
        (CallVetoed("by the body"), COMPLETED, Outcome.FAILURE, {}),
    ],
)
def test_the_outcome_of_a_built_failure_is_that_of_a_real_one(error, state, outcome, options):
    function = raising(error)

    built = build_context(function, state=state, exception=error, timestamp=5.0)

    assert built.outcome is outcome
    assert built == contexts_of_a_real_call(function, **options)[state]


def test_a_built_veto_equals_a_real_one():
    veto = CallVetoed("closed")

    built = build_context(divide, state=ERROR, arguments={"dividend": 1}, exception=veto, timestamp=5.0)

    assert built.outcome is Outcome.VETOED
    assert built == contexts_of_a_real_call(divide, on_call(raising(veto)), arguments=[1])[ERROR]


@pytest.mark.parametrize(
    "supplied", [{"returned": 7}, {"value": 7, "outcome": Outcome.SUPPLIED}, {"returned": 7, "value": 7}]
)
def test_a_built_answer_of_a_guard_equals_a_real_one(supplied):
    built = build_context(divide, arguments={"dividend": 1}, timestamp=5.0, **supplied)

    real = contexts_of_a_real_call(divide, on_call(raising(StopProcessing(7))), arguments=[1])[COMPLETED]
    assert (built.outcome, built.returned, built.result.value) == (Outcome.SUPPLIED, 7, 7)
    assert built == real


def test_a_built_handled_error_equals_a_real_one():
    error = ValueError("odd")
    function = raising(error)

    built = build_context(function, exception=error, returned=0, timestamp=5.0)

    assert built.outcome is Outcome.HANDLED
    assert built == contexts_of_a_real_call(function, default_return=0)[COMPLETED]


def test_every_field_of_a_context_can_be_given():
    built = build_context(
        FunctionSignature("pay", qualname="Account.pay"),
        value=3,
        execution_time=0.25,
        local_variables={"fee": 1},
        metadata={"team": "shop"},
        call_id="a",
        instance="account",
        items=2,
        lifetime=1.5,
        time_to_first_item=0.5,
    )

    assert built.function_signature.qualname == "Account.pay"
    assert (built.execution_time, built.local_variables, built.metadata) == (0.25, {"fee": 1}, {"team": "shop"})
    assert (built.call_id, built.instance) == ("a", "account")
    assert (built.items, built.lifetime, built.time_to_first_item) == (2, 1.5, 0.5)


def test_with_nothing_given_a_call_without_arguments_has_succeeded_with_none():
    built = build_context()

    assert isinstance(built, ExecutionContext)
    assert (built.function_signature.name, built.state, built.arguments) == ("function", COMPLETED, {})
    assert (built.is_successful, built.outcome, built.result) == (True, Outcome.SUCCESS, ExecutionResult(None, 0.0))


def test_a_built_context_keeps_no_dictionary_of_the_test():
    given: dict = {"n": 1}
    built = build_context(arguments=given, local_variables=given, metadata=given)
    given["n"] = 2

    assert (built.arguments, built.local_variables, built.metadata) == ({"n": 1},) * 3


def test_a_built_context_is_pickled_and_copied_whole():
    built = build_context("pay", arguments={"n": 1}, exception=ValueError("odd"), returned=0, call_id="a")

    again = pickle.loads(pickle.dumps(built))

    assert (again.outcome, again.call_id, again.arguments) == (Outcome.HANDLED, "a", {"n": 1})
    assert again == built
    assert built.with_state(POST_FAILURE).call_id == "a"


def test_built_contexts_are_calls_of_their_own_unless_they_share_an_id(recorder):
    begun = build_context(state=PRE_EXECUTION)
    bare = ExecutionContext(state=COMPLETED, function_signature=FunctionSignature("bare"))
    for context in (begun, begun.with_state(EXECUTING), build_context(), build_context(), bare, bare):
        recorder.update(context)

    assert [call.states for call in recorder.calls] == [[PRE_EXECUTION, EXECUTING], *[[COMPLETED]] * 4]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"function": 3}, "function=3: expected a name, a function or a FunctionSignature"),
        ({"state": "COMPLETED"}, "state='COMPLETED': expected one of INITIALIZED, PRE_EXECUTION"),
        ({"state": PRE_EXECUTION, "value": 1}, "value=1: expected nothing at PRE_EXECUTION: the body has not ended"),
        ({"state": EXECUTING, "exception": OSError()}, "exception=OSError(): expected nothing at EXECUTING"),
        ({"state": PRE_EXECUTION, "local_variables": {"n": 1}}, "local_variables={'n': 1}: expected nothing at PRE_EX"),
        ({"state": POST_SUCCESS, "exception": OSError()}, "exception=OSError(): expected nothing at POST_SUCCESS"),
        ({"state": POST_FAILURE}, "exception=None: expected an exception: no call comes to POST_FAILURE without one"),
        ({"state": ERROR}, "exception=None: expected an exception: no call comes to ERROR without one"),
        ({"value": 1, "exception": OSError()}, "value=1: expected nothing beside exception="),
        ({"state": POST_SUCCESS, "outcome": Outcome.SUCCESS}, "expected nothing at POST_SUCCESS: it is known at"),
        (
            {"state": POST_FAILURE, "exception": OSError(), "returned": 1},
            "returned=1: expected nothing at POST_FAILURE",
        ),
        ({"outcome": Outcome.FAILURE}, "expected one of SUCCESS, SUPPLIED, None being the exception at COMPLETED"),
        ({"outcome": Outcome.VETOED, "exception": OSError()}, "expected one of FAILURE, HANDLED, TIMED_OUT"),
        ({"outcome": Outcome.SUCCESS, "returned": 1}, "returned=1: expected nothing for SUCCESS"),
        ({"state": ERROR, "exception": OSError(), "returned": 1}, "returned=1: expected nothing for FAILURE"),
    ],
)
def test_a_context_that_no_call_can_have_is_refused(given, message):
    with pytest.raises(ConfigurationError) as refused:
        build_context(**given)

    assert message in str(refused.value)


def test_the_result_of_a_built_failure_is_a_failure():
    error = OSError("disk full")

    result = build_context(exception=error, execution_time=0.5).result

    assert isinstance(result, ExecutionFailure)
    assert result.exception is error
    assert result.execution_time == 0.5


# Health


def test_functions_whose_observers_did_not_fail_are_healthy(recorder):
    observed = CallPyBack(observers=[recorder])(divide)
    observed(1)

    assert_healthy()
    assert_healthy(observed, handle(observed))


def test_an_observer_that_failed_unseen_is_named(recorder):
    decorator = CallPyBack(observers=[recorder, on_success(lambda value: value.upper(), name="shout")])
    observed = decorator(divide)
    observed(1)
    observed(2)

    with pytest.raises(AssertionError) as raised:
        assert_healthy(observed)

    assert str(raised.value) == (
        "observers failed:\n"
        "  shout on divide: 2 times, last with AttributeError: 'float' object has no attribute 'upper'"
    )


def test_only_decorated_functions_have_a_health():
    with pytest.raises(ConfigurationError, match="expected a callable decorated by CallPyBack"):
        assert_healthy(divide)


# The package and the plugin


def test_every_public_name_is_there():
    assert sorted(callpyback.testing.__all__) == callpyback.testing.__all__
    for name in callpyback.testing.__all__:
        assert getattr(callpyback.testing, name) is not None
        assert name in dir(callpyback.testing)
    assert callpyback.testing.MockTimeSource is callpyback.MockTimeSource
    assert callpyback.testing.RecordedCall is RecordedCall


@pytest.mark.parametrize("name", ["contexts", "health", "recorder", "snapshots"])
def test_the_examples_in_the_docstrings_run(name):
    outcome = doctest.testmod(importlib.import_module(f"callpyback.testing.{name}"))

    assert outcome.failed == 0
    assert outcome.attempted > 0


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'callpyback\.testing' has no attribute 'Recorder'"):
        _ = callpyback.testing.Recorder


@pytest.fixture
def run_with_plugin(pytester, monkeypatch):
    """Run pytest on a test module in a process of its own, the plugin loaded as its entry point would."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_PLUGINS", raising=False)

    def run(module, *options):
        pytester.makepyfile(module)
        arguments = (sys.executable, "-m", "pytest", "-p", "callpyback.testing.plugin", "-p", "no:cacheprovider")
        return pytester.run(*arguments, *options, timeout=60)

    return run


USERS_TESTS = """
    from callpyback import CallPyBack, ExecutionState

    def test_a_recorder_is_there(callpyback_recorder):
        @CallPyBack(observers=[callpyback_recorder])
        def double(n):
            return 2 * n

        double(2)
        callpyback_recorder.assert_called_once_with(n=2)

    def test_a_recorder_is_new_for_each_test(callpyback_recorder):
        callpyback_recorder.assert_not_called()

    def test_a_clock_is_there(callpyback_recorder, callpyback_clock):
        @CallPyBack(observers=[callpyback_recorder], time_source=callpyback_clock)
        def work():
            callpyback_clock.advance(2.5)

        work()
        assert callpyback_recorder.calls[0].execution_time == 2.5

    def test_a_clock_is_new_for_each_test(callpyback_clock):
        assert callpyback_clock.now() == 0.0
"""


def test_the_plugin_gives_a_recorder_and_a_clock(run_with_plugin):
    run_with_plugin(USERS_TESTS, "-W", "error").assert_outcomes(passed=4)


def test_a_failed_assertion_is_shown_in_the_users_test_without_our_own_lines(run_with_plugin):
    run = run_with_plugin("""
        def test_nothing_was_called(callpyback_recorder):
            callpyback_recorder.assert_called_once_with(n=2)
    """)

    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(
        [
            ">*callpyback_recorder.assert_called_once_with(n=2)",
            "E *AssertionError: expected exactly one call, with (n=2); RecordingObserver was told of no call",
        ]
    )
    run.stdout.no_fnmatch_line("*def assert_called_once_with*")


def test_the_fixtures_are_listed_with_what_they_are_for(run_with_plugin):
    run = run_with_plugin("", "--fixtures")

    run.stdout.fnmatch_lines(["callpyback_recorder*", "*assertions named as in unittest.mock*"])
    run.stdout.fnmatch_lines(["callpyback_clock*", "*stands still until it is told to move*"])


def test_loading_the_plugin_imports_nothing_a_test_has_not_asked_for():
    program = (
        "import sys; import callpyback; before = set(sys.modules); import callpyback.testing.plugin; "
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('callpyback')))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "['callpyback.testing', 'callpyback.testing.plugin']"


def test_pytest_finds_the_plugin_where_the_package_is_installed():
    try:
        installed = importlib.metadata.distribution("callpyback")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("run from a checkout that is not installed")

    (plugin,) = [entry for entry in installed.entry_points if entry.group == "pytest11"]

    assert plugin.load().__name__ == "callpyback.testing.plugin"
