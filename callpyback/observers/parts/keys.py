"""What divides calls: a function of their arguments, and of their instance if it asks for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.functions import FunctionKind, kind_of, signature_of
from callpyback.core.raised import OfOneCall

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext

Key = Callable[..., Hashable]
"""Called with the arguments of a call by name; a parameter named `instance` gets the `self` or `cls` of a method."""


def checked_key(key: Any, parameter: str = "key") -> Key | None:
    """Return a key that can be called so, or refuse it by name."""
    with looking_at(parameter, key):
        if key is None:
            return None
        expected = f'a plain function of the arguments, such as {parameter}=lambda arguments: arguments["user"]'
        if not callable(key) or kind_of(key) is not FunctionKind.FUNCTION:
            refuse(parameter, key, expected)
        signature = signature_of(key)
        try:
            if signature is not None:
                signature.bind({}, **({"instance": None} if takes_instance(key) else {}))
        except TypeError as wrong:
            refuse(parameter, key, f"{expected}; called so, it has {wrong}")
        return key  # type: ignore[no-any-return]


def takes_instance(key: Key) -> bool:
    """Return whether a key wants the `self` or `cls` of a method too."""
    signature = signature_of(key)
    return signature is not None and "instance" in signature.parameters and not inspect.isbuiltin(key)


def key_of(context: ExecutionContext, key: Key, *, with_instance: bool) -> Hashable:
    """Return the key of a call.

    Raises:
        OfOneCall: The key raised, or can't be hashed: that pauses no observer.
    """
    try:
        found = key(context.arguments, instance=context.instance) if with_instance else key(context.arguments)
        hash(found)
    except Exception as error:  # noqa: BLE001 - the caller's arguments, or the user's key function
        raise OfOneCall(error) from None
    return found
