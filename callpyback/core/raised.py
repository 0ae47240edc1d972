"""The exception of a call: held and kept untouched while the call runs, remembered afterwards without its frames."""

from __future__ import annotations

import functools
import linecache
from collections.abc import Callable
from types import CodeType, MemberDescriptorType
from typing import Any

from callpyback.core.safe_repr import safe_text

attributes_of: Callable[[BaseException], dict[str, Any]] = vars(BaseException)["__dict__"].__get__
"""Return the attributes of an exception, without running code of its class."""


class Raised:
    """The exception of one call, shared by all its records, able to let go of the frames.

    While the call runs it holds the exception; `release` replaces that by what is needed to show it:
    class, arguments, attributes, and the code and line of each traceback entry.
    """

    __slots__ = ("_error", "_remembered", "_trace")

    def __init__(self, error: BaseException) -> None:
        self._error: BaseException | None = error
        self._remembered: Any = None  # a _Remembered, once released
        self._trace: tuple[tuple[CodeType, int], ...] = ()

    @property
    def error(self) -> BaseException:
        """The exception, or after the release one like it."""
        error = self._error
        if error is None:
            error = self._error = self._remembered.rebuilt()
        return error

    def release(self) -> None:
        """Keep no frame alive from now on."""
        error = self._error
        if self._remembered is None and error is not None:
            self._trace = _trace_of(error)
            self._remembered = _Remembered(error)
            self._error = None

    def text(self) -> str:
        """Return the traceback as text, as far as it is known now."""
        lines = []
        for code, line in self._trace if self._remembered is not None else _trace_of(self.error):
            lines.append(f'  File "{code.co_filename}", line {line}, in {code.co_name}')
            if source := linecache.getline(code.co_filename, line).strip():
                lines.append(f"    {source}")
        head = ["Traceback (most recent call last):"] if lines else []
        return "\n".join([*head, *lines, safe_text(self.error)])


class _Remembered:
    """All of an exception but its frames; exceptions among its arguments and attributes are remembered the same way."""

    __slots__ = ("_args", "_attributes", "_cls", "_made", "_members")

    def __init__(self, error: BaseException, known: dict[int, _Remembered] | None = None) -> None:
        known = {} if known is None else known
        known[id(error)] = self
        self._made: BaseException | None = None
        self._cls = type(error)
        self._args = tuple(_frameless(value, known) for value in _args_of(error))
        self._attributes = {name: _frameless(value, known) for name, value in attributes_of(error).items()}
        members = ((member, member.__get__(error)) for member in _members_of(_builtin_base(self._cls)))
        self._members = [(member, _frameless(value, known)) for member, value in members if value is not None]

    def rebuilt(self) -> BaseException:
        """Make an exception like it, without running any code of its class."""
        if self._made is None:
            builtin = _builtin_base(self._cls)
            is_group = issubclass(builtin, BaseExceptionGroup)
            error: BaseException = builtin.__new__(self._cls, *(_made(self._args) if is_group else ()))
            self._made = error  # before the rest: an exception may be among its own attributes
            self._fill(error, builtin)
        return self._made

    def _fill(self, error: BaseException, builtin: Any) -> None:
        args = _made(self._args)
        try:
            builtin.__init__(error, *args)
        except TypeError:
            pass  # the class takes other arguments than its base; what they set is among the members
        _set_arguments(error, args)
        for member, value in self._members:
            try:
                member.__set__(error, _made_one(value))
            except (AttributeError, TypeError):
                pass  # read-only: set by the arguments
        attributes_of(error).update((name, _made_one(value)) for name, value in self._attributes.items())


def _frameless(value: Any, known: dict[int, _Remembered]) -> Any:
    if isinstance(value, BaseException):
        return known.get(id(value)) or _Remembered(value, known)
    if type(value) is list:  # the members of an exception group
        return [_frameless(item, known) for item in value]
    return value


def _made_one(value: Any) -> Any:
    if type(value) is list:
        return [_made_one(item) for item in value]
    return value.rebuilt() if type(value) is _Remembered else value


def _made(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_made_one(value) for value in values)


def _builtin_base(cls: type[BaseException]) -> Any:
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


@functools.cache
def _members_of(builtin: type[BaseException]) -> tuple[Any, ...]:
    """Return what the class keeps outside the attributes, such as the file name of an OSError."""
    found: dict[str, Any] = {}
    for base in builtin.__mro__:
        for name, member in vars(base).items():
            if isinstance(member, MemberDescriptorType) and not name.startswith("__") and name != "exceptions":
                found.setdefault(name, member)
    return tuple(found.values())


def _args_of(error: BaseException) -> tuple[Any, ...]:
    if isinstance(error, BaseExceptionGroup):
        return (error.message, list(error.exceptions))
    return _arguments(error)


_set_arguments: Callable[[BaseException, tuple[Any, ...]], None] = vars(BaseException)["args"].__set__
_arguments: Callable[[BaseException], tuple[Any, ...]] = vars(BaseException)["args"].__get__


def _trace_of(error: BaseException) -> tuple[tuple[CodeType, int], ...]:
    trace = []
    entry = error.__traceback__
    while entry is not None:
        trace.append((entry.tb_frame.f_code, entry.tb_lineno))
        entry = entry.tb_next
    return tuple(trace)


# Read and written by these descriptors, no code of the user's exception class runs.
_TRACEBACK, _CAUSE, _CONTEXT, _SUPPRESS = (
    vars(BaseException)[name].__get__ for name in ("__traceback__", "__cause__", "__context__", "__suppress_context__")
)


class ObserverExit(Exception):  # noqa: N818 - a carrier, not an error
    """Carries a GeneratorExit that an async observer or handler raised of its own into the sequence.

    Thrown as itself, it would close the generators that the sequence is made of.
    """


class OfOneCall(Exception):  # noqa: N818 - a carrier, not an error
    """Carries what a guard raised because of one call's arguments: a failure, and never a reason to pause the guard.

    Otherwise one caller's bad arguments would leave everybody's calls unguarded.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def first_of(*errors: BaseException | None) -> BaseException | None:
    """Return the first exception there is; one may be false."""
    return next((error for error in errors if error is not None), None)


def without_own_frame(error: BaseException) -> BaseException:
    """Take the frame that caught an exception off its traceback, as that frame is to raise it again."""
    trace = _TRACEBACK(error)
    return _with_traceback(error, None if trace is None else trace.tb_next)


_with_traceback: Callable[[BaseException, Any], BaseException] = BaseException.with_traceback


class Untouched:
    """What a user's exception carries, to give it back after observers had it in hand."""

    __slots__ = ("_kept", "_notes", "error")

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self._kept = (_TRACEBACK(error), _CAUSE(error), _CONTEXT(error), _SUPPRESS(error))
        notes = attributes_of(error).get("__notes__")
        self._notes = list(notes) if isinstance(notes, list) else notes

    def restore(self) -> None:
        """Give it back."""
        error = self.error
        trace, cause, context, suppress = self._kept
        if _TRACEBACK(error) is not trace or _CAUSE(error) is not cause or _CONTEXT(error) is not context:
            vars(BaseException)["__traceback__"].__set__(error, trace)
            vars(BaseException)["__context__"].__set__(error, context)
            vars(BaseException)["__cause__"].__set__(error, cause)
        if _SUPPRESS(error) is not suppress:  # setting a cause sets it too
            vars(BaseException)["__suppress_context__"].__set__(error, suppress)
        attributes = attributes_of(error)
        if attributes.get("__notes__") != self._notes:
            if self._notes is None:
                del attributes["__notes__"]
            else:
                attributes["__notes__"] = list(self._notes)
