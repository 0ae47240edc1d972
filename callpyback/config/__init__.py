"""Observers by name: made one at a time, or as a file asks for them. Imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callpyback.lazy_names import lazy_names

if TYPE_CHECKING:
    from callpyback.config.loading import create_observer, describe_observers, load_observers
    from callpyback.config.registry import (
        register_observer_type,
        registered_observer_types,
        unregister_observer_type,
    )

__all__ = [
    "create_observer",
    "describe_observers",
    "load_observers",
    "register_observer_type",
    "registered_observer_types",
    "unregister_observer_type",
]

_HOMES = {
    "create_observer": ".loading",
    "describe_observers": ".loading",
    "load_observers": ".loading",
    "register_observer_type": ".registry",
    "registered_observer_types": ".registry",
    "unregister_observer_type": ".registry",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
