"""TOML by `tomllib`, each value with its line as `toml_lines` finds it."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Callable
from typing import Any, Final

from callpyback.config.located import Located
from callpyback.config.problems import Reading, Unreadable
from callpyback.config.toml_lines import Path, TooDeep, TooMany, lines_of, tokens_of

_AT: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def read_toml(text: str, place: Callable[[int], str], reading: Reading) -> Located | None:
    """Return the document; None for a text without any key.

    Args:
        text: The TOML.
        place: From a line, counted from 1, to what is shown as its place.
        reading: Where errors are noted, and values counted.

    Raises:
        Unreadable: It is no TOML, or too much of it.
    """
    try:
        tokens = tokens_of(text)  # first, because tomllib has no limits
        document = tomllib.loads(text)
    except (TooDeep, TooMany) as error:
        raise Unreadable(place(error.line), str(error)) from None
    except ValueError as error:  # also of numbers with too many digits
        what = str(error)
        at = _AT.search(what)
        line = int(at[1]) if at and at[1] else text.count("\n") + 1
        raise Unreadable(place(line), f"no valid TOML: {what[: at.start()] if at else what}") from None
    return _located(document, (), lines_of(tokens), place, reading) if document else None


def _located(value: Any, path: Path, lines: dict[Path, int], place: Callable[[int], str], reading: Reading) -> Located:
    known = path
    while known and known not in lines:
        known = known[:-1]
    own = place(lines.get(known, 1))
    reading.count(own, 1, len(value) if isinstance(value, str) else 0)
    found: Any = value
    if isinstance(value, dict):
        found = {key: _located(child, (*path, key), lines, place, reading) for key, child in value.items()}
    elif isinstance(value, list):
        found = [_located(child, (*path, at), lines, place, reading) for at, child in enumerate(value)]
    elif isinstance(value, dt.date | dt.time):
        found = value.isoformat()
    return Located(found, own)
