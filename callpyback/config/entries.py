"""One entry of a configuration, checked as a whole before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from callpyback.config.environment import Environment
from callpyback.config.expectations import Expectation, of_schema
from callpyback.config.located import Located
from callpyback.config.readers import read_states
from callpyback.config.registry import ObserverType, observer_type
from callpyback.config.withholding import withheld
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import NO_VALUE, ConfigurationError, nearest

if TYPE_CHECKING:
    from callpyback.config.problems import Problems

_NAMES: Final = of_schema((str, list[str]))
_REGISTRATION: Final[dict[str, Expectation]] = {
    "name": of_schema(str),
    "priority": of_schema(float),
    "states": _NAMES,
    "match": _NAMES,
    "requires": _NAMES,
    "required_by": _NAMES,
}
_KEYS: Final = ("type", "enabled", "config", *_REGISTRATION)
_NESTED: Final = ("observer", "observers")


@dataclass(slots=True)
class Entry:
    """What one entry asks for.

    Args:
        place: Where it begins.
        given: What it says, by key.
        is_enabled: Whether an observer is wanted.
        is_sound: Whether nothing was wrong with it.
        kind: The type; None if it is disabled or unknown.
        values: For the constructor, with an entry in place of each nested observer.
        registration: What is asked for the registration.
    """

    place: str
    given: dict[str, Located]
    is_enabled: bool = True
    is_sound: bool = True
    kind: ObserverType | None = None
    values: dict[str, Any] = field(default_factory=dict, repr=False)  # secrets are among them
    registration: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def shown_type(self) -> str:
        """The type as it is shown in messages."""
        if self.kind is None or self.given["type"].hidden:
            return "this type"
        return repr(self.kind.name)

    @property
    def options(self) -> dict[str, Located]:
        """What is given under `config`."""
        return self.given["config"].given() if "config" in self.given else {}

    def described(self) -> dict[str, Any]:
        """Return what is asked for as plain data, with all that is hidden masked."""
        shown = {key: located.masked() for key, located in self.given.items()}
        return {**shown, "enabled": self.is_enabled, "config": shown.get("config") or {}, "place": self.place}

    def secrets(self) -> Iterator[str]:
        """Yield the text of each hidden value, also as it was read."""
        for located in self.given.values():
            yield from located.secrets()
        for name, located in self.options.items():
            if located.substituted and located.hidden and name in self.values:
                yield safe_repr(self.values[name])


class EntryReader:
    """Checks entries.

    Args:
        environment: Resolves references to environment variables.
        problems: Where errors are noted.
    """

    def __init__(self, environment: Environment, problems: Problems) -> None:
        self._environment = environment
        self._problems = problems

    def read(self, located: Located) -> Entry:
        """Return one entry; of a disabled one only the keys are checked, and its references stay as they are."""
        before = self._problems.count
        given = self._keys_of(located)
        entry = Entry(located.place, given)
        if "enabled" in given:
            given["enabled"] = self._environment.prepared(given["enabled"])
            entry.is_enabled = self._value(given["enabled"], "enabled", of_schema(bool)) is not False
        environment = self._environment if entry.is_enabled else Environment(None, self._problems)
        entry.given = {
            key: child if key == "enabled" else environment.prepared(child, key) for key, child in given.items()
        }
        if entry.is_enabled:
            self._fill(entry)
        entry.is_sound = self._problems.count == before
        return entry

    def check_options(self, entry: Entry, kind: ObserverType) -> None:
        """Take over the options that are in order, with an entry in place of each nested observer."""
        given = entry.options
        if "enabled" in kind.schema.options:  # the class asks for what is said beside its config
            given = {"enabled": Located(value=True, place=entry.place), **given}
        found: dict[str, Any] = {name: self._nested(given[name]) for name in _NESTED if name in given}
        ready = {name: value for name, value in found.items() if value is not NO_VALUE}
        entry.values = kind.schema.check(given, ready, entry.shown_type, entry.place, self._problems)

    def _nested(self, located: Located) -> Any:
        """Return an entry, or a list with entries; `NO_VALUE` of what describes no observer."""
        if isinstance(located.value, list | tuple):
            found = [self._nested(child) for child in located.value]
            pairs = zip(found, located.value, strict=True)
            return [child.plain() if value is NO_VALUE else value for value, child in pairs]
        if not isinstance(located.value, dict | str):
            return NO_VALUE
        given = self._keys_of(located)  # its references were resolved together with the outer one's
        for key in given:
            if key in _REGISTRATION or key == "enabled":
                what = f"{key} is for an observer that is registered; one inside another has `type` and `config` alone"
                self._problems.add(given[key].place, what)
        entry = Entry(located.place, given)
        self._fill(entry)
        return entry

    def _keys_of(self, located: Located) -> dict[str, Located]:
        """Return what an entry says, and note keys that it can't have."""
        given = {"type": located} if isinstance(located.value, str) else dict(located.given())
        if not given and not located.is_refused:
            self._problems.add(located.place, f"expected an entry such as {{type: metrics}}, got {located.shown()}")
        for key, child in given.items():
            if key not in _KEYS:
                what = f"unknown key {safe_repr(key)}{nearest(key, _KEYS)}; an entry has {', '.join(_KEYS)}"
                self._problems.add(child.place, what)
        if given and "type" not in given:
            self._problems.add(located.place, "an entry lacks its `type`, such as type: metrics")
        return given

    def _fill(self, entry: Entry) -> None:
        """Check all of an entry that is enabled."""
        if "type" in entry.given:
            entry.kind = self._kind(entry.given["type"])
        if "config" in entry.given and not entry.options and entry.given["config"].value is not None:
            self._value(entry.given["config"], "config", of_schema(dict))
        if entry.kind is not None:
            self.check_options(entry, entry.kind)
        for key in _REGISTRATION:
            if key in entry.given:
                value = self._registration(entry.given[key], key)
                if value is not NO_VALUE:
                    entry.registration[key] = value

    def _kind(self, located: Located) -> ObserverType | None:
        name = self._value(located, "type", of_schema(str))
        if name is NO_VALUE:
            return None
        try:
            return observer_type(name)
        except ConfigurationError as error:
            self._problems.add(located.place, withheld(str(error), located.secrets()), error.__cause__)
            return None

    def _registration(self, located: Located, key: str) -> Any:
        if key == "match" and callable(located.plain()):
            return located.plain()
        if key != "states" or located.is_refused:
            return self._value(located, key, _REGISTRATION[key])
        try:
            return read_states(located.plain())
        except ValueError as error:
            self._problems.add(located.place, f"states: {withheld(str(error), located.secrets())}")
            return NO_VALUE

    def _value(self, located: Located, what: str, expected: Expectation) -> Any:
        """Return a value that is as expected, else `NO_VALUE`."""
        if located.is_refused:
            return NO_VALUE
        value = located.plain()
        if located.substituted:
            value = expected.read(value)
        if expected.takes(value):
            return value
        self._problems.add(located.place, f"{what}: expected {expected.text}, got {located.shown()}")
        return NO_VALUE
