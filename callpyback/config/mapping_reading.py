"""A mapping given as such: each value with its path as the place, and the caller's own object kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callpyback.config.located import MAX_DEPTH, Located
from callpyback.config.problems import Reading, Unreadable
from callpyback.core.safe_repr import safe_repr, safe_text, type_name


def read_mapping(value: Any, place: str, reading: Reading, depth: int = 0) -> Located:
    """Return the value and what it holds, located.

    Dictionaries, lists and tuples are gone through; any other object is a value as it is.

    Args:
        value: The mapping.
        place: Shown as its place; empty for the outermost one.
        reading: Where errors are noted, and values counted.
        depth: How deep it lies.

    Raises:
        Unreadable: It is too deep or too large (or holds itself), or looking at it raised.
    """
    if depth > MAX_DEPTH:
        raise Unreadable(place[:100], f"nested deeper than {MAX_DEPTH} levels")
    reading.count(place, 1, len(value) if isinstance(value, str) else 0)
    found: Any = value
    if isinstance(value, Mapping):
        found = {}
        for key, child in _items_of(value, place):
            if isinstance(key, str):
                inner = f"{place}.{key}" if place else key
                found[str.__str__(key)] = read_mapping(child, inner, reading, depth + 1)
            else:
                reading.problems.add(place, f"the key {safe_repr(key)} ({type_name(key)}) is no text; keys are names")
    elif type(value) in {list, tuple}:
        items = (read_mapping(child, f"{place}[{at}]", reading, depth + 1) for at, child in enumerate(value))
        found = type(value)(items)
    return Located(found, place, original=value)


def _items_of(mapping: Mapping[Any, Any], place: str) -> list[tuple[Any, Any]]:
    try:
        return list(mapping.items())
    except Exception as error:
        raise Unreadable(place, f"looking at this {type_name(mapping)} raised {safe_text(error)}") from error
