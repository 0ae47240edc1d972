"""What a result is remembered by: the arguments of the call, however they were given."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_REST_ENDS: Final = object()
"""Divides the positional arguments from the others, where a call may have any number of either."""


class ArgumentKeys:
    """Makes equal keys of calls that hand a function equal arguments.

    Defaults are filled in, and the order of keywords does not matter. A key is a flat tuple of the arguments
    themselves: nothing is converted to text, copied or pickled. Equality is Python's, so 1, 1.0 and True are one
    argument, unless the types are part of the key; as with `functools.lru_cache(typed=True)` that concerns the
    arguments, not what is inside them.

    Args:
        parameters: The parameters of the function, in order.
        typed: Whether the types of the arguments are part of the key.

    Attributes:
        has_plain_keys: Whether a call with all arguments given by position has just these as its values in the key.

    Example:
        >>> def area(width, height=1, *, unit="m"): ...
        >>> keys = ArgumentKeys(inspect.signature(area).parameters.values(), typed=False)
        >>> keys.of((2,), {}) == keys.of((), {"unit": "m", "width": 2}) == keys.of((2.0, True), {})
        True
    """

    __slots__ = ("_has_keywords", "_has_rest", "_keyword_only", "_positional", "_typed", "has_plain_keys")

    def __init__(self, parameters: Iterable[inspect.Parameter], *, typed: bool) -> None:
        known = tuple(parameters)
        self._positional = tuple(_asked_by(p) for p in known if p.kind in _POSITIONAL)
        self._keyword_only = tuple(_asked_by(p) for p in known if p.kind is p.KEYWORD_ONLY)
        self._has_rest = any(p.kind is p.VAR_POSITIONAL for p in known)
        self._has_keywords = any(p.kind is p.VAR_KEYWORD for p in known)
        self._typed = typed
        self.has_plain_keys = not (self._keyword_only or self._has_rest or self._has_keywords)

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        """Return the key of a call; it may turn out not to be hashable.

        Raises:
            TypeError: The function can't be called like this.
        """
        is_plain = self.has_plain_keys and not kwargs and len(args) == len(self._positional)
        values = args if is_plain else self._normalised(args, kwargs)
        return values + tuple(map(type, values)) if self._typed else values

    def _normalised(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if len(args) > len(self._positional) and not self._has_rest:
            raise TypeError
        values, asked = list(args), self._positional[len(args) :]
        left = len(kwargs) - _take(asked, kwargs, values)
        if not self.has_plain_keys:
            values.append(_REST_ENDS)
            left -= _take(self._keyword_only, kwargs, values)
        if left:
            if not self._has_keywords:
                raise TypeError
            taken = {name for name, _ in (*asked, *self._keyword_only)}
            for name in sorted(kwargs):
                if name not in taken:
                    values += (name, kwargs[name])
        return tuple(values)


def _asked_by(parameter: inspect.Parameter) -> tuple[str | None, Any]:
    """Return the keyword and the default of a parameter; no keyword if it can't be given by one."""
    return None if parameter.kind is parameter.POSITIONAL_ONLY else parameter.name, parameter.default


def _take(asked: tuple[tuple[str | None, Any], ...], kwargs: dict[str, Any], values: list[Any]) -> int:
    """Append the argument for each, by keyword or by default; return how many keywords that were."""
    taken = 0
    for name, default in asked:
        if name in kwargs:
            values.append(kwargs[name])
            taken += 1
        elif default is inspect.Parameter.empty:
            raise TypeError
        else:
            values.append(default)
    return taken


def parameters_of(signature: FunctionSignature) -> tuple[inspect.Parameter, ...]:
    """Return the parameters; of a builtin that does not tell, those that take anything."""
    known = tuple(signature.parameters.values())
    if known or not signature.bind((None,), {})[0]:
        return known
    return (
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    )
