"""Showing any value in bounded, one-line text, without ever raising and without copying what is large."""

from __future__ import annotations

import array
import collections
import reprlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from callpyback.core.time_sources import SYSTEM

MAX_LENGTH: Final = 200
_DEPTH: Final = 5
_BREADTH: Final = 10
_MAX_ARGUMENTS: Final = 50
_INT_BITS: Final = 1024  # printing an int takes time quadratic in its length
_SHORT_INT: Final = 2**63
_SLOW_SECONDS: Final = 0.1  # together for the reprs of one value; then the user's code is asked no more

_type_name: Callable[[type], str] = type.__dict__["__name__"].__get__  # a metaclass may have its own, which may raise
_arguments_of: Callable[[BaseException], tuple[Any, ...]] = BaseException.__dict__["args"].__get__


def safe_repr(value: Any, max_length: int = MAX_LENGTH) -> str:
    """Return one line of at most `max_length` characters that shows the value, as `repr` would where it can.

    Never raises; the one exception let through is KeyboardInterrupt, because Ctrl-C pressed during a slow `__repr__`
    cannot be told from one that `__repr__` raised, and belongs to the program. Costs what it shows: strings, bytes and
    the standard containers are cut before they are copied, at most 10 items wide and 5 levels deep; arrays and data
    frames (anything whose class has a `shape`) are shown by type, shape and dtype. The standard `reprlib.Repr` serves
    as the model but not as the base: it sorts whole dicts and sets, prints whole bytes, and goes on when its line is
    full.

    A user's `__repr__` cannot be interrupted. It runs here, so call this only where the text was asked for; once the
    reprs inside one value have taken 0.1 s together, the remaining objects are shown by their type alone.

    Args:
        value: Anything at all.
        max_length: The greatest length, in characters; longer text ends in `...`.

    Example:
        >>> safe_repr({"name": "x" * 1000, "n": 2}, max_length=30)
        "{'name': 'xxxxxxxxxxxxxxxxx..."
        >>> class Broken:
        ...     def __repr__(self):
        ...         raise RuntimeError("no")
        >>> safe_repr([1, Broken()])
        '[1, <unrepresentable Broken: RuntimeError>]'
    """
    if _is_short(value):
        shown = repr(value)
        if len(shown) <= max_length and shown.isprintable():
            return shown
    return _bounded(_show_any, value, max_length)


def safe_text(exception: BaseException, max_length: int = MAX_LENGTH) -> str:
    """Return `TypeName: message` in one line of at most `max_length` characters.

    As safe as `safe_repr`, and as cheap when the message is a hundred megabytes long.

    Args:
        exception: The exception to show; it is left as it was.
        max_length: The greatest length, in characters; longer text ends in `...`.

    Example:
        >>> safe_text(ValueError("not a number"))
        'ValueError: not a number'
        >>> safe_text(KeyError())
        'KeyError'
    """
    return _bounded(_show_message, exception, max_length)


def one_line(text: str, max_length: int = MAX_LENGTH) -> str:
    r"""Return the text with line breaks and other control characters escaped, cut to `max_length` characters.

    Example:
        >>> print(one_line("a name\nof two lines"))
        a name\nof two lines
    """
    if type(text) is str and len(text) <= max_length and text.isprintable():
        return text
    return _bounded(_show_plain, text, max_length)


def safe_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of a call as bounded text by name, the first 50 of them.

    Example:
        >>> safe_arguments({"name": "Ann", "age": 41})
        {'name': "'Ann'", 'age': '41'}
    """
    return {one_line(name): safe_repr(value) for name, value in islice(arguments.items(), _MAX_ARGUMENTS)}


def type_name(value: object) -> str:
    """Return the name of the value's type, whatever its metaclass does."""
    return _type_name(type(value))


class _LineFull(BaseException):
    """The line has all it can hold. No `Exception`, so that nothing on the way takes it for a failure."""


