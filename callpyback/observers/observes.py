"""Connecting a function, where it is defined, to what it is to hear of."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.decorator import handle
from callpyback.core.functions import signature_of
from callpyback.core.handle import FunctionHandle
from callpyback.core.hooks import Hook
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Notice
from callpyback.core.visitors import add_global_observer
from callpyback.errors import ConfigurationError
from callpyback.observers.callback import CallbackObserver

if TYPE_CHECKING:
    from callpyback.events.hook import EventHook

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])

_POSSIBLE: Final = (
    "something to observe: an EventHook or another object with connect(callback), a function decorated by CallPyBack "
    "or one of its hooks (f.on_success), an ExecutionState for every decorated function, or an EventBus and the names "
    "of events"
)
_MAX_TOLD: Final = 1000
_INSTANCE_NAMES: Final = ("self", "cls")


@overload
def observes(
    target: EventHook[P], *, priority: float = 0, name: str | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
@overload
def observes(
    target: Any, *told: Any, priority: float = 0, name: str | None = None, **asked: Any
) -> Callable[[C], C]: ...
def observes(target: Any, *told: Any, priority: float = 0, name: str | None = None, **asked: Any) -> Any:
    """Connect the function that is decorated to a target, and leave the function as it is.

    | target | told | the function is called |
    |---|---|---|
    | an `EventHook`, any object with `connect` | | with what is emitted |
    | a function decorated by `CallPyBack` | states; by default how calls end | with what its parameters name |
    | a hook of one: `f.on_success` | | with what its parameters name |
    | an `ExecutionState` | more states | with what its parameters name, at calls of every decorated function |
    | an `EventBus` | names, patterns or classes of events; by default all | with the event |

    For what parameters can name see `CallbackObserver`. To end it, give the function to `hook.disconnect` or
    `bus.unregister`, or its name to `handle(f).remove_observer` or `remove_global_observer`; the name is its qualified
    name, unless it is given one here.

    A method can't be connected where it is defined, because there is no instance yet: connect `self.method` in
    `__init__`. A static method can, under `@staticmethod` or above it.

    Args:
        target: What to observe.
        told: What to hear of it.
        priority: Higher is told earlier.
        name: How the function is shown and found there.
        asked: What else `handle(f).add_observer`, `add_global_observer` or `bus.register` takes, such as `when`.

    Raises:
        ConfigurationError: The target can't be observed, or not like this; or the function is a method.

    Example:
        >>> from callpyback import CallPyBack, EventHook, ExecutionState, observes
        >>> moved: EventHook[int] = EventHook()
        >>> @observes(moved)
        ... def show(position):
        ...     print("now at", position)
        >>> moved.emit(5)
        now at 5

        >>> @CallPyBack()
        ... def double(n):
        ...     return 2 * n
        >>> @observes(double, ExecutionState.POST_SUCCESS)
        ... def note(arguments, value):
        ...     print(arguments, "->", value)
        >>> double(4)
        {'n': 4} -> 8
        8
    """
    with looking_at("target", target):
        connect = _connecting(target, told, {"priority": priority, "name": name, **asked})

    def observe(function: Any) -> Any:
        inner = function.__func__ if isinstance(function, staticmethod) else function
        _refuse_method(inner, target)
        connect(inner)
        return function

    return observe


def _connecting(target: Any, told: tuple[Any, ...], asked: dict[str, Any]) -> Callable[[Any], object]:
    """Return what connects a function to the target."""
    if isinstance(target, ExecutionState | Notice) or _are_states(target):
        states = (target,) if isinstance(target, ExecutionState | Notice) else tuple(target)
        return _as_observer(add_global_observer, (*states, *told), asked)
    if isinstance(target, Hook):
        _refuse_told(target, told)
        return lambda function: target(function, **asked)
    known = _handle_on(target)
    if known is not None:
        if isinstance(target, types.MethodType) and not isinstance(target.__self__, type):
            cls = type(target.__self__).__name__
            refuse(
                "target",
                target,
                f"the method of the class, {cls}.{target.__name__}: calls of all instances are heard; "
                "when=lambda context: context.instance is yours leaves out those of others",
            )
        return _as_observer(known.add_observer, told or tuple(TERMINAL_STATES), asked)
    if isinstance(target, type):
        refuse("target", target, f"{_POSSIBLE}; this is a class")
    if callable(getattr(target, "register", None)) and callable(getattr(target, "emit", None)):
        return lambda function: target.register(function, **_given({**asked, "events": told or None}))
    if not callable(getattr(target, "connect", None)):
        hint = "; decorate it with @CallPyBack() first" if inspect.isroutine(target) else ""
        refuse("target", target, _POSSIBLE + hint)
    _refuse_told(target, told)
    return lambda function: target.connect(function, **_given(asked))


def _are_states(target: Any) -> bool:
    if not isinstance(target, list | tuple | set | frozenset) or not target:
        return False
    return all(isinstance(member, ExecutionState | Notice) for member in islice(target, _MAX_TOLD))


def _handle_on(target: Any) -> FunctionHandle | None:
    if isinstance(target, FunctionHandle):
        return target
    try:
        return handle(target)
    except ConfigurationError:
        return None


def _as_observer(add: Callable[..., object], told: tuple[Any, ...], asked: dict[str, Any]) -> Callable[[Any], object]:
    """Return what registers a function as an observer of calls."""
    states = [state for given in told for state in _each(given)]
    for state in states:
        if not isinstance(state, ExecutionState | Notice):
            refuse("told", state, "states of a call, such as ExecutionState.COMPLETED")

    def register(function: Any) -> None:
        add(CallbackObserver(function, states), **asked)

    return register


def _each(given: Any) -> Iterable[Any]:
    return islice(given, _MAX_TOLD) if isinstance(given, list | tuple | set | frozenset) else (given,)


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what was asked for: whatever else has a `connect` may not know our parameters."""
    return {parameter: value for parameter, value in asked.items() if value is not None and value != 0}


def _refuse_told(target: Any, told: tuple[Any, ...]) -> None:
    if told:
        refuse("told", told, f"nothing beside {target!r}, which tells one thing; states go with a decorated function")


def _refuse_method(function: Any, target: Any) -> None:
    """Refuse a function that is being defined in a class as a method: what is told has no instance for it."""
    if isinstance(function, classmethod | property):
        _refuse_unbound(function.fget if isinstance(function, property) else function.__func__, target)
    scope, _, _ = getattr(function, "__qualname__", "").rpartition(".")
    if not inspect.isfunction(function) or not scope or scope.endswith("<locals>"):
        return
    signature = signature_of(function)
    if signature is not None and next(iter(signature.parameters), None) in _INSTANCE_NAMES:
        _refuse_unbound(function, target)


def _refuse_unbound(function: Any, target: Any) -> None:
    name = getattr(function, "__qualname__", function)
    refuse(
        "function",
        name,
        f"a function or static method: a method has no instance yet; connect it to {target!r} once "
        "there is one, in __init__ for instance",
    )
