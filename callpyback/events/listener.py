"""One handler on one bus: what it hears of, and what calls it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.interest import Interest, Want, matches
from callpyback.core.registration import Registration
from callpyback.errors import ConfigurationError
from callpyback.events.connection import NotAwaitedError
from callpyback.events.event import Event
from callpyback.events.forms import checked_events, handler_of, has_every_attribute, name_of, takes_bus

if TYPE_CHECKING:
    from callpyback.core.health import Ward
    from callpyback.core.known import Identity
    from callpyback.core.subscription import Subscription
    from callpyback.events.bus import EventBus

Tell = Callable[[Event], Any]
Wants = Callable[[Event], Any]

Hearing = tuple[Registration, Tell, Tell, Wants | None]
"""One of those who hear events of one name: whose it is, what calls it where nothing can be awaited, what calls it
where its answer is awaited, and its predicates, if any. A plain tuple, because those are the fastest to unpack."""

UNWANTED: Final = object()
"""What stands for the answer of a handler whose predicates did not want the event."""

_WILD: Final = frozenset("*?[")


class EventListener:
    """A handler with what was asked for it on a bus. Compared by identity.

    Args:
        asked: The handler, and what is asked for it.
        events: Names and classes of events it hears of; None for what it says itself.
        bus: What a handler that takes a bus is given.
        ward: What it shares with the other handlers of the bus.
        key: What tells the handler from all others.

    Attributes:
        registration: Its name, place in the order, and health.
        given: What is asked for it, from which a copy of the bus registers it anew; None if it is held weakly.
        everything: How it hears any event, if it hears of every one; else None.

    Raises:
        ConfigurationError: It can't be told of events.
    """

    __slots__ = ("_atell", "_interests", "_tell", "everything", "given", "key", "registration")

    def __init__(self, asked: Subscription, events: Any, bus: EventBus, ward: Ward, key: Identity) -> None:
        observer = asked.observer
        if asked.states is not None:
            refuse("states", asked.states, "none: events have no states; choose by `events`, `match` or `when`")
        with looking_at("handler", observer):
            handler = handler_of(observer)
            wants_bus = takes_bus(handler)
        self.given = None if asked.weak else (asked, events)
        if has_every_attribute(observer):
            asked = copy.copy(asked)
            asked.observer = observer = handler = functools.partial(observer)  # which has none of them
        self.key = key
        self.registration = registration = Registration(asked, ward, handler=handler)
        if asked.name is None and handler is observer:
            registration.name = name_of(handler)
        told: Any = registration.update
        self._atell: Tell = functools.partial(told, bus) if wants_bus else told
        is_async = registration.awaited or kind_of(handler) is FunctionKind.ASYNC_GENERATOR
        self._tell: Tell = self._refuse_to_await if is_async else self._atell
        chosen = checked_events(getattr(observer, "events", None) if events is None else events)
        of_events = None if chosen is None else Interest(wants=tuple(_wanted(event) for event in chosen))
        self._interests = [known for known in (of_events, registration.interest) if known is not None]
        self.everything: Hearing | None = None if self._interests else (registration, self._tell, self._atell, None)

    @property
    def observer(self) -> Any:
        """The handler as it was given; None once one that is held weakly is gone."""
        return self.registration.observer if self.given is None else self.given[0].observer

    @property
    def is_async(self) -> bool:
        """Whether it is awaited, which only `aemit` and `aprocess` do."""
        return self._tell is not self._atell

    @property
    def names(self) -> tuple[str, ...]:
        """The patterns of names outside which it hears nothing; empty if it may hear any."""
        return next((interest.patterns for interest in self._interests if interest.patterns), ())

    @property
    def literal_names(self) -> tuple[str, ...]:
        """The names outside which it hears nothing, if no pattern is among them."""
        names = self.names
        return () if any(_WILD.intersection(name) for name in names) else names

    @property
    def kinds(self) -> tuple[type[Event], ...]:
        """The classes outside which it hears nothing; empty if it may hear any."""
        kinds = next((interest.kinds for interest in self._interests if interest.kinds), ())
        return tuple(kind for kind in kinds if isinstance(kind, type))

    def hearing(self, name: str, kind: type) -> Hearing | None:
        """Return how it hears events of this name and class; None if it never does."""
        if self.everything is not None:
            return self.everything
        wants = self.wants(name, kind)
        if wants is False:
            return None
        if wants is True:
            return self.registration, self._tell, self._atell, None
        return self.registration, _asking(self._tell, wants), _asking(self._atell, wants), wants

    def wants(self, name: str, kind: type) -> bool | Wants:
        """Return whether it hears events of this name and class, or what to ask of each."""
        try:
            tests = [interest.test((name,), kind) for interest in self._interests]
        except Exception:  # noqa: BLE001 - its `is_interested` failed: asked for each event, it fails as a handler does
            return functools.partial(self._asked_again, name, kind)
        if False in tests:
            return False
        asked = [test for test in tests if test is not True]
        return asked[0] if asked else True  # names and classes in `events` have no predicates

    def _asked_again(self, name: str, kind: type, event: Event) -> bool:
        tests = [interest.test((name,), kind) for interest in self._interests]
        return all(test(event) if callable(test) else test for test in tests)

    def _refuse_to_await(self, _: Event) -> None:
        message = f"handler {self.registration.name!r} is async, and emit() can't await it: use `await bus.aemit(...)`"
        raise NotAwaitedError(message)

    def may_meet(self, other: EventListener) -> bool:
        """Return whether there may be an event that both hear, as far as names and classes tell."""
        kinds, others = self.kinds, other.kinds
        if kinds and others and not any(_are_related(kind, another) for kind in kinds for another in others):
            return False
        names, patterns = self.names, other.names
        return not names or not patterns or any(_may_both_match(one, two) for one in names for two in patterns)


def refuse_unmet(listeners: Iterable[EventListener], where: str) -> None:
    """Refuse a requirement of a handler that hears nothing of what the other one hears.

    Raises:
        ConfigurationError: There is such a requirement; both handlers are named.
    """
    by_name = {known.registration.name: known for known in listeners}
    for name, known in by_name.items():
        pairs = [(name, required) for required in known.registration.requires]
        pairs += [(requiring, name) for requiring in known.registration.required_by]
        for requiring, required in pairs:
            if not by_name[requiring].may_meet(by_name[required]):
                message = (
                    f"observer {requiring!r} requires {required!r}, which on {where} never hears of anything that "
                    f"{requiring!r} hears of; their `events`, `match` and @want have to agree"
                )
                raise ConfigurationError(message)


def _wanted(event: str | type) -> Want:
    return Want((event,), (), ()) if isinstance(event, str) else Want((), (event,), ())


def _asking(tell: Tell, wants: Wants) -> Tell:
    def tell_if_wanted(event: Event) -> Any:
        return tell(event) if wants(event) else UNWANTED

    return tell_if_wanted


def _are_related(one: type, two: type) -> bool:
    return issubclass(one, two) or issubclass(two, one)


def _may_both_match(one: str, two: str) -> bool:
    """Return whether a name may match both patterns; what stands before the first wildcard has to agree."""
    if not _WILD.intersection(one):
        return matches((two,), (one,))
    if not _WILD.intersection(two):
        return matches((one,), (two,))
    first, second = (_beginning(pattern) for pattern in (one, two))
    return first.startswith(second) or second.startswith(first)


def _beginning(pattern: str) -> str:
    return pattern[: min(pattern.index(mark) for mark in _WILD if mark in pattern)]
