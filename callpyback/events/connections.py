"""The callbacks connected to one hook: none twice, no two with one name, in order."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from callpyback.core.configuration import checked_switch, looking_at, refuse
from callpyback.core.functions import FunctionKind, kind_of
from callpyback.core.health import Ward
from callpyback.core.known import Identity, identity_of
from callpyback.core.observer_checks import checked_priority
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import ConfigurationError, nearest
from callpyback.events.connection import Connection
from callpyback.observers.callback_parameters import name_of

_SORT_KEY: Final = attrgetter("sort_key")

Told = tuple[Connection, ...]


class Connections:
    """The connections of one hook. Every change is one step of a dictionary, so that no lock is needed.

    Args:
        clock: Measures pauses, in seconds.
        limit: After so many failures in a row a callback is paused.

    Attributes:
        by_key: All of them, by what tells callbacks apart.
        snapshot: What an emission goes through: empty, or the connections in order. Each change puts a new list here,
            so that an order worked out from what was there before the change goes with the old one.
    """

    __slots__ = ("_by_name", "_clock", "_limit", "_numbers", "_pauses", "_ward", "by_key", "snapshot")

    def __init__(self, clock: Callable[[], float], limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._ward: Ward | None = None
        self.by_key: dict[Identity, Connection] = {}
        self._by_name: dict[str, Connection] = {}
        self._numbers: dict[str, int] = {}
        self._pauses: list[None] = []
        self.snapshot: list[Told] = []

    @property
    def is_paused(self) -> bool:
        """Whether emissions tell nobody."""
        return bool(self._pauses)

    def told(self) -> Told:
        """Return who is told by an emission that begins now, in order."""
        snapshot = self.snapshot
        if not snapshot:
            snapshot.append(() if self._pauses else tuple(self.in_order()))
        return snapshot[0]

    def in_order(self) -> list[Connection]:
        """Return all, highest priority first, equal ones in the order they were connected."""
        return sorted(self.by_key.copy().values(), key=_SORT_KEY)

    def add(self, callback: Any, where: object, *, priority: Any, name: Any, weak: Any) -> None:
        """Connect a callback.

        Raises:
            ConfigurationError: It can't be called, is connected already, or the name is taken.
        """
        with looking_at("callback", callback):
            _check_callback(callback)
            check_name(name, "the callback's own name")
            if self._ward is None:  # most hooks of instances have nothing connected
                self._ward = Ward(self._clock, self._limit)
            ward = self._ward
            connection = Connection(
                callback, name_of(callback) if name is None else name, checked_priority(priority, callback), ward
            )
            if checked_switch("weak", weak):
                connection.weaken(self.forget)
            if self.by_key.setdefault(connection.key, connection) is not connection:
                message = (
                    f"callback {safe_repr(callback)} is connected to {where!r} already: it would be told everything "
                    "twice; remove one of the two"
                )
                raise ConfigurationError(message)
            self._give_name(connection, where, is_wished=name is not None)
        self.snapshot = []

    def _give_name(self, connection: Connection, where: object, *, is_wished: bool) -> None:
        own_name = connection.name
        while self._by_name.setdefault(connection.name, connection) is not connection:
            if is_wished:
                self.by_key.pop(connection.key)
                message = f"name={own_name!r}: a callback connected to {where!r} is called that; choose another name"
                raise ConfigurationError(message)
            # Counted up for each name, so that thousands of lambdas are not compared with each other.
            self._numbers[own_name] = number = self._numbers.get(own_name, 1) + 1
            connection.name = f"{own_name}#{number}"

    def forget(self, connection: Connection) -> None:
        """Disconnect."""
        connection.retire()
        if self.by_key.get(connection.key) is connection:
            self.by_key.pop(connection.key, None)
        if self._by_name.get(connection.name) is connection:
            self._by_name.pop(connection.name, None)
        self.snapshot = []

    def find(self, callback: Any) -> Connection | None:
        """Return the connection of a callback, given itself or its name; None if there is none."""
        return self._by_name.get(callback) if isinstance(callback, str) else self.by_key.get(identity_of(callback))

    def found(self, callback: Any, where: object) -> Connection:
        """Return the connection of a callback, given itself or its name.

        Raises:
            ConfigurationError: There is none.
        """
        with looking_at("callback", callback):
            connection = self.find(callback)
        if connection is not None:
            return connection
        names = list(self._by_name)
        hint = nearest(callback, names) if isinstance(callback, str) else ""
        shown = ", ".join(names) or "none"
        message = f"callback {safe_repr(callback)} is not connected to {where!r}{hint}; connected: {shown}"
        raise ConfigurationError(message)

    def pause(self) -> None:
        """Have emissions tell nobody until as many calls of `resume`."""
        self._pauses.append(None)
        self.snapshot = []

    def resume(self) -> None:
        """Take one `pause` back."""
        self._pauses.pop()
        self.snapshot = []

    def __len__(self) -> int:
        return len(self.by_key)


def merged(told: Told, also_told: Told) -> Told:
    """Return the connections of two hooks in one order."""
    if not (told and also_told):
        return told or also_told
    return tuple(sorted((*told, *also_told), key=_SORT_KEY))


def _check_callback(callback: Callable[..., Any]) -> None:
    if not callable(callback):
        refuse("callback", callback, "something to call, such as a function")
    if kind_of(callback) in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR):
        refuse("callback", callback, "a function; calling a generator function runs nothing, so remove the `yield`")


def check_name(name: Any, otherwise: str) -> None:
    """Refuse what is no name; without one it is what `otherwise` says."""
    with looking_at("name", name):
        if name is not None and not (isinstance(name, str) and name):
            refuse("name", name, f"a text; leave it out for {otherwise}")
