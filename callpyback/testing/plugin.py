"""The fixtures that pytest finds by itself once CallPyBack is installed.

pytest imports this module at every start, so it imports nothing of the library before a test asks for a fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from callpyback.core.time_sources import MockTimeSource
    from callpyback.testing.recorder import RecordingObserver


@pytest.fixture
def callpyback_recorder() -> RecordingObserver:
    """An observer that keeps what it is told, with assertions named as in unittest.mock."""
    from callpyback.testing.recorder import RecordingObserver  # noqa: PLC0415 - see the module

    return RecordingObserver()


@pytest.fixture
def callpyback_clock() -> MockTimeSource:
    """A clock at 0.0 that stands still until it is told to move: `CallPyBack(time_source=callpyback_clock)`."""
    from callpyback.core.time_sources import MockTimeSource  # noqa: PLC0415 - see the module

    return MockTimeSource()