class _Line:
    """A line being written, up to its length."""

    def __init__(self, max_length: int) -> None:
        self.parts: list[str] = []
        self.room = max_length
        self.patience = _SLOW_SECONDS

    def write(self, text: str) -> None:
        head = str.__getitem__(text, slice(self.room + 1))
        if not head.isprintable():
            head = "".join(c if c.isprintable() else repr(c)[1:-1] for c in head)
        self.parts.append(head)
        self.room -= len(head)
        if self.room < 0:
            raise _LineFull

    def show(self, value: Any, depth: int) -> None:
        self.contain(_show_any, value, depth)

    def contain(self, form: _Form, value: Any, depth: int) -> None:
        try:
            form(self, value, depth)
        except (KeyboardInterrupt, _LineFull):
            raise
        except BaseException as error:  # noqa: BLE001 - the value's own code ran: its SystemExit stops here too
            self.write(f"<unrepresentable {type_name(value)}: {type_name(error)}>")

    def show_all(self, items: Iterable[Any], opening: str, closing: str, depth: int, form: _Form) -> None:
        """Write the first few items, each in the given form."""
        self.write(opening)
        if depth <= 0:
            self.write("...")
        else:
            # Taken in one step of C, so that another thread's change cannot fall between two items.
            for index, item in enumerate(list(islice(items, _BREADTH + 1))):
                self.write(", " if index else "")
                if index == _BREADTH:
                    self.write("...")
                else:
                    form(self, item, depth - 1)
        self.write(closing)

    def ask(self, value: Any) -> None:
        """Write what the value says of itself, unless values before it took too long."""
        if self.patience <= 0:
            self.write(f"<{type_name(value)}>")
            return
        started = SYSTEM.monotonic()
        try:
            text = repr(value)
        finally:
            self.patience -= SYSTEM.monotonic() - started
        self.write(text)


_Form = Callable[[_Line, Any, int], None]


def _bounded(form: _Form, value: Any, max_length: int) -> str:
    try:
        line = _Line(max_length)
        try:
            line.contain(form, value, _DEPTH)
        except _LineFull:
            return "".join(line.parts)[: max(max_length - 3, 0)] + "..."[: max(max_length, 0)]
        return "".join(line.parts)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the stack itself may be used up; a constant needs none of it
        return "<unrepresentable>"


def _is_short(value: Any) -> bool:
    """Return whether `repr` itself is short and runs nobody's code: what most arguments are, at a tenth of the cost."""
    kind = type(value)  # compared by identity: its metaclass may have an `__eq__` and a `__hash__` of its own
    if kind is str:
        return len(value) <= MAX_LENGTH
    if kind is int:
        return -_SHORT_INT < value < _SHORT_INT  # type: ignore[no-any-return]
    return value is None or kind is float or kind is bool


def _show_plain(line: _Line, text: str, _: int) -> None:
    line.write(text)


def _show_any(line: _Line, value: Any, depth: int) -> None:
    form = type(value).__repr__
    known = _FORMS.get(form)
    if known is not None:
        known(line, value, depth)
    elif any("shape" in vars(cls) for cls in type(value).__mro__):
        _show_array(line, value)
    elif (fields := _generated_fields(form, value)) is not None:
        line.show_all(fields, f"{type_name(value)}(", ")", depth, _show_field)
    else:
        line.ask(value)


def _show_pair(line: _Line, pair: tuple[Any, Any], depth: int) -> None:
    line.show(pair[0], depth)
    line.write(": ")
    line.show(pair[1], depth)


def _show_field(line: _Line, field: tuple[str, Any], depth: int) -> None:
    line.write(f"{field[0]}=")
    line.show(field[1], depth)


def _show_text(line: _Line, value: Any, _: int) -> None:
    plain: type[Any] = next(cls for cls in (str, bytes, bytearray) if isinstance(value, cls))
    # One character more than there is room for, so that the line finds itself full.
    line.write(repr(plain.__getitem__(value, slice(line.room + 1))))


def _show_int(line: _Line, value: int, _: int) -> None:
    bits = int.bit_length(value)
    line.write(int.__repr__(value) if bits <= _INT_BITS else f"<{type_name(value)} of {bits} bits>")


def _show_list(line: _Line, value: list[Any], depth: int) -> None:
    line.show_all(list.__iter__(value), "[", "]", depth, _Line.show)


def _show_tuple(line: _Line, value: tuple[Any, ...], depth: int) -> None:
    line.show_all(tuple.__iter__(value), "(", ",)" if tuple.__len__(value) == 1 else ")", depth, _Line.show)


