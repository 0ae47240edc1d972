"""The hooks on a decorated function: a callback for one state, registered by a call or as a decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from callpyback.errors import NO_VALUE

if TYPE_CHECKING:
    from callpyback.core.handle import FunctionHandle
    from callpyback.core.state_machine import ExecutionState, Notice

HOOKS: Final = ("on_call", "on_success", "on_failure", "on_completion", "on_error", "on_retry", "on_progress")
"""The names of the hooks on a decorated callable."""

C = TypeVar("C", bound=Callable[..., Any])


class Hook:
    """Registers callbacks for some states, or a notice, of one function.

    `function.on_success(callback)`, `@function.on_success` and `@function.on_success(priority=5)` all register and
    give the callback back unchanged. A callback takes what it names; see `callpyback.on_success`.
    """

    __slots__ = ("_handle", "_told")

    def __init__(self, handle: FunctionHandle, *told: ExecutionState | Notice) -> None:
        self._handle = handle
        self._told = told

    @overload
    def __call__(self, callback: C, *, priority: float = 0, name: str | None = None, weak: bool = False) -> C: ...
    @overload
    def __call__(
        self, callback: None = None, *, priority: float = 0, name: str | None = None, weak: bool = False
    ) -> Callable[[C], C]: ...
    def __call__(
        self, callback: Any = NO_VALUE, *, priority: float = 0, name: str | None = None, weak: bool = False
    ) -> Any:
        """Register a callback, or return a decorator that does.

        Args:
            callback: What to call.
            priority: Higher is told earlier.
            name: How it is shown; the callback's own name by default.
            weak: For a bound method: do not keep its object alive.

        Raises:
            ConfigurationError: The callback names something there is not.
        """
        # The one step from core up to an observer: a hook is a shorthand for registering it.
        from callpyback.observers.callback import CallbackObserver  # noqa: PLC0415

        def register(callback: C) -> C:
            observer = CallbackObserver(callback, self._told, priority=priority, name=name)
            self._handle.add_observer(observer, weak=weak)
            return callback

        return register if callback is NO_VALUE else register(callback)

    def __repr__(self) -> str:
        return f"<Hook for {', '.join(state.name for state in self._told)} of {self._handle!r}>"
