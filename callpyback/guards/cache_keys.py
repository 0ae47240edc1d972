"""What a result is remembered by: the arguments of the call, however they were given."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

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
        arity: A call with so many positional arguments and no keywords has its `args` as the key; -1 if none has.

    Example:
        >>> def area(width, height=1, *, unit="m"): ...
        >>> keys = ArgumentKeys(inspect.signature(area).parameters.values(), typed=False)
        >>> keys.of((2,), {}) == keys.of((), {"unit": "m", "width": 2}) == keys.of((2.0, True), {})
        True
    """

    __slots__ = ("_has_keywords", "_has_rest", "_is_open", "_keyword_only", "_positional", "_typed", "arity")

    def __init__(self, parameters: Iterable[inspect.Parameter], *, typed: bool) -> None:
        known = tuple(parameters)
        self._positional = tuple(p for p in known if p.kind in _POSITIONAL)
        self._keyword_only = tuple(p for p in known if p.kind is p.KEYWORD_ONLY)
        self._has_rest = any(p.kind is p.VAR_POSITIONAL for p in known)
        self._has_keywords = any(p.kind is p.VAR_KEYWORD for p in known)
        self._is_open = bool(self._keyword_only) or self._has_rest or self._has_keywords
        self._typed = typed
        self.arity = -1 if self._is_open else len(self._positional)

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        """Return the key of a call; it may turn out not to be hashable.

        Raises:
            TypeError: The function can't be called like this.
        """
        values = self._normalised(args, kwargs) if kwargs or len(args) != self.arity else args
        return (values, tuple(map(type, values))) if self._typed else values

    def _normalised(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if len(args) > len(self._positional) and not self._has_rest:
            raise TypeError
        values, left = list(args), dict(kwargs)
        values += [_given(parameter, left) for parameter in self._positional[len(args) :]]
        if self._is_open:
            values.append(_REST_ENDS)
            values += [_given(parameter, left) for parameter in self._keyword_only]
        if left and not self._has_keywords:
            raise TypeError
        for name in sorted(left):
            values += (name, left[name])
        return tuple(values)


def _given(parameter: inspect.Parameter, left: dict[str, Any]) -> Any:
    """Return the argument of a parameter that was not given by position, taking it from what is left."""
    if parameter.name in left and parameter.kind is not parameter.POSITIONAL_ONLY:
        return left.pop(parameter.name)
    if parameter.default is parameter.empty:
        raise TypeError
    return parameter.default


def parameters_of(signature: FunctionSignature) -> tuple[inspect.Parameter, ...]:
    """Return the parameters; of a builtin that does not tell, those that take anything."""
    known = tuple(signature.parameters.values())
    if known or not signature.bind((None,), {})[0]:
        return known
    return (
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    )
