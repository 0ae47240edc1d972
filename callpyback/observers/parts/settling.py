"""What methods give that may be coroutine functions or not."""

from __future__ import annotations

from typing import Any


async def settled(returned: Any) -> Any:
    """Return what a method returned, awaited if it is to be.

    Example:
        >>> import asyncio
        >>> async def double(n):
        ...     return 2 * n
        >>> asyncio.run(settled(double(4))), asyncio.run(settled(8))
        (8, 8)
    """
    return await returned if hasattr(returned, "__await__") else returned
