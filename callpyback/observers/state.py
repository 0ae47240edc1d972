"""An observer with a method for each thing there is to hear: what it overrides is what it is told."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Final

from callpyback.core.functions import FunctionKind, kind_of, signature_of
from callpyback.core.notices import RetryNotice
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Notice
from callpyback.errors import ConfigurationError
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.settling import settled

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext

Told = dict[ExecutionState | Notice, str]

_HOOKS: Final[dict[str, frozenset[ExecutionState | Notice]]] = {
    "on_call": frozenset({ExecutionState.PRE_EXECUTION}),
    "on_success": frozenset({ExecutionState.POST_SUCCESS}),
    "on_failure": frozenset({ExecutionState.POST_FAILURE}),
    "on_completion": frozenset(TERMINAL_STATES),
    "on_error": frozenset({ExecutionState.ERROR}),
    "on_progress": frozenset({Notice.PROGRESS}),
    "on_retry": frozenset({Notice.RETRY}),
}
_SIMILAR: Final = 0.8
"""How alike a method's name and a hook's must be to be taken for a slip of the pen."""


class StateObserver(BaseObserver):
    """Told by a method for each state or notice; overriding a method asks for it, and nothing else is asked for.

    `on_completion` hears every end, COMPLETED and ERROR, once for every call. At ERROR `on_error` is called first, then
    `on_completion`, whatever `on_error` raises. What the methods return is dropped; `on_call` may raise `CallVetoed` or
    `StopProcessing`.

    Methods may be coroutine functions. If one of them is, the observer is async: it can be registered around coroutine
    functions and async generators alone, and its plain methods are called on the way.

    What is overridden is looked at when the class is made. A class, or the parameter `states`, may narrow the states.

    Args:
        priority: A finite number; 0 leaves what the class says.
        name: How it is shown; by default the name of the class.
        states: The state or states it is told; None for those of the methods that are overridden.
        critical: Whether its exceptions reach the caller; False leaves what the class says.

    Raises:
        ConfigurationError: A parameter is none of these; or at registration, no method is overridden, one does not
            take the context, or one has a name that looks like a slip of the pen.

    Example:
        >>> from callpyback import CallPyBack, ExecutionContext
        >>> class Till(StateObserver):
        ...     total = 0
        ...     def on_success(self, context: ExecutionContext) -> None:
        ...         self.total += context.result.value
        >>> till = Till()
        >>> @CallPyBack(observers=[till])
        ... def pay(amount):
        ...     return amount
        >>> pay(30), pay(12), till.total
        (30, 12, 42)
        >>> sorted(state.name for state in till.states)
        ['POST_SUCCESS']
    """

    hears_calls_alone = True

    _hooks: ClassVar[Told] = {}
    _is_narrowed: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        hooks = overridden(cls)
        told: Told = {kind: name for name in hooks for kind in _HOOKS[name]}
        if {"on_error", "on_completion"} <= hooks:
            told[ExecutionState.ERROR] = "_on_both"
        cls._hooks = told
        cls._is_narrowed = cls._is_narrowed or "states" in vars(cls)
        if told and not cls._is_narrowed:
            cls.states = frozenset(kind for kind in told if isinstance(kind, ExecutionState))
        if "notices" not in vars(cls):
            cls.notices = frozenset(kind for kind in told if isinstance(kind, Notice))
        if cls.update in (StateObserver.update, StateObserver._update_async):
            is_async = any(kind_of(getattr(cls, name)) is FunctionKind.COROUTINE for name in hooks)
            cls.update = StateObserver._update_async if is_async else StateObserver.update  # type: ignore[method-assign]

    def on_call(self, context: ExecutionContext) -> Any:
        """Hear that a call begins (PRE_EXECUTION)."""

    def on_success(self, context: ExecutionContext) -> Any:
        """Hear that the body has returned (POST_SUCCESS)."""

    def on_failure(self, context: ExecutionContext) -> Any:
        """Hear that the body has raised an `Exception`, or its deadline passed (POST_FAILURE)."""

    def on_completion(self, context: ExecutionContext) -> Any:
        """Hear that a call has ended, however it did (COMPLETED or ERROR)."""

    def on_error(self, context: ExecutionContext) -> Any:
        """Hear that a call has ended in ERROR: vetoed, aborted, or an unexpected error."""

    def on_progress(self, context: ExecutionContext) -> Any:
        """Hear how far the body says it is; see `context.notice`."""

    def on_retry(self, context: ExecutionContext) -> Any:
        """Hear that the body failed and is to run again after a wait; see `context.notice`."""

    def update(self, context: ExecutionContext) -> Any:
        """Call the method for what the context shows, if it is overridden."""
        name = self._hooks.get(context.state) or self._hook_of_notice(context)
        return None if name is None else getattr(self, name)(context)

    async def _update_async(self, context: ExecutionContext) -> None:
        name = self._hooks.get(context.state) or self._hook_of_notice(context)
        if name == "_on_both":
            try:
                await settled(self.on_error(context))
            finally:
                await settled(self.on_completion(context))
        elif name is not None:
            await settled(getattr(self, name)(context))

    def _hook_of_notice(self, context: ExecutionContext) -> str | None:
        notice = context.notice
        if notice is None:
            return None
        return self._hooks.get(Notice.RETRY if isinstance(notice, RetryNotice) else Notice.PROGRESS)

    def _on_both(self, context: ExecutionContext) -> None:
        try:
            self.on_error(context)
        finally:
            self.on_completion(context)

    def validate(self) -> None:
        """Refuse a class that would never be told anything, or whose methods can't be called.

        Raises:
            ConfigurationError: See the class.
        """
        super().validate()
        cls = type(self)
        hooks = overridden(cls)
        for wrong, right in _slips(cls, hooks):
            message = f"{cls.__name__}.{wrong}() is never called - did you mean {right!r}? Else give it another name"
            raise ConfigurationError(message)
        for name in sorted(hooks):
            _check_hook(cls.__name__, name, getattr(self, name))
        if not hooks and cls.update is StateObserver.update:
            message = f"{cls.__name__} overrides none of {', '.join(_HOOKS)}, so it would never be told anything"
            raise ConfigurationError(message)


def overridden(cls: type[StateObserver]) -> set[str]:
    """Return the names of the methods that a subclass has of its own."""
    return {name for name in _HOOKS if getattr(cls, name) is not getattr(StateObserver, name)}


def _slips(cls: type, hooks: set[str]) -> list[tuple[str, str]]:
    """Return the methods that look like a hook that is not overridden, each with the hook."""
    missing = [name for name in _HOOKS if name not in hooks]
    own = sorted(name for name in dir(cls) if name.startswith("on") and name not in _HOOKS)
    found = [(name, get_close_matches(name, missing, n=1, cutoff=_SIMILAR)) for name in own]
    return [(name, close[0]) for name, close in found if close and callable(getattr(cls, name))]


def _check_hook(owner: str, name: str, hook: Callable[..., Any]) -> None:
    if kind_of(hook) in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR):
        message = f"{owner}.{name}() is a generator, which does nothing when called: remove the `yield`"
        raise ConfigurationError(message)
    signature = signature_of(hook)
    try:
        if signature is not None:
            signature.bind(None)
    except TypeError as wrong:
        message = f"{owner}.{name}() can't be called with the context alone ({wrong}): write {name}(self, context)"
        raise ConfigurationError(message) from wrong
