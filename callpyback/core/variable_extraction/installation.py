"""What is put into a function once, for however many bindings, and taken out when the last of them is gone."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from callpyback.core.forks import reset_after_fork


class Installation:
    """Held by each binding that needs what is installed at `place`. When nobody holds it, it is removed."""

    __slots__ = ("__weakref__", "_place")

    def __init__(self, place: object) -> None:
        self._place = place  # kept alive, so that its id stays its own


class _Register:
    """The installations alive, by the id of their place."""

    def __init__(self) -> None:
        self._alive: dict[int, weakref.ref[Installation]] = {}
        self.reset_after_fork()
        reset_after_fork(self)

    def reset_after_fork(self) -> None:
        # Reentrant, as the collector may run a removal anywhere, in the middle of an installation too.
        self._lock = threading.RLock()

    def hold(self, place: object, install: Callable[[], Callable[[], object]]) -> Installation:
        with self._lock:
            reference = self._alive.get(id(place))
            held = None if reference is None else reference()
            if held is None:
                remove = install()
                held = Installation(place)
                self._alive[id(place)] = weakref.ref(held)
                weakref.finalize(held, self._release, id(place), remove).atexit = False
            return held

    def _release(self, place_id: int, remove: Callable[[], object]) -> None:
        with self._lock:
            reference = self._alive.get(place_id)
            if reference is None or reference() is not None:  # somebody installed anew in the meantime
                return
            del self._alive[place_id]
            remove()


_register = _Register()


def hold(place: object, install: Callable[[], Callable[[], object]]) -> Installation:
    """Return the installation at `place`, made now if it is the first.

    Args:
        place: The code object or function that is changed.
        install: Called to change it; returns what changes it back. Neither may hold `place` if that is a function, or
            functions that refer to their own wrapper are never freed.
    """
    return _register.hold(place, install)
