"""One observer on one decorator or function: what it asked for, and how it is held."""

from __future__ import annotations

import itertools
import types
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.health import Patient, Ward
from callpyback.core.observer_checks import (
    callback_of,
    check_observer,
    checked_notices,
    checked_priority,
    checked_states,
    run_lifecycle,
    shown_name,
)
from callpyback.core.safe_repr import safe_repr, safe_text
from callpyback.core.state_machine import ExecutionState, Notice
from callpyback.core.subscription import Subscription, checked_names
from callpyback.core.tracking import TRACKING
from callpyback.errors import ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.interest import Interest

_order = itertools.count()

_WORDS: Final = ("when", "match", "wants", "is_interested")
"""What an observer may have to say about what it wants to hear of."""


class Registration(Patient):
    """An observer with what was asked for it at registration. Compared by identity."""

    __slots__ = (
        "__weakref__",
        "_observer",
        "_reference",
        "_weak_observer",
        "awaited",
        "bind",
        "bind_guard",
        "callback",
        "chooses_states",
        "delivers_later",
        "delivery",
        "guard",
        "interest",
        "is_leaf",
        "notices",
        "order",
        "priority",
        "profiles_observers",
        "required_by",
        "requires",
        "states",
        "update",
    )

    def __init__(
        self,
        asked: Subscription,
        ward: Ward,
        *,
        deliver: Callable[[Any], Any] | None = None,
        handler: Callable[..., Any] | None = None,
        is_configured: bool = False,
    ) -> None:
        """Check an observer.

        Args:
            asked: The observer, and what is asked for it.
            ward: What it shares with the other observers here.
            deliver: Makes what delivers to it in the background.
            handler: What is told, of an observer that does not hear of calls.
            is_configured: Whether the observer was checked and configured at another registration.
        """
        observer = asked.observer
        super().__init__(ward)
        self.order = next(_order)
        self._observer: Any = None
        self._weak_observer: weakref.ref[Any] | None = None
        self._reference: weakref.ref[Any] | None = None
        try:
            if handler is None:
                check_observer(observer)
            if not is_configured:
                run_lifecycle(observer, asked.options)
            self._ask(asked)
            told = self._hold(observer, handler, weak=asked.weak, deliver=deliver)
            self._take_interest(asked, told)
        except ConfigurationError:
            raise
        except Exception as error:
            message = f"observer {safe_repr(observer)} can't be registered: looking at it raised {safe_text(error)}"
            raise ConfigurationError(message) from error

    def _ask(self, asked: Subscription) -> None:
        observer = asked.observer
        priority = getattr(observer, "priority", 0) if asked.priority is None else asked.priority
        self.priority = checked_priority(priority, observer)
        self.name = shown_name(observer) if asked.name is None else asked.name
        self.chooses_states = asked.states is not None
        states = getattr(observer, "states", None) if asked.states is None else asked.states
        self.states = checked_states(states, observer)
        self.notices = checked_notices(getattr(observer, "notices", None), observer)
        self.critical = bool(getattr(observer, "critical", False))
        self.guard = bool(getattr(observer, "guard", False))
        self.delivers_later = getattr(observer, "delivers_later", False) is True
        self.is_leaf = getattr(observer, "is_leaf", False) is True
        self.profiles_observers = getattr(observer, "profiles_observers", False) is True
        if getattr(observer, "traces_calls", False) is True:
            TRACKING.switch_on()

    def _take_interest(self, asked: Subscription, told: Any) -> None:
        """Read what it wants to hear of, and whom it requires; most ask for neither."""
        observer = asked.observer
        self.interest: Interest | None = None
        self.requires: tuple[str, ...] = ()
        self.required_by: tuple[str, ...] = ()
        said = [getattr(subject, name, None) for subject in (observer, told) for name in _WORDS]
        if any(word is not None for word in (asked.when, asked.match, *said)):
            from callpyback.core.interest import interest_of  # noqa: PLC0415 - most programs have no use for it

            self.interest = interest_of(observer, told, asked.when, asked.match, weak=asked.weak)
            if self.interest is not None:
                names_states = asked.states is not None or getattr(observer, "states", None) is not None
                self._ask_for_kinds(self.interest, names_states=names_states)
        for parameter in ("requires", "required_by"):
            names = [getattr(subject, parameter, ()) for subject in (asked, observer, told)]
            if any(names):
                listed = (name for given in names for name in checked_names(parameter, given or ()))
                setattr(self, parameter, tuple(dict.fromkeys(listed)))

    def _ask_for_kinds(self, interest: Interest, *, names_states: bool) -> None:
        """Ask for the states and notices that are wanted, and for no others if each alternative names some."""
        named = interest.named_kinds
        self.notices |= frozenset(kind for kind in named if isinstance(kind, Notice))
        if not names_states:
            states = frozenset(kind for kind in named if isinstance(kind, ExecutionState))
            self.states = states if interest.kinds else self.states | states

    def _hold(self, observer: Any, handler: Any, *, weak: bool, deliver: Callable[[Any], Any] | None) -> Any:
        """Take hold of what is told, and return it as it was given."""
        callback = callback_of(observer) if handler is None else None
        self.callback = None if callback is None else observer
        told = handler if handler is not None else getattr(observer, "update", None) if callback is None else callback
        self.update = told if callback is None else None
        self.bind = getattr(observer, "bind", None) if handler is None else None
        self.bind_guard = getattr(observer, "bind_guard", None) if self.guard and handler is None else None
        self.delivery: Any = None
        awaited: Any = told
        if deliver is not None and not (self.guard or self.critical or self.delivers_later or callable(self.bind)):
            self._hand_over(observer, deliver, weak=weak)
            awaited = self.update
        self.awaited = callable(awaited) and kind_of(awaited) is FunctionKind.COROUTINE
        if weak:
            self._weaken(observer, told)
        else:
            self._observer = observer
        return told

    def _hand_over(self, observer: Any, deliver: Callable[[Any], Any], *, weak: bool) -> None:
        """Have the observer told by what delivers to it in the background."""
        if weak:
            message = (
                f"weak=True for observer {self.name!r}: what is on its way to an observer keeps it alive, so with "
                "enable_async_observers=True it can't be held weakly; leave weak=True out"
            )
            raise ConfigurationError(message)
        self.delivery = deliver(observer)
        self.update, self.callback = self.delivery.update, None
        self.delivers_later = True

    def _weaken(self, observer: Any, told: Any) -> None:
        """Hold nothing but a weak reference to the object whose method is called."""
        if self.bind_guard is not None:
            message = (
                f"weak=True for guard {self.name!r}: its calls would go on unguarded once nobody else holds it; "
                "leave weak=True out"
            )
            raise ConfigurationError(message)
        subject = getattr(told, "__self__", None)
        own: weakref.ref[Registration] = weakref.ref(self)
        try:
            self._reference = weakref.ref(subject, lambda _: _gone(own))
            self._weak_observer = _referring_to(observer)
            self.bind = None
            if self.callback is None:
                self.update = weakly(told)
            else:
                self.callback = observer.weakened()
        except TypeError as error:
            message = (
                f"weak=True: expected the method of an object that can be weakly referenced, got {safe_repr(told)}; "
                "leave weak=True out"
            )
            raise ConfigurationError(message) from error

    @property
    def observer(self) -> Any:
        """The observer; None once a weakly held one is gone."""
        return self._observer if self._weak_observer is None else self._weak_observer()

    @property
    def told(self) -> Any:
        """What is told: the observer, or what delivers to it in the background, which closes it too."""
        return self.observer if self.delivery is None else self.delivery

    @property
    def sort_key(self) -> tuple[float, int]:
        """Highest priority first; equal priorities in the order of registration."""
        return (-self.priority, self.order)

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        slots = (*Patient.__slots__, *self.__slots__)
        state = {name: getattr(self, name) for name in slots if name != "__weakref__"}
        if self._weak_observer is not None:
            # Nothing holds the observer in a copy, so there it is gone.
            lost = ("_weak_observer", "_reference", "update", "callback", "bind", "bind_guard", "interest")
            gone = dict.fromkeys(lost)
            state |= {**gone, "retired": True, "active": False}
        return None, state

    def renumber(self) -> None:
        """Take a place behind all registrations of this process: the number came out of another one."""
        self.order = next(_order)

    def lose(self) -> None:
        """Retire because the observer, weakly held, is gone."""
        self.retire()
        self._ward.lost = True


def _referring_to(observer: Any) -> weakref.ref[Any]:
    return weakref.WeakMethod(observer) if isinstance(observer, types.MethodType) else weakref.ref(observer)


def _gone(own: weakref.ref[Registration]) -> None:
    registration = own()
    if registration is not None:
        registration.lose()


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a bound method while its object lives, and does nothing afterwards."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any, **kwargs: Any) -> Any:
        alive = reference()
        return None if alive is None else alive(*args, **kwargs)

    return call


def ordered(registrations: Sequence[Registration]) -> list[Registration]:
    """Return them in the order they are told."""
    return sorted(registrations, key=lambda registration: registration.sort_key)
