"""Whatever operation inside the library fails, and whenever, the caller sees the bare function's outcome.

An internal operation is the start or the resumption of any Python function of the package while an observed call runs:
of the sequence, the records, the contexts, the capture of locals, the built-in observers. The n-th of them is made to
raise, for every n there is. Left out are the shell (files called `<callpyback ...>`); the two functions in which it
has a stretch of the sequence driven, `run` and `complete`, because they are what contains the faults of everything
else; `items_of`, which runs in place of an async generator's body; and `keep_frame`, which on 3.11 the body itself
calls to leave its locals. Around an async handler the two functions that wait for it are left out too: a fault raised
where they are resumed cannot be told from what the handler raised.

Nobody is told one state twice, and the next call, without a fault, is told completely.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial, wraps
from pathlib import Path

import pytest

import callpyback
from callpyback import (
    CallPyBack,
    CallVetoed,
    CurrentCall,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    Notice,
    StopProcessing,
    Wait,
    observing,
    on_completion,
    on_failure,
    on_progress,
    on_retry,
    on_success,
)
from callpyback.core.current import CURRENT, NOTHING
from callpyback.core.drivers import complete, run
from callpyback.core.execution import _decided
from callpyback.core.policy import asked
from callpyback.core.progress import announce, is_heard
from callpyback.core.telling import TELLING
from callpyback.core.variable_extraction.prologue import keep_frame
from callpyback.core.wrappers import items_of
from kinds import KINDS, BoundWitness, Ended, Witness, ended, pause
from retrying import ASYNC_KINDS, make
from tracking import current_call, tracked

__all__ = ["tracked"]

# A generator that is dropped is resumed too, and Python can only print what is raised then.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PACKAGE = str(Path(callpyback.__file__).parent)

SHELL = frozenset(known.__code__ for known in (run, complete, items_of, keep_frame))
WAITING_FOR_HANDLERS = frozenset({asked.__code__, _decided.__code__})
MOST_OPERATIONS = 400


class Fault:
    """Raises out of the n-th internal operation while it is installed as the trace function."""

    def __init__(self, at: int, error: type[BaseException], left_out=frozenset()) -> None:
        self.left = at
        self.error = error
        self.left_out = SHELL | left_out
        self.where: str | None = None

    def __call__(self, frame, event, argument):
        code = frame.f_code
        inside = code.co_filename.startswith((PACKAGE, "<callback ")) and code not in self.left_out
        if inside and self.where is None:
            self.left -= 1
            if self.left == 0:
                self.where = f"{Path(code.co_filename).name}:{code.co_qualname}"
                raise self.error("injected")

    def during(self, call):
        """Call with the fault on its way; Python itself removes a trace function that raises."""
        traced = sys.gettrace()
        sys.settrace(self)
        try:
            return ended(call)
        finally:
            sys.settrace(traced)


class Failing:
    priority = 2

    def update(self, context) -> None:
        raise LookupError(context.state)


class Curious(Witness):
    """Reads what is computed when it is read."""

    def update(self, context) -> None:
        super().update(context)
        context.slot["told"] = context.arguments, context.result, context.local_variables, context.call_id


class BodyError(Exception):
    pass


class Waiting(Wait):
    """What a guard's decision waits for."""

    def __init__(self, decision) -> None:
        self.decision = decision

    def block(self):
        if isinstance(self.decision, CallVetoed):
            raise self.decision
        return self.decision

    async def wait(self):
        await pause()
        return self.block()


class Guard:
    """Decides by plain values."""

    priority = 3
    guard = True

    def __init__(self, decision="token") -> None:
        self.decision = decision
        self.ends = []

    def bind_guard(self, function_signature, clock):
        def admit(args, kwargs):
            if isinstance(self.decision, CallVetoed):
                raise self.decision
            return self.decision

        return admit, lambda elapsed, value, exception, outcome, token: self.ends.append((outcome, token))


def asking(observer):
    """Have an observer asked about each call."""
    observer.when = lambda context: context.arguments == {"args": (), "kwargs": {}} or True
    return observer


