"""What the library itself has to say, on the stdlib logger `callpyback`; saying it can hurt nobody."""

from __future__ import annotations

import logging
from typing import Final

from callpyback.core.safe_repr import safe_text

_logger: Final = logging.getLogger("callpyback")


def log(level: int, message: str, *args: object) -> None:
    """Log a message, whatever the user's handlers and filters do about it."""
    try:
        _logger.log(level, message, *args)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001, S110 - there is nobody left to tell
        pass


def report(fault: BaseException) -> None:
    """Log an error of the library itself, whatever state the program is in."""
    try:
        log(logging.ERROR, "callpyback itself failed, and the call went on without it: %s", safe_text(fault))
    except Exception:  # noqa: BLE001, S110 - near the recursion limit even a function call may fail
        pass
