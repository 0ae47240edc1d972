"""Reading frames: which one is a call's, when it may be read, and what it holds."""

from __future__ import annotations

import gc
from opcode import opmap
from types import CodeType, FrameType
from typing import Any, Final

from callpyback.core.variable_extraction.null_variable import NullVariable

RUNS_LATER: Final = 0x20 | 0x80 | 0x200
"""The code flags of generators, coroutines and async generators, whose frames outlive the call that makes them."""

_RETURN_VALUE: Final = opmap["RETURN_VALUE"]
_FRAME_ATTRIBUTES: Final = ("cr_frame", "gi_frame", "ag_frame")


def read_locals(frame: FrameType, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the named arguments, locals, cell and free variables, `NullVariable` for each that has no value.

    On 3.13 and later only the named variables are read. Before, Python copies all of them, into the dict that
    `locals()` returned in that frame if it was called there.
    """
    found = frame.f_locals
    values: dict[str, Any] = {}
    try:
        for name in names:
            values[name] = found[name]
    except KeyError:
        return {name: found.get(name, NullVariable) for name in names}
    return values


def frame_of(error: BaseException, code: CodeType) -> FrameType | None:
    """Return the outermost frame of the error's traceback that ran `code`."""
    entry = error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code is code:
            return entry.tb_frame
        entry = entry.tb_next
    return None


def suspended_frame(inner: object | None) -> FrameType | None:
    """Return the frame of a coroutine, generator or async generator; None for any other awaitable."""
    for attribute in _FRAME_ATTRIBUTES:
        frame = getattr(inner, attribute, None)
        if type(frame) is FrameType:
            return frame
    return None


def has_ended(frame: FrameType) -> bool:
    """Tell whether a frame has returned or raised, on Python 3.11.

    The collector sees a frame's variables only once the frame object owns them, which is when it has ended. Python
    has no other way to ask that changes nothing; `prologue.py` tests this one before it relies on it.
    """
    return any(referent is frame.f_code for referent in gc.get_referents(frame))


def locals_at_return(frame: FrameType, names: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the variables of a frame kept since its beginning, on Python 3.11; None unless it has returned.

    With other decorators between, the function may have raised, and a coroutine or generator may be suspended still.
    """
    return read_locals(frame, names) if frame.f_code.co_code[frame.f_lasti] == _RETURN_VALUE else None
