"""The value of a variable that has none."""

from __future__ import annotations

from typing import Any, NoReturn


class _OnlyItself(type):
    """Makes a class its own one and only instance."""

    def __call__(cls, *_args: Any, **_options: Any) -> NoReturn:
        raise TypeError(f"{cls.__name__} is itself the value: write {cls.__name__}, without the parentheses")

    def __instancecheck__(cls, instance: object) -> bool:
        return instance is cls

    def __bool__(cls) -> bool:
        return False

    def __repr__(cls) -> str:
        return cls.__name__


class NullVariable(metaclass=_OnlyItself):
    """Stands for a captured variable that had no value: unknown, not yet assigned, deleted, or out of reach.

    The class is the value, like `inspect.Parameter.empty`: test with `value is NullVariable`. It is falsy, and copies
    and pickles are the same object. `None` would not do, as a variable may well be None.

    Example:
        >>> NullVariable, bool(NullVariable), isinstance(NullVariable, NullVariable)
        (NullVariable, False, True)
    """

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("NullVariable is a single value and cannot be subclassed")
