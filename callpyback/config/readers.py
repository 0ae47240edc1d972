"""Objects that a file can only name: states, loggers, classes of exceptions. Nothing is imported for a name."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable
from typing import Any, Final

from callpyback.core.safe_repr import safe_repr
from callpyback.core.state_machine import ExecutionState
from callpyback.errors import nearest

Reader = Callable[[Any], Any]
"""From what a file says to what the constructor takes; raises ValueError with what would do."""

_EXCEPTIONS: Final = {
    name: found for name, found in vars(builtins).items() if isinstance(found, type) and issubclass(found, Exception)
}


def read_states(value: Any) -> Any:
    """Return states by their names; members, and None, stay as they are.

    Example:
        >>> read_states(["completed", "ERROR"])
        [<ExecutionState.COMPLETED: 'completed'>, <ExecutionState.ERROR: 'error'>]
    """
    if value is None or isinstance(value, ExecutionState):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_state(name) for name in value]
    return _state(value)


def _state(name: Any) -> ExecutionState:
    if isinstance(name, ExecutionState):
        return name
    known = ExecutionState.__members__
    if not isinstance(name, str) or name.upper() not in known:
        hint = nearest(name.upper(), known) if isinstance(name, str) else ""
        raise ValueError(f"expected names of states, and {safe_repr(name)} is none{hint}; they are {', '.join(known)}")
    return known[name.upper()]


def read_logger(value: Any) -> Any:
    """Return the logger of the standard library with this name; any other object stays as it is."""
    return logging.getLogger(value) if isinstance(value, str) else value


def read_exceptions(value: Any) -> Any:
    """Return Python's own exceptions by their names; classes stay as they are.

    Example:
        >>> read_exceptions("ConnectionError")
        <class 'ConnectionError'>
    """
    if isinstance(value, str):
        return _exception(value)
    if isinstance(value, list | tuple):
        return tuple(_exception(name) if isinstance(name, str) else name for name in value)
    return value


def _exception(name: str) -> type[Exception]:
    if name not in _EXCEPTIONS:
        raise ValueError(
            f"expected names of Python's own exceptions, and {safe_repr(name)} is none{nearest(name, _EXCEPTIONS)}; "
            "others are given in code"
        )
    return _EXCEPTIONS[name]
