"""What must be made anew in a forked child, and what must not be open when a process forks.

Made anew are locks, which another thread may have held at the moment of the fork. The only `os.register_at_fork` of
the library. It is registered when this module is imported, which starts no thread and opens no file.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from threading import get_ident

_registered: dict[int, tuple[weakref.ref[object], str]] = {}
"""By `id`, because observers may be unhashable; an entry goes with its object, before the id is used again."""

_preparing: dict[int, tuple[weakref.ref[object], str]] = {}
_releases: dict[int, list[Callable[[], object]]] = {}
"""What is to be called in the parent when the fork is over, by the thread that forks."""

failed_resets = 0
"""How many resets raised in this process. They can't be logged: a logging handler's lock may be held for ever."""

failed_preparations = 0
"""How many of the calls around a fork raised in a parent. They are not logged either: the fork is not to wait."""


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
    _remember(_registered, target, method_name)


def before_fork(target: object, method_name: str = "before_fork") -> None:
    """Call `target.<method_name>()` in this process before every fork from now on, in the thread that forks.

    For what a child must not inherit open, not even to close it. What the method returns, if it is not None, is called
    without arguments in the parent when the fork is over; the child has `reset_after_fork`. Held weakly; registering
    the same object again replaces its method. The fork waits for the method, so it should be quick, and limit what it
    waits for. What it raises is dropped and counted, and the fork takes place.

    Args:
        target: Any object that can be weakly referenced.
        method_name: The method to call, without arguments.

    Example:
        >>> import threading
        >>> class Connected:
        ...     def __init__(self):
        ...         self.lock, self.connection = threading.Lock(), None
        ...         before_fork(self)
        ...     def before_fork(self):
        ...         if not self.lock.acquire(timeout=1.0):
        ...             return None
        ...         self.connection = None
        ...         return self.lock.release  # until then nobody connects
        >>> connected = Connected()
    """
    _remember(_preparing, target, method_name)


def _remember(registry: dict[int, tuple[weakref.ref[object], str]], target: object, method_name: str) -> None:
    key = id(target)

    def forget(_: weakref.ref[object]) -> None:
        registry.pop(key, None)

    registry[key] = (weakref.ref(target, forget), method_name)


def _prepare() -> None:
    global failed_preparations  # noqa: PLW0603 - a count of this process, like the other one
    if not _preparing:
        return
    releases = _releases[get_ident()] = []
    for reference, method_name in list(_preparing.values()):
        try:
            target = reference()
            release = None if target is None else getattr(target, method_name)()
            if release is not None:
                releases.append(release)
        except BaseException:  # noqa: BLE001 - the fork is the program's own
            failed_preparations += 1


def _go_on() -> None:
    global failed_preparations  # noqa: PLW0603 - a count of this process, like the other one
    for release in _releases.pop(get_ident(), ()):
        try:
            release()
        except BaseException:  # noqa: BLE001 - the others must be called too
            failed_preparations += 1


def _reset_all() -> None:
    global failed_resets  # noqa: PLW0603 - a count of this process, as `os.register_at_fork` itself is
    _releases.clear()  # of locks that are made anew here
    for reference, method_name in list(_registered.values()):
        try:
            target = reference()
            if target is not None:
                getattr(target, method_name)()
        except BaseException:  # noqa: BLE001 - the child must come up, whatever an object does here
            failed_resets += 1


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_prepare, after_in_parent=_go_on, after_in_child=_reset_all)
