"""A function as an observer: it is called with what its parameters name."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.call import Noticed
from callpyback.core.configuration import looking_at, refuse
from callpyback.core.context import ExecutionContext
from callpyback.core.functions import FunctionKind, kind_of, signature_of
from callpyback.core.registration import weakly
from callpyback.core.safe_repr import type_name
from callpyback.core.state_machine import ENDED_STATES, TERMINAL_STATES, ExecutionState, Notice
from callpyback.errors import ConfigurationError, nearest
from callpyback.observers.base import BaseObserver

if TYPE_CHECKING:
    from callpyback.core.call import Call
    from callpyback.core.listener import Listener

    Told = ExecutionState | Notice | Iterable[ExecutionState | Notice]

Callback = Callable[..., Any]
_MAX_TOLD: Final = 100  # far more than there are
Wanted = tuple[tuple[str, str], ...]
"""What a callback takes, in order: how it is passed, "positional" or "keyword", and its name."""

_BUILTINS: Final = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)


def _exception_of(context: ExecutionContext) -> BaseException | None:
    shown = context.result if context.notice is None else context.notice
    return None if shown is None else shown.exception


_FROM_CONTEXT: Final[dict[str, Callable[[ExecutionContext], Any]]] = {
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
    "timestamp": lambda context: context.timestamp,
    "execution_time": lambda context: context.execution_time,
    "call_id": lambda context: context.call_id,
    "attempt": lambda context: context.attempt,
    "wait": lambda context: None if context.notice is None else context.notice.wait,
}

# The same, read from the record of the running call without making a context. In one state a name always has the
# same expression, so the callback's arguments compile to plain attribute reads.
_IN_EVERY_STATE: Final = {
    "context": "ExecutionContext(state, call, listener)",
    "ctx": "ExecutionContext(state, call, listener)",
    "function_signature": "call.plan.target.signature",
    "arguments": "call.arguments()",
    "state": "state",
    "metadata": "dict(call.plan.target.metadata)",
    "timestamp": "call.timestamp",
    "call_id": "call.call_id",
    "attempt": "call.attempt",
    "wait": "None",
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
_AT_A_RETRY: Final = {
    **dict.fromkeys(("context", "ctx"), "ExecutionContext(EXECUTING, Noticed(call), listener)"),
    "state": "EXECUTING",
    "exception": "call.retry_notice.exception",
    "wait": "call.retry_notice.wait",
}
_AT_THE_VERY_END: Final = {"outcome": "call.outcome", "returned": "call.returned"}


_CONTEXT_ONLY: Final = ((("positional", "context"),), (("positional", "ctx"),))


class CallbackObserver(BaseObserver):
    """Calls a function at some states, with what the function's parameters name.

    The names are `context` (or `ctx`), `function_signature`, `arguments`, `state`, `outcome`, `result`, `value`,
    `exception`, `returned`, `local_variables`, `metadata`, `timestamp`, `execution_time`, `call_id`, `attempt` and
    `wait`; each is what the context of that state has, `value` and `exception` those of its result, at a retry
    `exception` and `wait` those of the notice. A parameter with another name must
    have a default, and keeps it. `*args` and `**kwargs` get nothing, and a callback without parameters is simply
    called. A builtin such as `seen.append`, whose parameters tell nothing, gets the context. Only what is named is
    computed.

    A coroutine function is awaited around coroutines and async generators.

    Args:
        callback: What to call; what it returns is dropped.
        states: The state or states, or notices, to call it at.
        priority: Higher is called earlier.
        name: How it is shown; by default the qualified name of the callback.

    Raises:
        ConfigurationError: The callback has a parameter of another name, or cannot be called.

    Example:
        >>> from callpyback import CallPyBack, CallbackObserver, ExecutionState
        >>> def note(arguments, value):
        ...     print(arguments, "->", value)
        >>> @CallPyBack(observers=[CallbackObserver(note, ExecutionState.POST_SUCCESS)])
        ... def double(n):
        ...     return 2 * n
        >>> double(4)
        {'n': 4} -> 8
        8
    """

    def __init__(self, callback: Callback, states: Told, priority: float = 0, name: str | None = None) -> None:
        with looking_at("callback", callback):
            _check_callable(callback)
            own_name = _name_of(callback)
            self.wanted = wanted_by(callback)
            self.is_async = kind_of(callback) is FunctionKind.COROUTINE
        self.callback = callback
        notices, named = _told_apart(states)
        super().__init__(priority, own_name if name is None else name, states=named)
        if notices:
            self.notices = notices
            if named is None:
                self.states = frozenset()

    @property
    def wants_variables(self) -> bool:
        """Whether captured local variables may be read by the callback, or by an `update` that hides ours."""
        return type(self).update is not CallbackObserver.update or any(
            name in {"context", "ctx", "local_variables"} for _, name in self.wanted
        )

    @property
    def takes_context_only(self) -> bool:
        """Whether the callback is called as an observer's `update` is."""
        return type(self).update is CallbackObserver.update and self.wanted in _CONTEXT_ONLY

    def update(self, context: ExecutionContext) -> Any:
        """Call the callback, and return what it returns: the coroutine of one that is async."""
        positional = [_FROM_CONTEXT[name](context) for style, name in self.wanted if style == "positional"]
        named = {name: _FROM_CONTEXT[name](context) for style, name in self.wanted if style == "keyword"}
        return self.callback(*positional, **named)

    def compiled(self, state: ExecutionState | Notice, listener: Listener | None) -> Callable[[Call], Any]:
        """Return a function that tells the callback one state of a running call: `update` without a context."""
        if type(self).update is not CallbackObserver.update:
            if isinstance(state, Notice):
                executing = ExecutionState.EXECUTING
                return lambda call: self.update(ExecutionContext(executing, Noticed(call), listener))
            return lambda call: self.update(ExecutionContext(state, call, listener))
        scope = {
            "callback": self.callback,
            "state": state,
            "listener": listener,
            "ExecutionContext": ExecutionContext,
            "Noticed": Noticed,
            "EXECUTING": ExecutionState.EXECUTING,
        }
        return eval(_code(self.wanted, state), scope)  # type: ignore[no-any-return]  # noqa: S307 - see `_code`

    def weakened(self) -> CallbackObserver:
        """Return a copy that does not keep the object of a bound method alive, and does nothing once it is gone."""
        weak = copy.copy(self)
        weak.callback = weakly(self.callback)
        return weak


