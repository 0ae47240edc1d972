"""How a body asks for its own call. Importing this module has calls tracked from now on: see `tracking.py`."""

from __future__ import annotations

from typing import Final

from callpyback.core.current import CURRENT, NOTHING, CurrentCall
from callpyback.core.telling import TELLING, is_inside_observer
from callpyback.core.tracking import TRACKING

TRACKING.switch_on()

_innermost: Final = CURRENT.get


def current_call() -> CurrentCall:
    """Return the observed call that this line runs in: the innermost one of this thread or task.

    Tasks that are started in a body belong to its call, and so does what `asyncio.to_thread` runs; a plain
    `threading.Thread` does not, unless it is run in `contextvars.copy_context()`. A decorated function to which nobody
    listens is left out: what it says goes to the call around it. So is everything inside an observer, which has its
    context instead. A coroutine that is stepped by hand, outside any task, is the current call between its steps too.

    A program that never asks pays nothing. It is known to ask once this function has been imported, or a function in
    whose code its name occurs has been decorated; then every observed call of the program costs a fraction of a
    microsecond more.

    Returns:
        The call; outside any, one that is false and accepts everything.

    Example:
        >>> from callpyback import CallPyBack, current_call, on_success
        >>> @CallPyBack(observers=[on_success(lambda value, tags: print(value, tags))])
        ... def load(name):
        ...     current_call().tag(asset=name)
        ...     return name.upper()
        >>> load("rock")
        ROCK {'asset': 'rock'}
        'ROCK'
        >>> bool(current_call())
        False
    """
    return NOTHING if TELLING and is_inside_observer() else _innermost()
