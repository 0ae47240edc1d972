"""Observers by name: made one at a time, or as a file asks for them. Imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    "create_observer": "loading",
    "describe_observers": "loading",
    "load_observers": "loading",
    "register_observer_type": "registry",
    "registered_observer_types": "registry",
    "unregister_observer_type": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
