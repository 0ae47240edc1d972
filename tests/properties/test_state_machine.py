"""What every observer sees of every call is a walk over the table of states, and both code paths tell the same."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from callpyback import (
    CallPyBack,
    CallVetoed,
    ExecutionState,
    MockTimeSource,
    Notice,
    Outcome,
    StateMachine,
    StateTransitionError,
    StopProcessing,
    handle,
    on_completion,
    on_failure,
    on_retry,
    on_success,
)
from callpyback.core.state_machine import PLAIN_STATES, TRANSITIONS
from kinds import KINDS, Witness, drive, ended
from retrying import make

S, RETRY = ExecutionState, Notice.RETRY


class Expected(Exception):
    pass


class Repeatable(Expected):
    """The body runs again after it, up to so many times."""

    MOST_ATTEMPTS = 3


class Unexpected(Exception):
    pass


class Insisted(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Script:
    """What is to happen in one call; every observer and the body read their part of it from the arguments."""

    decision: str = "none"
    critical_at: S | Notice | None = None
    critical_attempt: int = 1  # from this one on
    failing_at: frozenset[S | Notice] = frozenset()
    failures: int = 0  # so many attempts fail before the body does what follows
    body: str = "returns"
    nested: Script | None = None

    def insists(self, step: S | Notice, attempt: int) -> bool:
        """Whether the critical observer fails there."""
        return self.critical_at is step and attempt >= self.critical_attempt


BODIES = {
    "raises": Expected,
    "raises something else": Unexpected,
    "is cancelled": asyncio.CancelledError,
    "exits": SystemExit,
    "is interrupted": KeyboardInterrupt,
}

states = st.sampled_from(ExecutionState)
steps = st.sampled_from([*ExecutionState, RETRY])
flat_scripts = st.builds(
    Script,
    decision=st.sampled_from(["none", "none", "none", "veto", "answer", "answer none", "stop telling"]),
    critical_at=st.none() | steps,
    critical_attempt=st.integers(1, 3),
    failing_at=st.just(frozenset()) | st.frozensets(steps, max_size=3),
    failures=st.sampled_from([0, 0, 1, 2, 3]),
    body=st.sampled_from(["returns", "returns", *BODIES]),
)
scripts = st.builds(dataclasses.replace, flat_scripts, nested=st.none() | flat_scripts)


class Deciding:
    """Vetoes or answers; as a guard or as a plain observer."""

    priority = 5

    def __init__(self, kind, *, guard: bool) -> None:
        self.kind = kind
        self.guard = guard

    def update(self, context) -> None:
        decision = context.arguments["script"].decision
        if context.state is not S.PRE_EXECUTION or decision == "none":
            return
        if decision == "veto":
            raise CallVetoed("by the script")
        if decision == "stop telling":
            raise StopProcessing
        raise StopProcessing(self.kind.answer(ANSWERS[decision]))


ANSWERS = {"answer": "the answer", "answer none": None}


def step_of(context) -> S | Notice:
    return context.state if context.notice is None else RETRY


class Critical:
    priority = 4
    critical = True
    notices = RETRY

    def __init__(self, states) -> None:
        self.states = states

    def update(self, context) -> None:
        if context.arguments["script"].insists(step_of(context), context.attempt):
            raise Insisted(context.state)


class Failing:
    priority = 3
    notices = RETRY

    def __init__(self, states) -> None:
        self.states = states

    def update(self, context) -> None:
        if step_of(context) in context.arguments["script"].failing_at:
            raise LookupError(context.state)


class Repeating:
    """Runs the body again after some of its errors."""

    def next_wait(self, error, attempt, elapsed) -> float | None:
        return 0.0 if isinstance(error, Repeatable) and attempt < Repeatable.MOST_ATTEMPTS else None


class Guard:
    """Only asked while nothing is decided; then it hears no more of the call."""

    priority = 2
    guard = True

    def __init__(self) -> None:
        self.contexts = []

    def update(self, context) -> None:
        self.contexts.append(context)


@dataclasses.dataclass
class End:
    """How a call is to end, by the table and the rules of DESIGN."""

    outcome: Outcome
    terminal: S
    value: Any = None
    exception: type[BaseException] | None = None


def refused_by_critical(script: Script) -> bool:
    """Whether the critical observer fails before the body, at a state that is reached."""
    if script.insists(S.EXECUTING, 1):
        return script.decision not in ("veto", *ANSWERS)
    return script.insists(S.INITIALIZED, 1) or script.insists(S.PRE_EXECUTION, 1)


def end_of(script: Script, *, handles: bool, repeats: bool) -> End:
    if not script.insists(S.INITIALIZED, 1) and script.decision == "veto":
        return End(Outcome.VETOED, S.ERROR, exception=CallVetoed)
    if refused_by_critical(script):
        return End(Outcome.VETOED, S.ERROR, exception=Insisted)
    if script.decision in ANSWERS:
        end = End(Outcome.SUPPLIED, S.COMPLETED, ANSWERS[script.decision])
        if script.insists(S.COMPLETED, 1):
            end.exception = Insisted
        return end
    attempt = 1
    while attempt <= script.failures:
        if script.insists(S.POST_FAILURE, attempt) or not repeats or attempt == Repeatable.MOST_ATTEMPTS:
            return _end_of_failure(script, Repeatable, attempt, handles=handles)
        if script.insists(RETRY, attempt) or script.insists(S.EXECUTING, attempt + 1):
            return End(Outcome.FAILURE, S.ERROR, exception=Repeatable)
        attempt += 1
    if script.body != "returns":
        return _end_of_failure(script, BODIES[script.body], attempt, handles=handles)
    if script.insists(S.POST_SUCCESS, attempt):
        return End(Outcome.FAILURE, S.ERROR, exception=Insisted)
    return End(Outcome.SUCCESS, S.COMPLETED, "value", Insisted if script.insists(S.COMPLETED, attempt) else None)


def _end_of_failure(script: Script, exception: type[BaseException], attempt: int, *, handles: bool) -> End:
    if exception is asyncio.CancelledError:
        return End(Outcome.CANCELLED, S.COMPLETED, exception=exception)
    if not issubclass(exception, Exception):
        return End(Outcome.ABORTED, S.ERROR, exception=exception)
    if script.insists(S.POST_FAILURE, attempt) or exception is Unexpected:
        return End(Outcome.FAILURE, S.ERROR, exception=exception)
    if not handles:
        return End(Outcome.FAILURE, S.COMPLETED, exception=exception)
    return End(Outcome.HANDLED, S.COMPLETED, "default", Insisted if script.insists(S.COMPLETED, attempt) else None)


def followers(state: S | None, asked: frozenset[S]) -> set[S]:
    """The states that may be told next; those not asked for are passed through unseen."""
    reached, waiting = set(), [S.INITIALIZED] if state is None else list(TRANSITIONS[state])
    while waiting:
        next_state = waiting.pop()
        if next_state not in reached:
            reached.add(next_state)
            if next_state not in asked:
                waiting.extend(TRANSITIONS[next_state])
    return reached


def assert_walk(told: list[S], asked: frozenset[S], end: End | None) -> None:
    at = None
    for state in told:
        assert state in asked
        assert state in followers(at, asked)
        at = state
    terminals = [state for state in told if state.is_terminal]
    if end is None:
        assert terminals == []
    elif end.terminal in asked:
        assert terminals == [end.terminal]
        assert told[-1] is end.terminal
    else:
        assert terminals == []
        assert end.terminal in followers(at, asked)


def assert_attempts(contexts) -> None:
    """Attempts are counted in order, and each that is told to have failed is told so once."""
    attempts = [context.attempt for context in contexts]
    assert attempts == sorted(attempts)
    for state in (S.EXECUTING, S.POST_FAILURE):
        of_state = [context.attempt for context in contexts if context.state is state]
        assert of_state == list(range(1, len(of_state) + 1))


class Running:
    """A generator or coroutine that has made its first step."""

    def __init__(self, kind, function, number: int, script: Script) -> None:
        self.kind = kind
        self.number = number
        self.script = script
        self.iterator = function(number=number, script=script)

    def step(self):
        return ended(lambda: self._drive("asend", "send", None))

    def throw(self, error: BaseException):
        return ended(lambda: self._drive("athrow", "throw", error))

    def close(self):
        return ended(lambda: drive(self.iterator.aclose()) if self.kind.name == "async generator" else self._close())

    def _close(self) -> None:
        self.iterator.close()

    def _drive(self, for_async: str, otherwise: str, value: Any):
        if self.kind.name == "async generator":
            return drive(getattr(self.iterator, for_async)(value))
        return getattr(self.iterator, otherwise)(value)


RESUMABLE = [kind for kind in KINDS if kind.is_generator or kind.name == "coroutine"]
witnessed = st.lists(
    st.tuples(st.frozensets(states, min_size=1) | st.just(PLAIN_STATES), st.integers(-9, 9)), min_size=1, max_size=6
)


class Calls(RuleBasedStateMachine):
    """Drives calls of every kind in every way, one inside the other, and checks each against the table."""

    @initialize(
        witnessed=witnessed,
        clock=st.sampled_from([None, MockTimeSource()]),
        handles=st.booleans(),
        is_guard=st.booleans(),
        with_all=st.booleans(),
    )
    def watch(self, witnessed, clock, handles, is_guard, with_all) -> None:
        self.handles = handles
        self.ends: dict[int, End | None] = {}
        self.scripts: dict[int, Script] = {}
        self.attempts: Counter[int] = Counter()
        self.running: list[Running] = []
        self.witnesses = [Witness(*states, priority=priority) for states, priority in witnessed]
        if with_all:
            self.witnesses.append(Witness(*ExecutionState, priority=-10))
        self.guard = Guard()
        self.functions = {}
        self.prompt = {}  # generators whose body runs before they yield, so that it can be repeated
        for kind in KINDS:
            options = {"default_return": "default"} if handles and not kind.is_generator else {}
            decorator = CallPyBack(
                [
                    Deciding(kind, guard=is_guard),
                    Critical(ExecutionState),
                    Failing(ExecutionState),
                    self.guard,
                    *self.witnesses,
                ],
                exception_classes=(Expected,),
                retry=Repeating(),
                max_observer_failures=10**6,
                time_source=clock,
                **options,
            )
            self.functions[kind.name] = kind.make(self.body, decorator, parameters="*, number, script")
            self.prompt[kind.name] = make(kind, self.body, decorator)

    def body(self, number: int, script: Script) -> Any:
        self.attempts[number] += 1
        if script.nested is not None:
            self.call(KINDS[number % len(KINDS)], script.nested, prompt=number % 2 == 0)
        if self.attempts[number] <= script.failures:
            raise Repeatable(number)
        if script.body == "returns":
            return "value"
        raise BODIES[script.body](number)

    def numbered(self, script: Script) -> int:
        number = len(self.scripts)
        self.scripts[number] = script
        self.ends[number] = None
        return number

    @rule(kind=st.sampled_from(KINDS), script=scripts, prompt=st.booleans())
    def call(self, kind, script, prompt) -> None:
        number = self.numbered(script)
        functions = self.prompt if prompt else self.functions
        came = kind.ended(functions[kind.name], number=number, script=script)
        self.note_end(kind, number, came, repeats=prompt or not kind.is_generator)

    def note_end(self, kind, number, came, *, repeats) -> None:
        end = end_of(self.scripts[number], handles=self.handles and not kind.is_generator, repeats=repeats)
        self.ends[number] = end
        assert came.exception is None if end.exception is None else type(came.exception) is end.exception
        if end.exception is None:
            assert came.value == end.value

    @rule(kind=st.sampled_from(RESUMABLE), script=scripts)
    def begin(self, kind, script) -> None:
        number = self.numbered(script)
        running = Running(kind, self.functions[kind.name], number, script)
        came = running.step()
        if script.decision in ("veto", *ANSWERS) or refused_by_critical(script):
            if kind.is_generator and came.exception is None:  # an answered item; the rest follows
                assert came.value == ANSWERS[script.decision]
            running.close()
            self.ends[number] = end_of(script, handles=False, repeats=False)
        else:
            assert came.exception is None
            self.running.append(running)

    @precondition(lambda self: self.running)
    @rule(at=st.integers(0, 99))
    def finish(self, at) -> None:
        running = self.running.pop(at % len(self.running))
        values = []
        while (came := running.step()).exception is None:
            values.append(came.value)
        error = came.exception
        if isinstance(error, StopIteration | StopAsyncIteration):
            value = error.value if running.kind.name == "coroutine" else values[-1]
            came = dataclasses.replace(came, value=value, exception=None)
        self.note_end(running.kind, running.number, came, repeats=not running.kind.is_generator)

    @precondition(lambda self: self.running)
    @rule(at=st.integers(0, 99), drop=st.booleans())
    def abandon(self, at, drop) -> None:
        running = self.running.pop(at % len(self.running))
        if drop and running.kind.name != "async generator":  # only an event loop finishes a dropped one
            number = running.number
            del running
        else:
            number = running.number
            came = running.close()
            assert came.exception is None
        self.ends[number] = End(Outcome.ABANDONED, S.COMPLETED)

    @precondition(lambda self: self.running)
    @rule(at=st.integers(0, 99), error=st.sampled_from([Expected, Unexpected, asyncio.CancelledError, SystemExit]))
    def throw(self, at, error) -> None:
        running = self.running.pop(at % len(self.running))
        came = running.throw(error())
        how = next(name for name, raised in BODIES.items() if raised is error)
        script = self.scripts[running.number] = dataclasses.replace(running.script, body=how, failures=0)
        handles = self.handles and running.kind.name == "coroutine"
        end = self.ends[running.number] = end_of(script, handles=handles, repeats=False)
        if end.outcome is Outcome.HANDLED and end.exception is None:
            assert isinstance(came.exception, StopIteration)
            assert came.exception.value == "default"
        else:
            assert type(came.exception) is end.exception

    @invariant()
    def every_observer_saw_a_walk_over_the_table(self) -> None:
        for witness in getattr(self, "witnesses", ()):
            seen: dict[int, list] = {}
            for context in witness.contexts:
                seen.setdefault(context.arguments["number"], []).append(context)
            for number, contexts in seen.items():
                self.check(witness.states, contexts, number)

    def check(self, asked, contexts, number) -> None:
        end = self.ends[number]
        told = [context.state for context in contexts]
        asked = frozenset(asked)
        if self.scripts[number].decision == "stop telling" and S.PRE_EXECUTION not in told:
            asked -= {S.PRE_EXECUTION}
        assert_walk(told, asked, end)
        assert_attempts(contexts)
        assert len({context.call_id for context in contexts}) == 1
        for context in contexts:
            assert context.outcome is (end.outcome if context.state.is_terminal else None)
            has_result = context.state.is_terminal or context.state in (S.POST_SUCCESS, S.POST_FAILURE)
            assert (context.result is not None) is has_result
            if context.state is S.POST_SUCCESS:
                assert context.is_successful
            if context.state.is_terminal:
                quiet = end.outcome in (Outcome.CANCELLED, Outcome.ABANDONED)
                good = end.outcome in (Outcome.SUCCESS, Outcome.SUPPLIED)
                assert context.is_successful is good
                assert context.is_failed is (not good and not quiet)

    @invariant()
    def a_guard_that_was_not_asked_hears_nothing(self) -> None:
        decided = (Outcome.VETOED, Outcome.SUPPLIED)
        for context in getattr(self, "guard", Guard()).contexts:
            number = context.arguments["number"]
            end = self.ends[number]
            was_asked = self.scripts[number].critical_at is S.EXECUTING
            assert was_asked or end is None or end.outcome not in decided

    @invariant()
    def every_ended_call_was_told(self) -> None:
        for witness in getattr(self, "witnesses", ()):
            ended_calls = {number for number, end in self.ends.items() if end and end.terminal in witness.states}
            told = {context.arguments["number"] for context in witness.contexts if context.state.is_terminal}
            assert told == ended_calls

    def teardown(self) -> None:
        for running in getattr(self, "running", ()):
            running.close()


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@given(steps=st.lists(states, max_size=8))
def test_the_public_state_machine_takes_the_steps_of_the_table_and_no_others(steps):
    machine = StateMachine()
    for state in steps:
        before = machine.state_history
        if state in TRANSITIONS[machine.current_state]:
            assert machine.can_transition_to(state)
            machine.transition_to(state)
            assert machine.state_history == (*before, state)
        else:
            assert not machine.can_transition_to(state)
            with pytest.raises(StateTransitionError, match=machine.current_state.name):
                machine.transition_to(state)
            assert machine.state_history == before
        assert machine.is_terminal is (machine.current_state in (S.COMPLETED, S.ERROR))


class Noting:
    """Notes all that a context shows, as plain values."""

    def __init__(self, number: int, notes: list, notices=None, priority: int = 0) -> None:
        self.number = number
        self.notes = notes
        self.notices = notices
        self.priority = priority

    def update(self, context) -> None:
        context.slot["told"] = told = (*context.slot.get("told", ()), context.state.name)
        result = context.result
        shown = None
        if result is not None:
            shown = result.value, type(result.exception), getattr(result.exception, "args", None)
            assert result.execution_time >= 0
        self.notes.append(
            (
                self.number,
                context.state.name,
                context.outcome,
                shown,
                context.returned,
                context.arguments,
                context.local_variables,
                context.is_successful,
                context.is_failed,
                context.items,
                context.attempt,
                context.notice and (context.notice.attempt, type(context.notice.exception), context.notice.wait),
                told,
            )
        )


class NotingPlainly:
    priority = 1

    def __init__(self, number: int, notes: list) -> None:
        self.number = number
        self.notes = notes

    def bind(self, function_signature):
        def end(elapsed, value, exception, outcome) -> None:
            self.notes.append((self.number, "end", value, type(exception), outcome))

        return lambda: self.notes.append((self.number, "begin")), end


HOOKS = {"success": on_success, "failure": on_failure, "completion": on_completion, "retry": on_retry}


def observers_of(shape, kind, notes: list) -> list:
    # Nobody asks for INITIALIZED and EXECUTING: that would leave the straight path.
    made: list[Any] = [Deciding(kind, guard=False), Critical(PLAIN_STATES), Failing(PLAIN_STATES)]
    for number, (sort, priority) in enumerate(shape):
        if sort == "bound":
            made.append(NotingPlainly(number, notes))
        elif sort in ("update", "notices"):
            made.append(Noting(number, notes, RETRY if sort == "notices" else None, priority))
        else:
            made.append(
                HOOKS[sort](
                    lambda state, value, exception, arguments, attempt, wait, number=number: notes.append(
                        (number, state, value, type(exception), arguments, attempt, wait)
                    ),
                    priority,
                )
            )
    return made


GENERAL = {
    "another clock": lambda: {"time_source": MockTimeSource()},
    "another state asked for": lambda: {"last": [Witness(S.INITIALIZED, priority=-99)]},
}
shapes = st.lists(
    st.tuples(st.sampled_from(["update", "notices", "bound", *HOOKS]), st.integers(-6, 6)),
    min_size=1,
    max_size=11,
)


@pytest.mark.parametrize("general", GENERAL)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=40, deadline=None)
@given(shape=shapes, scripts=st.lists(flat_scripts, min_size=1, max_size=4), data=st.data())
def test_the_straight_code_tells_what_the_sequence_tells(kind, general, shape, scripts, data):
    names = data.draw(st.sampled_from([(), ("script", "value")]), label="variables")
    handles = not kind.is_generator and data.draw(st.booleans(), label="default_return")
    made_by = data.draw(st.sampled_from([kind.make, partial(make, kind)]), label="made by")

    def run(time_source=None, last=()) -> tuple:
        notes: list = []
        decorator = CallPyBack(
            [*observers_of(shape, kind, notes), *last],
            variable_names=names,
            exception_classes=(Expected,),
            time_source=time_source,
            retry=Repeating(),
            max_observer_failures=2,  # so that pausing takes part
            **({"default_return": "default"} if handles else {}),
        )
        body = ScriptedBody()
        function = made_by(body, decorator, parameters="script")
        ends = [kind.ended(function, body.begun(script)) for script in scripts]
        came = [(end.value, type(end.exception), getattr(end.exception, "args", None)) for end in ends]
        health = [known for known in handle(function).health.values() if known.name != "witness"]
        return came, notes, health

    assert run() == run(**GENERAL[general]())


class ScriptedBody:
    def begun(self, script: Script) -> Script:
        """Begin with the first attempt of a script."""
        self.attempt = 0
        return script

    def __call__(self, script: Script) -> Any:
        value = "value"
        self.attempt += 1
        if self.attempt <= script.failures:
            raise Repeatable(self.attempt)
        if script.body == "returns":
            return value
        raise BODIES[script.body](value)
