"""What the observers of one call, or of one event, tell each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from callpyback.core.safe_repr import safe_repr

_SHOWN_LENGTH = 80


class Namespace:
    """Takes attributes of any name and value.

    Example:
        >>> tests = Shared().tests
        >>> tests.args = (1, 2)
        >>> "args" in tests, list(tests), vars(tests)
        (True, ['args'], {'args': (1, 2)})
    """

    __slots__ = ("__dict__", "__name")

    def __init__(self, name: str) -> None:
        self.__name = name

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        there = ", ".join(sorted(vars(self))) or "nothing"
        message = f"nobody has set `{name}` in the shared namespace `{self.__name}`; there is: {there}"
        raise AttributeError(message, name=name, obj=self)

    def __contains__(self, name: object) -> bool:
        return name in vars(self)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(vars(self)))

    def __len__(self) -> int:
        return len(vars(self))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={safe_repr(value, _SHOWN_LENGTH)}" for name, value in tuple(vars(self).items()))
        return f"<shared {self.__name}: {shown or 'nothing yet'}>"


class Shared:
    """Named data that the observers of one call, or of one event, share: `context.shared.<namespace>.<name>`.

    A namespace is there when it is first named, empty, and takes any attribute. Attributes of `shared` itself can't be
    set, so that observers who do not know each other do not use one name for two things.

    Whoever reads needs somebody told before it who has written: see `requires`. Values are the live objects. They stay
    in the process: a copy by pickle or `deepcopy` is empty.

    Example:
        >>> shared = Shared()
        >>> shared.tests.args = (1, 2)
        >>> shared.tests.args
        (1, 2)
        >>> list(shared), "audit" in shared
        (['tests'], False)
        >>> shared.args = (1, 2)
        Traceback (most recent call last):
        AttributeError: can't set `args` of `shared` itself: put it into a namespace, as in shared.<yours>.args = ...
    """

    def __getattr__(self, name: str) -> Namespace:
        if name.startswith("_"):
            message = f"`shared` has no `{name}`: the name of a namespace does not begin with an underscore"
            raise AttributeError(message, name=name, obj=self)
        # One step, so that two threads get one namespace.
        namespace: Namespace = vars(self).setdefault(name, Namespace(name))
        return namespace

    def __setattr__(self, name: str, value: object) -> None:
        message = f"can't set `{name}` of `shared` itself: put it into a namespace, as in shared.<yours>.{name} = ..."
        raise AttributeError(message, name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        message = f"can't delete the shared namespace `{name}`: others may use it; delete what is in it"
        raise AttributeError(message, name=name, obj=self)

    def __contains__(self, name: object) -> bool:
        """Return whether somebody has put something into a namespace of this name."""
        return bool(vars(self).get(name))  # type: ignore[call-overload]

    def __iter__(self) -> Iterator[str]:
        """Go through the names of the namespaces in which there is something."""
        return iter([name for name, namespace in tuple(vars(self).items()) if namespace])

    def __reduce__(self) -> tuple[Any, ...]:
        return Shared, ()

    def __repr__(self) -> str:
        return f"<shared: {', '.join(repr(vars(self)[name]) for name in self) or 'nothing yet'}>"
