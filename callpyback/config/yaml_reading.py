"""YAML, read event by event: each value with its line, nothing built but plain values. PyYAML is imported here alone.

The events are those of PyYAML's `SafeLoader`, whose rules for scalars hold too (YAML 1.1: `yes` and `off` are
booleans), except that keys and dates stay the texts they are. No tag but those of plain values is accepted, an alias
counts for all it stands for, and no nesting is deeper than `MAX_DEPTH`: memory and stack are bounded.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from callpyback.config.located import MAX_DEPTH, REFUSED, Located
from callpyback.config.problems import Reading, Unreadable
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import ConfigurationError

try:
    import yaml
except ImportError as missing:
    raise ConfigurationError(
        "reading YAML needs PyYAML, which is not installed: pip install callpyback[yaml], or use TOML"
    ) from missing

_PREFIX: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset(_PREFIX + kind for kind in ("null", "bool", "int", "float", "str"))
_MAX_NUMBER: Final = 100
"""Characters a number may have; reading long ones takes time quadratic in their length."""
_QUOTED: Final = re.compile(r"'(?!<)[^']{3,}'|\"[^\"]{3,}\"")


class _Anchored(NamedTuple):
    """What an anchor (&) names, and how much that is."""

    located: Located
    values: int
    text: int


def read_yaml(text: str, place: Callable[[int], str], reading: Reading) -> Located | None:
    """Return the only document in the text; None if there is none.

    Args:
        text: The YAML.
        place: From a line, counted from 1, to what is shown as its place.
        reading: Where errors are noted, and values counted.

    Raises:
        Unreadable: It is no YAML, or too much of it.
    """
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        return _Document(loader, place, reading).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        what = ": ".join(part for part in (error.context, error.problem) if part)
        # PyYAML quotes what it found, which may be a secret; tokens such as '<scalar>' and single characters are kept.
        raise Unreadable(place(line), f"no valid YAML: {_QUOTED.sub('...', what)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(place(line), f"no valid YAML: the character U+{error.character:04X} is not allowed") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Document:
    """One document on its way from events to values."""

    def __init__(self, loader: Any, place: Callable[[int], str], reading: Reading) -> None:
        self._loader = loader
        self._place = place
        self._reading = reading
        self._problems = reading.problems
        self._anchors: dict[str, _Anchored | None] = {}

    def read(self) -> Located | None:
        self._next()  # the stream begins
        if self._loader.check_event(yaml.StreamEndEvent):
            return None
        self._next()  # the document begins
        root = self._value(self._next(), 0, None)
        self._next()  # the document ends
        if not self._loader.check_event(yaml.StreamEndEvent):
            raise Unreadable(self._place_of(self._next()), "a second document begins; one file holds one")
        return root

    def _next(self) -> Any:
        return self._loader.get_event()

    def _place_of(self, event: Any) -> str:
        return self._place(event.start_mark.line + 1)

    def _value(self, event: Any, depth: int, place: str | None) -> Located:
        """Return the value that begins with an event; under a key, its place is that of the key."""
        place = place or self._place_of(event)
        if depth > MAX_DEPTH:
            raise Unreadable(place, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event, place)
        values, text = self._reading.values, self._reading.text
        self._reading.count(place, 1, 0)
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # so that it can't stand for itself
        if isinstance(event, yaml.ScalarEvent):
            located = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            located = Located(self._list(depth), place)
        else:
            located = Located(self._mapping(depth), place)
        if not isinstance(event, yaml.ScalarEvent) and event.tag not in {None, "!", _PREFIX + "seq", _PREFIX + "map"}:
            located = self._problems.refuse(self._place_of(event), _tag_refusal(str(event.tag)))
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(located, self._reading.values - values, self._reading.text - text)
        return located

    def _aliased(self, event: Any, place: str) -> Located:
        if event.anchor not in self._anchors:
            hint = "no anchor (&) before it has the name of this alias (*); a text that begins with * needs quotes"
            return self._problems.refuse(self._place_of(event), hint)
        anchored = self._anchors[event.anchor]
        if anchored is None:
            return self._problems.refuse(self._place_of(event), "an alias (*) inside the very value it stands for")
        self._reading.count(place, anchored.values, anchored.text)
        return Located(anchored.located.value, place)

    def _list(self, depth: int) -> list[Located]:
        items = []
        while not self._loader.check_event(yaml.SequenceEndEvent):
            items.append(self._value(self._next(), depth + 1, None))
        self._next()
        return items

    def _mapping(self, depth: int) -> dict[str, Located]:
        own: dict[str, Located] = {}
        merged: list[Located] = []
        while not self._loader.check_event(yaml.MappingEndEvent):
            key = self._next()
            place = self._place_of(key)
            if not isinstance(key, yaml.ScalarEvent):
                self._problems.add(place, "a key that is no text; keys are names")
                self._skip_key(key, depth)
                self._value(self._next(), depth + 1, place)
                continue
            self._reading.count(place, 0, len(key.value))
            value = self._value(self._next(), depth + 1, place)
            if key.value == "<<" and key.implicit[0]:
                merged += value.value if isinstance(value.value, list) else [value]
            elif key.value in own:
                first = own[key.value].place
                self._problems.add(place, f"the key {safe_repr(key.value)} is there already, at {first}")
            else:
                own[key.value] = value
        self._next()
        return self._with_merged(own, merged)

    def _skip_key(self, key: Any, depth: int) -> None:
        if not isinstance(key, yaml.AliasEvent):
            self._value(key, depth + 1, None)

    def _with_merged(self, own: dict[str, Located], merged: list[Located]) -> dict[str, Located]:
        """Return the mapping with what `<<` adds: earlier ones win, and the mapping's own keys over all."""
        for source in merged:
            if isinstance(source.value, dict):
                for key, value in source.value.items():
                    own.setdefault(key, value)
            elif source.value is not REFUSED:
                self._problems.add(source.place, "<< merges a mapping, or a list of mappings")
        return own

    def _scalar(self, event: Any, place: str) -> Located:
        self._reading.count(place, 0, len(event.value))
        tag = self._tag_of(event)
        if tag not in _SCALARS:
            return self._problems.refuse(self._place_of(event), _tag_refusal(tag))
        if tag == _PREFIX + "str":
            return Located(event.value, place)
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        if len(event.value) <= _MAX_NUMBER:
            with contextlib.suppress(ValueError, LookupError, ArithmeticError, yaml.YAMLError):
                return Located(self._loader.construct_object(node), place)
        kind = tag.removeprefix(_PREFIX)
        return self._problems.refuse(self._place_of(event), f"no valid {kind} of YAML; a text needs quotes")

    def _tag_of(self, event: Any) -> str:
        if event.tag not in {None, "!"}:
            return str(event.tag)
        if not event.implicit[0] or event.tag == "!" or len(event.value) > _MAX_NUMBER:
            return _PREFIX + "str"
        tag = self._loader.resolve(yaml.ScalarNode, event.value, (True, False))
        return tag if tag in _SCALARS else _PREFIX + "str"  # dates, "<<" and "=" too


def _tag_refusal(tag: str) -> str:
    known = "only !!str, !!int, !!float, !!bool, !!null, !!map and !!seq are accepted, and no object is ever made"
    if tag.startswith(_PREFIX):
        return f"the tag !!{tag.removeprefix(_PREFIX)} is refused: {known}"
    return f"a tag (!) is refused: {known}; a text that begins with ! needs quotes"
