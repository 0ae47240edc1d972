"""The contexts behind `TracingVariableExtractor.setup_extraction()`: one for each way to be asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.variable_extraction.frames import locals_at_return, read_locals
from callpyback.core.variable_extraction.slots import CallSlot, end, enter, make_slot

if TYPE_CHECKING:
    from callpyback.core.variable_extraction.adapter import PendingCall
    from callpyback.core.variable_extraction.binding import Binding
    from callpyback.core.variable_extraction.call_binding import CallBinding


class DelegatedExtraction:
    """Opened inside a user's extractor, for a decorated call: the adapter has said which."""

    def __init__(self, binding: Binding, call: PendingCall) -> None:
        self._binding = binding
        self._call = call
        self._state: Any = None
        self._variables: dict[str, Any] | None = None

    def __enter__(self) -> None:
        self._state = self._binding.begin(self._call.inner)

    def variables(self, names: Iterable[str]) -> dict[str, Any]:  # noqa: ARG002 - those bound are all there are
        """Return the call's variables; the binding is asked once, however often this is."""
        if self._variables is None:
            error = self._call.error
            state, self._state = self._state, None
            if error is None:
                self._variables = self._binding.returned(state)
            else:
                self._variables = self._binding.raised(state, error)
        return self._variables

    def __exit__(self, *_: object) -> None:
        if self._variables is None:
            self._binding.abandoned(self._state)
        self._state = self._variables = None


class StandAloneExtraction:
    """Opened by hand around calls of functions the extractor is bound to."""

    def __init__(self, owner: object, bindings: list[CallBinding]) -> None:
        self.owner = owner
        self.outer: StandAloneExtraction | None = None
        self._bindings = bindings  # keep the code objects alive, and so their ids
        self._slot: CallSlot | None = None
        self._handled: BaseException | None = None

    def __enter__(self) -> None:
        takes: dict[int, tuple[str, ...]] = {}
        for binding in self._bindings:
            key = id(binding.code)
            takes[key] = tuple(dict.fromkeys(takes.get(key, ()) + binding.names))
        self._handled = sys.exception()
        self._slot = make_slot(None, (), takes=takes)
        enter(self._slot)
        self.outer = open_extraction.get()
        open_extraction.set(self)

    def variables(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the variables of the last bound call in this context, or of the one that just failed."""
        slot = self._slot
        if slot is None:
            return {}
        error = sys.exception()
        if error is not None and error is not self._handled:  # not the one handled around the `with`
            frame = self._failed_frame(error)
            return {} if frame is None else read_locals(frame, names)
        found = slot.handed if slot.frame is None else locals_at_return(slot.frame, names)
        return found or {}

    def _failed_frame(self, error: BaseException) -> FrameType | None:
        codes = [binding.code for binding in self._bindings]
        frames = []
        entry = error.__traceback__
        while entry is not None:
            if any(entry.tb_frame.f_code is code for code in codes):
                return entry.tb_frame
            frames.append(entry.tb_frame)
            entry = entry.tb_next
        return frames[1] if not codes and len(frames) > 1 else None

    def __exit__(self, *_: object) -> None:
        if self._slot is not None:
            end(self._slot)
            self._slot = None
        if open_extraction.get() is self:
            open_extraction.set(self.outer)
        self.outer = self._handled = None


open_extraction: Final[ContextVar[StandAloneExtraction | None]] = ContextVar("callpyback_extraction", default=None)
