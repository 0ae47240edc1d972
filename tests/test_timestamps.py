"""Timestamps are UTC, in ISO 8601 with Z, and a clock that failed is no error."""

from __future__ import annotations

import math
import time

import pytest

from callpyback.core.timestamps import utc_text


def test_a_timestamp_is_shown_in_utc_to_the_millisecond():
    assert utc_text(1_700_000_000.1234) == "2023-11-14T22:13:20.123Z"


@pytest.mark.parametrize("timestamp", [math.nan, math.inf, 1e300, -1e300])
def test_a_clock_that_failed_is_unknown(timestamp):
    assert utc_text(timestamp) == "unknown"


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone of a process is set otherwise here")
def test_the_hour_that_happens_twice_in_local_time_is_told_apart(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert [utc_text(moment)[11:16] for moment in (1_698_537_600, 1_698_541_200)] == ["00:00", "01:00"]
    finally:
        monkeypatch.undo()
        time.tzset()
