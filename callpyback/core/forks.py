"""What must be made anew in a forked child: locks that another thread may have held at the moment of the fork.

The only `os.register_at_fork` of the library. It is registered when this module is imported, which starts no thread
and opens no file.
"""

from __future__ import annotations

import os
import weakref

_registered: dict[int, tuple[weakref.ref[object], str]] = {}
"""By `id`, because observers may be unhashable; an entry goes with its object, before the id is used again."""

failed_resets = 0
"""How many resets raised in this process. They can't be logged: a logging handler's lock may be held for ever."""


def reset_after_fork(target: object, method_name: str = "reset_after_fork") -> None:
    """Call `target.<method_name>()` in every child that is forked from now on.

    Held weakly; registering the same object again replaces its method. In the child only one thread runs and other
    threads' locks stay as they were, so the method should assign new locks and do nothing else: no logging, no
    waiting. What it raises is dropped and counted.

    Args:
        target: Any object that can be weakly referenced.
        method_name: The method to call, without arguments.

    Example:
        >>> import threading
        >>> class Tally:
        ...     def __init__(self):
        ...         self.reset_after_fork()
        ...         reset_after_fork(self)
        ...     def reset_after_fork(self):
        ...         self.lock = threading.Lock()
        >>> tally = Tally()
    """
    key = id(target)

    def forget(_: weakref.ref[object]) -> None:
        _registered.pop(key, None)

    _registered[key] = (weakref.ref(target, forget), method_name)


def _reset_all() -> None:
    global failed_resets  # noqa: PLW0603 - a count of this process, as `os.register_at_fork` itself is
    for reference, method_name in list(_registered.values()):
        try:
            target = reference()
            if target is not None:
                getattr(target, method_name)()
        except BaseException:  # noqa: BLE001 - the child must come up, whatever an object does here
            failed_resets += 1


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_reset_all)
