"""What a callback takes, by the names of its parameters, and the code that gives it just that."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import refuse
from callpyback.core.functions import FunctionKind, kind_of, signature_of
from callpyback.core.safe_repr import type_name
from callpyback.core.state_machine import ENDED_STATES, TERMINAL_STATES, ExecutionState, Notice
from callpyback.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext

Callback = Callable[..., Any]
Wanted = tuple[tuple[str, str], ...]
"""What a callback takes, in order: how it is passed, "positional" or "keyword", and its name."""

_BUILTINS: Final = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)


def _exception_of(context: ExecutionContext) -> BaseException | None:
    if context.notice is not None:
        return _noticed(context, "exception")  # type: ignore[no-any-return]
    return None if context.result is None else context.result.exception


def _noticed(context: ExecutionContext, name: str) -> Any:
    return getattr(context.notice, name, None)


FROM_CONTEXT: Final[dict[str, Callable[[ExecutionContext], Any]]] = {
    "context": lambda context: context,
    "ctx": lambda context: context,
    "function_signature": lambda context: context.function_signature,
    "arguments": lambda context: context.arguments,
    "state": lambda context: context.state,
    "outcome": lambda context: context.outcome,
    "result": lambda context: context.result,
    "value": lambda context: None if context.result is None else context.result.value,
    "exception": _exception_of,
    "returned": lambda context: context.returned,
    "local_variables": lambda context: context.local_variables,
    "metadata": lambda context: context.metadata,
    "tags": lambda context: context.tags,
    "timestamp": lambda context: context.timestamp,
    "execution_time": lambda context: context.execution_time,
    "call_id": lambda context: context.call_id,
    "parent_call_id": lambda context: context.parent_call_id,
    "depth": lambda context: context.depth,
    "attempt": lambda context: context.attempt,
    "wait": lambda context: _noticed(context, "wait"),
    "done": lambda context: _noticed(context, "done"),
    "total": lambda context: _noticed(context, "total"),
}

OF_CALLS_AROUND: Final = frozenset({"parent_call_id", "depth"})
"""What is known only where calls are tracked."""

# The same, read from the record of the running call without making a context. In one state a name always has the
# same expression, so the callback's arguments compile to plain attribute reads.
_IN_EVERY_STATE: Final = {
    "context": "ExecutionContext(state, call, listener)",
    "ctx": "ExecutionContext(state, call, listener)",
    "function_signature": "call.plan.target.signature",
    "arguments": "call.arguments()",
    "state": "state",
    "metadata": "call.metadata_at(state)",
    "tags": "call.tags_at(state)",
    "timestamp": "call.timestamp",
    "call_id": "call.call_id",
    "parent_call_id": "call.parent_call_id",
    "depth": "call.depth",
    "attempt": "call.attempt",
    **dict.fromkeys(("wait", "done", "total"), "None"),
}
_BEFORE_THE_END: Final = {
    **dict.fromkeys(("result", "value", "exception", "execution_time", "outcome", "returned"), "None"),
    "local_variables": "{}",
}
_AT_THE_END: Final = {
    "result": "call.result_at(state)",
    "value": "None if call.raised is not None else call.value",
    "exception": "None if call.raised is None else call.raised.error",
    "execution_time": "call.elapsed",
    "local_variables": "dict(call.variables)",
}
# What POST_SUCCESS shows stays a success, even if a critical observer has just made the call fail.
_AFTER_SUCCESS: Final = {"value": "call.value", "exception": "None"}
_AT_A_NOTICE: Final = {
    Notice.RETRY: {"exception": "call.notice.exception", "wait": "call.notice.wait"},
    Notice.PROGRESS: {"done": "call.notice.done", "total": "call.notice.total"},
}
_AT_THE_VERY_END: Final = {"outcome": "call.outcome", "returned": "call.returned"}


CONTEXT_ONLY: Final = ((("positional", "context"),), (("positional", "ctx"),))


def wanted_by(callback: Callback) -> Wanted:
    """Return what a callback is to be called with.

    Raises:
        ConfigurationError: It needs something there is not, or is a generator function, which would never run.
    """
    if getattr(callback, "is_want", False) is True:
        refuse("callback", callback, 'a function; write @want("...") with what is wanted, in parentheses, above it')
    if kind_of(callback) in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR):
        refuse("callback", callback, "a function; calling a generator function runs nothing, so remove the `yield`")
    signature = signature_of(callback)
    if signature is None:
        return (("positional", "context"),)
    wanted = _by_name(signature, _bound_keywords(callback))
    missing = [p for p in signature.parameters.values() if _is_required(p) and p.name not in FROM_CONTEXT]
    if isinstance(callback, _BUILTINS) and not wanted and _has_room_for_one(signature, missing):
        return (("positional", "context"),)
    if missing:
        name = missing[0].name
        message = (
            f"Invalid callback parameter: {name!r} of {name_of(callback)}{nearest(name, FROM_CONTEXT)}; "
            f"a callback takes what it names of {', '.join(FROM_CONTEXT)}; "
            "a parameter of another name needs a default"
        )
        raise ConfigurationError(message)
    return wanted


def _by_name(signature: inspect.Signature, bound: frozenset[str]) -> Wanted:
    wanted = []
    passed_over = False  # a parameter before this one keeps its default, so position no longer tells which is which
    for parameter in signature.parameters.values():
        known = parameter.name in FROM_CONTEXT and parameter.name not in bound
        by_position = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if known and by_position and not passed_over:
            wanted.append(("positional", parameter.name))
        elif known and by_name:
            wanted.append(("keyword", parameter.name))
        else:
            passed_over = True
    return tuple(wanted)


def _bound_keywords(callback: Any) -> frozenset[str]:
    """Return what `functools.partial` has given by keyword: the user's value stays."""
    bound: set[str] = set()
    while isinstance(callback, functools.partial):
        bound.update(callback.keywords)
        callback = callback.func
    return frozenset(bound)


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _has_room_for_one(signature: inspect.Signature, missing: list[inspect.Parameter]) -> bool:
    """Return whether a builtin, whose parameters tell nothing, takes exactly one, or any number, by position."""
    if missing:
        return len(missing) == 1 and missing[0].kind is not inspect.Parameter.KEYWORD_ONLY
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.parameters.values())


def name_of(callback: Any) -> str:
    """Return the qualified name of a callback, of the inner function for partials."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    for attribute in ("__qualname__", "__name__"):
        name = getattr(callback, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type_name(callback)


@functools.lru_cache(maxsize=512)
def code_of(wanted: Wanted, state: ExecutionState | Notice) -> types.CodeType:
    """Compile the call of a callback. The text is made of the tables of this module alone, never of the user's."""
    expressions = {**_IN_EVERY_STATE, **_BEFORE_THE_END}
    if isinstance(state, Notice):
        expressions |= _AT_A_NOTICE[state]
    if state in ENDED_STATES:
        expressions |= _AT_THE_END
    if state is ExecutionState.POST_SUCCESS:
        expressions |= _AFTER_SUCCESS
    if state in TERMINAL_STATES:
        expressions |= _AT_THE_VERY_END
    given = [expressions[name] if style == "positional" else f"{name}={expressions[name]}" for style, name in wanted]
    return compile(f"lambda call: callback({', '.join(given)})", f"<callback at {state.name}>", "eval")
