"""Whether calls know which call they are made in. Off until somebody asks, because every observed call pays for it."""

from __future__ import annotations

import types
from typing import Any, Final

from callpyback.core.everywhere import HANDLES


class Tracking:
    """The switch, one for the process.

    It is switched on by

    * importing `current_call`,
    * decorating a function in whose code that name occurs,
    * registering an observer or callback that asks for the call around, by `traces_calls` or by a parameter's name,
    * reading `parent_call_id` or `depth` of a context, or copying one.

    It holds for the calls that begin afterwards, and stays on.
    """

    __slots__ = ("is_on",)

    def __init__(self) -> None:
        self.is_on = False

    def switch_on(self) -> None:
        """Track the calls that begin from now on, of every function."""
        if not self.is_on:
            self.is_on = True
            HANDLES.renew()

    def switch_off(self) -> None:
        """Track no more: for tests and measurements."""
        if self.is_on:
            self.is_on = False
            HANDLES.renew()


TRACKING: Final = Tracking()


def switch_on_for(function: Any) -> None:
    """Switch tracking on if a function asks for its own call, itself or in a function that it makes or wraps."""
    seen: set[int] = set()
    while not TRACKING.is_on and isinstance(function, types.FunctionType) and id(function) not in seen:
        seen.add(id(function))
        if _mentions(function.__code__, "current_call"):
            TRACKING.switch_on()
        function = vars(function).get("__wrapped__")


def _mentions(code: types.CodeType, name: str) -> bool:
    return (
        name in code.co_names
        or name in code.co_freevars
        or any(isinstance(part, types.CodeType) and _mentions(part, name) for part in code.co_consts)
    )
