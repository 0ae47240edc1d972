"""Whose variables are meant: the Python function inside a callable."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from sys import _getframe
from types import FunctionType, MethodType
from typing import Any, Final

_MOST_LAYERS: Final = 1000


class Target:
    """The innermost Python function of a callable.

    Args:
        function: The function.
        is_direct: Calling the callable runs this function itself, with no decorator's code between.
    """

    __slots__ = ("function", "is_direct")

    def __init__(self, function: FunctionType, *, is_direct: bool) -> None:
        self.function: FunctionType = function
        self.is_direct = is_direct


def find_target(function: Callable[..., Any]) -> Target | None:
    """Return the innermost Python function of any callable, or None where there is none.

    Follows partials, methods, callable instances and `__wrapped__`, as `inspect.unwrap` does. A decorator around a C
    function is itself the innermost Python function.
    """
    current: Any = function
    found: Target | None = None
    is_direct = True
    # Bounded, as objects that answer to any attribute can lead on for ever.
    for _ in range(_MOST_LAYERS):
        if type(current) is FunctionType:  # wrapt's proxies pretend to be functions, so isinstance would not do
            found = Target(current, is_direct=is_direct)
        inner, is_transparent = _one_layer_in(current)
        if inner is None:
            break
        is_direct = is_direct and is_transparent
        current = inner
    return found


def _one_layer_in(layer: Any) -> tuple[Any, bool]:
    """Return what a layer calls, and whether it adds no Python code of its own."""
    kind = type(layer)
    if issubclass(kind, functools.partial | functools.partialmethod):
        return layer.func, True
    if issubclass(kind, MethodType | classmethod | staticmethod):
        return layer.__func__, True
    if issubclass(kind, type):
        return None, False
    try:
        wrapped = layer.__wrapped__
    except Exception:  # noqa: BLE001 - somebody's __getattr__ may raise anything
        wrapped = None
    if wrapped is not None:
        return wrapped, False
    call = getattr(kind, "__call__", None)  # noqa: B004 - the method is wanted, not the answer
    return (call, True) if kind is not FunctionType and type(call) is FunctionType else (None, False)


def warn_unavailable(function: Callable[..., Any], names: tuple[str, ...], reason: str) -> None:
    """Tell the user, at the line that decorates, that these variables can't be captured."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    warnings.warn(
        f"variable_names={list(names)!r} cannot be captured from {name!r}: {reason}; "
        "they will be NullVariable. Leave variable_names out here, or decorate a Python function.",
        RuntimeWarning,
        stacklevel=_level_of_user(),
    )


def _level_of_user() -> int:
    """Return warn's `stacklevel` of the first caller outside this package."""
    level, frame = 1, _getframe(2)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("callpyback."):
        level, frame = level + 1, frame.f_back
    return level + 1