WATCHED = {
    "context": lambda: ([Curious(priority=1)], {}),
    "no context": lambda: ([BoundWitness(), MetricsObserver()], {}),
    "callbacks": lambda: ([on(lambda value, arguments, exception: None) for on in (on_success, on_failure)], {}),
    "failing": lambda: ([Failing(), Curious(priority=1)], {"max_observer_failures": 2}),
    "another clock": lambda: ([Curious(priority=1)], {"time_source": MockTimeSource()}),
    "every state": lambda: ([Curious(*ExecutionState)], {}),
    "guard": lambda: ([Guard(), Curious(priority=1)], {}),
    "predicate": lambda: ([Curious(priority=1, when=lambda context: context.call_id)], {}),
    "predicate without contexts": lambda: ([asking(BoundWitness()), MetricsObserver()], {}),
    "predicate of a guard": lambda: ([asking(Guard()), Curious(priority=1)], {}),
    "guard that waits": lambda: ([Guard(Waiting("token")), MetricsObserver()], {}),
    "locals": lambda: ([Curious(priority=1)], {"variable_names": ["value"]}),
    "locals, another clock": lambda: ([Curious()], {"variable_names": ["value"], "time_source": MockTimeSource()}),
}
BODIES = {"returns": None, "raises": BodyError, "exits": SystemExit}


def told_twice(witnesses) -> list:
    """The states that somebody was told more than once in one call."""
    return [
        (call_id, state)
        for witness in witnesses
        for (call_id, state), times in Counter((id(c._call), c.state) for c in witness.contexts).items()
        if times > 1
    ]


# A method's shell is a plain function's, and SystemExit goes the way of any exception but for POST_FAILURE.
CASES = [(way, ending) for way in WATCHED for ending in BODIES if ending != "exits" or way in ("context", "locals")]
CASES.remove(("guard that waits", "returns"))  # what differs comes before the body


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name != "method"], ids=str)
@pytest.mark.parametrize(("way", "ending"), CASES)
def test_the_caller_sees_the_bare_outcome_whichever_internal_operation_fails(kind, way, ending):
    failed = BODIES[ending] and BODIES[ending]("the user's")

    def body():
        value = "value"
        if failed is not None:
            raise failed
        return value

    hurt = set()
    for at in range(1, MOST_OPERATIONS):
        observers, options = WATCHED[way]()
        last = Witness(priority=-5, name="last")
        function = kind.make(body, CallPyBack([*observers, last], **options))
        witnesses = [last, *(known for known in observers if isinstance(known, Witness))]
        fault = Fault(at, RuntimeError if at % 2 else MemoryError)
        came = fault.during(partial(kind.call, function))
        if fault.where is None:
            break
        if (came.value, came.exception) != ((None, failed) if failed else ("value", None)):
            hurt.add(fault.where)
        assert told_twice(witnesses) == []
        assert TELLING == []
        assert_next_call_is_told(kind, function, last)
    else:
        pytest.fail(f"more than {MOST_OPERATIONS} operations a call")
    assert hurt == set()


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name != "method"], ids=str)
@pytest.mark.parametrize("ending", ["returns", "raises"])
@pytest.mark.parametrize("way", ["context", "no context", "every state", "guard", "locals, another clock"])
def test_where_calls_are_tracked_too(kind, way, ending):
    test_the_caller_sees_the_bare_outcome_whichever_internal_operation_fails(kind, way, ending)
    assert CURRENT.get() is NOTHING


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name != "method"], ids=str)
def test_a_fault_while_progress_is_told_is_not_the_bodys(kind):
    entered = frozenset(known.__code__ for known in (current_call, CurrentCall.progress, is_heard, announce))
    told = []
    for at in range(1, MOST_OPERATIONS):
        last = Witness(priority=-5, name="last", notices=Notice.PROGRESS)
        curious = Curious(priority=1, notices=Notice.PROGRESS)
        watching = [curious, on_progress(lambda done, tags: None), last]
        function = kind.make(lambda: current_call().progress(1, 2) or "value", CallPyBack(watching))
        fault = Fault(at, RuntimeError if at % 2 else MemoryError, entered)
        came = fault.during(partial(kind.call, function))
        assert (came.value, came.exception) == ("value", None), fault.where
        assert TELLING == []
        assert_next_call_is_told(kind, function, last)
        told.append(sum(context.notice is not None for context in last.contexts))
        if fault.where is None:
            break
    assert set(told) == {1}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name != "method"], ids=str)
