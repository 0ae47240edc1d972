"""What happened: the event that a bus tells its handlers."""

from __future__ import annotations

import os
import time
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from callpyback.core.configuration import refuse
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import NO_VALUE

if TYPE_CHECKING:
    from callpyback.core.shared import Shared


class _Lazy:
    """An attribute made when it is first read, unless it was set before.

    On a class there is no such attribute, so that a dataclass may have a field of this name without a default.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, event: Any, owner: type) -> Any:
        if event is None:
            message = f"{owner.__name__} has no {self.name}; its instances have"
            raise AttributeError(message)
        # Of two threads that read it first, the second gets what the first has made.
        return vars(event).setdefault(self.name, self.made(event))

    def made(self, event: Any) -> Any:
        raise NotImplementedError


class _Uuid(_Lazy):
    def made(self, event: Any) -> str:  # noqa: ARG002
        # The text of uuid.uuid4() at a third of its cost: 122 random bits, the version, the variant (RFC 9562, 5.4).
        bits = os.urandom(16).hex()
        return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{'89ab'[int(bits[16], 16) & 3]}{bits[17:20]}-{bits[20:]}"


class _Timestamp(_Lazy):
    def made(self, event: Any) -> float:  # noqa: ARG002
        return time.time()


def _is_set(event: Any, owner: type, name: str) -> bool:
    if name in vars(event):
        return True
    return isinstance(getattr(owner, name, None), types.MemberDescriptorType) and hasattr(event, name)  # slots=True


class _Data(_Lazy):
    """The fields of a dataclass as they are now; else a dictionary of the event's own."""

    def __get__(self, event: Any, owner: type) -> Any:
        fields = getattr(owner, "__dataclass_fields__", None)
        if event is None or not fields:
            return super().__get__(event, owner)
        return {name: getattr(event, name) for name in fields if _is_set(event, owner, name)}

    def made(self, event: Any) -> dict[str, Any]:  # noqa: ARG002
        return {}


class _Shared(_Lazy):
    def made(self, event: Any) -> Shared:  # noqa: ARG002
        from callpyback.core.shared import Shared  # noqa: PLC0415 - few events are asked for it

        return Shared()


class _EventType:
    """The name by its other word; of a class, the name its events have."""

    def __get__(self, event: Any, owner: type) -> Any:
        return getattr(owner, "name", None) if event is None else event.name

    def __set__(self, event: Any, name: str) -> None:
        event.name = name


class Event:
    """Something that happened, with a name and what is to be known about it.

    Give a name and data, or make a class for each kind: a dataclass, or any class with attributes of its own. Such a
    class says in `name` (or `event_type`) what its events are called; otherwise they are called what the class is.
    A class without a name of its own inherits one that was given.

    An event is cheap until it is asked for more: `uuid`, `shared` and, unless a bus has set it, `timestamp` are made
    when they are first read. All attributes can be set; those of an event that is under way are seen by the handlers
    that come later. Events compare and hash as objects, unless a dataclass says otherwise. They can be pickled if
    their data can; a copy keeps the uuid and the time.

    Args:
        name: What happened, such as "order.paid"; None for what the class says.
        data: What is to be known about it, as a mapping; copied.
        ctxt: Anything handlers need to do their work.
        uuid: Tells it from all other events; give that of a recorded event to replay it.
        timestamp: When it happened, in seconds since the epoch. Otherwise it is when a bus first processed the event,
            by the clock of that bus, or when it was first read.
        fields: More data, by name.

    Raises:
        ConfigurationError: There is no name, the data is no mapping, or the timestamp no number.

    Example:
        >>> paid = Event("order.paid", order_id=7)
        >>> paid.name, paid.data
        ('order.paid', {'order_id': 7})

        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class OrderPaid(Event):
        ...     name = "order.paid"
        ...     order_id: int
        >>> OrderPaid(7).name, OrderPaid(7).data
        ('order.paid', {'order_id': 7})
    """

    name: str
    """What happened."""

    ctxt: Any = None
    """What handlers need to do their work."""

    if TYPE_CHECKING:
        event_type: str
        data: Mapping[str, Any]
        uuid: str
        timestamp: float
        shared: Shared
    else:
        event_type = _EventType()
        """The name, by its other word."""
        data = _Data()
        """What is to be known about it. Of a dataclass: its fields."""
        uuid = _Uuid()
        """Tells it from all other events."""
        timestamp = _Timestamp()
        """When it happened, in seconds since the epoch."""
        shared = _Shared()
        """What its handlers tell each other: `event.shared.<namespace>.<name>`."""

    _named = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = vars(cls)
        if "event_type" in own and "name" not in own:
            given = own["event_type"]
            cls.name = given if isinstance(given, str) else cast("str", property(lambda event: event.event_type))
            if isinstance(given, str):
                cls.event_type = Event.__dict__["event_type"]
        if "name" in own or "event_type" in own:
            cls._named = True
        elif not cls._named:
            cls.name = cls.__name__

    def __init__(
        self,
        name: str | None = None,
        /,
        data: Mapping[str, Any] | None = None,
        *,
        ctxt: Any = None,
        uuid: str | None = None,
        timestamp: float | None = None,
        **fields: Any,
    ) -> None:
        if name is not None:
            self.name = _checked_name(name)
        elif type(self) is Event:
            _checked_name(name)
        if data is not None:
            fields = {**_checked_data(data), **fields}
        if fields:
            self.data = fields
        if ctxt is not None:
            self.ctxt = ctxt
        if uuid is not None:
            self.uuid = uuid
        if timestamp is not None:
            self.timestamp = _checked_timestamp(timestamp)

    def __getstate__(self) -> dict[str, Any]:
        # Made before the copy is, so that both have the same.
        made = {"uuid": self.uuid, "timestamp": self.timestamp}
        return {name: value for name, value in {**made, **vars(self)}.items() if name != "shared"}

    def __repr__(self) -> str:
        name = safe_repr(getattr(self, "name", NO_VALUE))
        shown = "".join(f" {field}={safe_repr(value)}" for field, value in self.data.items())
        return f"<{type(self).__name__} {name}{shown}>"


def _checked_name(name: Any) -> str:
    if not (isinstance(name, str) and name):
        refuse("name", name, 'a text, such as Event("order.paid"), or a subclass that says `name = "order.paid"`')
    return name


def _checked_timestamp(timestamp: Any) -> float:
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        refuse("timestamp", timestamp, "seconds since the epoch, as time.time() gives them")
    return timestamp


def _checked_data(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        refuse("data", data, 'a mapping, such as {"order_id": 7}, or the values by keyword')
    return data
