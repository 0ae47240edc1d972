"""What makes an object an observer; each refusal names the observer, the value, and the way out."""

from __future__ import annotations

import enum
import math
import numbers
import types
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from callpyback.core.safe_repr import safe_repr, safe_text, type_name
from callpyback.core.state_machine import PLAIN_STATES, ExecutionState, Notice
from callpyback.errors import ConfigurationError

M = TypeVar("M", bound=enum.Enum)

_ROUTINES: Final = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def check_observer(observer: Any) -> None:
    """Refuse what is no observer."""
    if isinstance(observer, type):
        name = observer.__name__
        message = f"observers={safe_repr(observer)}: expected an instance, got the class; did you mean {name}()?"
        raise ConfigurationError(message)
    told_by = [name for name in ("update", "bind", "bind_guard") if callable(getattr(observer, name, None))]
    if told_by == ["bind_guard"] and not getattr(observer, "guard", False):
        message = f"observer {safe_repr(observer)} has `bind_guard` alone and is no guard: give it `guard = True`"
        raise ConfigurationError(message)
    if told_by:
        if told_by == ["update"] and hears_events_alone(observer):
            message = (
                f"observer {safe_repr(observer)} has on_event(event), and nothing that hears of calls: register it on "
                "an EventBus, to which CallEvents can forward calls"
            )
            raise ConfigurationError(message)
        if not hasattr(observer, "priority"):
            message = f"observer {safe_repr(observer)} lacks `priority`: give it a number, 0 for no preference"
            raise ConfigurationError(message)
        return
    hint = f"; wrap a function: on_success({getattr(observer, '__name__', '...')})" if callable(observer) else ""
    message = f"observer {safe_repr(observer)} ({type_name(observer)}) lacks `update`: expected update(context){hint}"
    raise ConfigurationError(message)


def hears_events_alone(observer: Any) -> bool:
    """Return whether an observer is told of events, and of calls nothing."""
    update = getattr(observer, "update", None)
    hears_nothing = not callable(update) or getattr(update, "says_nothing", False)
    return bool(hears_nothing) and callable(getattr(observer, "on_event", None))


def run_lifecycle(observer: Any, options: Any) -> None:
    """Have an observer configured and validated, if it has the lifecycle of `BaseObserver`."""
    # Duck-typed observers may use the names for something else.
    has_lifecycle = hasattr(type(observer), "set_metadata")
    if options is not None and not (has_lifecycle and isinstance(options, Mapping)):
        message = (
            f"options={safe_repr(options)} for observer {shown_name(observer)!r}: expected a mapping, for an observer "
            "that inherits configure(**options) from BaseObserver"
        )
        raise ConfigurationError(message)
    if not has_lifecycle:
        return
    for step, given in (("configure", dict(options or {})), ("validate", {})):
        try:
            getattr(observer, step)(**given)
        except ConfigurationError:
            raise
        except Exception as error:
            message = f"observer {shown_name(observer)!r} refused to be registered: {step}() raised {safe_text(error)}"
            raise ConfigurationError(message) from error


def callback_of(observer: Any) -> Any:
    """Return the function that a callback observer calls; None of any other observer."""
    callback = getattr(observer, "callback", None)
    is_callback = callable(callback) and callable(getattr(observer, "compiled", None))
    return callback if is_callback else None


def shown_name(observer: Any) -> str:
    """Return the observer's name, that of its class if it has none."""
    name = getattr(observer, "name", None)
    if name is None and isinstance(observer, _ROUTINES):
        name = observer.__name__
    return name if isinstance(name, str) and name else type_name(observer)


def checked_priority(priority: Any, owner: Any) -> float:
    """Return the priority, or refuse it by name."""
    # Converted by the builtin classes, so that comparing priorities runs no code of a user's subclass.
    if isinstance(priority, int) and not isinstance(priority, bool):
        return int.__index__(priority)
    if isinstance(priority, numbers.Real) and not isinstance(priority, bool):
        number = _as_float(priority)
        if math.isfinite(number):
            return number
    message = (
        f"priority={safe_repr(priority)} ({type_name(priority)}) of {safe_repr(owner)}: expected a finite number; "
        "higher is told earlier"
    )
    raise ConfigurationError(message)


def _as_float(number: numbers.Real) -> float:
    if isinstance(number, float):
        return float.__float__(number)
    try:
        return float(number)
    except OverflowError:
        return math.inf


def checked_states(states: Any, owner: Any) -> frozenset[ExecutionState]:
    """Return the states as a set, the plain ones for None, or refuse them by name."""
    if states is None:
        return PLAIN_STATES
    if isinstance(states, ExecutionState):
        return frozenset({states})
    return _checked_members("states", states, ExecutionState, owner)


def checked_notices(notices: Any, owner: Any) -> frozenset[Notice]:
    """Return the notices as a set, none for None, or refuse them by name."""
    if notices is None:
        return frozenset()
    return _checked_members("notices", frozenset({notices}) if isinstance(notices, Notice) else notices, Notice, owner)


def _checked_members(parameter: str, values: Any, members: type[M], owner: Any) -> frozenset[M]:
    is_several = isinstance(values, Iterable) and not isinstance(values, str | bytes)
    given: list[Any] = list(islice(values, len(members) + 1)) if is_several else [values]
    for value in given:
        if not isinstance(value, members):
            message = (
                f"{parameter}={safe_repr(values)} of {safe_repr(owner)}: {safe_repr(value)} ({type_name(value)}) is no "
                f"{members.__name__}; expected some of {', '.join(member.name for member in members)}"
            )
            raise ConfigurationError(message)
    return frozenset(given)
