"""Who is running a call, and from where it was called."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.functions import full_name
from callpyback.core.safe_repr import one_line

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature

_PACKAGE: Final = f"{Path(__file__).parents[2]}{os.sep}"
_WRAPPER: Final = "<callpyback "
_STARTERS: Final = ("asyncio.", "concurrent.futures.", "threading")
"""Modules that call what they were given elsewhere: that they did says nothing."""

_MAX_FRAMES: Final = 100


class CallSite:
    """One running call: of which function, in which thread and task, and from where it was called.

    Making one costs a walk over the few frames of the library; it holds no frame, and the text is made when it is read.

    Attributes:
        thread: The number of the thread.
        task: The number of the asyncio task; None outside of one.
    """

    __slots__ = ("_code", "_instruction", "_signature", "_task_name", "task", "thread")

    def __init__(self, signature: FunctionSignature) -> None:
        self._signature = signature
        self.thread = threading.get_ident()
        self.task, self._task_name = _current_task()
        self._code: CodeType | None = None
        self._instruction = 0
        frame = _caller()
        if frame is not None:
            self._code, self._instruction = frame.f_code, frame.f_lasti

    def is_same_runner(self, other: CallSite) -> bool:
        """Return whether the other call is run by the same thread and task."""
        return self.thread == other.thread and self.task == other.task

    @property
    def function(self) -> str:
        """The function, as `module.qualname`."""
        return full_name(self._signature)

    def shown(self) -> dict[str, Any]:
        """Return the function, where it was called and defined, the thread and the task, as texts."""
        return {
            "function": self.function,
            "call_site": None if self._code is None else _location(self._code, self._line()),
            "defined_at": _definition(self._signature),
            "thread": _name_of_thread(self.thread),
            "task": self._task_name,
        }

    def _line(self) -> int | None:
        lines: Any = () if self._code is None else self._code.co_lines()
        return next((line for start, end, line in lines if start <= self._instruction < end), None)


def _caller() -> FrameType | None:
    """Return the frame from which the observed function was called; None if that only starts tasks and threads.

    Beyond the wrapper, that is: on this side of it an observer of the user's may stand in between.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - documented, and far cheaper than inspect.stack()
    nearest_outside: FrameType | None = None
    is_beyond = False
    for _ in range(_MAX_FRAMES):
        if frame is None:
            break
        filename = frame.f_code.co_filename
        if filename.startswith(_WRAPPER):
            is_beyond = True
        elif not filename.startswith(_PACKAGE):
            if is_beyond:
                break
            nearest_outside = nearest_outside or frame
        frame = frame.f_back
    frame = frame if is_beyond else nearest_outside
    if frame is None or str(frame.f_globals.get("__name__", "")).startswith(_STARTERS):
        return None
    return frame


def _current_task() -> tuple[int | None, str | None]:
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:  # noqa: SLF001 - asyncio.current_task() would raise
        return None, None
    task = asyncio.current_task()
    return (None, None) if task is None else (id(task), one_line(str(task.get_name())))


def _name_of_thread(ident: int) -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return one_line(names.get(ident, f"thread {ident}"))


def _definition(signature: FunctionSignature) -> str | None:
    try:
        code: Any = getattr(inspect.unwrap(signature.wrapper), "__code__", None)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - any object may have been decorated
        return None
    return _location(code, code.co_firstlineno) if isinstance(code, CodeType) else None


def _location(code: CodeType, line: int | None) -> str:
    return one_line(f"{code.co_filename}:{line or code.co_firstlineno} in {code.co_qualname}", 500)
