"""What guards have in common: a state for each function they guard, and keys that divide it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Protocol

from callpyback.core.configuration import checked_count
from callpyback.core.functions import full_name
from callpyback.core.known import named_apart
from callpyback.core.raised import OfOneCall
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.keys import Key, checked_key, takes_instance

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import Admit, GuardEnd


class Guarded(Protocol):
    """The state of a guard around one function."""

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Decide one call; see `BindableGuard`."""
        ...

    def get_metrics(self) -> dict[str, Any]:
        """Return what is known about this function."""
        ...


class GuardObserver(BaseObserver):
    """Decides before the body runs whether it does; one instance may guard many functions, each with its own state.

    Asked only while nobody else has decided the call. If it fails itself, the call goes on and the failure is logged,
    unless it is `critical`: then the call is refused.

    Args:
        key: Divides the state of a function, called with the call's `arguments` (a dictionary by name, without
            `self`); a parameter named `instance` gets the `self` or `cls` of a method. None for no division.
        priority: Higher is asked earlier.
        name: How it is shown; by default the name of the class.
        critical: Refuse the call if the guard itself fails.
    """

    guard = True

    def __init__(
        self, *, key: Key | None = None, priority: float = 0, name: str | None = None, critical: bool = False
    ) -> None:
        super().__init__(priority, name, critical=critical)
        self.key = checked_key(key)
        self._forget_functions()

    def _forget_functions(self) -> None:
        self._guarded: weakref.WeakKeyDictionary[Guarded, str] = weakref.WeakKeyDictionary()

    def guarding(self, function_signature: FunctionSignature, clock: Callable[[], float]) -> Guarded:
        """Return the state for one function. Define it."""
        raise NotImplementedError

    def bind_guard(
        self, function_signature: FunctionSignature, clock: Callable[[], float]
    ) -> tuple[Admit, GuardEnd | None]:
        """Return what decides the calls of one function, and what hears of their ends."""
        guarded = self.guarding(function_signature, clock)
        self._guarded[guarded] = full_name(function_signature)
        return guarded.admit, getattr(guarded, "end", None)

    def get_metrics(self) -> dict[str, Any]:
        """Return what is known about each guarded function that still exists, by its name.

        Equal names are told apart by `#2`, `#3`, ...
        """
        return {"functions": named_apart((name, known.get_metrics()) for known, name in tuple(self._guarded.items()))}

    def keyed_by(self, function_signature: FunctionSignature) -> Callable[[tuple[Any, ...], dict[str, Any]], Hashable]:
        """Return a function from the arguments of a call to its key."""
        key: Any = self.key
        if key is None:
            return _undivided
        bind, wants_instance = function_signature.bind, takes_instance(key)

        def keyed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
            try:
                arguments, instance = bind(args, kwargs)
                found: Hashable = _keyed_with_instance(key, arguments, instance) if wants_instance else key(arguments)
                hash(found)
            except Exception as error:  # noqa: BLE001 - the caller's arguments, or the user's key function
                raise OfOneCall(error) from None
            return found

        return keyed

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_guarded"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_functions()


class KeyedGuard(GuardObserver):
    """A guard that keeps a state for each key, for a bounded number of keys.

    Args:
        key: As of `GuardObserver`.
        max_keys: The greatest number of keys of a function that are told apart.
        priority: Higher is asked earlier.
        name: How it is shown; by default the name of the class.
        critical: Refuse the call if the guard itself fails.
    """

    def __init__(self, *, key: Key | None, max_keys: int, priority: float, name: str | None, critical: bool) -> None:
        super().__init__(key=key, priority=priority, name=name, critical=critical)
        self._max_keys = checked_count("max_keys", max_keys)

    @property
    def max_keys(self) -> int:
        """The greatest number of keys of a function that are told apart."""
        return self._max_keys

    @property
    def is_leaf(self) -> bool:
        """Whether nothing is called from which an observed function could be called: there is no `key`."""
        return self.key is None


def _undivided(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    return None


def _keyed_with_instance(key: Key, arguments: dict[str, Any], instance: object | None) -> Hashable:
    found = key(arguments, instance=instance)
    if found is not instance:
        return found
    try:
        return weakref.ref(instance)  # the same for the same object: the state does not keep it alive
    except TypeError:
        return found
