"""What every bridge does: it tells a hook or bus, without ever disturbing the source, until it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from callpyback.core.configuration import refuse
from callpyback.core.health import Condition, ObserverHealth
from callpyback.core.time_sources import SYSTEM
from callpyback.errors import NO_VALUE, ConfigurationError
from callpyback.events.bus import EventBus
from callpyback.events.connections import check_name
from callpyback.events.emissions import emits, is_inside_an_emission
from callpyback.events.event import Event
from callpyback.events.hook import EventHook

if TYPE_CHECKING:
    from types import TracebackType


class Bridge:
    """What carries the changes of one object over to a hook or a bus. Made by `bridge`.

    Example:
        >>> from callpyback.events.bridges import bridge
        >>> from reaktiv import Signal
        >>> price = Signal(3)
        >>> with bridge(price) as changes:
        ...     connected = changes.connect(lambda old, new: print(old, "->", new))
        ...     price.set(5)
        3 -> 5
        >>> price.set(7)
        >>> changes.is_closed
        True
    """

    def __init__(self, to: Any, name: str | None, usual_name: str) -> None:
        """Check the target.

        Args:
            to: A hook, a bus, or None for a hook of its own.
            name: How events are called.
            usual_name: The same, if that is None.

        Raises:
            ConfigurationError: The target is neither.
        """
        check_name(name, f"the usual one, {usual_name!r}")
        self.name = usual_name if name is None else name
        if to is not None and not isinstance(to, EventHook | EventBus):
            refuse("to", to, "an EventHook or an EventBus; leave it out for a hook of its own")
        self._to: EventHook[...] | EventBus = EventHook(self.name) if to is None else to
        self._condition = Condition()
        self._release: Callable[[], object] | None = None

    def opened(self, release: Callable[[], object]) -> Self:
        """Remember how to let go of the source; return the bridge."""
        self._release = release
        return self

    @property
    def hook(self) -> EventHook[...]:
        """The hook that is told.

        Raises:
            ConfigurationError: It is a bus that is told.
        """
        if isinstance(self._to, EventHook):
            return self._to
        message = f"{self!r} tells a bus: register handlers there, or leave `to` out for a hook"
        raise ConfigurationError(message)

    def connect(self, callback: Any = NO_VALUE, **options: Any) -> Any:
        """Connect a callback to `hook`, as `EventHook.connect` does."""
        return self.hook.connect(callback, **options)

    @property
    def health(self) -> ObserverHealth:
        """How often telling failed, which it does only if the target has `errors="raise"`."""
        known = self._condition
        return ObserverHealth(self.name, known.failures, known.in_a_row, known.paused, known.skipped, known.last_error)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._release is None

    def close(self) -> None:
        """Tell nothing more, and let go of the source. May be called more than once."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @emits
    def tell(self, source: object, values: tuple[Any, ...], data: Callable[[], dict[str, Any]], name: str = "") -> None:
        """Tell a change, if the bridge is not closed.

        Args:
            source: What changed.
            values: What a hook emits.
            data: Makes what an event knows.
            name: What an event is called, if not as the bridge.
        """
        if self._release is None:
            return
        try:
            if isinstance(self._to, EventHook):
                self._to.emit(*values)
            else:
                self._to.emit(Event(name or self.name, data(), ctxt=source))
        except BaseException as error:  # the source must not suffer from who listens
            # Changes that make changes without end are to end where they began, see `is_inside_an_emission`.
            if isinstance(error, KeyboardInterrupt) or (isinstance(error, RecursionError) and is_inside_an_emission()):
                raise
            self._condition.count(error, again=False)
            self._condition.report(SYSTEM.monotonic(), self.name, "the bridge")

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "to " + repr(self._to)
        return f"<Bridge {self.name} {state}>"
