"""Fixtures that several test modules share."""

from __future__ import annotations

import gc

from kinds import kind, observed

__all__ = ["kind", "observed", "pytest_collection_finish"]


def pytest_collection_finish() -> None:
    """Leave what the thousands of collected tests are made of out of every collection a test asks for."""
    gc.collect()
    gc.freeze()
