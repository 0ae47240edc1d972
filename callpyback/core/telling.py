"""Which threads and tasks are inside an observer: what they call then is not observed."""

from __future__ import annotations

import contextvars
from threading import get_ident
from typing import Final

from callpyback.core.forks import reset_after_fork


class _Telling(list[int]):
    """The threads in which an observer is being told something; 0 stands for an async observer being awaited.

    A list, because append, remove and the truth test are atomic and cheap: the call path asks only
    whether it is empty, and looks closer when it is not.
    """

    def __reduce__(self) -> str:
        return "TELLING"

    def reset_after_fork(self) -> None:
        """Forget the threads that did not survive the fork."""
        self[:] = [thread for thread in self if thread == get_ident()]

    __hash__ = object.__hash__  # type: ignore[assignment]


TELLING: Final = _Telling()
enter = TELLING.append
leave = TELLING.remove
reset_after_fork(TELLING)


class Awaiting:
    """Whether the async observer that a task awaits is still at it; copied contexts share the answer."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active = True


awaiting: contextvars.ContextVar[Awaiting | None] = contextvars.ContextVar("callpyback_awaiting", default=None)


def is_inside_observer() -> bool:
    """Return whether this thread or task is running an observer: what it calls then is not observed."""
    if get_ident() in TELLING:
        return True
    mark = awaiting.get()
    return mark is not None and mark.active