@pytest.mark.parametrize(
    ("ending", "is_planned"),
    [("returns", True), ("raises", True), ("returns", False)],
    ids=["returns", "raises", "plan is made"],
)
def test_inside_a_scope_too(kind, ending, is_planned):
    """Also while the plan for calls inside is made, and where a predicate is asked."""
    failed = BODIES[ending] and BODIES[ending]("the user's")

    def body():
        if failed is not None:
            raise failed
        return "value"

    hurt = set()
    for at in range(1, MOST_OPERATIONS):
        last = Witness(priority=-5, name="last")
        function = kind.make(body, CallPyBack([last]))
        fault = Fault(at, RuntimeError if at % 2 else MemoryError)
        with observing(Curious(priority=1), when=lambda context: context.arguments is not None) as scoped:
            if is_planned:
                kind.ended(function)
            came = fault.during(partial(kind.call, function))
            if fault.where is None:
                break
            if (came.value, came.exception) != ((None, failed) if failed else ("value", None)):
                hurt.add(fault.where)
            assert told_twice([last, scoped]) == []
            assert TELLING == []
            assert_next_call_is_told(kind, function, last)
        told = len(scoped.contexts)
        assert_next_call_is_told(kind, function, last)
        assert len(scoped.contexts) == told
    else:
        pytest.fail(f"more than {MOST_OPERATIONS} operations a call")
    assert hurt == set()


def assert_next_call_is_told(kind, function, last) -> None:
    last.contexts.clear()
    kind.ended(function)
    assert last.told[0] == "PRE_EXECUTION"
    assert last.contexts[-1].state.is_terminal


class Deciding:
    priority = 0
    states = frozenset({ExecutionState.PRE_EXECUTION})

    def __init__(self, decision) -> None:
        self.decision = decision

    def update(self, context) -> None:
        raise self.decision


DECIDED = {
    "by an observer": Deciding,
    "by a guard": Guard,
    "after a wait": lambda decision: Guard(Waiting(decision)),
}


@pytest.mark.parametrize("decision", ["veto", "answer"])
@pytest.mark.parametrize("decided", DECIDED)
def test_a_fault_never_runs_a_body_that_was_refused_before_it(kind, decided, decision):
    ran, hurt = [], set()
    for at in range(1, MOST_OPERATIONS):
        raised = CallVetoed() if decision == "veto" else StopProcessing(kind.answer("answer"))
        watching = [DECIDED[decided](raised), on_completion(lambda outcome: None)]
        function = kind.make(partial(ran.append, at), CallPyBack(watching))
        fault = Fault(at, RuntimeError)
        came = fault.during(partial(kind.call, function))
        if fault.where is None:
            break
        if ran:  # the fault came before the decision: that the body runs is the bare outcome
            assert came.exception is None
            ran.clear()
        elif not (came.exception is raised or came.value == "answer"):
            hurt.add((at, fault.where))
    else:
        pytest.fail(f"more than {MOST_OPERATIONS} operations a call")
    assert hurt == set()


class Again:
    """Runs the body once more."""

    def next_wait(self, error, attempt, elapsed):
        return 0.0 if attempt == 1 else None


class Handler:
    def handle_error(self, error, context):
        return "handled"


class AsyncHandler:
    async def handle_error(self, error, context):
        await pause()
        return "handled"


RETRIED = {
    "context": (1, lambda: ([Curious(priority=1)], {})),
    "no context": (1, lambda: ([BoundWitness(), Guard()], {})),
    "notice": (2, lambda: ([on_retry(lambda exception, wait: None), Curious(priority=1, notices=Notice.RETRY)], {})),
    "another clock": (2, lambda: ([Curious(*ExecutionState, priority=1)], {"time_source": MockTimeSource()})),
    "locals": (1, lambda: ([Curious(priority=1)], {"variable_names": ["value"]})),
    "handler": (2, lambda: ([BoundWitness()], {"error_handler": Handler()})),
}
"""How often the body fails, of at most two attempts, and who watches."""


