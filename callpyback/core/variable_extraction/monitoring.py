"""Capture at return on Python 3.12 and later: a `sys.monitoring` event on the one code object.

Only `PY_RETURN`, and only locally: nothing but the function itself is slowed down. A raise can't be a local event
before 3.15 (python/cpython#142186), and needs none: see `frames.frame_of`.

Python sends no events while another tool's callback or a trace function runs on the thread, so a function called from
a debugger's prompt has no variables at its return.
"""

from __future__ import annotations

import sys
from functools import partial
from sys import _getframe
from types import CodeType, FunctionType
from typing import Final

from callpyback.core.variable_extraction.frames import read_locals
from callpyback.core.variable_extraction.installation import Installation, hold
from callpyback.core.variable_extraction.slots import anchors, current_slot, slots_of_suspended

assert sys.version_info >= (3, 12)  # noqa: S101 - lets mypy skip the rest for 3.11

_TOOL_NAME: Final = "callpyback"
# 0, 1, 2 and 5 are meant for debuggers, coverage, profilers and optimisers.
_TOOL_IDS: Final = (4, 3)

_taken: Final[list[int]] = []
_current = current_slot.get


class _NoToolIdError(Exception):
    """Other tools have taken every id."""


def install(function: FunctionType) -> Installation | None:
    """Watch the returns of a function's code; None if no tool id is free."""
    code = function.__code__
    try:
        return hold(code, partial(_watch, code))
    except _NoToolIdError:
        return None


def _watch(code: CodeType) -> partial[None]:
    tool = _tool_id()
    sys.monitoring.set_local_events(tool, code, sys.monitoring.events.PY_RETURN)
    return partial(_unwatch, tool, code)


def _unwatch(tool: int, code: CodeType) -> None:
    if sys.monitoring.get_tool(tool) == _TOOL_NAME:
        sys.monitoring.set_local_events(tool, code, 0)


def _tool_id() -> int:
    """Return this process's id for the library, taken at first use, while installations are locked, and kept."""
    monitoring = sys.monitoring
    if _taken and monitoring.get_tool(_taken[-1]) == _TOOL_NAME:
        return _taken[-1]
    for tool in _TOOL_IDS:
        try:
            monitoring.use_tool_id(tool, _TOOL_NAME)
        except ValueError:
            continue
        monitoring.register_callback(tool, monitoring.events.PY_RETURN, _on_return)
        _taken.append(tool)
        return tool
    raise _NoToolIdError


def _on_return(code: CodeType, _offset: int, _value: object) -> None:
    """Leave the variables in the slot of the call that returns. What is raised here would surface in its body."""
    try:
        slot = _current()
        if slot is not None:
            if slot.code is code and slot.anchor is None:
                # The last return wins: in undecorated recursion and in retries that is the call's own.
                found = _getframe(1).f_locals
                try:
                    slot.values = {name: found[name] for name in slot.names}  # as read_locals, inlined
                except KeyError:
                    slot.values = read_locals(_getframe(1), slot.names)
            elif slot.takes is not None and (names := slot.takes.get(id(code))) is not None:
                slot.handed = read_locals(_getframe(1), names)
        if anchors:
            frame = _getframe(1)
            for suspended in slots_of_suspended(code, frame):
                suspended.values = read_locals(frame, suspended.names)
    except Exception:  # noqa: BLE001, S110 - without values the call's variables are NullVariable
        pass
