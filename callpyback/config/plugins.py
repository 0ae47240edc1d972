"""Observers of installed packages, by their entry points in the group `callpyback.observers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from callpyback.core.safe_repr import safe_text
from callpyback.errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "callpyback.observers"


def plugin_named(name: str) -> EntryPoint | None:
    """Return the entry point with this name, None if no installed package has it.

    Raises:
        ConfigurationError: Several packages have it.
    """
    found = _plugins().get(name, [])
    if len(found) > 1:
        message = (
            f"observer type {name!r} comes from several installed packages: {', '.join(map(origin_of, found))}; "
            "register_observer_type() with replace=True decides"
        )
        raise ConfigurationError(message)
    return found[0] if found else None


def plugins() -> dict[str, str]:
    """Return the name of each plug-in, and where it comes from."""
    return {name: ", ".join(map(origin_of, found)) for name, found in _plugins().items()}


def loaded(plugin: EntryPoint) -> Any:
    """Return what an entry point stands for.

    Raises:
        ConfigurationError: Importing it raised.
    """
    try:
        return plugin.load()
    except Exception as error:
        message = f"observer type {plugin.name!r} can't be loaded from {origin_of(plugin)}: {safe_text(error)}"
        raise ConfigurationError(message) from error


def origin_of(plugin: EntryPoint) -> str:
    """Return the text that tells where a plug-in comes from."""
    package = f" of {plugin.dist.name}" if plugin.dist is not None else ""
    return f"{plugin.value}{package}"


def _plugins() -> dict[str, list[EntryPoint]]:
    """Return the entry points by name; one that is listed twice counts once."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - costs more than all the rest of this package

    found: dict[str, list[EntryPoint]] = {}
    for plugin in entry_points(group=GROUP):
        same = found.setdefault(plugin.name, [])
        if all(
            (known.value, known.dist and known.dist.name) != (plugin.value, plugin.dist and plugin.dist.name)
            for known in same
        ):
            same.append(plugin)
    return found