def _show_set(line: _Line, value: Any, depth: int) -> None:
    plain: type[Any] = set if isinstance(value, set) else frozenset
    if not plain.__len__(value):
        line.write(f"{type_name(value)}()")
    elif type(value) is set:
        line.show_all(plain.__iter__(value), "{", "}", depth, _Line.show)
    else:
        line.show_all(plain.__iter__(value), f"{type_name(value)}({{", "})", depth, _Line.show)


def _show_dict(line: _Line, value: dict[Any, Any], depth: int) -> None:
    line.show_all(dict.items(value), "{", "}", depth, _show_pair)


def _show_named_dict(line: _Line, value: dict[Any, Any], depth: int) -> None:
    line.show_all(dict.items(value), f"{type_name(value)}({{", "})", depth, _show_pair)


def _show_named_list(line: _Line, value: Iterable[Any], depth: int) -> None:
    line.show_all(iter(value), f"{type_name(value)}([", "])", depth, _Line.show)


def _show_exception(line: _Line, value: BaseException, depth: int) -> None:
    line.show_all(_arguments_of(value), f"{type_name(value)}(", ")", depth, _Line.show)


def _show_namespace(line: _Line, value: types.SimpleNamespace, depth: int) -> None:
    line.show_all(vars(value).items(), "namespace(", ")", depth, _show_field)


_FORMS: Final[dict[Any, _Form]] = {
    str.__repr__: _show_text,
    bytes.__repr__: _show_text,
    bytearray.__repr__: _show_text,
    int.__repr__: _show_int,
    list.__repr__: _show_list,
    tuple.__repr__: _show_tuple,
    set.__repr__: _show_set,
    frozenset.__repr__: _show_set,
    dict.__repr__: _show_dict,
    collections.OrderedDict.__repr__: _show_named_dict,
    collections.defaultdict.__repr__: _show_named_dict,
    collections.Counter.__repr__: _show_named_dict,
    collections.deque.__repr__: _show_named_list,
    array.array.__repr__: _show_named_list,
    type({}.keys()).__repr__: _show_named_list,
    type({}.values()).__repr__: _show_named_list,
    type({}.items()).__repr__: _show_named_list,
    BaseException.__repr__: _show_exception,
    types.SimpleNamespace.__repr__: _show_namespace,
}
"""By a class's `__repr__`: subclasses that keep it are shown like their base, those with their own speak themselves."""


def _show_array(line: _Line, value: Any) -> None:
    """Write type, shape and dtype; a scalar, or what only happens to have a `shape`, as it says itself."""
    shape = value.shape
    if isinstance(shape, tuple) and shape and all(isinstance(length, int) for length in shape):
        dtype = f" dtype={value.dtype}" if hasattr(value, "dtype") else ""
        line.write(f"<{type_name(value)} shape={tuple(shape)}{dtype}>")
    else:
        line.ask(value)


def _generated_fields(form: Any, value: Any) -> Iterable[tuple[str, Any]] | None:
    """Return the fields of a dataclass or named tuple whose `__repr__` was generated: it would print them in full."""
    source = getattr(getattr(form, "__code__", None), "co_filename", None)
    dataclasses = sys.modules.get("dataclasses")
    if dataclasses is not None and dataclasses.is_dataclass(value):
        # The wrapper around a generated repr is its module's own, or since 3.13 that of reprlib.
        if source in (dataclasses.__file__, reprlib.__file__):
            return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr)
        return None
    if source == collections.__file__ and isinstance(value, tuple):
        return zip(type(value)._fields, tuple.__iter__(value), strict=False)  # type: ignore[attr-defined]
    return None


def _show_message(line: _Line, exception: BaseException, depth: int) -> None:
    name, form, arguments = type_name(exception), type(exception).__str__, _arguments_of(exception)
    if form not in (BaseException.__str__, KeyError.__str__):
        message = str(exception)
        line.write(f"{name}: " if message else name)
        line.write(message)
    elif len(arguments) == 1 and isinstance(arguments[0], str) and form is BaseException.__str__:
        # What str() would give, without the argument's own __str__.
        line.write(f"{name}: " if arguments[0] else name)
        line.write(arguments[0])
    elif arguments:
        line.write(f"{name}: ")
        line.show(arguments[0] if len(arguments) == 1 else arguments, depth)
    else:
        line.write(name)
