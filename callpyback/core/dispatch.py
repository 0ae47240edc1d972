"""Who is told what, in which order; and what becomes of an observer that fails."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.context import ExecutionContext
from callpyback.core.functions import FunctionKind
from callpyback.core.raised import ObserverExit, OfOneCall
from callpyback.core.safe_repr import safe_repr
from callpyback.core.state_machine import ExecutionState, Notice
from callpyback.core.telling import TELLING, Awaiting, awaiting, enter, leave
from callpyback.core.waiting import Wait
from callpyback.errors import CallVetoed, StopProcessing

if TYPE_CHECKING:
    from callpyback.core.call import Call
    from callpyback.core.listener import Listener
    from callpyback.core.registration import Registration

_PRE: Final = ExecutionState.PRE_EXECUTION

_BEFORE_THE_BODY: Final = frozenset(
    {ExecutionState.INITIALIZED, ExecutionState.PRE_EXECUTION, ExecutionState.EXECUTING}
)

Steps = Generator[Awaitable[Any], Any, None]
"""A part of the sequence of a call. It yields what is to be awaited, and is sent the result."""


def told(call: Call, state: ExecutionState | Notice, start: int = 0) -> Steps:
    """Tell one state or notice to those who asked for it, from the `start`-th on, each isolated from the others."""
    call.state = ExecutionState.EXECUTING if isinstance(state, Notice) else state
    listeners = call.plan.listeners[state]
    if not listeners:
        return
    deciding = state is ExecutionState.PRE_EXECUTION
    thread = get_ident()
    before = TELLING.count(thread)  # a finalizer may end a call while an observer is being told of another
    try:
        enter(thread)
        for listener in listeners[start:] if start else listeners:
            if not listener.is_told(call, state) or (deciding and _is_passed_over(call, listener.registration)):
                continue
            try:
                if deciding and listener.admit is not None:
                    yield from _asked(call, listener, listener.admit)
                elif listener.is_async:
                    leave(thread)
                    yield from _awaited(call, listener.tells[state], listener)
                    thread = get_ident()
                    enter(thread)
                else:
                    listener.tells[state](call)
            except BaseException as error:  # noqa: BLE001 - isolation is the purpose; `judge` sorts out what passes
                if listener.is_async:
                    thread = get_ident()
                    enter(thread)
                judge(call, listener, error.args[0] if type(error) is ObserverExit else error)
    finally:
        while TELLING.count(thread) > before:  # two marks if Ctrl-C came at the wrong moment
            leave(thread)


def _asked(call: Call, listener: Listener, admit: Callable[..., Any]) -> Steps:
    """Have a guard decide, waiting with the call if it asks for that; the thread is not marked meanwhile."""
    if listener.condition is not None and not listener.condition(ExecutionContext(_PRE, call, listener)):
        return
    if call.held is None:
        call.held = {}
    call.held[listener.registration] = None
    yield from decided_by(call, listener, admit(call.args, call.kwargs))


def decided_by(call: Call, listener: Listener, decision: Any) -> Steps:
    """Take what a guard's `admit` returned: an answer, a wait for one, or the guard's token."""
    while isinstance(decision, Wait):
        decision = yield from _waited(call, decision)
    if type(decision) is not StopProcessing:
        held: Any = call.held
        held[listener.registration] = decision
    elif not _is_decision(call, listener, decision):
        kind = call.plan.target.kind
        message = f"{safe_repr(decision.value)} can't stand for the items of a {kind}; an iterable can"
        raise TypeError(message)


def _waited(call: Call, waiting: Wait) -> Generator[Awaitable[Any], Any, Any]:
    thread = get_ident()
    is_marked = thread in TELLING
    if is_marked:
        leave(thread)
    try:
        if not call.plan.target.is_async:
            return waiting.block()
        decision: Any = waiting.wait()
        return (yield decision) if hasattr(decision, "__await__") else decision
    finally:
        if is_marked:
            enter(thread)


def _awaited(call: Call, tell: Callable[[Call], Any], listener: Listener) -> Steps:
    """Have an async observer awaited, its task marked so that what it calls is not observed."""
    if call.closing:
        listener.registration.condition.skipped += 1
        return
    mark = Awaiting()
    token = awaiting.set(mark)
    try:
        enter(0)
        wanted = tell(call)
        if wanted is not None:
            yield wanted
    finally:
        mark.active = False
        leave(0)
        awaiting.reset(token)


def _is_passed_over(call: Call, registration: Registration) -> bool:
    """Return whether PRE_EXECUTION is not told: to guards once it is decided, to plain observers if one said so."""
    if registration.guard and (call.decided or call.interrupt is not None):
        # A guard that was not asked has nothing to give back at the end, so it hears no more of this call.
        call.passed_over = (call.passed_over or frozenset()) | {registration}
        return True
    return call.told_enough and not registration.guard and not registration.critical


def judge(call: Call, listener: Listener, error: BaseException) -> None:
    """Decide what an exception out of an observer means: a decision, an interrupt, or the observer's failure."""
    deciding = call.state is ExecutionState.PRE_EXECUTION
    is_of_one_call = False
    if isinstance(error, OfOneCall):
        error, is_of_one_call = error.error, True
    is_users = call.raised is not None and call.raised.error is error  # it is on its way to the caller anyway
    is_awaited = listener.is_async or listener.admit is not None
    if not is_users and belongs_to_program(error, is_awaited=is_awaited):
        call.interrupt = error
    elif not (deciding and _is_decision(call, listener, error)):
        _count_failure(call, listener.registration, error, is_of_one_call=is_of_one_call)
        if listener.registration.critical:
            _insist(call, listener.registration, error)


