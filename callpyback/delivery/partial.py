"""How the receiver of a batch says that it failed for a part of it."""

from __future__ import annotations


class PartlyFailed(Exception):  # noqa: N818 - most of it may be well
    """Raised by the receiver of a batch: so many of it could not be delivered, and the others were.

    Args:
        failed: How many could not; the ledger counts the rest as delivered.
        message: Why; it is logged as any failure is.
    """

    def __init__(self, failed: int, message: str = "") -> None:
        super().__init__(message)
        self.failed = failed
