"""Names for calls, unique across threads and processes."""

from __future__ import annotations

import itertools
import os

from callpyback.core.forks import reset_after_fork

_numbers = itertools.count(1)


class _Prefix:
    """Random text that tells this process's call ids from those of others, its forked children included."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.text = os.urandom(6).hex()


_prefix = _Prefix()
reset_after_fork(_prefix, "renew")


def new_call_id() -> str:
    """Return a name that no call has had."""
    return f"{_prefix.text}-{next(_numbers):x}"
