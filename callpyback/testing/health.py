"""The assertion that isolation makes necessary: that no observer failed unseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callpyback.core.decorator import handle
from callpyback.core.handle import FunctionHandle


def assert_healthy(*functions: Callable[..., Any] | FunctionHandle) -> None:
    """Assert that no observer of these functions has failed so far.

    An observer's exception never reaches the call, so a test of the function alone passes while the observer
    is broken. Failures are counted per decorator: an observer shared by several functions of one decorator counts
    for all of them.

    Args:
        functions: Decorated functions, or their handles.

    Raises:
        AssertionError: One has; the message names each such observer, with its last error.
        ConfigurationError: A function is not decorated.

    Example:
        >>> from callpyback import CallPyBack, on_success
        >>> @CallPyBack(observers=[on_success(lambda value: value.upper(), name="shout")])
        ... def double(n):
        ...     return 2 * n
        >>> double(2)
        4
        >>> assert_healthy(double)
        Traceback (most recent call last):
        ...
        AssertionError: observers failed:
          shout on double: 1 time, last with AttributeError: 'int' object has no attribute 'upper'
    """
    __tracebackhide__ = True
    failed = []
    for function in functions:
        known = function if isinstance(function, FunctionHandle) else handle(function)
        for name, health in known.health.items():
            if health.failures:
                times = "1 time" if health.failures == 1 else f"{health.failures} times"
                failed.append(f"  {name} on {known.signature.qualname}: {times}, last with {health.last_error}")
    if failed:
        raise AssertionError("\n".join(["observers failed:", *failed]))
