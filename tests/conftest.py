"""Fixtures that several test modules share."""

from __future__ import annotations

import gc
import itertools

# Its plugin imports it at the end of a run in which no test did, which loads other plugins, and one of these warns.
import hypothesis  # noqa: F401
import pytest

from callpyback.core.tracking import TRACKING
from kinds import kind, observed

__all__ = ["kind", "observed", "pytest_collection_finish", "pytest_runtest_logfinish"]

_finished = itertools.count(1)


@pytest.fixture(autouse=True)
def _tracking_as_it_was():
    """Let a test that turns the tracking of calls on leave others the code without it."""
    was_on = TRACKING.is_on
    yield
    if TRACKING.is_on is not was_on:
        (TRACKING.switch_on if was_on else TRACKING.switch_off)()


def pytest_collection_finish() -> None:
    """Leave what the thousands of collected tests are made of out of every collection a test asks for."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logfinish() -> None:
    """Leave out what earlier tests have left, too: some collections would take a quarter of a second at the end."""
    if next(_finished) % 500 == 0:
        gc.collect()
        gc.freeze()
