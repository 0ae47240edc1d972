"""No failure of an observer, of any sort, changes the outcome or what the other observers are told."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import (
    CallPyBack,
    CallVetoed,
    ExecutionContext,
    ExecutionState,
    FunctionSignature,
    MockTimeSource,
    Outcome,
    StopProcessing,
    handle,
)
from callpyback.core.telling import TELLING
from kinds import KINDS, BoundWitness, Witness, pause

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
both_clocks = pytest.mark.parametrize("clock", [None, MockTimeSource()], ids=["system", "mock"])


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class EndlessText(Exception):
    def __str__(self) -> str:
        return str(self)

    __repr__ = __str__


class ExitingText(Exception):
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


def raising(make_error):
    def misbehave(observer, context) -> None:
        raise make_error()

    return misbehave


def raise_the_users(observer, context) -> None:
    error = None if context.result is None else context.result.exception
    raise LookupError if error is None else error


def raise_from_the_users(observer, context) -> None:
    error = None if context.result is None else context.result.exception
    raise LookupError from error


def recurse(observer, context) -> None:
    recurse(observer, context)


def decide_too_late(decision):
    def misbehave(observer, context) -> None:
        if context.state is not ExecutionState.PRE_EXECUTION:
            raise decision()
        raise LookupError

    return misbehave


def add_another(observer, context) -> None:
    handle(observer.function).add_observer(Witness(name="added while telling"))
    raise LookupError


def remove_itself(observer, context) -> None:
    handle(observer.function).remove_observer(observer)
    raise LookupError


def remove_the_bystander(observer, context) -> None:
    if observer.bystander in handle(observer.function).observers:
        handle(observer.function).remove_observer(observer.bystander)
    raise LookupError


def call_the_function(observer, context) -> None:
    observer.kind.ended(observer.function)
    raise LookupError


def touch_everything(observer, context) -> None:
    context.arguments.clear()
    context.local_variables["x"] = 1
    context.metadata.clear()
    error = None if context.result is None else context.result.exception
    if error is not None:
        error.args = error.args[:0] + error.args
        error.__context__ = KeyError()
        error.__traceback__ = None
        error.add_note("an observer's")
    raise LookupError


MISBEHAVIOURS = {
    "Exception": raising(lambda: Exception("wrong")),
    "SystemExit": raising(lambda: SystemExit(1)),
    "GeneratorExit": raising(GeneratorExit),
    "CancelledError": raising(asyncio.CancelledError),
    "StopIteration": raising(StopIteration),
    "StopAsyncIteration": raising(StopAsyncIteration),
    "MemoryError": raising(MemoryError),
    "BaseException": raising(BaseException),
    "ExceptionGroup": raising(lambda: ExceptionGroup("", [ValueError(), BadText()])),
    "bad text": raising(BadText),
    "endless text": raising(EndlessText),
    "exiting text": raising(ExitingText),
    "recursion": recurse,
    "the user's exception": raise_the_users,
    "from the user's exception": raise_from_the_users,
    "veto too late": decide_too_late(CallVetoed),
    "answer too late": decide_too_late(lambda: StopProcessing("late")),
    "add an observer": add_another,
    "remove itself": remove_itself,
    "remove another": remove_the_bystander,
    "call the function": call_the_function,
    "touch everything": touch_everything,
}


class Misbehaving:
    """Fails in one way at each of its states; nameless, as a duck-typed observer may be."""

    def __init__(self, how: str, priority: int, states) -> None:
        self.how = how
        self.priority = priority
        self.states = states
        self.failures = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.how}, priority={self.priority}, states={self.states}>"

    def update(self, context) -> None:
        self.failures += 1
        MISBEHAVIOURS[self.how](self, context)


class MisbehavingAwaited(Misbehaving):
    async def update(self, context) -> None:
        await pause()
        self.failures += 1
        MISBEHAVIOURS[self.how](self, context)


class MisbehavingBound:
    """Fails without contexts."""

    def __init__(self, how: str, priority: int) -> None:
        self.how = how
        self.priority = priority
        self.failures = 0

    def bind(self, function_signature):
        return lambda: self.fail(ExecutionState.PRE_EXECUTION), lambda *_: self.fail(ExecutionState.COMPLETED)

    def fail(self, state) -> None:
        self.failures += 1
        MISBEHAVIOURS[self.how](self, build_context(state))

    def __repr__(self) -> str:
        return f"<bound: {self.how}, priority={self.priority}>"


def build_context(state) -> ExecutionContext:
    return ExecutionContext(state=state, function_signature=FunctionSignature("function"))


class Failure(Exception):
    pass


def a_body(error):
    def body():
        if error is not None:
            raise error
        return "value"

    return body


ENDS = {
    "returns": (lambda: None, "POST_SUCCESS", "COMPLETED", Outcome.SUCCESS),
    "raises": (lambda: Failure("the user's"), "POST_FAILURE", "COMPLETED", Outcome.FAILURE),
    "is cancelled": (asyncio.CancelledError, None, "COMPLETED", Outcome.CANCELLED),
    "aborts": (lambda: SystemExit(4), None, "ERROR", Outcome.ABORTED),
}


@st.composite
def misbehaving(draw, kind):
    how = draw(st.sampled_from(sorted(MISBEHAVIOURS)))
    priority = draw(st.integers(-3, 3))
    sort = draw(st.sampled_from(["plain", "bound", "awaited"] if kind.is_async else ["plain", "bound"]))
    if sort == "bound":
        return MisbehavingBound(how, priority)
    states = draw(st.none() | st.frozensets(st.sampled_from(ExecutionState), min_size=1))
    return (MisbehavingAwaited if sort == "awaited" else Misbehaving)(how, priority, states)


@both_clocks
@every_kind
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_set_of_failing_observers_changes_neither_outcome_nor_what_others_are_told(kind, clock, data):
    observers = data.draw(st.lists(misbehaving(kind), min_size=1, max_size=5), label="observers")
    make_error, after_body, terminal, outcome = ENDS[data.draw(st.sampled_from(sorted(ENDS)), label="the body")]
    error = make_error()
    witnesses = [Witness(priority=priority, name=f"witness {priority}") for priority in (4, 0, -4)]
    everything = Witness(*ExecutionState, priority=-5, name="of everything")
    bound, bystander = BoundWitness(), Witness(priority=-9, name="bystander")
    watching = [*witnesses, bound, *([everything] if data.draw(st.booleans(), label="of everything") else [])]
    function = kind.make(a_body(error), CallPyBack(watching, time_source=clock, max_observer_failures=1000))
    for observer in [bystander, *observers]:
        observer.function, observer.kind, observer.bystander = function, kind, bystander
        handle(function).add_observer(observer)

    for calls in (1, 2):  # the second one after failures: by the general path
        came = kind.ended(function)
        assert (came.value, came.exception) == (("value", None) if error is None else (None, error))
        if error is not None:
            assert (error.__cause__, error.__context__, getattr(error, "__notes__", None)) == (None, None, None)
        states = ["PRE_EXECUTION", *([after_body] if after_body else []), terminal]
        for witness in witnesses:
            assert witness.told == states * calls
            assert witness.outcome is outcome
        if everything in watching:
            assert everything.told == ["INITIALIZED", "PRE_EXECUTION", "EXECUTING", *states[1:]] * calls
        assert (bound.begun, len(bound.ends)) == (calls, calls)
        assert bound.ends[-1][1:] == (error, outcome)
        assert TELLING == []
    for observer in observers:
        assert observer.function is function
        health = [
            known for known in handle(function).health.values() if known.name.split("#")[0] == type(observer).__name__
        ]
        assert sum(known.failures for known in health) >= (0 if observer.how == "remove itself" else observer.failures)


class Interrupting:
    """Ctrl-C hits while it is told one state."""

    priority = 0

    def __init__(self, at: ExecutionState) -> None:
        self.states = {at}
        self.error = KeyboardInterrupt("by hand")

    def update(self, context) -> None:
        raise self.error


INTERRUPTED = [
    (ExecutionState.INITIALIZED, ["PRE_EXECUTION", "ERROR"], Outcome.ABORTED),
    (ExecutionState.PRE_EXECUTION, ["PRE_EXECUTION", "ERROR"], Outcome.ABORTED),
    (ExecutionState.EXECUTING, ["PRE_EXECUTION", "ERROR"], Outcome.ABORTED),
    (ExecutionState.POST_SUCCESS, ["PRE_EXECUTION", "POST_SUCCESS", "ERROR"], Outcome.ABORTED),
    (ExecutionState.COMPLETED, ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"], Outcome.SUCCESS),
]


@both_clocks
@pytest.mark.parametrize(("at", "states", "outcome"), INTERRUPTED, ids=lambda part: getattr(part, "name", ""))
def test_keyboard_interrupt_in_an_observer_reaches_the_caller_after_book_keeping(kind, clock, at, states, outcome):
    interrupting = Interrupting(at)
    before, after, bound = Witness(priority=1, name="before"), Witness(priority=-1, name="after"), BoundWitness()
    function = kind.make(a_body(None), CallPyBack([before, interrupting, after, bound], time_source=clock))
    assert kind.ended(function).exception is interrupting.error
    assert (before.told, after.told) == (states, states)
    assert (before.outcome, after.outcome) == (outcome, outcome)
    assert (bound.begun, [end[2] for end in bound.ends]) == (1, [outcome])
    assert TELLING == []


@both_clocks
def test_keyboard_interrupt_in_an_observer_of_a_failure_reaches_the_caller_after_book_keeping(kind, clock):
    interrupting = Interrupting(ExecutionState.POST_FAILURE)
    witness = Witness(priority=-1)
    function = kind.make(a_body(Failure()), CallPyBack([interrupting, witness], time_source=clock))
    assert kind.ended(function).exception is interrupting.error
    assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "ERROR"]
    assert witness.outcome is Outcome.ABORTED


class RaisingHandler(logging.Handler):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error("a handler of the user's")


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_logging_handler_that_raises_changes_nothing_either(kind, error):
    witness = Witness(priority=-1)
    function = kind.make(a_body(None), CallPyBack([Misbehaving("Exception", 5, None), witness]))
    logger, handler = logging.getLogger("callpyback"), RaisingHandler(error)
    logger.addHandler(handler)
    try:
        assert kind.ended(function).value == "value"
    finally:
        logger.removeHandler(handler)
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert handle(function).health["Misbehaving"].failures == 3


class Looking:
    """Notes which exception is being handled while it is told."""

    priority = -1

    def __init__(self) -> None:
        self.handled = []

    def update(self, context) -> None:
        self.handled.append(sys.exception())


@both_clocks
def test_an_observer_told_after_a_failed_one_is_not_told_inside_its_exception(kind, clock):
    looking = Looking()
    function = kind.make(a_body(None), CallPyBack([Misbehaving("Exception", 0, None), looking], time_source=clock))
    kind.ended(function)
    assert looking.handled == [None, None, None]
