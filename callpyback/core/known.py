"""The observers registered in one place: none twice, each found by itself or by its name."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from callpyback.core.safe_repr import safe_repr
from callpyback.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from callpyback.core.registration import Registration


Identity = int | tuple[int, int | str]


def identity_of(observer: Any) -> Identity:
    """Return what tells an observer from all others while it lives: a bound method is a new object each time."""
    if isinstance(observer, types.MethodType):
        return id(observer.__self__), id(observer.__func__)
    if isinstance(observer, types.BuiltinMethodType | types.MethodWrapperType):
        return id(observer.__self__), observer.__name__
    return id(observer)


class Known:
    """The observers registered in one place: none twice, no two with one name, found without a search."""

    __slots__ = ("_by_identity", "_by_name", "_identities", "_numbers")

    def __init__(self) -> None:
        self._by_identity: dict[Identity, Registration] = {}
        self._by_name: dict[str, Registration] = {}
        self._identities: dict[Registration, Identity] = {}
        self._numbers: dict[str, int] = {}

    def refuse_twice(self, observer: Any) -> None:
        """Raise if the observer is registered here."""
        identity = identity_of(observer)
        known = self._by_identity.get(identity)
        # The id of a weakly held observer that is gone may be used again.
        if known is not None and not known.retired and identity_of(known.observer) == identity:
            message = (
                f"observer {safe_repr(observer)} is registered here already: it would be told everything twice; "
                "remove one of the two"
            )
            raise ConfigurationError(message)

    def give_name(self, registration: Registration, wished: str | None, elsewhere: Iterable[Known] = ()) -> None:
        """Give a registration a name that nobody has here, nor elsewhere where it is to be told.

        Args:
            registration: One that is not added yet. If its own name is taken, it is followed by `#2`, `#3`, ...
            wished: A name that was asked for, which is not changed.
            elsewhere: Those of the functions that will hear of it too.

        Raises:
            ConfigurationError: The name that was asked for is taken.
        """
        places = (self, *elsewhere)
        own = name = registration.name
        while any(place.has_name(name) for place in places):
            if wished is not None:
                message = f"name={wished!r}: an observer registered here is called that; choose another name"
                raise ConfigurationError(message)
            # Counted on: thousands may have one name.
            self._numbers[own] = self._numbers.get(own, 1) + 1
            name = f"{own}#{self._numbers[own]}"
        registration.name = name

    def has_name(self, name: str) -> bool:
        """Return whether an observer here has this name."""
        known = self._by_name.get(name)
        return known is not None and not known.retired

    def remembers(self, name: str) -> bool:
        """Return whether an observer of this name is here, or was until it was collected."""
        return name in self._by_name

    def add(self, registration: Registration) -> None:
        """Remember a registration."""
        identity = self._identities[registration] = identity_of(registration.observer)
        self._by_identity[identity] = registration
        self._by_name[registration.name] = registration

    def discard(self, registration: Registration) -> None:
        """Forget a registration."""
        identity = self._identities.pop(registration, None)
        if identity is not None and self._by_identity.get(identity) is registration:
            del self._by_identity[identity]
        if self._by_name.get(registration.name) is registration:
            del self._by_name[registration.name]


def found(observer: Any, registrations: list[Registration], where: str) -> Registration:
    """Return the registration of an observer, given itself or its name."""
    identity = identity_of(observer)
    for known in registrations:
        if identity_of(known.observer) == identity or (isinstance(observer, str) and known.name == observer):
            return known
    names = [known.name for known in registrations]
    hint = nearest(observer, names) if isinstance(observer, str) else ""
    shown = ", ".join(names) or "none"
    message = f"observer {safe_repr(observer)} is not registered {where}{hint}; registered: {shown}"
    raise ConfigurationError(message)


def named_apart(pairs: Any) -> dict[str, Any]:
    """Return a dictionary in which equal names are followed by `#2`, `#3`, ..."""
    named: dict[str, Any] = {}
    for name, value in pairs:
        unique, number = name, 1
        while unique in named:
            number += 1
            unique = f"{name}#{number}"
        named[unique] = value
    return named
