"""The observers registered in one place: none twice, each found by itself or by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callpyback.core.safe_repr import safe_repr
from callpyback.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from callpyback.core.registration import Registration


class Known:
    """The observers registered in one place, to refuse a second registration without a search."""

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        self._by_id: dict[int, Registration] = {}

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

    def add(self, registration: Registration) -> None:
        """Remember a registration."""
        self._by_id[id(registration.observer)] = registration

    def discard(self, registration: Registration) -> None:
        """Forget a registration."""
        self._by_id = {key: known for key, known in self._by_id.items() if known is not registration}


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
