"""What happens to an error of the body: which are expected, and what the caller gets instead, if anything."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.safe_repr import safe_repr, safe_text
from callpyback.errors import NO_VALUE, ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext

_SHARED_BY_MISTAKE: Final = (list, dict, set, bytearray, deque)


class factory:  # noqa: N801 - read as a word: default_return=factory(dict)
    """A default made anew each time it is needed.

    Args:
        make: Called without arguments.

    Example:
        >>> from callpyback import CallPyBack, factory
        >>> @CallPyBack(default_return=factory(dict))
        ... def settings():
        ...     raise FileNotFoundError
        >>> settings() == {} and settings() is not settings()
        True
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        given: Any = make
        if not callable(given):
            message = f"factory({make!r}): expected something to call without arguments, such as list or dict"
            raise ConfigurationError(message)
        self.make = make

    def __repr__(self) -> str:
        return f"factory({self.make!r})"


class ErrorPolicy:
    """The decorator's `exception_classes`, `error_handler` and `default_return`."""

    def __init__(self, classes: tuple[type[Exception], ...], handler: Any, default: Any) -> None:
        if isinstance(default, _SHARED_BY_MISTAKE):
            _check_copies(default)
        self._classes = classes
        self._handler = handler
        self._default = default

    @property
    def answers(self) -> bool:
        """Whether a value may go to the caller in place of an error."""
        return self._handler is not None or self._default is not NO_VALUE

    def expects(self, error: Exception) -> bool:
        """Return whether this error is one of those named; every one is, if none were."""
        return not self._classes or isinstance(error, self._classes)

    def answer(self, error: Exception, context: ExecutionContext) -> Any:
        """Return what the caller gets instead.

        Raises:
            Exception: The error itself if nothing answers for it, or the one the handler raised in its place.
        """
        if self._handler is not None:
            try:
                return self._handler.handle_error(error, context)
            except Exception as raised:
                if raised is not error or self._default is NO_VALUE:
                    raise
        if isinstance(self._default, factory):
            return self._default.make()
        if self._default is NO_VALUE:
            raise error
        # Callers may change what they get, and the next caller must not see that.
        return _copied(self._default) if isinstance(self._default, _SHARED_BY_MISTAKE) else self._default


def _copied(default: Any) -> Any:
    import copy  # noqa: PLC0415 - few defaults are mutable

    return copy.deepcopy(default)


def _check_copies(default: Any) -> None:
    try:
        _copied(default)
    except Exception as error:
        message = (
            f"default_return={safe_repr(default)}: each caller gets a copy, and copying it raised {safe_text(error)}; "
            "use default_return=factory(make), with a function that makes it anew"
        )
        raise ConfigurationError(message) from error
