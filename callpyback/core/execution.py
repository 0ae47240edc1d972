"""The sequence of one call.

Each function here is one stretch of a call, written as a generator: it tells the observers by
`yield from told(...)`, which yields only what is to be awaited. `drivers.py` drives it.

The wrappers (`wrappers.py`) put the body between these stretches. Where nobody raises and nothing is awaited they
skip this module, with code that tells the same observers the same states in the same order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, cast

from callpyback.core.call import Noticed
from callpyback.core.context import ExecutionContext
from callpyback.core.decisions import Again, Answered, Decision
from callpyback.core.dispatch import (
    Steps,
    decided_by,
    is_cancellation,
    is_own_cancellation,
    judge_afterwards,
    settle,
    told,
)
from callpyback.core.functions import FunctionKind
from callpyback.core.notices import RetryNotice
from callpyback.core.raised import ObserverExit, Untouched, first_of, without_own_frame
from callpyback.core.reporting import report
from callpyback.core.state_machine import ExecutionState, Notice, Outcome
from callpyback.core.time_sources import elapsed_between

if TYPE_CHECKING:
    from callpyback.core.call import Call
    from callpyback.core.decisions import Deciding

PRE_EXECUTION, EXECUTING = ExecutionState.PRE_EXECUTION, ExecutionState.EXECUTING
POST_SUCCESS, POST_FAILURE = ExecutionState.POST_SUCCESS, ExecutionState.POST_FAILURE
COMPLETED, ERROR = ExecutionState.COMPLETED, ExecutionState.ERROR


def beginning(call: Call, start: int = 0) -> Steps:
    """From the first state up to the body; to the end, if an observer decides that the body does not run."""
    listeners = call.plan.listeners
    if listeners[ExecutionState.INITIALIZED] and not start:
        yield from told(call, ExecutionState.INITIALIZED)
    yield from told(call, PRE_EXECUTION, start)
    if listeners[EXECUTING] and not call.decided and call.interrupt is None:
        yield from told(call, EXECUTING)
    if call.decided or call.interrupt is not None:
        call.decided = True
        yield from _ended(call, *_without_body(call))


def _without_body(call: Call) -> tuple[Outcome, ExecutionState]:
    call.elapsed = 0.0
    if call.interrupt is not None:
        return _interrupted(call, call.interrupt)
    if call.vetoed and call.problem is not None:
        call.fail(call.problem)
        return Outcome.VETOED, ERROR
    return Outcome.SUPPLIED, COMPLETED


def succeeding(call: Call, start: int = 0) -> Steps:
    """From the return of the body to the end."""
    if call.attempt > 1:
        _note_lifetime(call)
    yield from told(call, POST_SUCCESS, start)
    yield from _ended(call, *_after_success(call))


def _after_success(call: Call) -> tuple[Outcome, ExecutionState]:
    if call.interrupt is not None:
        return _interrupted(call, call.interrupt)
    if call.problem is not None:
        call.fail(call.problem)
        call.spoiled = True
        return Outcome.FAILURE, ERROR
    return Outcome.SUCCESS, COMPLETED


def failing(call: Call, error: BaseException) -> Steps:
    """From an exception of the body to the end; `call.handled` says whether a value replaces it."""
    untouched = Untouched(error)
    call.fail(error)
    call.value, call.problem, call.interrupt, call.again = None, None, None, None
    call.closing = isinstance(error, GeneratorExit) and call.plan.target.kind is FunctionKind.COROUTINE
    try:
        if call.attempt > 1 or (call.plan.policy.retries and isinstance(error, Exception)):
            _note_lifetime(call)
        if isinstance(error, Exception):
            yield from told(call, POST_FAILURE)
            if call.plan.policy.answers:
                untouched.restore()
            outcome, terminal = yield from _after_failure(call, error)
            if call.again is not None:
                return
        else:
            outcome, terminal = _of_interrupt(error)
        yield from _ended(call, outcome, terminal)
        _raise_timeout(call, error)
    finally:
        untouched.restore()


def _after_failure(call: Call, error: Exception) -> Generator[Awaitable[Any], Any, tuple[Outcome, ExecutionState]]:
    policy = call.plan.policy
    failed = Outcome.TIMED_OUT if error is call.expired else Outcome.FAILURE
    if call.interrupt is not None:
        return _of_interrupt(call.interrupt)
    if call.problem is not None:
        call.problem = None  # a critical observer failed too: the user's own exception wins
        return failed, ERROR
    decision: Decision = None
    if policy.answers:
        try:
            decision = yield from _decided(call, policy.deciding(error, ExecutionContext(POST_FAILURE, call)))
        except GeneratorExit:
            raise  # this stretch is dropped
        except ObserverExit as raised:
            call.problem = raised.args[0]
        except Exception as fault:  # noqa: BLE001 - what a handler raises is among its decisions; this is our own
            report(fault)
        except BaseException as raised:  # noqa: BLE001 - Ctrl-C and the like in a handler
            # No local variable of this function may be left to hold it: its traceback may hold this frame.
            call.problem = raised
            if is_own_cancellation(raised):
                return Outcome.CANCELLED, COMPLETED
        if call.interrupt is not None:  # met while an async handler was awaited
            return _of_interrupt(call.interrupt)
    terminal = COMPLETED if policy.expects(error) else ERROR
    try:
        return _as_decided(call, error, decision, (failed, terminal))
    finally:
        decision = None


def _decided(call: Call, deciding: Deciding) -> Generator[Awaitable[Any], Any, Decision]:
    """Go through the asking, as `yield from` does, until the coroutine is closed: then nobody is asked any more."""
    step: Callable[[Any], Awaitable[Any]] = deciding.send
    given: Any = None
    while True:
        try:
            wanted = step(given)
        except StopIteration as stop:
            return cast("Decision", stop.value)
        finally:
            given = None  # an exception's traceback may hold this frame
        step = deciding.send
        try:
            given = yield wanted
        except BaseException as error:  # noqa: BLE001 - the handler's own, thrown back where it awaited
            step, given = deciding.throw, error
        if call.closing:
            deciding.close()
            return None


def _as_decided(
    call: Call, error: Exception, decision: Decision, otherwise: tuple[Outcome, ExecutionState]
) -> tuple[Outcome, ExecutionState]:
    if isinstance(decision, Again):
        if call.plan.policy.retries and not call.items:
            call.again = decision
    elif decision is not None:
        call.decided_by = decision.by
        if isinstance(decision, Answered):
            call.returned, call.handled = decision.value, True
            return Outcome.HANDLED, COMPLETED
        if decision.error is not error:
            call.problem = decision.error
    return otherwise


def _raise_timeout(call: Call, error: BaseException) -> None:
    """Send the timeout to the caller, where what the body raised is the cancellation by which its deadline ended it."""
    if error is call.stands_in and not call.handled and call.problem is None:
        call.problem = error


def _note_lifetime(call: Call) -> None:
    started: Any = call.started
    began: Any = started if call.began is None else call.began
    call.lifetime = elapsed_between(began, call.plan.clock())
    if call.time_to_first_item is not None:
        call.time_to_first_item += elapsed_between(began, started)


def retrying(call: Call) -> Steps:
    """From the decision to run the body again to the moment it does; to the end, if something comes between."""
    again: Any = call.again
    raised: Any = call.raised
    untouched = Untouched(raised.error)
    call.without_problem()
    if call.plan.listeners[Notice.RETRY]:
        noticed: Any = Noticed(call, RetryNotice(call.attempt, raised, again.wait))
        yield from told(noticed, Notice.RETRY)
    untouched.restore()
    if first_of(call.problem, call.interrupt) is None:
        try:
            yield from _paused(call, again.wait)
        except ObserverExit as interrupt:
            call.interrupt = interrupt.args[0]
        except Exception as fault:  # noqa: BLE001 - the time source is the user's: no wait then
            report(fault)
        except GeneratorExit:
            raise
        except BaseException as interrupt:  # noqa: BLE001 - Ctrl-C, or the task's cancellation
            call.interrupt = interrupt
    if _is_to_end(call):
        # On a record of its own: this one stays as contexts of the attempt have seen it.
        last = call.next_attempt()
        last.attempt = call.attempt
        last.vetoed, last.last_error, call.again = call.vetoed, None, None
        yield from _ended_between(last, untouched)
        call.problem = last.without_problem()
        last.release()


def giving_up(call: Call) -> Steps:
    """End a call whose next attempt can't be made: its last error goes to the caller."""
    error: Any = call.exception
    call.again = None
    yield from _ended(call, Outcome.TIMED_OUT if error is call.expired else Outcome.FAILURE, COMPLETED)
    if call.problem is None:
        call.problem = without_own_frame(error)


