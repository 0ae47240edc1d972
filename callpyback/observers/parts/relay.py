"""What observers have in common that pass calls on to another observer: what they take from it, and hand on to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.observer_checks import (
    callback_of,
    check_observer,
    checked_notices,
    checked_priority,
    checked_states,
    hears_events_alone,
    run_lifecycle,
    shown_name,
)
from callpyback.core.safe_repr import safe_repr
from callpyback.core.state_machine import TERMINAL_STATES
from callpyback.errors import ConfigurationError
from callpyback.observers.base import BaseObserver

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.state_machine import ExecutionState
    from callpyback.events.event import Event
    from callpyback.observers.base import States

_MIRRORED: Final = ("when", "match", "events", "is_interested", "traces_calls", "delivers_later")
_JOINED: Final = ("wants", "requires", "required_by")
"""What both an observer and its `update`, or its callback, may say."""


class RelayObserver(BaseObserver):
    """Passes on to another observer what `passes` lets through.

    States, notices, filters, priority and name are those of the other one, unless given here, and so is whether it is
    async. On an event bus the other one is told events, by `on_event` or `update`. `reset`, `close`, `flush`,
    `configure` and `validate` reach it; its `get_metrics` is part of this one's. Its `context.slot` is the one that
    this observer has, and may hold an entry of this one's under a key that is no text.

    Args:
        observer: Who is told. Guards and critical observers are refused: they decide calls, so they must hear of all.
        states: What it is told; by default the `states` of the observer.
        priority: Higher is told earlier; by default that of the observer.
        name: How it is shown; by default as the observer.

    Raises:
        ConfigurationError: A parameter is none of these.
    """

    observer: Any

    def __init__(
        self, observer: Any, *, states: States | None = None, priority: float | None = None, name: str | None = None
    ) -> None:
        with looking_at("observer", observer):
            if isinstance(observer, type) or not callable(getattr(observer, "on_event", None)):
                check_observer(observer)
            _refuse_deciding(observer)
            self.observer = observer
            self.is_async = _is_async(observer)
            own_priority = checked_priority(getattr(observer, "priority", 0), observer)
            own_name = shown_name(observer)
            own_states = getattr(observer, "states", None)
            own_states = None if own_states is None else checked_states(own_states, observer)
            self.notices = checked_notices(getattr(observer, "notices", None), observer)
            mirrored = what_it_says(observer)
        super().__init__(
            own_priority if priority is None else priority, own_name if name is None else name, states=states
        )
        if states is None:
            self.states = own_states
        self.__dict__.update(mirrored)
        self._tell_at(self.states)

    def _tell_at(self, states: frozenset[ExecutionState] | None) -> None:
        self.states = states
        self._hears_ends_alone = states is not None and states <= TERMINAL_STATES

    def passes(self, context: ExecutionContext) -> bool:
        """Return whether the other observer is told this. Define it."""
        raise NotImplementedError

    def decisions_of(self, context: ExecutionContext) -> dict[Any, Any]:
        """Return where to keep, under a key of one's own, what was decided about a call, until it ends.

        It is `context.slot`; where nothing but the ends of calls is told, an empty dictionary, which costs less.
        """
        if self._hears_ends_alone:
            if context.state in TERMINAL_STATES:
                return {}
            self._hears_ends_alone = False  # more was asked for at the registration
        slot: Any = context.slot
        decisions: dict[Any, Any] = slot
        return decisions

    def _update(self, context: ExecutionContext) -> Any:
        return self.observer.update(context) if self.passes(context) else None

    async def _update_async(self, context: ExecutionContext) -> None:
        if self.passes(context):
            await self.observer.update(context)

    def _told_by(self) -> Callable[[ExecutionContext], Any]:
        """Pass one state of one call on, if it is to be; to be awaited if the other observer is async."""
        update = getattr(self.observer, "update", None)
        if not callable(update) or getattr(update, "says_nothing", False):
            message = f"observer {self.name!r} has no update(context)"
            raise AttributeError(message)
        return self._update_async if self.is_async else self._update

    # Looked up on each relay, because registration asks whether there is one, and whether it is to be awaited.
    update: Any = property(_told_by)

    def passes_event(self, event: Event) -> bool:  # noqa: ARG002 - by default every one
        """Return whether the other observer is told of an event on a bus."""
        return True

    def _on_event(self, event: Event) -> Any:
        return self._handler(event) if self.passes_event(event) else None

    async def _on_event_async(self, event: Event) -> Any:
        return await self._handler(event) if self.passes_event(event) else None

    @property
    def _handler(self) -> Any:
        handler = getattr(self.observer, "on_event", None)
        return handler if callable(handler) else getattr(self.observer, "update", None)

    def _told_of_events_by(self) -> Callable[[Event], Any]:
        """Pass an event of a bus on, if it is to be; what the other observer returns is returned."""
        if not callable(self._handler):
            message = f"observer {self.name!r} has no on_event(event)"
            raise AttributeError(message)  # noqa: TRY004 - for `hasattr`
        return self._on_event_async if kind_of(self._handler) is FunctionKind.COROUTINE else self._on_event

    on_event: Any = property(_told_of_events_by)

    def flush(self, timeout: float | None = None) -> bool:
        """Have the other observer deliver what it holds back, if it has `flush(timeout)`.

        Args:
            timeout: Seconds to wait at most; None for no limit.

        Returns:
            Whether it is done.
        """
        flush = getattr(self.observer, "flush", None)
        return flush(timeout) is not False if callable(flush) else True

    def reset(self) -> None:
        """Forget what was counted, and have the other observer forget what it collected."""
        reset = getattr(self.observer, "reset", None)
        if callable(reset):
            reset()

    def close(self) -> None:
        """Close the other observer, if it has `close()`."""
        close = getattr(self.observer, "close", None)
        if callable(close):
            close()

    def validate(self) -> None:
        """Ask the other observer whether it is ready, if it inherits from `BaseObserver`."""
        run_lifecycle(self.observer, None)

    def configure(self, **options: Any) -> None:
        """Hand options on to the other observer, if it inherits from `BaseObserver`."""
        if options:
            run_lifecycle(self.observer, options)

    def _with_observer(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Return metrics of this one, with those of the other, if it has any, under `observer`."""
        own = getattr(self.observer, "get_metrics", None)
        return {**metrics, "observer": own()} if callable(own) else metrics

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {safe_repr(self.observer)}>"


