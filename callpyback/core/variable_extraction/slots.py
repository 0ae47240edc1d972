"""Where a call and the code object it runs find each other.

The wrapper puts a slot here before the body runs; the mechanism, called from inside the body, finds it and leaves the
variables there; the wrapper takes them out. The slot travels in a context variable, so recursion, threads, tasks and
greenlets each see their own. Generators don't have a context of their own: theirs are found by the frame they run
under (`anchors`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any, Final

from callpyback.core.variable_extraction.frames import RUNS_LATER


class CallSlot:
    """One call under way. A context copied during the call may keep the slot for ever, so it is emptied at the end.

    Attributes:
        code: What the call runs; None once it has ended.
        names: The variables to read: those asked for, and those of a slot that takes them over.
        parent: The slot of the call around this one.
        takes: The ids of code objects whose variables this slot takes over from slots inside it, and which of them.
        frame: The call's own frame, where it can be kept: coroutines, generators, and Python 3.11.
        values: The variables, as left by the call's own return.
        handed: What a slot inside this one captured. Kept apart: a finaliser that runs the same function while the
            body's frame dies would overwrite the call's own.
        anchor: The frame of the coroutine or generator this call steps, where that isn't the function's own.
    """

    # No __init__: it would cost as much as the call of a small function, and one slot is made for each call.
    __slots__ = ("anchor", "code", "frame", "handed", "names", "parent", "takes", "values")

    anchor: FrameType | None
    code: CodeType | None
    frame: FrameType | None
    handed: dict[str, Any] | None
    names: tuple[str, ...]
    parent: CallSlot | None
    takes: Mapping[int, tuple[str, ...]] | None
    values: dict[str, Any] | None


current_slot: Final[ContextVar[CallSlot | None]] = ContextVar("callpyback_call", default=None)
anchors: Final[dict[FrameType, CallSlot]] = {}

_FARTHEST_ANCHOR: Final = 100


def make_slot(
    code: CodeType | None,
    names: tuple[str, ...],
    *,
    takes: Mapping[int, tuple[str, ...]] | None = None,
    frame: FrameType | None = None,
    anchor: FrameType | None = None,
) -> CallSlot:
    """Return a new slot, not yet entered."""
    slot = CallSlot()
    slot.code, slot.names, slot.takes, slot.frame, slot.anchor = code, names, takes, frame, anchor
    slot.parent = slot.values = slot.handed = None
    return slot


def enter(slot: CallSlot) -> None:
    """Make a slot the current one, inside the one that was."""
    slot.parent = current_slot.get()
    current_slot.set(slot)


def end(slot: CallSlot) -> None:
    """Empty a slot, and make the one around it current again.

    An outermost slot stays where it is, empty, which costs less than to take it out.
    """
    # A coroutine may end in another context than it began in. Then there is nothing to take back.
    if slot.parent is not None and current_slot.get() is slot:
        current_slot.set(slot.parent)
    if slot.anchor is not None:
        anchors.pop(slot.anchor, None)
    slot.anchor = slot.code = slot.frame = slot.handed = slot.parent = slot.takes = slot.values = None


def slots_of_suspended(code: CodeType, frame: FrameType) -> list[CallSlot]:
    """Return the slots of the decorated calls that step this coroutine or generator through other decorators.

    Found by the callers' frames, as several may be interleaved in one context. A coroutine that was given a task of
    its own has none of them above it; then its context tells.
    """
    if not code.co_flags & RUNS_LATER:
        return []
    found = []
    caller = frame.f_back
    for _ in range(_FARTHEST_ANCHOR):
        if caller is None or caller.f_code is code:  # anchors beyond belong to the call this one recurses from
            break
        anchored = anchors.get(caller)
        if anchored is not None and anchored.code is code:
            found.append(anchored)
        caller = caller.f_back
    around = current_slot.get()
    while around is not None and around.anchor is not None:
        if not found and around.code is code:
            found.append(around)
        around = around.parent
    if around is not None and around.code is code and around not in found:
        found.append(around)
    return found
