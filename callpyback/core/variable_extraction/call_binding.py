"""The built-in bindings: the life of one call's slot."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Protocol

from callpyback.core.variable_extraction.binding import Arguments, locals_at_raise, nothing
from callpyback.core.variable_extraction.frames import locals_at_return, read_locals, suspended_frame
from callpyback.core.variable_extraction.installation import Installation
from callpyback.core.variable_extraction.slots import CallSlot, anchors, current_slot, end, enter, make_slot

if TYPE_CHECKING:
    from callpyback.core.variable_extraction.target import Target

Install = Callable[[FunctionType], Installation | None]
"""Makes a function's calls leave their variables in their slots; None where that isn't possible."""

_current = current_slot.get
_set_current = current_slot.set


class Binder(Protocol):
    """What can make a binding anew, when it is pickled or copied: an extractor."""

    def bind(self, function: Callable[..., Any], names: tuple[str, ...], kind: str) -> Any:
        """Return a binding."""


class CallBinding:
    """What the built-in bindings know about their function."""

    __slots__ = ("__weakref__", "_arguments", "_binder", "_installation", "_names", "code")

    def __init__(
        self,
        binder: Binder,
        arguments: Arguments,
        target: Target,
        installation: Installation | None,
    ) -> None:
        self._binder = binder
        self._arguments = arguments
        self._names = arguments[1]
        self._installation = installation
        self.code: CodeType = target.function.__code__  # read after the installation, which may have changed it

    @property
    def names(self) -> tuple[str, ...]:
        """The variables asked for."""
        return self._names

    def abandoned(self, slot: CallSlot | None) -> dict[str, Any]:
        """Release the call without a look at its frame.

        Reading the frame of a generator that was closed early is a segmentation fault on some Pythons
        (python/cpython#125723).
        """
        if slot is not None:
            end(slot)
        return nothing(self._names)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._binder.bind, self._arguments


class FunctionBinding(CallBinding):
    """Captures from plain calls: what runs between `begin` and the end runs in the slot's context."""

    __slots__ = ("_read_kept", "_takes")

    def __init__(
        self,
        binder: Binder,
        arguments: Arguments,
        target: Target,
        installation: Installation | None,
    ) -> None:
        super().__init__(binder, arguments, target, installation)
        # Only behind another decorator can a slot of the same code inside this one be the same call.
        self._takes = None if target.is_direct else {id(self.code): self._names}
        self._read_kept = read_locals if target.is_direct else locals_at_return

    def begin(self, inner: object | None = None) -> CallSlot | None:  # noqa: ARG002 - a plain call has none
        """Open the call's slot."""
        try:
            names, takes = self._names, self._takes
            parent = _current()
            if parent is not None:
                if parent.takes is not None:
                    wanted = parent.takes.get(id(self.code), names)
                    if wanted != names:
                        names = tuple(dict.fromkeys(names + wanted))
                        takes = takes and {id(self.code): names}
                elif parent.code is None:  # an outermost call that has ended
                    parent = None
            slot = CallSlot()  # make_slot and enter, inlined: most of the cost of a call is here
            slot.code = self.code
            slot.names = names
            slot.takes = takes
            slot.parent = parent
            slot.anchor = slot.frame = slot.handed = slot.values = None
            _set_current(slot)
        except Exception:  # noqa: BLE001 - capturing must not hurt a call
            return None
        return slot

    def returned(self, slot: CallSlot | None) -> dict[str, Any]:
        """The variables the body left in the slot, or a decorated call inside it handed up."""
        if slot is None:
            return nothing(self._names)
        try:
            values = slot.values if slot.frame is None else self._read_kept(slot.frame, slot.names)
            if values is None or slot.parent is not None:
                return self._returned_inside(slot, values)
            slot.code = slot.frame = slot.handed = slot.takes = slot.values = None  # as end, inlined
        except Exception:  # noqa: BLE001 - capturing must not hurt a call
            return self.abandoned(slot)
        return values

    def _returned_inside(self, slot: CallSlot, values: dict[str, Any] | None) -> dict[str, Any]:
        """End a call inside another one, or whose own return was not seen."""
        is_exact = values is not None and slot.names is self._names
        if values is None:
            values = slot.handed
        parent = slot.parent
        end(slot)
        if values is None:
            return nothing(self._names)
        if parent is not None and parent.takes is not None and id(self.code) in parent.takes:
            parent.handed = dict(values)
            if parent.code is None:  # asked by hand: the last call counts
                parent.frame = None
        return values if is_exact else {name: values[name] for name in self._names}

    def raised(self, slot: CallSlot | None, error: BaseException) -> dict[str, Any]:
        """The variables in the traceback's outermost frame of the function."""
        if slot is not None:
            end(slot)
        return locals_at_raise(error, self.code, self._names)


class SuspendedBinding(CallBinding):
    """Captures from coroutines and generators, whose frame can be had before they start.

    Behind another decorator that frame is the decorator's, and serves to find the call from the function's own.
    """

    __slots__ = ("_has_context",)

    def __init__(
        self,
        binder: Binder,
        arguments: Arguments,
        target: Target,
        installation: Installation | None,
    ) -> None:
        super().__init__(binder, arguments, target, installation)
        self._has_context = arguments[2] == "coroutine function"

    def begin(self, inner: object | None = None) -> CallSlot | None:
        """Keep the frame, or open a slot for the function's own to find."""
        try:
            frame = suspended_frame(inner)
            if frame is None:
                return None
            if frame.f_code is self.code:
                return make_slot(self.code, self._names, frame=frame)
            if self._installation is None:
                return None
            slot = make_slot(self.code, self._names, anchor=frame)
            if self._has_context:  # decorators may give a coroutine a task, which copies the context
                enter(slot)
            anchors[frame] = slot
        except Exception:  # noqa: BLE001 - capturing must not hurt a call
            return None
        return slot

    def returned(self, slot: CallSlot | None) -> dict[str, Any]:
        """The variables in the kept frame, which is safe to read once the body has ended by itself."""
        if slot is None:
            return nothing(self._names)
        try:
            values = slot.values
            if slot.frame is not None:
                values = (read_locals if slot.anchor is None else locals_at_return)(slot.frame, self._names)
            end(slot)
            return nothing(self._names) if values is None else values
        except Exception:  # noqa: BLE001 - capturing must not hurt a call
            return self.abandoned(slot)

    def raised(self, slot: CallSlot | None, error: BaseException) -> dict[str, Any]:
        """The variables in the kept frame, or in the traceback's outermost frame of the function."""
        if isinstance(error, GeneratorExit):
            return self.abandoned(slot)
        frame = None
        if slot is not None:
            frame = slot.frame if slot.anchor is None else None
            end(slot)
        if frame is None:
            return locals_at_raise(error, self.code, self._names)
        try:
            return read_locals(frame, self._names)
        except Exception:  # noqa: BLE001 - capturing must not hurt a call
            return nothing(self._names)
