"""A function as an observer: it is called with what its parameters name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.context import ExecutionContext
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.registration import weakly
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Notice
from callpyback.observers.base import BaseObserver
from callpyback.observers.callback_parameters import (
    CONTEXT_ONLY,
    FROM_CONTEXT,
    OF_CALLS_AROUND,
    Callback,
    code_of,
    name_of,
    wanted_by,
)

if TYPE_CHECKING:
    from callpyback.core.call import Call
    from callpyback.core.listener import Listener

    Told = ExecutionState | Notice | Iterable[ExecutionState | Notice]

_MAX_TOLD: Final = 100  # far more than there are


class CallbackObserver(BaseObserver):
    """Calls a function at some states, with what the function's parameters name.

    The names are `context` (or `ctx`), `function_signature`, `arguments`, `state`, `outcome`, `result`, `value`,
    `exception`, `returned`, `local_variables`, `metadata`, `tags`, `timestamp`, `execution_time`, `call_id`,
    `parent_call_id`, `depth`, `attempt`, `wait`, `done` and `total`; each is what the context of that state has,
    `value` and `exception` those of its result, at a retry `exception` and `wait` those of the notice, and so are
    `done` and `total` at progress. A parameter with another name must have a default, and keeps it. `*args`
    and `**kwargs` get nothing, and a callback without parameters is simply called. A builtin such as `seen.append`,
    whose parameters tell nothing, gets the context. Only what is named is computed.

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
            own_name = name_of(callback)
            self.wanted = wanted_by(callback)
            self.is_async = kind_of(callback) is FunctionKind.COROUTINE
        self.callback = callback
        notices, named = _told_apart(states)
        super().__init__(priority, own_name if name is None else name, states=named)
        if any(wanted in OF_CALLS_AROUND for _, wanted in self.wanted):
            self.traces_calls = True
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
        return type(self).update is CallbackObserver.update and self.wanted in CONTEXT_ONLY

    def update(self, context: ExecutionContext) -> Any:
        """Call the callback, and return what it returns: the coroutine of one that is async."""
        positional = [FROM_CONTEXT[name](context) for style, name in self.wanted if style == "positional"]
        named = {name: FROM_CONTEXT[name](context) for style, name in self.wanted if style == "keyword"}
        return self.callback(*positional, **named)

    def compiled(self, state: ExecutionState | Notice, listener: Listener | None) -> Callable[[Call], Any]:
        """Return a function that tells the callback one state of a running call: `update` without a context."""
        shown = ExecutionState.EXECUTING if isinstance(state, Notice) else state
        if type(self).update is not CallbackObserver.update:
            return lambda call: self.update(ExecutionContext(shown, call, listener))
        scope = {
            "callback": self.callback,
            "state": shown,
            "listener": listener,
            "ExecutionContext": ExecutionContext,
        }
        return eval(code_of(self.wanted, state), scope)  # type: ignore[no-any-return]  # noqa: S307 - see `code_of`

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


def on_progress(callback: Callback, priority: float = 0, name: str | None = None) -> CallbackObserver:
    """Call back when the body says how far it has come, by `current_call().track(...)` or `progress(done, total)`.

    The parameters are those of `CallbackObserver`; `done` and `total` are what the body has said, `total` None if it
    does not know. The callback runs in the body's thread, each time: a slow one slows the body down. An async one can't
    be awaited there: it is skipped, and counted.

    Example:
        >>> from callpyback import CallPyBack, current_call, on_progress
        >>> @CallPyBack(observers=[on_progress(lambda done, total: print(f"{done} of {total}"))])
        ... def bake(cakes):
        ...     for cake in current_call().track(cakes):
        ...         print("bake", cake)
        >>> bake(["apple", "plum"])
        0 of 2
        bake apple
        1 of 2
        bake plum
        2 of 2
    """
    return CallbackObserver(callback, Notice.PROGRESS, priority, name)


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
