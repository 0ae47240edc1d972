"""Whether to send again after an answer, and when."""

from __future__ import annotations

import datetime as dt
import email.utils
import math
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from callpyback.sinks.http_client import Answer

# RFC 9110 (408), RFC 8470 (425), RFC 6585 (429): the same request may be taken another time.
_TO_BE_REPEATED: Final = frozenset({408, 425, 429})
_FIRST_CEILING: Final = 0.5
_LAST_CEILING: Final = 8.0


def is_accepted(answer: Answer) -> bool:
    """Return whether the receiver has taken the event."""
    return answer.status is not None and 200 <= answer.status < 300  # noqa: PLR2004 - RFC 9110, 15.3


def wait_before(attempt: int, answer: Answer, now: float) -> float | None:
    """Return the seconds to wait before this attempt, or None if there is no use in one.

    The wait is random, between 0 and 0.5 s before the second attempt, 1 s before the third, and so on, doubled up to
    8 s: exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"). If the receiver
    says how long to wait, that comes first.

    Args:
        attempt: The number of the attempt to come, 2 for the first repetition.
        answer: What became of the one before.
        now: The wall clock, in seconds since the epoch.
    """
    if answer.status is None:
        if not answer.may_pass:
            return None
    elif answer.status not in _TO_BE_REPEATED and not 500 <= answer.status < 600:  # noqa: PLR2004 - RFC 9110, 15.6
        return None
    ceiling = min(_LAST_CEILING, _FIRST_CEILING * 2 ** min(attempt - 2, 10))
    wait = random.uniform(0, ceiling)  # noqa: S311 - to keep senders apart
    asked = None if answer.retry_after is None else seconds_asked(answer.retry_after, now)
    return wait if asked is None else asked + wait


def seconds_asked(retry_after: str, now: float) -> float | None:
    """Return what a `Retry-After` header asks for: seconds, or a date (RFC 9110, 10.2.3). None if it makes no sense.

    Example:
        >>> seconds_asked("120", now=0.0), seconds_asked("Thu, 01 Jan 1970 00:01:00 GMT", now=50.0)
        (120.0, 10.0)
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        seconds = moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError, OSError):
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