def judge_afterwards(call: Call, listener: Listener, error: BaseException) -> None:
    """Judge when the telling was left already; logging a failure may call observed functions too."""
    thread = get_ident()
    before = TELLING.count(thread)  # a finalizer may end a call while an observer is being told of another
    try:
        enter(thread)
        judge(call, listener, error)
    finally:
        while TELLING.count(thread) > before:  # two marks if Ctrl-C came at the wrong moment
            leave(thread)


def _is_decision(call: Call, listener: Listener, error: BaseException) -> bool:
    if isinstance(error, CallVetoed):
        if not call.decided:
            call.veto(error, listener.registration.name)
        return True
    if isinstance(error, StopProcessing) and not error.has_value:
        call.told_enough = True
        return True
    if isinstance(error, StopProcessing) and is_answer(call.plan.target.kind, error.value):
        call.answer(error.value, listener.registration.name)
        return True
    return False


def is_answer(kind: FunctionKind, value: Any) -> bool:
    """Return whether a value can stand for the result: around generators it must have items."""
    if kind is FunctionKind.GENERATOR:
        return hasattr(value, "__iter__")
    return kind is not FunctionKind.ASYNC_GENERATOR or hasattr(value, "__aiter__") or hasattr(value, "__iter__")


def _count_failure(call: Call, registration: Registration, error: BaseException, *, is_of_one_call: bool) -> None:
    failed = call.failed or frozenset()
    where = f"{call.state.name} of {call.plan.target.signature.qualname}"
    registration.count_failure(error, where, again=is_of_one_call or registration in failed)
    call.failed = failed | {registration}
    if call.probed is not None:
        call.probed -= {registration}


def _insist(call: Call, registration: Registration, error: BaseException) -> None:
    """Let the exception of a critical observer reach the caller; before the body has begun, it refuses the call."""
    if not isinstance(error, Exception):
        # An observer's own SystemExit must not end the program, critical or not.
        refusal = CallVetoed(f"critical observer {registration.name!r} raised {type(error).__name__}")
        refusal.__cause__ = error
        error = refusal
    if call.state in _BEFORE_THE_BODY:
        call.veto(error, registration.name)
    elif call.problem is None:
        call.problem = error


def belongs_to_program(error: BaseException, *, is_awaited: bool = True) -> bool:
    """Return whether what came out of whoever was told of something is not his: Ctrl-C, or the end of the task.

    Everything else is his failure, SystemExit included, whether he was told of a call or of an event.

    Args:
        error: What came out.
        is_awaited: Whether he may have been awaited, so that a cancellation of the task may come out of him.
    """
    return isinstance(error, KeyboardInterrupt) or (is_awaited and is_own_cancellation(error))


def is_own_cancellation(error: BaseException) -> bool:
    """Return whether the running task is being cancelled, and this is how it is told."""
    if not is_cancellation(error):
        return False
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(error, asyncio.CancelledError):
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def is_cancellation(error: BaseException) -> bool:
    """Return whether this is how asyncio or trio cancel; neither is imported for the question."""
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    return isinstance(error, (getattr(asyncio, "CancelledError", ()), getattr(trio, "Cancelled", ())))


def settle(call: Call) -> None:
    """After a whole call: end the run of failures of every observer that did not fail in it."""
    for registration in call.plan.registrations.intersection(call.plan.ailing):
        if call.failed is not None and registration in call.failed:
            continue
        if registration.condition.paused and not (call.probed is not None and registration in call.probed):
            continue
        registration.recover()
