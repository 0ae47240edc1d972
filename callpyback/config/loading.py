"""Observers made by name: one, or all that a configuration asks for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final

from callpyback.config.entries import Entry, EntryReader
from callpyback.config.environment import Environment
from callpyback.config.located import MAX_VALUES, OPAQUE, Located
from callpyback.config.making import Making
from callpyback.config.mapping_reading import read_mapping
from callpyback.config.problems import Enough, Problems, Reading
from callpyback.config.registry import observer_type
from callpyback.config.sources import read_source
from callpyback.core.configuration import checked_count, looking_at, refuse
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import NO_VALUE, nearest

MAX_BYTES: Final = 1_000_000
_ROOT: Final = "observers"
_IGNORED: Final = "x-"


def create_observer(name: str, /, **options: Any) -> Any:
    """Return an observer of a type that is known by name.

    Args:
        name: As in `registered_observer_types()`; given by position, because observers have an option `name`.
        options: For the constructor. An observer inside another may be given as an object, or as a mapping with `type`
            and `config`.

    Raises:
        ConfigurationError: Nothing has this name, or all that is wrong with the options, a line each. Values under
            names such as `api_key` or `password` are not shown.

    Example:
        >>> from callpyback.config import create_observer
        >>> create_observer("timing", threshold=0.5).threshold
        0.5
        >>> create_observer("timing", treshold=0.5, max_slow="all")
        Traceback (most recent call last):
        ...
        callpyback.errors.ConfigurationError: create_observer('timing'): 'timing' has no option 'treshold' - did you \
mean 'threshold'?; it has threshold, max_slow, arguments, time_source, priority, name
        create_observer('timing'): option 'max_slow' of 'timing': expected a whole number, got 'all' (str)
    """
    with looking_at("name", name):
        if not isinstance(name, str):
            refuse("name", name, "the name of a type of observers, such as 'metrics'")
    kind = observer_type(name)
    problems = Problems()
    place = f"create_observer({safe_repr(name)})"
    as_given = Environment(None, problems)
    given = {key: as_given.prepared(_located(key, value, place), key) for key, value in options.items()}
    entry = Entry(place, {"type": Located(name, place), "config": Located(given, place)}, kind=kind)
    with contextlib.suppress(Enough):
        EntryReader(as_given, problems).check_options(entry, kind)
    entry.is_sound = not problems
    return _made([entry], problems)[0]


def load_observers(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    max_bytes: int = MAX_BYTES,
    environ: Mapping[str, str] | None = None,
) -> list[Any]:
    """Return the observers a file or a mapping asks for, in its order: `CallPyBack(observers=load_observers(path))`.

    A file is YAML (which needs `callpyback[yaml]`) or TOML, in UTF-8. It has a list `observers`, and may have keys that
    begin with `x-`, which are left alone and hold what aliases refer to. An entry is the name of a type, or has

    * `type`: the name; never an import path.
    * `config`: the options for the constructor. States, loggers, and Python's own exceptions are given by their names.
      An observer inside another (`observer:` of `background`) is an entry with `type` and `config`.
    * `enabled`: false leaves the entry out; then nothing but its keys is checked.
    * `name`, `priority`, `states`, `match`, `requires`, `required_by`: asked for at registration, as of `Subscription`.
      With one of these the result is a `Subscription` around the observer.

    `${NAME}` in a text stands for an environment variable, `${NAME:-default}` has a default for one that is not set or
    empty, and `$${` stands for `${` itself. Where no text is expected, what came of it is read as a number or boolean.

    If anything is wrong, all of it is told at once and no observer is returned. Entries that are in order were made by
    then, to learn what their constructors say, and are closed; but nothing is made of a source that could not be read,
    that repeats a key, or that has tags for objects. Values of environment variables are never shown, nor those under
    names such as `password`, `token` or `api_key`, nor texts such as a URL with a user.

    Args:
        source: A path that ends in `.yaml`, `.yml` or `.toml`; or the mapping itself.
        max_bytes: The greatest size of a file. It may hold 10,000 values, 32 levels deep; an alias counts for all it
            stands for.
        environ: The environment variables; None for those of the process.

    Raises:
        ConfigurationError: A line for each thing that is wrong, `file:line: what`, with the nearest name that is known;
            of a mapping, `observers[0].config.period: what`.

    Example:
        >>> from callpyback import CallPyBack
        >>> from callpyback.config import load_observers
        >>> metrics, limit = load_observers({"observers": [
        ...     "metrics",
        ...     {"type": "rate_limit", "match": "shop.*", "config": {"max_calls": "${LIMIT:-100}", "period": 60}},
        ... ]})
        >>> limit.match, limit.observer.max_calls
        ('shop.*', 100)
        >>> load_observers({"observers": [{"type": "metrcs"}, {"type": "timing", "config": {"max_slow": "all"}}]})
        Traceback (most recent call last):
        ...
        callpyback.errors.ConfigurationError: observers[0].type: unknown observer type 'metrcs' - did you mean \