def attempting(call: Call) -> Steps:
    """Into the body for another attempt; to the end, if a critical observer fails there."""
    error: Any = call.last_error
    call.last_error = None
    if call.plan.listeners[EXECUTING]:
        untouched = Untouched(error)
        yield from told(call, EXECUTING)
        untouched.restore()
        if _is_to_end(call):
            yield from _ended_between(call, untouched)


def _ended_between(call: Call, untouched: Untouched) -> Steps:
    """End a call between two attempts, the last of which raised what is to be left untouched."""
    call.elapsed = call.earlier
    _note_lifetime(call)
    if call.interrupt is not None:
        yield from _ended(call, *_interrupted(call, call.interrupt))
    else:
        # A critical observer failed: the user's own exception wins.
        call.decided_by, call.vetoed = None, False
        call.without_problem()
        call.fail(untouched.error)
        yield from _ended(call, Outcome.TIMED_OUT if call.was_late else Outcome.FAILURE, ERROR)
        untouched.restore()
        if call.problem is None:
            call.problem = without_own_frame(untouched.error)


def _is_to_end(call: Call) -> bool:
    return call.interrupt is not None or call.problem is not None or call.vetoed


def _paused(call: Call, seconds: float) -> Steps:
    sleeper: Any = call.plan.sleeper
    if call.plan.target.is_async:
        yield sleeper.wait(seconds)
    else:
        sleeper.block(seconds)