def _told_apart(told: Told) -> tuple[frozenset[Notice], Any]:
    """Return the notices, and the states; no states at all if only notices were named."""
    with looking_at("states", told):
        if not isinstance(told, Iterable) or isinstance(told, str | bytes):
            return (frozenset({told}), None) if isinstance(told, Notice) else (frozenset(), told)
        members = tuple(islice(told, _MAX_TOLD))
        notices = frozenset(member for member in members if isinstance(member, Notice))
        states = tuple(member for member in members if not isinstance(member, Notice))
        return notices, states or (None if notices else states)


def _check_callable(callback: Any) -> None:
    if not callable(callback):
        refuse("callback", callback, "something to call; an observer goes into observers=[...] as it is")


def wanted_by(callback: Callback) -> Wanted:
    """Return what a callback is to be called with.

    Raises:
        ConfigurationError: It needs something there is not, or is a generator function, which would never run.
    """
    if kind_of(callback) in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR):
        refuse("callback", callback, "a function; calling a generator function runs nothing, so remove the `yield`")
    signature = signature_of(callback)
    if signature is None:
        return (("positional", "context"),)
    wanted = _by_name(signature, _bound_keywords(callback))
    missing = [p for p in signature.parameters.values() if _is_required(p) and p.name not in _FROM_CONTEXT]
    if isinstance(callback, _BUILTINS) and not wanted and _has_room_for_one(signature, missing):
        return (("positional", "context"),)
    if missing:
        name = missing[0].name
        message = (
            f"Invalid callback parameter: {name!r} of {_name_of(callback)}{nearest(name, _FROM_CONTEXT)}; "
            f"a callback takes what it names of {', '.join(_FROM_CONTEXT)}; "
            "a parameter of another name needs a default"
        )
        raise ConfigurationError(message)
    return wanted


def _by_name(signature: inspect.Signature, bound: frozenset[str]) -> Wanted:
    wanted = []
    passed_over = False  # a parameter before this one keeps its default, so position no longer tells which is which
    for parameter in signature.parameters.values():
        known = parameter.name in _FROM_CONTEXT and parameter.name not in bound
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


