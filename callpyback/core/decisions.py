"""What an error handler decides about an exception of the body."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any

import msgspec


class Answered(msgspec.Struct, frozen=True):
    """A value goes to the caller in place of the exception.

    Args:
        value: The value.
        by: The name of the handler.
    """

    value: Any
    by: str


class Reraised(msgspec.Struct, frozen=True):
    """An exception goes to the caller, the body's own or another, and nobody else is asked.

    Args:
        error: The exception.
        by: The name of the handler.
    """

    error: BaseException
    by: str


class Again(msgspec.Struct, frozen=True):
    """The body is run again.

    Args:
        wait: Seconds to wait before.
        by: The name of the handler.
    """

    wait: float
    by: str


Decision = Answered | Reraised | Again | None
"""None: the handler has nothing to say about this exception, and the next one is asked."""

Deciding = Generator[Awaitable[Any], Any, Decision]
"""A decision in the making: it yields what is to be awaited, is sent the result, and returns the decision."""
