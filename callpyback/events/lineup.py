"""Who hears which event, in which order: solved once for each change, and once for each name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from callpyback.core.configuration import refuse
from callpyback.core.ordering import check_requirements, in_order
from callpyback.events.listener import EventListener, Hearing, refuse_unmet

if TYPE_CHECKING:
    from callpyback.events.event import Event

Told = tuple[Hearing, ...]
Ready = dict[type, dict[str, Told]]

_MAX_KNOWN: Final = 2000
"""How many names are remembered with those who hear them; beyond that, they are looked up again."""

_MAX_NAME: Final = 200
"""Longer names are not remembered at all."""


class Lineup:
    """All listeners of a bus in the order they are told. Any number of threads may use it.

    Args:
        listeners: In the order they were registered.
        where: The bus, for messages.

    Attributes:
        listeners: In the order they are told.
        known: For each class and name of events who hears them, as far as that was asked.

    Raises:
        ConfigurationError: What they require of each other can't be met; the message names them.
    """

    def __init__(self, listeners: Sequence[EventListener], where: str) -> None:
        by_registration = {known.registration: known for known in listeners}
        registrations = list(by_registration)
        if any(known.requires or known.required_by for known in registrations):
            check_requirements(registrations, where, hears=lambda _: True)
            refuse_unmet(listeners, where)
        self.listeners = tuple(by_registration[known] for known in in_order(registrations))
        self.known: Ready = {}
        self._count = 0
        self._index()

    def _index(self) -> None:
        """Keep those who name what they hear apart from those who have to be asked about each name."""
        everyone = [known.everything for known in self.listeners]
        self._everyone = tuple(hearing for hearing in everyone if hearing is not None)
        self._is_open = len(self._everyone) == len(everyone)
        self._by_name: dict[str, list[int]] = {}
        self._others: list[int] = []
        for place, known in enumerate(self.listeners):
            for name in dict.fromkeys(known.literal_names):
                self._by_name.setdefault(name, []).append(place)
            if not known.literal_names:
                self._others.append(place)

    def told(self, event: Event) -> Told:
        """Return who hears events like this one, in order."""
        name, kind = event.name, type(event)
        known = self.known.get(kind, {}).get(name)
        if known is not None:
            return known
        if not isinstance(name, str):
            refuse("event.name", name, "a text")
        told = self._everyone if self._is_open else self._found(name, kind)
        if len(name) <= _MAX_NAME:
            if self._count >= _MAX_KNOWN:
                self.known.clear()
                self._count = 0
            self.known.setdefault(kind, {})[name] = told
            self._count += 1
        return told

    def _found(self, name: str, kind: type) -> Told:
        places = self._others
        if named := self._by_name.get(name):
            places = sorted([*places, *named])
        found = (self.listeners[place].hearing(name, kind) for place in places)
        return tuple(hearing for hearing in found if hearing is not None)
