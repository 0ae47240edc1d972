"""What an extractor gives each decorated function, and the two bindings that need no mechanism."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, Protocol

from callpyback.core.variable_extraction.frames import frame_of, read_locals
from callpyback.core.variable_extraction.null_variable import NullVariable

Arguments = tuple[Callable[..., Any], tuple[str, ...], str]
"""What a binding is made for: a callable, the names to capture, the callable's kind."""


class Binding(Protocol):
    """Captures the named variables of one decorated function.

    Nothing of a call lives on the binding: `begin` returns the call's state, and exactly one of `returned`, `raised`
    and `abandoned` takes it, once. None of them raises, and none keeps a frame or a value afterwards.
    """

    def begin(self, inner: object | None = None) -> Any:
        """Return the state of a call that is about to run.

        Args:
            inner: The coroutine, generator or async generator of the call, not yet started; None for functions.
        """

    def returned(self, state: Any, /) -> dict[str, Any]:
        """Return the variables as they were when the body returned: every name, `NullVariable` where it had none."""
        raise NotImplementedError

    def raised(self, state: Any, error: BaseException, /) -> dict[str, Any]:
        """Return the variables as they were when `error` left the body. To be called while it is being handled."""
        raise NotImplementedError

    def abandoned(self, state: Any, /) -> dict[str, Any]:
        """Release a call whose generator or coroutine was closed early: every name is `NullVariable`."""
        raise NotImplementedError


class NoOpBinding:
    """Captures nothing.

    Args:
        names: The names to answer `NullVariable` to.
    """

    __slots__ = ("_names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def begin(self, inner: object | None = None) -> None:
        """Nothing to keep."""

    def returned(self, state: None) -> dict[str, Any]:  # noqa: ARG002 - part of the protocol
        """Every name is `NullVariable`."""
        return nothing(self._names)

    def raised(self, state: None, error: BaseException) -> dict[str, Any]:  # noqa: ARG002 - part of the protocol
        """Every name is `NullVariable`."""
        return nothing(self._names)

    def abandoned(self, state: None) -> dict[str, Any]:  # noqa: ARG002 - part of the protocol
        """Every name is `NullVariable`."""
        return nothing(self._names)


class FailureBinding(NoOpBinding):
    """Captures on failure only, from the traceback: for interpreters where no mechanism reaches the return."""

    __slots__ = ("_code",)

    def __init__(self, names: tuple[str, ...], code: CodeType) -> None:
        super().__init__(names)
        self._code = code

    def raised(self, state: None, error: BaseException) -> dict[str, Any]:  # noqa: ARG002 - part of the protocol
        """The variables of the traceback's first frame that ran the function."""
        return locals_at_raise(error, self._code, self._names)


def nothing(names: tuple[str, ...]) -> dict[str, Any]:
    """Return a fresh answer without any value."""
    return dict.fromkeys(names, NullVariable)


def locals_at_raise(error: BaseException, code: CodeType, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the variables of the traceback's outermost frame that ran `code`, which in recursion is this call's."""
    try:
        frame = frame_of(error, code)
        return nothing(names) if frame is None else read_locals(frame, names)
    except Exception:  # noqa: BLE001 - capturing must not hurt a call
        return nothing(names)
