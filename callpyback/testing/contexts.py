"""Contexts built by hand, to tell an observer what no real call has done."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from callpyback.core.context import Ending, ExecutionContext, ExecutionFailure, ExecutionResult
from callpyback.core.dispatch import is_cancellation
from callpyback.core.functions import FunctionSignature
from callpyback.core.notices import ProgressNotice, RetryNotice
from callpyback.core.shared import Shared
from callpyback.core.state_machine import ENDED_STATES, TERMINAL_STATES, ExecutionState, Outcome
from callpyback.errors import NO_VALUE, CallVetoed, ConfigurationError

_numbers = itertools.count(1)

_COMPLETED, _ERROR = ExecutionState.COMPLETED, ExecutionState.ERROR

_POSSIBLE: Final = {
    (_COMPLETED, False): (Outcome.SUCCESS, Outcome.SUPPLIED),
    (_COMPLETED, True): (Outcome.FAILURE, Outcome.HANDLED, Outcome.TIMED_OUT, Outcome.CANCELLED, Outcome.ABANDONED),
    (_ERROR, True): (Outcome.FAILURE, Outcome.VETOED, Outcome.ABORTED, Outcome.TIMED_OUT),
}
"""By the terminal state and whether there is an exception: the outcomes a call can have there."""


def build_context(
    function: str | Callable[..., Any] | FunctionSignature = "function",
    *,
    state: ExecutionState = ExecutionState.COMPLETED,
    arguments: Mapping[str, Any] | None = None,
    value: Any = NO_VALUE,
    exception: BaseException | None = None,
    outcome: Outcome | None = None,
    returned: Any = NO_VALUE,
    execution_time: float = 0.0,
    local_variables: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Mapping[Any, Any] | None = None,
    timestamp: float = 0.0,
    call_id: str | None = None,
    parent_call_id: str | None = None,
    depth: int | None = None,
    attempt: int = 1,
    notice: RetryNotice | ProgressNotice | None = None,
    shared: Shared | None = None,
    instance: object | None = None,
    items: int | None = None,
    lifetime: float | None = None,
    time_to_first_item: float | None = None,
) -> ExecutionContext:
    """Build a context as a call would have made it; one that no call can make is refused.

    Without further arguments: a call of `function()` that has succeeded with None. With `exception`, it has failed.
    `context.slot` of a context built by hand forgets what is put into it: test an observer that uses its slot with a
    decorated function.

    Args:
        function: A name; or a function, whose defaults are then filled in; or a `FunctionSignature`.
        state: Where the call is.
        arguments: By name, without `self`.
        value: What the body gave.
        exception: What the body raised, or what refused the call. POST_FAILURE and ERROR need one.
        outcome: How the call ended. By default what follows from the state, the exception and `returned`.
        returned: What a handler gave the caller in place of the exception, or a guard in place of the body.
        execution_time: Seconds the body ran.
        local_variables: The captured locals by name.
        metadata: The decorator's `metadata=`.
        tags: What the body has said of the call; `context.metadata` has them on top of the metadata.
        timestamp: The wall clock when the call began, in seconds since the epoch.
        call_id: The same for contexts of one call; by default a new one.
        parent_call_id: The `call_id` of the call around it.
        depth: How many calls are around it; by default 0, and 1 with a `parent_call_id`.
        attempt: Which run of the body this is.
        notice: What is told inside EXECUTING: `RetryNotice(attempt, exception, wait)` or `ProgressNotice(done, total)`.
        shared: What the observers of the call share; the same for contexts of one call. By default a new one.
        instance: The `self` or `cls` of a method call.
        items: How many items a generator has yielded.
        lifetime: Seconds from a generator's first step to its end.
        time_to_first_item: Seconds from a generator's first step to its first item.

    Raises:
        ConfigurationError: No call has such a context.

    Example:
        >>> context = build_context("checkout", arguments={"cart": 3}, exception=OSError("disk full"))
        >>> context
        <ExecutionContext of checkout: COMPLETED, outcome=FAILURE>
        >>> context.is_failed, context.arguments
        (True, {'cart': 3})
    """
    signature = _signature_of(function)
    if not isinstance(state, ExecutionState):
        _refuse("state", state, f"one of {', '.join(known.name for known in ExecutionState)} of ExecutionState")
    ending = _outcome_of(state, exception, outcome, returned)
    value = returned if ending is Outcome.SUPPLIED and value is NO_VALUE else value
    result = _result_of(state, value, exception, execution_time)
    if result is None:
        _refuse_early(state, "they are captured when the body ends", local_variables=local_variables)
    _refuse_misplaced(state, tags, notice, parent_call_id, depth)
    known = Ending(
        outcome=ending,
        returned=_returned_of(ending, value, returned),
        call_id=f"built-{next(_numbers)}" if call_id is None else call_id,
        parent_call_id=parent_call_id,
        depth=int(parent_call_id is not None) if depth is None else depth,
        attempt=attempt,
        notice=notice,
        tags=dict(tags or {}),
        shared=Shared() if shared is None else shared,
        instance=instance,
        items=items,
        lifetime=lifetime,
        time_to_first_item=time_to_first_item,
    )
    return ExecutionContext(
        state=state,
        _call=known,
        function_signature=signature,
        arguments=with_defaults(signature, arguments or {}),
        result=result,
        local_variables=dict(local_variables or {}),
        metadata={**(metadata or {}), **(tags or {})},
        timestamp=timestamp,
    )


def with_defaults(signature: FunctionSignature, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as a call shows them: what was left out has its default, `*args` is an empty tuple."""
    named = dict(arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            named.setdefault(name, ())
        elif parameter.default is not parameter.empty:
            named.setdefault(name, parameter.default)
    return named


def _signature_of(function: str | Callable[..., Any] | FunctionSignature) -> FunctionSignature:
    if isinstance(function, FunctionSignature):
        return function
    if isinstance(function, str):
        return FunctionSignature(function)
    if callable(function):
        return FunctionSignature.of(function)
    return _refuse("function", function, "a name, a function or a FunctionSignature")


def _result_of(
    state: ExecutionState, value: Any, exception: BaseException | None, execution_time: float
) -> ExecutionResult | ExecutionFailure | None:
    if state not in ENDED_STATES:
        _refuse_early(state, "the body has not ended", value=value, exception=exception)
        return None
    if exception is None:
        if state in (ExecutionState.POST_FAILURE, _ERROR):
            _refuse("exception", None, f"an exception: no call comes to {state.name} without one")
        return ExecutionResult(None if value is NO_VALUE else value, execution_time)
    if value is not NO_VALUE:
        _refuse("value", value, "nothing beside exception=: the body gives one of them; a handler's value is returned=")
    if state is ExecutionState.POST_SUCCESS:
        _refuse("exception", exception, "nothing at POST_SUCCESS; choose POST_FAILURE or COMPLETED")
    return ExecutionFailure(exception, execution_time=execution_time)


def _outcome_of(
    state: ExecutionState, exception: BaseException | None, outcome: Outcome | None, returned: Any
) -> Outcome | None:
    if state not in TERMINAL_STATES:
        _refuse_early(state, "it is known at COMPLETED and ERROR", outcome=outcome, returned=returned)
        return None
    if outcome is None:
        outcome = _likely_outcome(state, exception, is_supplied=returned is not NO_VALUE)
    possible = _POSSIBLE.get((state, exception is not None), ())
    if possible and outcome not in possible:
        names = ", ".join(known.name for known in possible)
        _refuse("outcome", outcome, f"one of {names}, {_shown(exception)} being the exception at {state.name}")
    if returned is not NO_VALUE and outcome not in (Outcome.SUPPLIED, Outcome.HANDLED):
        _refuse("returned", returned, f"nothing for {outcome.name}: it is what a guard or a handler supplies")
    return outcome


def _likely_outcome(state: ExecutionState, exception: BaseException | None, *, is_supplied: bool) -> Outcome:
    if exception is None:
        return Outcome.SUPPLIED if is_supplied else Outcome.SUCCESS
    if state is _ERROR:
        if isinstance(exception, CallVetoed):
            return Outcome.VETOED
        return Outcome.FAILURE if isinstance(exception, Exception) else Outcome.ABORTED
    if is_supplied:
        return Outcome.HANDLED
    if isinstance(exception, GeneratorExit):
        return Outcome.ABANDONED
    return Outcome.CANCELLED if is_cancellation(exception) else Outcome.FAILURE


def _returned_of(outcome: Outcome | None, value: Any, returned: Any) -> Any:
    """Return what a guard or a handler supplied; a guard's answer is both the value and what was returned."""
    supplied = value if outcome is Outcome.SUPPLIED else returned
    return None if supplied is NO_VALUE else supplied


def _refuse_misplaced(
    state: ExecutionState, tags: Any, notice: Any, parent_call_id: str | None, depth: int | None
) -> None:
    if notice is not None and not isinstance(notice, (RetryNotice, ProgressNotice)):
        _refuse("notice", notice, "a RetryNotice or a ProgressNotice")
    if notice is not None and state is not ExecutionState.EXECUTING:
        _refuse("notice", notice, f"nothing at {state.name}: notices are told inside EXECUTING")
    if tags and state in (ExecutionState.INITIALIZED, ExecutionState.PRE_EXECUTION):
        _refuse("tags", tags, f"nothing at {state.name}: the body has not begun")
    if parent_call_id is not None and depth == 0:
        _refuse("depth", depth, "at least 1 with a parent_call_id")


def _refuse_early(state: ExecutionState, reason: str, **given: Any) -> None:
    for parameter, value in given.items():
        if value is not None and value is not NO_VALUE:
            _refuse(parameter, value, f"nothing at {state.name}: {reason}")


def _refuse(parameter: str, value: Any, expected: str) -> NoReturn:
    message = f"{parameter}={_shown(value)}: expected {expected}"
    raise ConfigurationError(message)


def _shown(value: Any) -> str:
    from callpyback.core.safe_repr import safe_repr  # noqa: PLC0415 - only when something is wrong

    return safe_repr(value)
