"""The observers registered in one place: none twice, each found by itself or by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from callpyback.core.safe_repr import safe_repr
from callpyback.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from callpyback.core.registration import Registration


class Known:
    """The observers registered in one place: none twice, no two with one name, found without a search."""

    __slots__ = ("_by_id", "_by_name")

    def __init__(self) -> None:
        self._by_id: dict[int, Registration] = {}
        self._by_name: dict[str, Registration] = {}

    def refuse_twice(self, observer: Any) -> None:
        """Raise if the observer is registered here."""
        known = self._by_id.get(id(observer))
        # The id of a weakly held observer that is gone may be used again.
        if known is not None and not known.retired and known.observer is observer:
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
        name, number = registration.name, 1
        while any(place.has_name(name) for place in places):
            if wished is not None:
                message = f"name={wished!r}: an observer registered here is called that; choose another name"
                raise ConfigurationError(message)
            number += 1
            name = f"{registration.name}#{number}"
        registration.name = name

    def has_name(self, name: str) -> bool:
        """Return whether an observer here has this name."""
        known = self._by_name.get(name)
        return known is not None and not known.retired

    def add(self, registration: Registration) -> None:
        """Remember a registration."""
        self._by_id[id(registration.observer)] = registration
        self._by_name[registration.name] = registration

    def discard(self, registration: Registration) -> None:
        """Forget a registration."""
        self._by_id = {key: known for key, known in self._by_id.items() if known is not registration}
        self._by_name = {name: known for name, known in self._by_name.items() if known is not registration}


def found(observer: Any, registrations: list[Registration], where: str) -> Registration:
    """Return the registration of an observer, given itself or its name."""
    for known in registrations:
        if known.observer is observer or (isinstance(observer, str) and known.name == observer):
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