def what_it_says(observer: Any) -> dict[str, Any]:
    """Return what registration is to find on the relay, as it would on the observer."""
    said = {name: getattr(observer, name, None) for name in _MIRRORED}
    for name in _JOINED:
        given = [getattr(subject, name, ()) for subject in (observer, _told(observer))]
        said[name] = tuple(one for many in given for one in ((many,) if isinstance(many, str) else many))
    return {name: value for name, value in said.items() if value is not None and value != ()}


def _told(observer: Any) -> Any:
    if hears_events_alone(observer):
        return observer.on_event
    callback = callback_of(observer)
    return getattr(observer, "update", None) if callback is None else callback


def _is_async(observer: Any) -> bool:
    """Return whether what `update` returns is to be awaited; of a callback observer it is what the callback returns."""
    update = getattr(observer, "update", None)
    callback = callback_of(observer)
    kinds = {kind_of(told) for told in (update, callback) if callable(told)}
    if kinds & {FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR}:
        refuse("observer", observer, "something that runs when called; a generator does not, so remove the `yield`")
    return FunctionKind.COROUTINE in kinds


def _refuse_deciding(observer: Any) -> None:
    if getattr(observer, "guard", False) or getattr(observer, "critical", False):
        message = (
            f"observer {safe_repr(observer)} is a guard or critical: it decides calls, so it must hear of all of them; "
            "put it into observers=[...] as it is"
        )
        raise ConfigurationError(message)
