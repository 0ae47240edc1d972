"""Who hears of one function: in which order, and the plans made of that."""

from __future__ import annotations

import bisect
import logging
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from callpyback.core.known import Known, identity_of
from callpyback.core.listener import Listener
from callpyback.core.ordering import check_requirements, in_order
from callpyback.core.plan import EMPTY, Plan
from callpyback.core.reporting import log
from callpyback.core.safe_repr import safe_text
from callpyback.core.state_machine import ExecutionState, Notice
from callpyback.core.visitors import VISITORS, Visitor
from callpyback.errors import ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.deadlines import Deadline
    from callpyback.core.decorator import CallPyBack
    from callpyback.core.functions import Target
    from callpyback.core.registration import Registration

_LEFT_OUT: Final = "its states, `match` or @want leave this function out"

_IN_ORDER: Final = {told: number for number, told in enumerate((*ExecutionState, *Notice))}


class Hearing(msgspec.Struct, frozen=True):
    """What one observer hears of a function.

    Args:
        name: The observer's name there.
        states: The names of the states and notices it is told, in the order of a call; empty if it hears nothing.
        asks: Whether a predicate decides in each call.
        why_not: Why it hears nothing, or nothing at present; empty if it does.
    """

    name: str
    states: tuple[str, ...]
    asks: bool
    why_not: str

    def __str__(self) -> str:
        told = ", ".join(self.states) or "nothing"
        asked = " if its predicate holds" if self.asks else ""
        return f"{self.name} hears {told}{asked}" + (f": {self.why_not}" if self.why_not else "")


