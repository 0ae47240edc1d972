"""Where text goes that nobody is to read: a stream that drops it, and a logger without its lines."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Nowhere(io.TextIOBase):
    """A stream that drops what is written."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Take the text for written."""
        return len(text)


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep what the library logs, of losses and alerts that are meant, out of the table."""
    logger, nowhere = logging.getLogger("callpyback"), logging.NullHandler()
    logger.addHandler(nowhere)
    try:
        yield
    finally:
        logger.removeHandler(nowhere)


def dropping_logger(name: str) -> logging.Logger:
    """Return a logger that is enabled, and drops what is logged."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [logging.NullHandler()]
    return logger
