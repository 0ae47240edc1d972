"""The built-in extractors."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from callpyback.core.variable_extraction.adapter import pending_call
from callpyback.core.variable_extraction.binding import Binding, FailureBinding, NoOpBinding, nothing
from callpyback.core.variable_extraction.call_binding import CallBinding, FunctionBinding, Install, SuspendedBinding
from callpyback.core.variable_extraction.extraction import DelegatedExtraction, StandAloneExtraction, open_extraction
from callpyback.core.variable_extraction.null_variable import NullVariable
from callpyback.core.variable_extraction.target import find_target, warn_unavailable

_install: Install | None
if sys.implementation.name != "cpython":
    _install = None
elif sys.version_info >= (3, 12):
    from callpyback.core.variable_extraction.monitoring import install as _install
else:
    from callpyback.core.variable_extraction.prologue import install as _install


class TracingVariableExtractor:
    """Captures by the best mechanism of the running Python; the default.

    Decorated functions use `bind`. The public protocol works as well, for extractors that add something to this one:
    inside the two methods of an extractor given to `CallPyBack`, it knows which call it is asked about. By hand, it
    must be told the function once, and answers for the last call of a bound function inside the `with`:

    Example:
        >>> def area(width, height):
        ...     product = width * height
        ...     return product
        >>> extractor = TracingVariableExtractor()
        >>> binding = extractor.bind(area, ("product",), "function")  # in force as long as it is kept
        >>> with extractor.setup_extraction():
        ...     _ = area(2, 3)
        ...     extractor.extract_variables(["product", "depth"])
        {'product': 6, 'depth': NullVariable}

    By hand, coroutines and generators are captured on failure only.
    """

    def __init__(self) -> None:
        self._bound: dict[int, weakref.ref[CallBinding]] = {}

    def setup_extraction(self) -> AbstractContextManager[Any]:
        """Return the context of one call, to be open while it runs."""
        call = pending_call.get()
        if call is None or id(self) in call.extractions:
            bound = [reference() for reference in list(self._bound.values())]
            return StandAloneExtraction(self, [binding for binding in bound if binding is not None])
        if id(self) not in call.bindings:
            call.bindings[id(self)] = self.bind(*call.arguments)
        extraction = call.extractions[id(self)] = DelegatedExtraction(call.bindings[id(self)], call)
        return extraction

    def extract_variables(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the named variables of the call in the innermost open context; `NullVariable` where there are none.

        While an exception raised inside the context is being handled, they are those of the function that raised:
        the outermost bound one, or the one called from here if none is bound.
        """
        names = tuple(names)
        extraction = self._innermost()
        found = {} if extraction is None else extraction.variables(names)
        return {name: found.get(name, NullVariable) for name in names}

    def _innermost(self) -> DelegatedExtraction | StandAloneExtraction | None:
        call = pending_call.get()
        if call is not None and id(self) in call.extractions:
            delegated: DelegatedExtraction = call.extractions[id(self)]
            return delegated
        extraction = open_extraction.get()
        while extraction is not None and extraction.owner is not self:
            extraction = extraction.outer
        return extraction

    def bind(self, function: Callable[..., Any], names: Iterable[str], kind: str) -> Binding:
        """Return what captures the named variables from each call of one function.

        A callable without Python code, or one whose returns can't be reached, is warned about once, here.

        Args:
            function: What the wrapper calls: any callable. Its innermost Python function is the one meant.
            names: Arguments, locals, cell and free variables. Other names are `NullVariable` in every call.
            kind: "function", "coroutine function", "generator function" or "async generator function".
        """
        names = tuple(dict.fromkeys(names))
        target = find_target(function) if names else None
        if target is None:
            if names:
                warn_unavailable(function, names, "it has no Python code")
            return NoOpBinding(names)
        needs_installation = kind == "function" or not target.is_direct
        installation = _install(target.function) if needs_installation and _install is not None else None
        if needs_installation and installation is None:
            warn_unavailable(function, names, "this Python offers no way to see its return (failures are captured)")
        arguments = (function, names, kind)
        binding: FunctionBinding | SuspendedBinding
        if kind != "function":
            binding = SuspendedBinding(self, arguments, target, installation)
        elif installation is None:
            return FailureBinding(names, target.function.__code__)
        else:
            binding = FunctionBinding(self, arguments, target, installation)
        self._remember(binding)
        return binding

    def _remember(self, binding: CallBinding) -> None:
        bound, key = self._bound, id(binding)
        bound[key] = weakref.ref(binding, lambda _: bound.pop(key, None))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bound": {}}


class NoOpVariableExtractor:
    """Captures nothing, at no cost: every variable is `NullVariable`."""

    def setup_extraction(self) -> AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return nullcontext()

    def extract_variables(self, names: Iterable[str]) -> dict[str, Any]:
        """Return `NullVariable` for every name."""
        return nothing(tuple(names))

    def bind(self, function: Callable[..., Any], names: Iterable[str], kind: str) -> Binding:  # noqa: ARG002 - protocol
        """Return a binding that captures nothing."""
        return NoOpBinding(tuple(dict.fromkeys(names)))