def _name_of(callback: Any) -> str:
    while isinstance(callback, functools.partial):
        callback = callback.func
    for attribute in ("__qualname__", "__name__"):
        name = getattr(callback, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type_name(callback)


@functools.lru_cache(maxsize=512)
def _code(wanted: Wanted, state: ExecutionState | Notice) -> types.CodeType:
    """Compile the call of a callback. The text is made of the tables of this module alone, never of the user's."""
    expressions = {**_IN_EVERY_STATE, **_BEFORE_THE_END}
    if state is Notice.RETRY:
        expressions |= _AT_A_RETRY
    if state in ENDED_STATES:
        expressions |= _AT_THE_END
    if state is ExecutionState.POST_SUCCESS:
        expressions |= _AFTER_SUCCESS
    if state in TERMINAL_STATES:
        expressions |= _AT_THE_VERY_END
    given = [expressions[name] if style == "positional" else f"{name}={expressions[name]}" for style, name in wanted]
    return compile(f"lambda call: callback({', '.join(given)})", f"<callback at {state.name}>", "eval")


def on_call(callback: Callback, priority: float = 0, name: str | None = None) -> CallbackObserver:
    """Call back before the body runs (PRE_EXECUTION); the callback may raise `CallVetoed` or `StopProcessing`.

    The parameters are those of `CallbackObserver`.

    Example:
        >>> from callpyback import CallPyBack, on_call
        >>> @CallPyBack(observers=[on_call(lambda arguments: print("called with", arguments))])
        ... def greet(name):
        ...     return f"Hello {name}"
        >>> greet("Ann")
        called with {'name': 'Ann'}
        'Hello Ann'
    """
    return CallbackObserver(callback, ExecutionState.PRE_EXECUTION, priority, name)


def on_success(callback: Callback, priority: float = 0, name: str | None = None) -> CallbackObserver:
    """Call back when the body has returned (POST_SUCCESS).

    The parameters are those of `CallbackObserver`.

    Example:
        >>> from callpyback import CallPyBack, on_success
        >>> @CallPyBack(observers=[on_success(lambda value: print("gave", value))])
        ... def double(n):
        ...     return 2 * n
        >>> double(4)
        gave 8
        8
    """
    return CallbackObserver(callback, ExecutionState.POST_SUCCESS, priority, name)


def on_failure(callback: Callback, priority: float = 0, name: str | None = None) -> CallbackObserver:
    """Call back when the body has raised an `Exception`, or its deadline passed (POST_FAILURE).

    The parameters are those of `CallbackObserver`.

    Example:
        >>> from callpyback import CallPyBack, on_failure
        >>> failures = []
        >>> @CallPyBack(observers=[on_failure(lambda exception: failures.append(type(exception)))], default_return=0)
        ... def number(text):
        ...     return int(text)
        >>> number("x"), failures
        (0, [<class 'ValueError'>])
    """
    return CallbackObserver(callback, ExecutionState.POST_FAILURE, priority, name)


def on_completion(callback: Callback, priority: float = 0, name: str | None = None) -> CallbackObserver:
    """Call back when a call has ended, however it did (COMPLETED or ERROR): once for every call, last.

    The parameters are those of `CallbackObserver`.

    Example:
        >>> from callpyback import CallPyBack, on_completion
        >>> @CallPyBack(observers=[on_completion(lambda outcome: print(outcome.name))], default_return=None)
        ... def number(text):
        ...     return int(text)
        >>> number("x")
        HANDLED
    """
    return CallbackObserver(callback, TERMINAL_STATES, priority, name)


def on_error(callback: Callback, priority: float = 0, name: str | None = None) -> CallbackObserver:
    """Call back when a call has ended in ERROR: vetoed, aborted, an unexpected error, or a critical observer failed.

    An exception of the body that ends in COMPLETED, handled or not, is for `on_failure`.

    The parameters are those of `CallbackObserver`.

    Example:
        >>> import contextlib
        >>> from callpyback import CallPyBack, on_error
        >>> @CallPyBack(observers=[on_error(lambda exception: print("unexpected"))], exception_classes=[OSError])
        ... def number(text):
        ...     return int(text)
        >>> with contextlib.suppress(ValueError):
        ...     number("x")
        unexpected
    """
    return CallbackObserver(callback, ExecutionState.ERROR, priority, name)


def on_retry(callback: Callback, priority: float = 0, name: str | None = None) -> CallbackObserver:
    """Call back when an attempt has failed and the body is to run again after a wait.

    The parameters are those of `CallbackObserver`; `attempt` is the one that failed, `exception` what it raised and
    `wait` the seconds until the next.

    Example:
        >>> from callpyback import CallPyBack, Retry, on_retry
        >>> told = on_retry(lambda attempt, exception: print(f"attempt {attempt}: {exception}"))
        >>> answers = iter([ConnectionError("reset"), "hello"])
        >>> @CallPyBack(observers=[told], retry=Retry(attempts=2, wait=0))
        ... def fetch():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> fetch()
        attempt 1: reset
        'hello'
    """
    return CallbackObserver(callback, Notice.RETRY, priority, name)


def create_callback_observer(
    callback: Callback, states: Told, priority: float = 0, name: str | None = None
) -> CallbackObserver:
    """Call back at the states that are given, one `ExecutionState` or several.

    The parameters are those of `CallbackObserver`.

    Example:
        >>> from callpyback import ExecutionState, create_callback_observer
        >>> observer = create_callback_observer(print, [ExecutionState.POST_SUCCESS, ExecutionState.COMPLETED])
        >>> sorted(state.name for state in observer.states)
        ['COMPLETED', 'POST_SUCCESS']
    """
    return CallbackObserver(callback, states, priority, name)
