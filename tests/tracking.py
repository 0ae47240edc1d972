"""Calls that know which call they are made in: `current_call` without leaving tracking on, and who watches it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from callpyback import CallPyBack, MockTimeSource
from callpyback.core.current import CURRENT, NOTHING
from callpyback.core.current_call import current_call
from callpyback.core.tracking import TRACKING
from kinds import Forgetful

__all__ = ["WATCHING", "current_call", "tracked", "watched"]

# Importing `current_call` has switched it on, and tests are collected in one process with others.
TRACKING.switch_off()


@pytest.fixture
def tracked():
    """Have calls tracked in one test."""
    TRACKING.switch_on()
    CURRENT.set(NOTHING)  # a test that steps coroutines by hand, out of order, leaves one of them behind
    yield
    TRACKING.switch_off()


WATCHING: dict[str, Callable[..., CallPyBack]] = {
    "straight": lambda *observers, **options: CallPyBack(observers, **options),
    "general": lambda *observers, **options: CallPyBack(observers, time_source=MockTimeSource(), **options),
    "in a loop": lambda *observers, **options: CallPyBack([*observers, *(Forgetful() for _ in range(9))], **options),
    "with locals": lambda *observers, **options: CallPyBack(observers, variable_names=["value"], **options),
}
"""Decorators whose wrappers run different code."""


@pytest.fixture(params=WATCHING.values(), ids=WATCHING)
def watched(request):
    """Make decorators, of one sort after the other."""
    return request.param