def hurt_by_faults(kind, failures: int, watched, values, left_out=frozenset()) -> set:
    """Call a function that fails so often and then returns, with each fault; return the faults that could be seen.

    A fault may keep the body from being repeated, or a handler from being asked: then the caller gets an error of the
    body's own.
    """
    hurt = set()
    for at in range(1, MOST_OPERATIONS):
        errors, ran = [BodyError(number) for number in range(failures)], []

        def body(errors=errors, ran=ran):
            ran.append("run")
            value = "value"
            if len(ran) <= len(errors):
                raise errors[len(ran) - 1]
            return value

        observers, options = watched()
        last = Witness(priority=-5, name="last")
        function = make(kind, body, CallPyBack([*observers, last], retry=Again(), **options))
        fault = Fault(at, RuntimeError if at % 2 else MemoryError, left_out)
        came = fault.during(partial(kind.call, function))
        if fault.where is None:
            return hurt
        if kind.is_generator and isinstance(came.exception, IndexError):  # no item: a handler ended it
            came = Ended("handled")
        is_users = any(came.exception is error for error in errors[: len(ran)])
        if not (is_users or (came.exception is None and came.value in values)):
            hurt.add((fault.where, repr(came)))
        if len(ran) > 2 or told_twice([last, *(known for known in observers if isinstance(known, Witness))]):
            hurt.add((fault.where, f"ran {len(ran)} times"))
        assert TELLING == []
        assert_next_call_is_told(kind, function, last)
    return pytest.fail(f"more than {MOST_OPERATIONS} operations a call")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name != "method"], ids=str)
@pytest.mark.parametrize("way", RETRIED)
def test_with_retries_the_caller_sees_the_outcome_of_an_attempt(kind, way):
    values = {"value", "handled"} if way == "handler" else {"value"}
    assert hurt_by_faults(kind, *RETRIED[way], values) == set()


@pytest.mark.parametrize("kind", ASYNC_KINDS, ids=str)
def test_with_an_async_handler_the_caller_sees_its_answer_or_the_users_error(kind):
    watched = lambda: ([Curious()], {"error_handler": AsyncHandler()})  # noqa: E731 - as the ways above
    assert hurt_by_faults(kind, 2, watched, {"handled"}, WAITING_FOR_HANDLERS) == set()


def at_depth(depth: int, call):
    return call() if depth == 0 else at_depth(depth - 1, call)


RECURSION = {
    "context": lambda: ([Curious()], {}),
    "failing": lambda: ([Failing(), Witness()], {}),
    "no context": lambda: ([BoundWitness()], {}),
    "locals": lambda: ([Curious()], {"variable_names": ["value"]}),
    "guard": lambda: ([Guard()], {}),
    "retried": lambda: ([Curious(), on_retry(lambda exception: None)], {"retry": Again()}),
}


@pytest.mark.parametrize("way", RECURSION)
@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_near_the_recursion_limit_a_call_ends_as_under_an_empty_wrapper(way, ending):
    failed = BODIES[ending] and BODIES[ending]("the user's")

    def bare():
        value = "value"
        if failed is not None:
            raise failed
        return value

    @wraps(bare)
    def wrapped(*args, **kwargs):
        return bare(*args, **kwargs)

    observers, options = RECURSION[way]()
    function = CallPyBack(observers, max_observer_failures=10**6, **options)(bare)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    differing = []
    try:
        for depth in range(200, 300):
            plain, observed = ended(lambda: at_depth(depth, wrapped)), ended(lambda: at_depth(depth, function))  # noqa: B023
            if type(plain.exception) is not type(observed.exception):
                differing.append((depth, plain, observed))
    finally:
        sys.setrecursionlimit(limit)
    assert differing == []
    assert TELLING == []
