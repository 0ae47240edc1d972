"""What an option may be: from an annotation, or from what a schema says."""

from __future__ import annotations

import collections.abc
import contextlib
import numbers
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, NewType, TypeVar, Union, get_args, get_origin

from callpyback.core.safe_repr import one_line, safe_repr
from callpyback.errors import nearest

_LISTS: Final = (list, tuple, set, frozenset)
_ITERABLES: Final = (collections.abc.Iterable, collections.abc.Collection, collections.abc.Sequence)
_MAPPINGS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_TEXTS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "": None}


class Expectation(NamedTuple):
    """What a value must be.

    `accepts` may raise: then the value will not do either.
    """

    text: str
    """What would do, for messages; empty if anything does."""
    accepts: Callable[[Any], Any]
    choices: tuple[str, ...] = ()
    """The texts that are allowed, if these can be counted."""
    preferred: type | None = None
    """What a text from the environment is read as where anything does."""

    def hint(self, value: Any) -> str:
        """Return the nearest text that is allowed, as a question."""
        return nearest(value, self.choices) if isinstance(value, str) and self.choices else ""

    def read(self, text: str) -> Any:
        """Return a text from the environment as what is expected: as it is if that may be a text."""
        if self.preferred is None and self.takes(text):
            return text
        for candidate in _readings_of(text.strip()):
            if self.takes(candidate) and self.preferred in {None, type(candidate)}:
                return candidate
        return text

    def takes(self, value: Any) -> bool:
        """Return whether a value is accepted, and its check did not raise."""
        try:
            return bool(self.accepts(value))
        except Exception:  # noqa: BLE001 - a check of the user's that raises refuses
            return False


def _readings_of(text: str) -> list[Any]:
    readings: list[Any] = [_TEXTS[text.lower()]] if text.lower() in _TEXTS else []
    for number in (int, float):
        with contextlib.suppress(ValueError):
            readings.append(number(text))
    # How switches are often set in an environment; where a number will do, it is a number.
    return [*readings, text == "1"] if text in ("0", "1") else readings


ANYTHING: Final = Expectation("", lambda _: True)
_NOTHING: Final = Expectation("nothing (null)", lambda value: value is None)
_SIMPLE: Final[dict[Any, Expectation]] = {
    None: _NOTHING,
    type(None): _NOTHING,
    bool: Expectation("true or false", lambda value: isinstance(value, bool)),
    int: Expectation(
        "a whole number", lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool)
    ),
    float: Expectation("a number", lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool)),
    str: Expectation("a text", lambda value: isinstance(value, str)),
    bytes: Expectation("bytes", lambda value: isinstance(value, bytes)),
}


def of_annotation(annotation: Any, default: Any = None) -> Expectation:
    """Return what an annotation says; where it says nothing that a file could hold, anything does.

    Args:
        annotation: Evaluated.
        default: Of the parameter, which says how to read a text from the environment if the annotation does not.

    Example:
        >>> of_annotation(int | None).text, of_annotation(list[str]).text
        ('a whole number or nothing (null)', 'a list, each a text')
    """
    known = _known(annotation)
    if known is None:
        return ANYTHING._replace(preferred=type(default) if isinstance(default, bool | int | float) else None)
    return known


def of_schema(wanted: Any) -> Expectation:
    """Return what a schema says of one option: a type, several as a tuple, an annotation, or a check.

    Raises:
        TypeError: It is none of these.
    """
    if isinstance(wanted, tuple):
        return _any_of([of_schema(one) for one in wanted])
    known = _known(wanted)
    if known is not None:
        return known
    if wanted is Any:
        return ANYTHING
    if isinstance(wanted, type):
        return Expectation(f"an instance of {wanted.__name__}", lambda value: isinstance(value, wanted))
    if callable(wanted) and get_origin(wanted) is None and not isinstance(wanted, TypeVar):
        name = getattr(wanted, "__name__", type(wanted).__name__)
        shown = "its check" if name == "<lambda>" else f"the check {one_line(name)}()"
        return Expectation(f"what {shown} accepts", wanted)
    raise TypeError(f"{safe_repr(wanted)} is no type, no tuple of types, and no function that checks a value")


def _known(annotation: Any) -> Expectation | None:
    """Return what an annotation says; None if it says nothing that can be checked."""
    with contextlib.suppress(TypeError):  # unhashable
        if annotation in _SIMPLE:
            return _SIMPLE[annotation]
    if isinstance(annotation, NewType):
        return _known(annotation.__supertype__)
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    found = None
    if origin is Annotated:
        found = _known(arguments[0])
    elif origin is Literal:
        found = _one_of(arguments)
    elif origin in (Union, types.UnionType):
        members = [_known(member) for member in arguments]
        checked = [member for member in members if member is not None]
        found = _any_of(checked) if len(checked) == len(members) else None
    elif origin in (*_LISTS, *_ITERABLES):
        found = _list_of(arguments, any_iterable=origin in _ITERABLES)
    elif origin in _MAPPINGS:
        found = _mapping_of(arguments)
    return found


def _one_of(values: tuple[Any, ...]) -> Expectation:
    def accepts(value: Any) -> bool:
        return any(type(value) is type(known) and value == known for known in values)

    texts = tuple(value for value in values if isinstance(value, str))
    return Expectation(f"one of {', '.join(map(repr, values))}", accepts, texts)


def _any_of(members: list[Expectation]) -> Expectation:
    if any(not member.text for member in members):
        return ANYTHING

    def accepts(value: Any) -> bool:
        return any(member.takes(value) for member in members)

    return Expectation(
        " or ".join(member.text for member in members), accepts, tuple(c for member in members for c in member.choices)
    )


def _list_of(arguments: tuple[Any, ...], *, any_iterable: bool) -> Expectation:
    kinds = [argument for argument in arguments if argument is not Ellipsis]
    item = _known(kinds[0]) if len(kinds) == 1 else None

    def accepts(value: Any) -> bool:
        if isinstance(value, list | tuple | set | frozenset):
            return item is None or all(item.takes(member) for member in value)
        return any_iterable and isinstance(value, collections.abc.Iterable) and not isinstance(value, str | bytes)

    return Expectation("a list" if item is None else f"a list, each {item.text}", accepts)


def _mapping_of(arguments: tuple[Any, ...]) -> Expectation:
    item = _known(arguments[1]) if len(arguments) == 2 else None  # noqa: PLR2004 - of keys and of values

    def accepts(value: Any) -> bool:
        return isinstance(value, Mapping) and (item is None or all(item.takes(held) for held in value.values()))

    return Expectation("a mapping" if item is None else f"a mapping, each value {item.text}", accepts)
