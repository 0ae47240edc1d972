"""What is told inside EXECUTING to those who ask for it: `context.notice`."""

from __future__ import annotations

import msgspec

from callpyback.core.raised import Raised


class RetryNotice(msgspec.Struct, frozen=True, eq=False):
    """An attempt failed, and after a wait the body runs again.

    Args:
        attempt: The number of the attempt that failed, 1 for the first.
        exception: What it raised.
        wait: Seconds until the next one.
    """

    attempt: int
    exception: BaseException
    wait: float

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RetryNotice):
            return NotImplemented
        mine, theirs = self.exception, other.exception
        same = mine is theirs or (type(mine) is type(theirs) and mine.args == theirs.args)
        return same and (self.attempt, self.wait) == (other.attempt, other.wait)

    def __hash__(self) -> int:
        return hash((self.attempt, type(self.exception), self.wait))

    def __reduce__(self) -> tuple[object, ...]:
        return RetryNotice, (self.attempt, self.exception, self.wait)


def _exception(notice: RetryNotice) -> BaseException:
    held = _stored(notice)
    return held.error if isinstance(held, Raised) else held


_stored = RetryNotice.__dict__["exception"].__get__
RetryNotice.exception = property(_exception, doc="The exception; see the class.")  # type: ignore[assignment]


class ProgressNotice(msgspec.Struct, frozen=True):
    """The body has come so far.

    Args:
        done: How much is done.
        total: How much there is to do; None if nobody knows.

    Example:
        >>> ProgressNotice(3, 12).fraction
        0.25
    """

    done: float
    total: float | None = None

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0.0 to 1.0; None if it is unknown. Of nothing to do, all is done."""
        try:
            if not self.total:
                return None if self.total is None else 1.0
            part = float(self.done / self.total)
        except Exception:  # noqa: BLE001 - the body may tell anything for numbers
            return None
        return min(max(part, 0.0), 1.0) if part == part else None  # noqa: PLR0124 - nan
