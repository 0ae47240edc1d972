"""Callbacks take what they name; what is handed over is worked out once."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import functools
import itertools
import pickle
import types
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callpyback import (
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionContext,
    ExecutionFailure,
    ExecutionResult,
    ExecutionState,
    FunctionSignature,
    Outcome,
    create_callback_observer,
    on_call,
    on_completion,
    on_error,
    on_failure,
    on_success,
)
from callpyback.observers.callback import CallbackObserver
from callpyback.observers.callback_parameters import code_of

NAMES = (
    "context",
    "ctx",
    "function_signature",
    "arguments",
    "state",
    "outcome",
    "result",
    "value",
    "exception",
    "returned",
    "local_variables",
    "metadata",
    "timestamp",
    "execution_time",
    "call_id",
)
S = ExecutionState


def takes(*names: str, style: str = "{}"):
    """Return a callback that gives back what it was given, by name."""
    given = ", ".join(f"{name!r}: {name}" for name in names)
    return eval(f"lambda {style.format(', '.join(names))}: {{{given}}}")


def a_context(state=S.COMPLETED, **fields):
    fields = {"function_signature": FunctionSignature("pay"), "arguments": {"amount": 3}, "timestamp": 5.0, **fields}
    return ExecutionContext(state=state, **fields)


def test_everything_may_be_named():
    context = a_context(result=ExecutionResult(30, 0.5), local_variables={"a": 1}, metadata={"m": 2})
    assert CallbackObserver(takes(*NAMES), S.COMPLETED).update(context) == {
        "context": context,
        "ctx": context,
        "function_signature": FunctionSignature("pay"),
        "arguments": {"amount": 3},
        "state": S.COMPLETED,
        "outcome": Outcome.SUCCESS,
        "result": ExecutionResult(30, 0.5),
        "value": 30,
        "exception": None,
        "returned": None,
        "local_variables": {"a": 1},
        "metadata": {"m": 2},
        "timestamp": 5.0,
        "execution_time": 0.5,
        "call_id": "",
    }


def test_a_failure_has_an_exception_and_no_value():
    error = ValueError("x")
    context = a_context(result=ExecutionFailure(error, execution_time=0.1))
    seen = CallbackObserver(takes("value", "exception", "outcome"), S.COMPLETED).update(context)
    assert seen == {"value": None, "exception": error, "outcome": Outcome.FAILURE}


def test_before_the_end_there_is_no_result():
    seen = on_call(takes("result", "value", "exception", "outcome", "returned")).update(a_context(S.PRE_EXECUTION))
    assert seen == dict.fromkeys(seen)


@pytest.mark.parametrize("state", [S.PRE_EXECUTION, S.EXECUTING, S.POST_SUCCESS, S.POST_FAILURE, S.COMPLETED, S.ERROR])
@pytest.mark.parametrize("ending", ["returns", "raises", "is unexpected"])
def test_the_compiled_way_hands_over_what_the_context_shows(state, ending):
    names = [name for name in NAMES if name not in {"context", "ctx"}]
    compiled, shown = [], []
    by_name = CallbackObserver(takes(*names), state)

    class ByContext(BaseObserver):
        states = state

        def update(self, context):
            shown.append(by_name.update(context))

    namespace = {"compiled": compiled, "show": by_name.callback}
    directly = CallbackObserver(
        eval(f"lambda {', '.join(names)}: compiled.append(show({', '.join(names)}))", namespace), state
    )
    options = {"exception_classes": [OSError]} if ending == "is unexpected" else {}

    @CallPyBack(observers=[directly, ByContext()], metadata={"m": 1}, variable_names=["local"], **options)
    def f(x):
        local = x + 1
        if ending != "returns":
            raise ValueError(local)
        return local

    with contextlib.suppress(ValueError):
        f(1)
    told = {S.PRE_EXECUTION, S.EXECUTING}
    told |= {S.POST_SUCCESS} if ending == "returns" else {S.POST_FAILURE}
    told |= {S.ERROR} if ending == "is unexpected" else {S.COMPLETED}
    assert len(compiled) == (state in told)
    assert compiled == shown


def test_the_compiled_context_is_the_context_of_that_state():
    seen = []

    @CallPyBack(observers=[create_callback_observer(seen.append, [S.PRE_EXECUTION, S.POST_SUCCESS, S.COMPLETED])])
    def f(x):
        return x

    f(1)
    assert [(context.state, context.arguments) for context in seen] == [
        (S.PRE_EXECUTION, {"x": 1}),
        (S.POST_SUCCESS, {"x": 1}),
        (S.COMPLETED, {"x": 1}),
    ]


@pytest.mark.parametrize(
    ("style", "names", "wanted"),
    [
        ("{}", ("value", "ctx"), (("positional", "value"), ("positional", "ctx"))),
        ("{}, /", ("value", "ctx"), (("positional", "value"), ("positional", "ctx"))),
        ("*, {}", ("value", "ctx"), (("keyword", "value"), ("keyword", "ctx"))),
        ("{}, extra=1", ("value",), (("positional", "value"),)),
        ("extra=1, {}=None", ("value",), (("keyword", "value"),)),
        ("extra=1, {}=None, /", ("value",), ()),
        ("{}=None", ("value",), (("positional", "value"),)),
        ("*args, {}", ("value",), (("keyword", "value"),)),
        ("{}, *args, **kwargs", ("value",), (("positional", "value"),)),
        ("*args, **kwargs", (), ()),
        ("", (), ()),
        ("extra=1", (), ()),
    ],
)
def test_parameters_of_every_kind(style, names, wanted):
    observer = on_success(takes(*names, style=style))
    assert observer.wanted == wanted
    value = {"value": 7, "ctx": mock.ANY}
    seen = observer.update(a_context(S.POST_SUCCESS, result=ExecutionResult(7, 0.1)))
    assert seen == {name: value[name] if wanted else None for name in names}


@given(
    st.lists(st.sampled_from(NAMES), unique=True),
    st.sampled_from(["{}", "{}, /", "*, {}", "{}, **kwargs", "{}, *args", "{}, spare=0"]),
)
def test_any_names_in_any_order_are_handed_over(names, style):
    if not names:
        return
    context = a_context(result=ExecutionResult(7, 0.1))
    seen = on_completion(takes(*names, style=style)).update(context)
    assert list(seen) == names
    everything = on_completion(takes(*NAMES)).update(context)
    assert seen == {name: everything[name] for name in names}


def test_another_required_name_is_refused_with_the_nearest_and_the_list():
    with pytest.raises(ConfigurationError) as caught:
        on_success(lambda reslt: None, name="x")
    text = str(caught.value)
    assert text.startswith("Invalid callback parameter: 'reslt' of ")
    assert "did you mean 'result'?" in text
    assert all(name in text for name in NAMES)


@pytest.mark.parametrize("callback", [None, 3, "print", BaseObserver()])
def test_what_cannot_be_called_is_refused(callback):
    with pytest.raises(ConfigurationError, match=r"callback=.*: expected something to call"):
        on_call(callback)


def generator():
    yield 1


async def async_generator():
    yield 1


@pytest.mark.parametrize("callback", [generator, async_generator])
def test_a_generator_function_is_refused_because_it_would_never_run(callback):
    with pytest.raises(ConfigurationError, match="remove the `yield`"):
        on_success(callback)


@pytest.mark.parametrize("states", [[], "COMPLETED", 3, None])
def test_states_must_be_given(states):
    with pytest.raises(ConfigurationError if states is not None else TypeError, match="states"):
        CallbackObserver(print, states) if states is not None else CallbackObserver(print)


@pytest.mark.parametrize(
    ("make", "states"),
    [
        (on_call, {S.PRE_EXECUTION}),
        (on_success, {S.POST_SUCCESS}),
        (on_failure, {S.POST_FAILURE}),
        (on_completion, {S.COMPLETED, S.ERROR}),
        (on_error, {S.ERROR}),
        (functools.partial(create_callback_observer, states=S.ERROR), {S.ERROR}),
        (functools.partial(create_callback_observer, states=[S.ERROR, S.COMPLETED]), {S.ERROR, S.COMPLETED}),
    ],
)
def test_each_shorthand_has_its_states(make, states):
    def callback():
        pass

    observer = make(callback, priority=3)
    assert observer.states == states
    assert (observer.priority, observer.callback) == (3, callback)
    assert observer.name == "test_each_shorthand_has_its_states.<locals>.callback"
    assert make(callback, name="mine").name == "mine"


class Alarm:
    def __call__(self, exception):
        return exception

    def ring(self, value):
        return value

    async def later(self, value):
        return value


class AsyncAlarm:
    async def __call__(self):
        pass


@pytest.mark.parametrize(
    ("callback", "name", "wanted"),
    [
        (print, "print", (("positional", "context"),)),
        ([].append, "list.append", (("positional", "context"),)),
        (collections.deque().append, "deque.append", (("positional", "context"),)),
        (itertools.count().__next__, mock.ANY, ()),
        (dict, "dict", (("positional", "context"),)),
        (Alarm(), "Alarm", (("positional", "exception"),)),
        (Alarm().ring, "Alarm.ring", (("positional", "value"),)),
        (functools.partial(Alarm().ring, 3), "Alarm.ring", ()),
        (functools.partial(takes("value", "result"), result=5), mock.ANY, (("positional", "value"),)),
        (mock.Mock(), "Mock", ()),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_callables_that_are_no_plain_functions(callback, name, wanted):
    observer = on_completion(callback)
    assert observer.name == name
    assert observer.wanted == wanted


def test_a_builtin_is_given_the_context():
    seen = []

    @CallPyBack(observers=[on_success(seen.append)])
    def f():
        return 3

    f()
    assert [context.result.value for context in seen] == [3]


def test_a_builtin_that_needs_two_is_refused():
    with pytest.raises(ConfigurationError, match="Invalid callback parameter"):
        on_success([].insert)


@pytest.mark.parametrize(
    ("callback", "is_async"),
    [
        (Alarm().later, True),
        (AsyncAlarm(), True),
        (functools.partial(Alarm().later, value=1), True),
        (mock.AsyncMock(), True),
        (Alarm().ring, False),
        (print, False),
    ],
    ids=["method", "instance", "partial", "mock", "plain method", "builtin"],
)
def test_coroutine_functions_are_known(callback, is_async):
    assert on_success(callback).is_async is is_async


def test_an_async_callback_is_awaited():
    seen = []

    async def note(value):
        await asyncio.sleep(0)
        seen.append(value)

    @CallPyBack(observers=[on_success(note)])
    async def f():
        return 3

    assert asyncio.run(f()) == 3
    assert seen == [3]


def module_level(value):
    return value


def test_it_pickles_when_the_callback_does():
    observer = on_success(module_level, 3, "mine")
    twin = pickle.loads(pickle.dumps(observer))
    assert (twin.callback, twin.wanted, twin.priority, twin.name) == (module_level, observer.wanted, 3, "mine")
    assert twin.states == observer.states
    assert twin != observer
    assert copy.copy(observer) != observer
    assert len({observer, twin}) == 2


def test_a_weakened_copy_does_not_keep_the_object_and_leaves_the_original():
    class Screen:
        shown = 0

        def show(self, value):
            Screen.shown += 1

    screen = Screen()
    observer = on_success(screen.show)
    weak = observer.weakened()
    observer.callback = None
    context = a_context(S.POST_SUCCESS, result=ExecutionResult(1, 0.0))
    weak.update(context)
    del screen
    weak.update(context)
    assert Screen.shown == 1
    assert weak.wanted == observer.wanted == (("positional", "value"),)


def test_a_subclass_with_an_update_of_its_own_is_told_by_that():
    seen = []

    class Counting(CallbackObserver):
        def update(self, context):
            seen.append(context.state)
            return super().update(context)

    values = []

    def keep(value):
        values.append(value)

    @CallPyBack(observers=[Counting(keep, S.POST_SUCCESS)])
    def f():
        return 3

    f()
    assert (seen, values) == ([S.POST_SUCCESS], [3])
    assert Counting(keep, S.POST_SUCCESS).wants_variables


def test_local_variables_are_wanted_only_by_those_who_may_read_them():
    assert [on_success(takes(name)).wants_variables for name in ("local_variables", "context", "ctx", "value")] == [
        True,
        True,
        True,
        False,
    ]


def test_a_callable_whose_signature_cannot_be_read_gets_the_context():
    class Strange:
        __signature__ = "no signature"

        def __call__(self, anything):
            return anything

    context = a_context(S.POST_SUCCESS)
    assert on_success(Strange()).update(context) is context


def test_equal_code_is_compiled_once():
    one = on_success(lambda value: 1).compiled(S.POST_SUCCESS, None)
    two = on_success(lambda value: 2).compiled(S.POST_SUCCESS, None)
    assert isinstance(one, types.FunctionType)
    assert one.__code__ is two.__code__
    assert code_of.cache_info().maxsize is not None
