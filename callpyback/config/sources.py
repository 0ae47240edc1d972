"""From a path or a mapping to values with their places."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from callpyback.config.located import MAX_VALUES, Located
from callpyback.config.mapping_reading import read_mapping
from callpyback.config.problems import Enough, Problems, Reading, Unreadable
from callpyback.core.configuration import looking_at, refuse
from callpyback.core.safe_repr import one_line, safe_text, type_name

_SUFFIXES: Final = (".yaml", ".yml", ".toml")
_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


def read_source(source: Any, max_bytes: int, problems: Problems) -> Located | None:
    """Return what a file or a mapping says; None if there is nothing, which is noted.

    Args:
        source: A path, or a mapping.
        max_bytes: The greatest size of a file.
        problems: Where errors are noted.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(source, bytes) or not isinstance(source, str | os.PathLike | Mapping):
        refuse("source", source, "the path of a .yaml, .yml or .toml file, or a mapping such as {'observers': [...]}")
    reading = Reading(problems, MAX_VALUES, max_bytes)
    try:
        if isinstance(source, Mapping):
            return _located_mapping(source, reading)
        return _located_file(source, max_bytes, reading)
    except Unreadable as error:
        problems.add(error.place, error.what, error.__cause__)
        return None


def _located_mapping(source: Mapping[Any, Any], reading: Reading) -> Located:
    try:
        return read_mapping(source, "", reading)
    except (Enough, Unreadable):
        raise
    except Exception as error:
        raise Unreadable("", f"looking at what this {type_name(source)} holds raised {safe_text(error)}") from error


def _located_file(source: str | os.PathLike[str], max_bytes: int, reading: Reading) -> Located | None:
    with looking_at("source", source):
        path = Path(source)
    shown = one_line(str(path))
    if "\n" in str(path):
        raise Unreadable("source", "expected the path of a file, got a text of several lines; a mapping will do too")
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise Unreadable(shown, f"the name ends in {suffix or 'no suffix'!r}: expected one of {', '.join(_SUFFIXES)}")
    text = _text_of(path, shown, max_bytes)
    found = _reader_for(suffix)(text, lambda line: f"{shown}:{line}", reading)
    if found is None or (found.value is None and not found.is_refused):
        raise Unreadable(f"{shown}:1", "the file is empty; expected `observers:` with a list")
    return found


def _reader_for(suffix: str) -> Callable[[str, Callable[[int], str], Reading], Located | None]:
    """Return what reads such files; it is imported now, and PyYAML with it if need be."""
    if suffix == ".toml":
        from callpyback.config.toml_reading import read_toml  # noqa: PLC0415 - only when such a file is read

        return read_toml
    from callpyback.config.yaml_reading import read_yaml  # noqa: PLC0415 - only when such a file is read

    return read_yaml


def _text_of(path: Path, shown: str, max_bytes: int) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end, and a device neither
            what = "a directory" if path.is_dir() else "no regular file"
            raise Unreadable(shown, f"this is {what}; expected the path of a file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else safe_text(error)
        raise Unreadable(shown, f"the file can't be read: {reason}") from error
    if len(content) > max_bytes:
        raise Unreadable(shown, f"the file is larger than {max_bytes} bytes; max_bytes= allows more")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        hint = "; this looks like UTF-16" if content.startswith(_BOMS) else ""
        raise Unreadable(f"{shown}:{line}", f"the file is no UTF-8 text{hint}; save it as UTF-8") from None
