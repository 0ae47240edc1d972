"""For people who test their own observers: a recorder, contexts built by hand, a clock that stands still.

`docs/how-to/test-an-observer.md` shows them at work. With pytest, the fixtures `callpyback_recorder` and
`callpyback_clock` are there without an import. Names are imported when they are first used, because pytest loads
the plugin in this package at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callpyback.lazy_names import lazy_names

if TYPE_CHECKING:
    from callpyback.core.time_sources import MockTimeSource
    from callpyback.testing.calls import RecordedCall
    from callpyback.testing.contexts import build_context
    from callpyback.testing.health import assert_healthy
    from callpyback.testing.recorder import RecordingObserver

__all__ = ["MockTimeSource", "RecordedCall", "RecordingObserver", "assert_healthy", "build_context"]

_HOMES = {
    "MockTimeSource": "callpyback.core.time_sources",
    "RecordedCall": ".calls",
    "RecordingObserver": ".recorder",
    "assert_healthy": ".health",
    "build_context": ".contexts",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
