"""An observer of one class of events, or of several."""

from __future__ import annotations

import types
import typing
from typing import Any, ClassVar, Generic, TypeVar

from callpyback.core.configuration import refuse
from callpyback.events.event import Event
from callpyback.observers.base import BaseObserver

E = TypeVar("E", bound=Event)


class TypedObserver(BaseObserver, Generic[E]):
    """Told of the events of a class and its subclasses, and of no others: inherit, name the class, define `on_event`.

    `class Ledger(TypedObserver[OrderPaid])` hears of OrderPaid alone, `TypedObserver[OrderPaid | OrderSent]` of both.
    Type checkers hold `on_event` to it. What it says beside that (`match`, `when`, `priority`, `requires`, ...) and
    what is asked for it at registration count as well.

    Example:
        >>> from dataclasses import dataclass
        >>> from callpyback import Event, EventBus, TypedObserver
        >>> @dataclass
        ... class OrderPaid(Event):
        ...     total: int
        >>> class Ledger(TypedObserver[OrderPaid]):
        ...     def __init__(self):
        ...         self.total = 0
        ...     def on_event(self, event):
        ...         self.total += event.total
        >>> bus, ledger = EventBus(), Ledger()
        >>> _ = bus.register_observer(ledger)
        >>> for event in (OrderPaid(5), Event("order.sent"), OrderPaid(7)):
        ...     _ = bus.emit(event)
        >>> ledger.total
        12
    """

    events: ClassVar[tuple[type[Event], ...] | None] = None
    """The classes of events it is told of."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in getattr(cls, "__orig_bases__", ()):
            origin = typing.get_origin(base)
            if isinstance(origin, type) and issubclass(origin, TypedObserver):
                cls._hear(typing.get_args(base)[0])

    @classmethod
    def _hear(cls, argument: Any) -> None:
        if isinstance(argument, TypeVar):
            return  # a subclass that leaves it open
        is_union = typing.get_origin(argument) in (typing.Union, types.UnionType)
        classes = typing.get_args(argument) if is_union else (argument,)
        if not all(isinstance(given, type) and issubclass(given, Event) for given in classes):
            refuse(f"TypedObserver[...] of {cls.__name__}", argument, "a class of events that is defined before it")
        cls.events = classes

    def on_event(self, event: E) -> Any:
        """Handle an event, as `EventBus` says; define it, as a coroutine function if it is to be awaited."""

    on_event.says_nothing = True  # type: ignore[attr-defined]  # one that is defined lacks it

    def validate(self) -> None:
        """Raise to refuse being registered.

        Raises:
            ConfigurationError: `on_event` is not defined.
        """
        if getattr(self.on_event, "says_nothing", False):
            refuse("handler", self, "on_event(self, event) to be defined")