'metrics'?; registered_observer_types() lists all, and register_observer_type() adds one
        observers[1].config.max_slow: option 'max_slow' of 'timing': expected a whole number, got 'all' (str)
    """
    problems = Problems()
    entries, is_sound = _read(source, max_bytes, environ, problems)
    if not is_sound:
        problems.raise_any()
    return _made([entry for entry in entries if entry.is_enabled], problems)


def describe_observers(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    max_bytes: int = MAX_BYTES,
    environ: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return what a file or a mapping asks for as plain data, fit to be shown: no observer is made.

    All that `load_observers` checks before it makes observers is checked. A mask stands in place of every value that
    came from an environment variable, or is secret by its name or its look.

    Args:
        source: As of `load_observers`.
        max_bytes: As of `load_observers`.
        environ: As of `load_observers`.

    Returns:
        A dictionary for each entry, disabled ones too: `type`, `enabled`, `config` and `place`, and what else it says.

    Raises:
        ConfigurationError: As of `load_observers`.

    Example:
        >>> from callpyback.config import describe_observers
        >>> source = {"observers": [{"type": "logging", "enabled": False, "config": {"api_key": "tulip"}}]}
        >>> describe_observers(source)
        [{'type': 'logging', 'enabled': False, 'config': {'api_key': '***REDACTED***'}, 'place': 'observers[0]'}]
    """
    problems = Problems()
    entries, _ = _read(source, max_bytes, environ, problems)
    problems.raise_any()
    return [entry.described() for entry in entries]


def _read(
    source: Any, max_bytes: int, environ: Mapping[str, str] | None, problems: Problems
) -> tuple[list[Entry], bool]:
    """Return the entries, and whether the source itself could be read without complaint."""
    checked_count("max_bytes", max_bytes)
    with looking_at("environ", environ):
        variables = dict(os.environ if environ is None else environ)
        if not all(isinstance(text, str) for pair in variables.items() for text in pair):
            refuse("environ", list(variables), "texts by name; leave it out for the variables of the process")
    entries: list[Entry] = []
    is_sound = False
    with contextlib.suppress(Enough):
        root = read_source(source, max_bytes, problems)
        is_sound = root is not None and not problems
        reader = EntryReader(Environment(variables, problems), problems)
        entries += [reader.read(located) for located in _entries_of(root, problems)]
        _check_names(entries, problems)
    return entries, is_sound


def _entries_of(root: Located | None, problems: Problems) -> list[Located]:
    if root is None:
        return []
    expected = f"`{_ROOT}` with a list of entries"
    if not isinstance(root.value, dict):
        if not root.is_refused:
            problems.add(root.place, f"expected {expected} at the top, got {root.shown()}")
        return []
    for key, located in root.value.items():
        if key != _ROOT and not key.startswith(_IGNORED):
            what = (
                f"unknown key {safe_repr(key)}{nearest(key, (_ROOT,))}; at the top are {_ROOT}, and x-... of your own"
            )
            problems.add(located.place, what)
    if _ROOT not in root.value:
        problems.add(root.place, f"lacks {expected}")
        return []
    listed: Located = root.value[_ROOT]
    if isinstance(listed.value, list | tuple):
        return list(listed.value)
    if not listed.is_refused:
        problems.add(listed.place, f"{_ROOT}: expected a list of entries, got {listed.shown()}")
    return []


def _check_names(entries: list[Entry], problems: Problems) -> None:
    """Note a name that is given twice."""
    places: dict[str, str] = {}
    for entry in entries:
        name = entry.registration.get("name")
        if name is None:
            continue
        if name in places:
            problems.add(entry.given["name"].place, f"the name is taken already, by the entry at {places[name]}")
        places.setdefault(name, entry.place)


def _located(name: str, value: Any, place: str) -> Located:
    """Return an option given in code: gone through to find what must be hidden, but handed on as it is."""
    apart = Problems()
    try:
        found = read_mapping(value, name, Reading(apart, MAX_VALUES, MAX_BYTES))
    except Exception:  # noqa: BLE001 - whatever it is, the constructor decides
        return Located(OPAQUE, place, hidden=True, original=value)
    if apart:
        return Located(OPAQUE, place, hidden=True, original=value)
    return Located(found.value, place, original=value)


def _made(entries: list[Entry], problems: Problems) -> list[Any]:
    """Return the observers of all entries.

    Raises:
        ConfigurationError: Anything was wrong; then they are closed.
    """
    making = Making(problems)
    made: list[Any] = []
    try:
        with contextlib.suppress(Enough):
            made += [making.make(entry) for entry in entries]
    except BaseException:
        making.close()
        raise
    if problems:
        making.close()
        problems.raise_any()
    return [observer for observer in made if observer is not NO_VALUE]
