"""The buses that a whole process knows by name."""

from __future__ import annotations

from typing import Any, Final

from callpyback.events.bus import EventBus
from callpyback.events.family import Family


def get_event_bus(name: str = "main", **options: Any) -> EventBus:
    """Return the bus of this name: the same one everywhere in this process, made when it is first asked for.

    Args:
        name: Of a bus at the top; with dots, of one below it: "shop.orders" is `get_event_bus("shop").child("orders")`.
        options: As for `EventBus`.

    Raises:
        ConfigurationError: Options are given, and it is there already.

    Example:
        >>> from callpyback import get_event_bus
        >>> get_event_bus("shop") is get_event_bus("shop")
        True
        >>> get_event_bus("shop").child("orders") is get_event_bus("shop.orders")
        True
    """
    return TOP.below(None, name, _made, bubbles=True, options=options)


def _made(place: Family, options: Any) -> EventBus:
    bus = EventBus(place.name, **options)
    bus._join(place)  # noqa: SLF001 - the registry is what gives it its place
    return bus


TOP: Final = Family(find=get_event_bus)
"""The place above the buses that have none above them."""