class Audience:
    """The listeners of one function, those of its decorator included.

    Not safe for several threads by itself: the function's handle holds its lock around changes.
    """

    def __init__(self, decorator: CallPyBack, target: Target, deadline: Deadline | None) -> None:
        self._decorator = decorator
        self._target = target
        self._deadline = deadline
        self.known = Known()
        self.listeners: list[Listener] = []
        self.has_requirements = False
        self._visits: weakref.WeakKeyDictionary[Registration, Listener | None] = weakref.WeakKeyDictionary()
        self._binding: Any = None

    @property
    def registrations(self) -> list[Registration]:
        """Those registered here or on the decorator, in the order they are told."""
        return [listener.registration for listener in tuple(self.listeners) if not listener.registration.retired]

    def everybody(self, scopes: Sequence[Visitor] = ()) -> list[Registration]:
        """Return those registered here or on the decorator, and the observers of many functions that hear of this one.

        In the order they are told; those that hear nothing come last.
        """
        told = [listener.registration for listener in self._told(scopes)]
        return list(dict.fromkeys([*told, *self.registrations]))

    def join(self, *registrations: Registration) -> None:
        """Add registrations, the decorator's or the function's own: all of them, or none.

        Raises:
            ConfigurationError: One is here already, does not fit the function, or requires what is not here.
        """
        before, had_requirements = list(self.listeners), self.has_requirements
        added: list[Registration] = []
        try:
            for registration in registrations:
                self.known.refuse_twice(registration.observer)
                listener = Listener(registration, self._target)
                self.known.add(registration)
                added.append(registration)
                self.has_requirements |= bool(registration.requires or registration.required_by)
                bisect.insort(self.listeners, listener, key=lambda known: known.registration.sort_key)
            if self.has_requirements:
                self._put_in_order(added)
        except BaseException:
            self.listeners, self.has_requirements = before, had_requirements
            for registration in added:
                self.known.discard(registration)
            raise

    def _put_in_order(self, added: list[Registration]) -> None:
        by_registration = {listener.registration: listener for listener in self.listeners}
        here = [known for known in by_registration if not known.retired]
        name = self._target.signature.qualname

        def hears(known: Registration) -> bool:
            return bool(by_registration[known].tells)

        check_requirements(here, name, hears=hears, new=added, was_here=self._decorator.was_here)
        self.listeners = [by_registration[known] for known in in_order(here)]

    def drop(self, registration: Registration) -> None:
        """Remove a registration."""
        self.listeners = [known for known in self.listeners if known.registration is not registration]
        self.known.discard(registration)

    def drop_lost(self) -> None:
        """Remove the weakly held observers that are gone."""
        self.listeners = [known for known in self.listeners if not known.registration.retired]

    def plan(self, scopes: Sequence[Visitor] = (), *, is_silent: bool = False) -> Plan:
        """Return the plan for calls inside some scopes; if silent, one that tells nobody."""
        decorator = self._decorator
        listeners = () if is_silent else self._told(scopes)
        if not (listeners or decorator.policy.answers or self._deadline):
            return EMPTY
        wanted = decorator.variable_names and (
            decorator.policy.answers or any(listener.wants_variables for listener in listeners)
        )
        if wanted and self._binding is None:
            self._binding = self._bound_extractor()
        return Plan(
            self._target,
            listeners,
            policy=decorator.policy,
            clocks=decorator.clocks,
            system_time=decorator.uses_system_time,
            binding=self._binding if wanted else None,
            ailing=decorator.ward.ailing,
            deadline=self._deadline,
            sleeper=decorator.sleeper,
        )

    def _told(self, scopes: Sequence[Visitor]) -> Sequence[Listener]:
        """Return those that are told anything, in order."""
        here = [known for known in tuple(self.listeners) if known.tells and not known.registration.retired]
        visitors = (*VISITORS.everywhere, *scopes)
        if not visitors:
            return self._profiled(here, self.registrations)
        seen = {identity_of(listener.registration.observer) for listener in here}
        for visitor in visitors:
            listener = self._visiting(visitor)
            if listener is not None and identity_of(visitor.observer) not in seen:
                seen.add(identity_of(visitor.observer))
                here.append(listener)
        by_registration = {listener.registration: listener for listener in here}
        told = [by_registration[known] for known in self._in_order_with_visitors(list(by_registration))]
        return self._profiled(told, (*self.registrations, *(known.registration for known in visitors)))

    def _in_order_with_visitors(self, told: list[Registration]) -> list[Registration]:
        """Return them in order; a visitor that closes a circle of requirements here is left out."""
        try:
            return in_order(told)
        except ConfigurationError:
            kept: list[Registration] = []
            for known in told:
                try:
                    kept = in_order([*kept, known])
                except ConfigurationError as error:
                    self._warn_of_silence(known.name, error)
            return kept

    def _profiled(self, told: Sequence[Listener], registrations: Iterable[Registration | None]) -> Sequence[Listener]:
        """Return the listeners, measured if one of the observers measures the others."""
        for registration in registrations:
            if registration is not None and registration.profiles_observers:
                told = [listener.profiled(registration.observer.timed) for listener in told]
        return told

    def _visiting(self, visitor: Visitor) -> Listener | None:
        """Return how an observer of many functions is told of this one; None if it can't be, or wants nothing of it."""
        key = visitor.registration
        if key is None:  # it has left
            return None
        if key not in self._visits:
            self._visits[key] = self._listener_of(visitor)
        listening = self._visits[key]
        return None if listening is None or listening.registration.retired else listening

    def _listener_of(self, visitor: Visitor) -> Listener | None:
        try:
            registration = self._decorator.visit(visitor)
            listener = None if registration is None else Listener(registration, self._target)
        except Exception as error:  # noqa: BLE001 - nobody registered it here: whoever decorates must not be stopped
            self._warn_of_silence(visitor.name, error)
            return None
        return listener if listener is not None and listener.tells else None

    def _warn_of_silence(self, name: str, error: Exception) -> None:
        function = self._target.signature.qualname
        log(logging.WARNING, "observer %s hears nothing of %s: %s", name, function, safe_text(error))

    def _bound_extractor(self) -> Any:
        # Most programs capture no variables.
        from callpyback.core.variable_extraction import TracingVariableExtractor, bind_extractor  # noqa: PLC0415

        extractor = self._decorator.variable_extractor or TracingVariableExtractor()
        names, kind = self._decorator.variable_names, str(self._target.kind)
        return bind_extractor(extractor, self._target.function, names, kind)

    def hearings(self, scopes: Sequence[Visitor] = ()) -> list[Hearing]:
        """Return what each observer hears, in the order they are told; last those that hear nothing."""
        deaf = [known for known in self.listeners if not (known.tells or known.registration.retired)]
        here = [*self._told(scopes), *deaf]
        explained = {identity_of(listener.registration.observer) for listener in here}
        visiting = {identity_of(visitor.observer): visitor for visitor in (*VISITORS.everywhere, *scopes)}
        return [_hearing(listener) for listener in here] + [
            Hearing(visitor.name, (), asks=False, why_not=f"{_LEFT_OUT}, or it can't be told of it")
            for identity, visitor in visiting.items()
            if identity not in explained and visitor.observer is not None
        ]


def _why_nothing(registration: Registration) -> str:
    if registration.profiles_observers:
        return "it measures the others"
    if registration.states or registration.notices:
        return _LEFT_OUT
    return "it asks for no state"


def _hearing(listener: Listener) -> Hearing:
    registration = listener.registration
    states = tuple(told.name for told in sorted(listener.tells, key=_IN_ORDER.__getitem__))
    why_not = ""
    if not states:
        why_not = _why_nothing(registration)
    elif registration.condition.paused:
        why_not = f"paused after failing: {registration.condition.last_error}"
    return Hearing(registration.name, states, listener.asks, why_not)
