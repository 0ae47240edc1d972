"""The bridge from reaktiv: signals, and values that are computed from them."""

from __future__ import annotations

import logging
from typing import Any, Final

from reaktiv import ComputeSignal, Effect, LinkedSignal, ReadonlySignal, Signal, untracked

from callpyback.core.reporting import log
from callpyback.events.bridges.base import Bridge

_VALUES: Final = (Signal, ReadonlySignal, ComputeSignal, LinkedSignal)
_MAX_ROUNDS: Final = 100  # as many as reaktiv allows its effects
_UNKNOWN: Final = object()


def bridged(source: Any, to: Any, name: str | None) -> Bridge | None:
    """Return a bridge from a signal or a computed value; None of anything else."""
    if not isinstance(source, _VALUES):
        return None
    bridge = Bridge(to, name, "value.changed")
    watching = _Watching(_Changes(source, bridge))
    return bridge.opened(watching.dispose)


class _Watching(Effect):  # type: ignore[misc]  # reaktiv says nothing of its types
    """The effect that watches one value.

    Of effects that are of the very class `Effect`, values hold weak references only, so that these end when nobody else
    holds them. This one lives as long as the value.
    """

    __slots__ = ()


class _Changes:
    """Compares one value with what it was. Called by its effect, at first and after each change."""

    def __init__(self, source: Any, bridge: Bridge) -> None:
        self._source = source
        self._bridge = bridge
        self._known: Any = _UNKNOWN

    def __call__(self) -> None:
        # What callbacks do to the value while they are told, its effect is not told.
        for _ in range(_MAX_ROUNDS):
            try:
                new = self._source.get()
            except Exception:  # noqa: BLE001 - computing it failed; whoever asks for the value gets the error
                return
            old, self._known = self._known, new
            if old is _UNKNOWN or _is_same(old, new):
                return
            with untracked():  # what callbacks read is not what we watch
                self._tell(old, new)
        log(logging.WARNING, "%s: its callbacks change the value each time they are told; the rest is not told", self)

    def _tell(self, old: Any, new: Any) -> None:
        self._bridge.tell(self._source, (old, new), lambda: {"old": old, "new": new})

    def __repr__(self) -> str:
        return repr(self._bridge)


def _is_same(old: Any, new: Any) -> bool:
    try:
        return old is new or bool(old == new)
    except Exception:  # noqa: BLE001 - values that can't be compared, such as arrays, count as changed
        return False
