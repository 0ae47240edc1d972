"""What the worker hands contexts to: an observer told one by one, or somebody who takes whole batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.observer_checks import (
    callback_of,
    check_observer,
    checked_notices,
    checked_priority,
    checked_states,
    hears_events_alone,
    shown_name,
)
from callpyback.core.safe_repr import safe_repr
from callpyback.core.state_machine import TERMINAL_STATES
from callpyback.errors import ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.state_machine import ExecutionState


class Sink:
    """An observer, or a function of a batch, as the worker sees it.

    Attributes:
        tell: Called with one context, or with a list of them if `takes_batches`.
        is_async: Whether what it returns is to be awaited, so that it needs an event loop.
        close: Called after the last delivery; None if there is nothing to close.
    """

    def __init__(self, observer: Any, tell: Callable[[Any], Any], *, takes_batches: bool) -> None:
        kind = kind_of(tell)
        if kind in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR):
            refuse("observer", observer, "something that runs when called; a generator does not, so remove the `yield`")
        self.observer = observer
        self.tell = tell
        self.is_async = kind is FunctionKind.COROUTINE or _has_async_callback(observer)
        self.takes_batches = takes_batches
        close = getattr(observer, "close", None)
        self.close: Callable[[], Any] | None = close if callable(close) else None
        self.name = shown_name(observer)
        self.priority: float = 0
        self.states: frozenset[ExecutionState] | None = None
        if not takes_batches or hasattr(observer, "priority"):
            self.priority = checked_priority(getattr(observer, "priority", None), observer)
        states = getattr(observer, "states", None)
        if states is not None:
            self.states = checked_states(states, observer)
        self.notices = checked_notices(getattr(observer, "notices", None), observer)

    @classmethod
    def one_by_one(cls, observer: Any) -> Sink:
        """Return a sink that tells an observer each context by its `update`, or each event by its `on_event`.

        Raises:
            ConfigurationError: It is no observer, or none that can be told later.
        """
        with looking_at("observer", observer):
            if hears_events_alone(observer):
                return cls(observer, observer.on_event, takes_batches=False)
            check_observer(observer)
            _refuse_inline_only(observer)
            return cls(observer, observer.update, takes_batches=False)

    @classmethod
    def in_batches(cls, observer: Any) -> Sink:
        """Return a sink for batches: `update_batch` of an observer, a function of a list, or `update` for each.

        Raises:
            ConfigurationError: It is none of these, or can't be told later.
        """
        with looking_at("observer", observer):
            if isinstance(observer, type):
                check_observer(observer)
            update_batch = getattr(observer, "update_batch", None)
            if callable(update_batch):
                _refuse_inline_only(observer)
                return cls(observer, update_batch, takes_batches=True)
            if callable(observer) and not callable(getattr(observer, "update", None)):
                sink = cls(observer, observer, takes_batches=True)
                sink.name = getattr(observer, "__qualname__", sink.name)
                sink.states = TERMINAL_STATES  # a function says nothing: one context of each call, its last
                return sink
            return cls.one_by_one(observer)


def _has_async_callback(observer: Any) -> bool:
    """Return whether this is a callback observer, whose plain `update` returns what its callback returned."""
    callback = callback_of(observer)
    return callback is not None and kind_of(callback) is FunctionKind.COROUTINE


def _refuse_inline_only(observer: Any) -> None:
    """Refuse observers that work only while the call runs."""
    shown = safe_repr(observer)
    if getattr(observer, "guard", False) or getattr(observer, "critical", False):
        message = (
            f"observer {shown} is a guard or critical: it decides the call, so it must be told while the call runs; "
            "put it into observers=[...] as it is"
        )
    elif getattr(observer, "delivers_later", False):
        message = f"observer {shown} delivers in the background already; put it into observers=[...] as it is"
    elif not (callable(getattr(observer, "update", None)) or callable(getattr(observer, "update_batch", None))):
        message = (
            f"observer {shown} has bind() and no update(context): such counters are meant to run inline, where they "
            "cost less than a queue; put it into observers=[...] as it is, or give it an update(context)"
        )
    else:
        return
    raise ConfigurationError(message)
