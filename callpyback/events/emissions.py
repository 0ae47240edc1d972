"""Which functions of this package emit: how an emission inside an emission is known for one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_EMITTING: Final[set[CodeType]] = set()
_NESTED: Final = 2
"""The emission under way, and one around it or inside it."""


def emits(function: F) -> F:
    """Mark a function that calls handlers, as a decorator."""
    _EMITTING.add(function.__code__)
    return function


def is_inside_an_emission() -> bool:
    """Return whether the emission under way was itself begun by a handler; asked only when something went wrong.

    Handlers that emit what they handle end in a RecursionError. It passes through every emission but the outermost one:
    if each of them went on with its next handler, which emits too, they would not end before the universe does.
    """
    frame: Any = sys._getframe(1)  # noqa: SLF001 - the only way to look at the stack without paying for it on the way
    depth = 0
    while frame is not None and depth < _NESTED:
        depth += frame.f_code in _EMITTING
        frame = frame.f_back
    return depth == _NESTED


def came_through_emissions(error: BaseException) -> bool:
    """Return whether an exception was raised in an emission inside the one that caught it."""
    trace, depth = error.__traceback__, 0
    while trace is not None and depth < _NESTED:
        depth += trace.tb_frame.f_code in _EMITTING
        trace = trace.tb_next
    return depth == _NESTED
