"""Capture at return on Python 3.11: the function itself hands over its frame when it begins.

3.11 has no `sys.monitoring`, and trace or profile functions would take the place of the user's debugger and slow down
every call beneath. So the function's `__code__` is replaced by a copy that first calls `keep_frame`. The frame
outlives the return, and the wrapper reads it then. The copy holds nothing but a reference to a module's function, so
it pickles by value (cloudpickle) and makes no cycle the collector can't see.

A debugger that steps into the function meets `keep_frame`, and profilers list it. The function calls it also when it
is called undecorated, until its last binding is gone.
"""

from __future__ import annotations

import weakref
from functools import cache, partial
from sys import _getframe
from types import CodeType, FrameType, FunctionType
from typing import Final

from callpyback.core.variable_extraction.bytecode import UnsupportedCodeError, with_call_at_start
from callpyback.core.variable_extraction.frames import has_ended, locals_at_return
from callpyback.core.variable_extraction.installation import Installation, hold
from callpyback.core.variable_extraction.slots import (
    CallSlot,
    anchors,
    current_slot,
    end,
    enter,
    make_slot,
    slots_of_suspended,
)

_current = current_slot.get


def keep_frame() -> None:
    """Put the caller's frame into the slot of its call. Called first by each function this module has changed."""
    try:
        slot = _current()
        if slot is not None:
            frame = _getframe(1)
            code = frame.f_code
            if (slot.code is code and slot.anchor is None) or (slot.takes is not None and id(code) in slot.takes):
                if slot.frame is None:
                    slot.frame = frame
                else:
                    _keep(slot, frame)
        if anchors:
            frame = _getframe(1)
            for suspended in slots_of_suspended(frame.f_code, frame):
                _keep(suspended, frame)
    except Exception:  # noqa: BLE001, S110 - without a frame the call's variables are NullVariable
        pass


def _keep(slot: CallSlot, frame: FrameType) -> None:
    """Keep the first frame while it runs: later ones are its recursion. Once it has ended, a retry replaces it."""
    if slot.frame is None or has_ended(slot.frame):
        slot.frame = frame


def install(function: FunctionType) -> Installation | None:
    """Make a function keep its frame; None if its code can't be changed."""
    try:
        return hold(function, partial(_change, weakref.ref(function))) if _works() else None
    except UnsupportedCodeError:
        return None


def _change(reference: weakref.ref[FunctionType]) -> partial[None]:
    function = reference()
    if function is None or keep_frame in function.__code__.co_consts:  # unpickled, with the change already made
        return partial(_restore, reference, None, None)
    original = function.__code__
    changed = _changed(original)
    function.__code__ = changed
    return partial(_restore, reference, changed, original)


def _restore(reference: weakref.ref[FunctionType], changed: CodeType | None, original: CodeType | None) -> None:
    function = reference()
    if function is not None and original is not None and function.__code__ is changed:
        function.__code__ = original


_changed_codes: Final[dict[int, tuple[weakref.ref[CodeType], CodeType]]] = {}


def _changed(code: CodeType) -> CodeType:
    """Return the changed copy of a code object: one for all closures that share it, while it lives.

    By identity: equal code objects may come from different files.
    """
    key = id(code)
    known = _changed_codes.get(key)
    if known is not None and known[0]() is code:
        return known[1]
    changed = with_call_at_start(code, keep_frame)
    reference = weakref.ref(code, lambda _: _changed_codes.pop(key, None))
    _changed_codes[key] = (reference, changed)
    return changed


@cache
def _works() -> bool:
    """Try everything relied on once, so that another build of Python loses variables rather than calls."""
    sample, has_run = _sample, []
    try:
        code = with_call_at_start(sample.__code__, keep_frame)
        changed = FunctionType(code, sample.__globals__)
        slot = make_slot(code, ("total", "seen"))
        enter(slot)
        try:
            result = changed(4, lambda: has_run.append(slot.frame is not None and not has_ended(slot.frame)))
            kept = slot.frame
            found = kept is not None and has_ended(kept) and locals_at_return(kept, ("total", "seen"))
        finally:
            end(slot)
    except Exception:  # noqa: BLE001 - any surprise means no
        return False
    lines, old_lines = list(code.co_positions()), list(sample.__code__.co_positions())
    inserted = len(lines) - len(old_lines)
    same_lines = lines[:1] + lines[1 + inserted :] == old_lines
    return same_lines and has_run == [True] and result == found == {"total": 6, "seen": ["never"]}


def _sample(count: int, is_running: object) -> object:
    total, seen = 0, []
    while count:
        try:
            total += 12 // (count - 2)
        except ZeroDivisionError:
            seen.append("never")
        count -= 1
    is_running()  # type: ignore[operator]
    return {"total": total, "seen": seen}
