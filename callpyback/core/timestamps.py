"""Points in time as text: in UTC, so that they sort, and mean the same wherever they are read."""

from __future__ import annotations

import datetime as dt


def utc_text(timestamp: float) -> str:
    """Return a point in time, in seconds since the epoch, as an ISO 8601 text that ends in Z.

    "unknown" for a clock that failed.

    Example:
        >>> utc_text(0.5), utc_text(float("nan"))
        ('1970-01-01T00:00:00.500Z', 'unknown')
    """
    try:
        moment = dt.datetime.fromtimestamp(timestamp, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return "unknown"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