def _interrupted(call: Call, error: BaseException) -> tuple[Outcome, ExecutionState]:
    """End a call that has no error of its own by what interrupted an observer."""
    call.problem = error
    call.fail(error)
    return _of_interrupt(error)


def _of_interrupt(error: BaseException) -> tuple[Outcome, ExecutionState]:
    if isinstance(error, GeneratorExit):
        return Outcome.ABANDONED, COMPLETED
    if is_cancellation(error):
        return Outcome.CANCELLED, COMPLETED
    return Outcome.ABORTED, ERROR


def _ended(call: Call, outcome: Outcome, terminal: ExecutionState, start: int = 0) -> Steps:
    call.outcome = outcome
    settled = call.without_problem()
    try:
        yield from told(call, terminal, start)
    finally:
        # A critical observer that failed only now reaches the caller if nothing else does.
        failed_last = call.problem if outcome in (Outcome.SUCCESS, Outcome.HANDLED, Outcome.SUPPLIED) else None
        # No call of a function between here and the caller: it could fail, and lose what goes to the caller.
        call.problem = failed_last
        if settled is not None:
            call.problem = settled
        if call.interrupt is not None:
            call.problem = call.interrupt
    if call.plan.ailing:
        settle(call)


def resumed_beginning(call: Call, at: int, error: BaseException | None, decision: Any = None) -> Steps:
    """Go on with PRE_EXECUTION after the `at`-th listener raised, or decided, or wants the call to wait."""
    call.state = PRE_EXECUTION
    listener = call.plan.listeners[PRE_EXECUTION][at]
    if decision is not None:
        try:
            yield from decided_by(call, listener, decision)
        except BaseException as raised:  # noqa: BLE001 - judged as what the guard itself raises
            error = raised.args[0] if type(raised) is ObserverExit else raised
    if error is not None:
        judge_afterwards(call, listener, error)
        error = None  # its traceback may hold this frame
    yield from beginning(call, at + 1)


def resumed_answer(call: Call, answered: int, at: int, error: BaseException, decision: Any) -> Steps:
    """Go on after a guard answered, the `answered`-th listener, and the `at`-th of COMPLETED raised."""
    call.decided = True
    call.value = call.returned = decision.value
    call.decided_by = call.plan.listeners[PRE_EXECUTION][answered].registration.name
    call.state, call.outcome, call.elapsed = COMPLETED, Outcome.SUPPLIED, 0.0
    judge_afterwards(call, call.plan.listeners[COMPLETED][at], error)
    problem = call.without_problem()
    yield from _ended(call, Outcome.SUPPLIED, COMPLETED, at + 1)
    call.problem = first_of(call.interrupt, problem, call.problem)


def resumed_success(call: Call, at: int, error: BaseException) -> Steps:
    """Go on after the body returned and the `at`-th listener, of POST_SUCCESS and COMPLETED together, raised."""
    first, last = call.plan.listeners[POST_SUCCESS], call.plan.listeners[COMPLETED]
    if at < len(first):
        call.state = POST_SUCCESS
        judge_afterwards(call, first[at], error)
        yield from succeeding(call, at + 1)
    else:
        call.state, call.outcome = COMPLETED, Outcome.SUCCESS
        judge_afterwards(call, last[at - len(first)], error)
        problem = call.without_problem()
        yield from _ended(call, Outcome.SUCCESS, COMPLETED, at - len(first) + 1)
        call.problem = first_of(call.interrupt, problem, call.problem)
