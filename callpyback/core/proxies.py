"""Observed callables that are no functions: builtins, partials, bound methods, callable instances."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import wrapt

from callpyback.core.hooks import HOOKS

if TYPE_CHECKING:
    from callpyback.core.handle import FunctionHandle


class ObservedCallable(wrapt.ObjectProxy[Any]):
    """Stands for the callable in every respect, and calls it through the wrapper."""

    def __init__(self, wrapped: Any, handle: FunctionHandle) -> None:
        super().__init__(wrapped)
        self._self_handle = handle

    @property
    def callpyback(self) -> FunctionHandle:
        """The handle on the callable."""
        handle: FunctionHandle = self._self_handle
        return handle

    def __getattr__(self, name: str) -> Any:
        if name in HOOKS:
            return getattr(self._self_handle, name)
        return super().__getattr__(name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as functions do: by name, where the name leads back here."""
        handle = self._self_handle
        signature = handle.signature
        found: Any = sys.modules.get(signature.module)
        for part in signature.qualname.split("."):
            found = getattr(found, part, None)
        if found is self:
            return _looked_up, (signature.module, signature.qualname)
        return handle.decorator, (self.__wrapped__,)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class ObservedDescriptor(ObservedCallable):
    """The same for callables that bind to instances, such as unbound methods of builtin and compiled classes."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        bound: Any = self
        return self if instance is None else types.MethodType(bound, instance)


def _looked_up(module: str, qualname: str) -> Any:
    found: Any = __import__(module, fromlist=["_"])
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def observed_callable(handle: FunctionHandle, wrapped: Callable[..., Any]) -> Any:
    """Return a proxy for a callable; its `__call__` is the wrapper itself, so a call has no frame more."""
    binds = hasattr(type(wrapped), "__get__") and not isinstance(
        wrapped, types.MethodType | types.BuiltinFunctionType | types.MethodWrapperType
    )
    base = ObservedDescriptor if binds else ObservedCallable
    cls: Any = type(base.__name__, (base,), {"__call__": staticmethod(handle.wrapper)})
    proxy = cls(wrapped, handle)
    handle.stand_in(proxy)
    return proxy
