"""Handlers that other installed packages bring along."""

from __future__ import annotations

import logging
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.reporting import log
from callpyback.core.safe_repr import safe_text

if TYPE_CHECKING:
    from callpyback.events.bus import EventBus


class EntryPoints(msgspec.Struct, frozen=True):
    """What became of the entry points of a group.

    Args:
        registered: The names of those that are registered now, in order.
        failed: Why the others are not, by name.
    """

    registered: tuple[str, ...]
    failed: dict[str, str]


def load_entry_points(bus: EventBus, group: str) -> EntryPoints:
    """Register the entry points of a group on a bus, those that can be loaded; see `EventBus.load_entry_points`."""
    with looking_at("group", group):
        given: Any = group
        if not (isinstance(given, str) and given):
            refuse("group", group, 'the name of a group of entry points, such as "app.handlers"')
    registered, failed = [], {}
    # Sorted, because the order in which packages are found is that of their installation.
    points = sorted({(point.name, point.value): point for point in metadata.entry_points(group=group)}.items())
    for (name, value), point in points:
        try:
            loaded: Any = point.load()
            bus.register(loaded() if isinstance(loaded, type) else loaded, name)
        except Exception as error:  # noqa: BLE001 - one broken package must not take the others with it
            failed[name] = safe_text(error)
            log(logging.WARNING, "entry point %s = %s of %s is not registered: %s", name, value, group, failed[name])
        else:
            registered.append(name)
    return EntryPoints(tuple(registered), failed)
