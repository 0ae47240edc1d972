"""For people who test their own observers: a recorder, contexts built by hand, a clock that stands still.

`docs/how-to/test-an-observer.md` shows them at work. With pytest, the fixtures `callpyback_recorder` and
`callpyback_clock` are there without an import. Names are imported when they are first used, because pytest loads
the plugin in this package at every start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callpyback.core.time_sources import MockTimeSource
    from callpyback.testing.calls import RecordedCall
    from callpyback.testing.contexts import build_context
    from callpyback.testing.health import assert_healthy
    from callpyback.testing.recorder import RecordingObserver

__all__ = ["MockTimeSource", "RecordedCall", "RecordingObserver", "assert_healthy", "build_context"]

_IMPORTED_WHEN_USED = {
    "MockTimeSource": "callpyback.core.time_sources",
    "RecordedCall": "callpyback.testing.calls",
    "RecordingObserver": "callpyback.testing.recorder",
    "assert_healthy": "callpyback.testing.health",
    "build_context": "callpyback.testing.contexts",
}


def __getattr__(name: str) -> Any:
    if name not in _IMPORTED_WHEN_USED:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(import_module(_IMPORTED_WHEN_USED[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
