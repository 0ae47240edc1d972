"""What is known about a decorated callable: its kind, its signature, how its arguments are named."""

from __future__ import annotations

import enum
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from callpyback.core.safe_repr import one_line

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_INSTANCE_NAMES: Final = frozenset({"self", "cls", "mcs", "metacls", "_self", "_cls"})


class FunctionKind(enum.StrEnum):
    """What calling the callable gives back."""

    FUNCTION = "function"
    COROUTINE = "coroutine function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"


def kind_of(function: Callable[..., Any]) -> FunctionKind:
    """Return the kind of any callable, of its `__call__` for an instance of a callable class."""
    for candidate in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - the method is wanted
        try:
            if inspect.isasyncgenfunction(candidate):
                return FunctionKind.ASYNC_GENERATOR
            if inspect.isgeneratorfunction(candidate):
                return FunctionKind.GENERATOR
            if inspect.iscoroutinefunction(candidate):
                return FunctionKind.COROUTINE
        except TypeError:  # what passes for a function and has no code of one, such as Mock(spec=some_function)
            continue
    return FunctionKind.FUNCTION


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature without evaluating annotations, or None where there is none to read."""
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - new in 3.14

        options["annotation_format"] = annotationlib.Format.FORWARDREF
    try:
        return inspect.signature(function, **options)
    except (TypeError, ValueError):
        return None
    except Exception:  # noqa: BLE001 - an object with an `__eq__` or attributes that raise: ask for its method instead
        call = getattr(type(function), "__call__", None)  # noqa: B004 - the method is wanted
        return signature_of(call.__get__(function)) if inspect.isfunction(call) else None


class FunctionSignature:
    """The name and shape of an observed function.

    Args:
        name: The bare name.
        qualname: The dotted name inside the module; the bare name by default.
        module: The name of the defining module.
        kind: What calling it gives back.
        parameters: The parameters by name, as `inspect.Signature.parameters`.
        annotations: The annotations, unevaluated.

    Two signatures are equal when names, module and kind are.
    """

    __slots__ = ("_annotations", "_binder", "_function", "_parameters", "kind", "module", "name", "qualname", "wrapper")

    def __init__(
        self,
        name: str,
        *,
        qualname: str | None = None,
        module: str = "",
        kind: FunctionKind = FunctionKind.FUNCTION,
        parameters: Mapping[str, inspect.Parameter] | None = None,
        annotations: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.qualname = name if qualname is None else qualname
        self.module = module
        self.kind = kind
        self._function: Callable[..., Any] | None = None
        self.wrapper: object = None
        self._binder: ArgumentBinder | None = None
        self._parameters = parameters
        self._annotations = annotations

    @classmethod
    def of(cls, function: Callable[..., Any], wrapper: object = None) -> FunctionSignature:
        """Describe a callable; parameters and annotations are looked up when they are read.

        Args:
            function: The callable.
            wrapper: What stands for it where it was defined, by which a method with an unusual first name is
                recognised.
        """
        name, qualname, module = _names_of(function)
        signature = cls(name, qualname=qualname, module=module, kind=kind_of(function))
        signature._function, signature.wrapper = function, wrapper
        return signature

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], object | None]:
        """Name the arguments of a call, as `context.arguments` does; return them with the `self` or `cls` of a method.

        Args:
            args: The positional arguments.
            kwargs: The keyword arguments.

        Example:
            >>> def greet(name, greeting="hello"): ...
            >>> FunctionSignature.of(greet).bind(("ann",), {})
            ({'name': 'ann', 'greeting': 'hello'}, None)
        """
        return self._made_binder().bind(self.wrapper, args, kwargs)

    @property
    def takes_instance(self) -> bool | None:
        """Whether the first argument is the `self` or `cls` of a method; None where only a call can tell."""
        return self._made_binder().takes_instance

    def _made_binder(self) -> ArgumentBinder:
        if self._binder is None:
            function: Any = self if self._function is None else self._function
            self._binder = ArgumentBinder(function, self)
        return self._binder

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters by name; empty for a builtin that does not tell."""
        if self._parameters is None:
            signature = None if self._function is None else signature_of(self._function)
            self._parameters = MappingProxyType({}) if signature is None else signature.parameters
        return self._parameters

    @property
    def annotations(self) -> Mapping[str, Any]:
        """The annotations as the function holds them: strings stay strings."""
        if self._annotations is None:
            found = {name: p.annotation for name, p in self.parameters.items() if p.annotation is not p.empty}
            signature = None if self._function is None else signature_of(self._function)
            if signature is not None and signature.return_annotation is not signature.empty:
                found["return"] = signature.return_annotation
            self._annotations = MappingProxyType(found)
        return self._annotations

    def _key(self) -> tuple[str, str, str, str]:
        return self.module, self.qualname, self.name, self.kind

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, FunctionSignature) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"<FunctionSignature {self.module}.{self.qualname} ({self.kind})>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Defaults and annotations may be unpicklable, so only names and kinds of the parameters travel.
        shapes = [(p.name, int(p.kind)) for p in self.parameters.values()]
        return _restore_signature, (self.name, self.qualname, self.module, self.kind, shapes)


def full_name(signature: FunctionSignature) -> str:
    """Return `module.qualname` of a function in one line, as records and log lines show it."""
    return one_line(f"{signature.module}.{signature.qualname}" if signature.module else signature.qualname)


def _restore_signature(
    name: str, qualname: str, module: str, kind: FunctionKind, shapes: list[tuple[str, int]]
) -> FunctionSignature:
    kinds = list(inspect._ParameterKind)  # noqa: SLF001 - the enum has no public name
    parameters = {name: inspect.Parameter(name, kinds[index]) for name, index in shapes}
    return FunctionSignature(name, qualname=qualname, module=module, kind=kind, parameters=parameters)


def _names_of(function: Callable[..., Any]) -> tuple[str, str, str]:
    """Return bare name, qualified name and module; of the inner function for partials, of the class for instances."""
    named: Any = function
    while (name := getattr(named, "__name__", None)) is None and isinstance(named, functools.partial):
        named = named.func
    if not isinstance(name, str):
        named = type(named)
        name = named.__name__
    qualname = getattr(named, "__qualname__", None)
    module = getattr(named, "__module__", None)
    return name, qualname if isinstance(qualname, str) else name, module if isinstance(module, str) else ""


class ArgumentBinder:
    """Names the arguments of calls of one function.

    Wrong calls are named as far as they go: refusing them is the function's own business.
    """

    __slots__ = (
        "_keyword_only",
        "_keywords",
        "_may_be_method",
        "_name",
        "_names",
        "_positional",
        "_rest",
        "_self",
        "_start",
    )

    def __init__(self, function: Callable[..., Any], signature: FunctionSignature) -> None:
        parameters = signature.parameters.values()
        self._positional = tuple(p for p in parameters if p.kind in _POSITIONAL)
        self._keyword_only = tuple(p for p in parameters if p.kind is p.KEYWORD_ONLY)
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._keywords = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        if not signature.parameters and signature_of(function) is None:
            self._rest = "args"
        self._name = signature.name
        owner = signature.qualname.rpartition(".")[0]
        in_class_body = owner != "" and not owner.endswith("<locals>")
        first = self._positional[0].name if self._positional else None
        self._start = 1 if in_class_body and first in _INSTANCE_NAMES else 0
        # A method that is told neither by where it was defined nor by its first name is found in the class.
        is_likely = in_class_body != (first in _INSTANCE_NAMES)
        self._may_be_method = is_likely and first is not None and inspect.isfunction(function)
        is_plain = not (self._keyword_only or self._rest or self._keywords)
        self._names = tuple(p.name for p in self._positional) if is_plain else None
        self._self = getattr(function, "__self__", None)
        if inspect.ismodule(self._self):
            self._self = None  # a builtin function's __self__ is its module

    def bind(
        self, wrapper: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], object | None]:
        """Return the arguments by name, in the order of the signature, and the instance of a method call.

        Args:
            wrapper: The decorated function, by which a method with an unusual first name is recognised.
            args: The positional arguments of the call.
            kwargs: Its keyword arguments.
        """
        start = self._start or (1 if self._may_be_method and self._is_method_call(wrapper, args) else 0)
        if not kwargs and self._names is not None and len(args) == len(self._names):
            named = dict(zip(self._names, args, strict=True))
            return named, named.pop(self._names[0]) if start else self._self
        named = {}
        taken: set[str] = set()
        instance = self._instance(args, kwargs, taken) if start else self._self
        for index in range(start, len(self._positional)):
            parameter = self._positional[index]
            name = parameter.name
            if index < len(args):
                named[name] = args[index]
            elif name in kwargs and parameter.kind is not parameter.POSITIONAL_ONLY:
                named[name] = kwargs[name]
                taken.add(name)
            elif parameter.default is not parameter.empty:
                named[name] = parameter.default
        if self._rest is not None:
            named[self._rest] = args[len(self._positional) :]
        for parameter in self._keyword_only:
            name = parameter.name
            if name in kwargs:
                named[name] = kwargs[name]
                taken.add(name)
            elif parameter.default is not parameter.empty:
                named[name] = parameter.default
        if len(taken) < len(kwargs):
            self._flatten({name: value for name, value in kwargs.items() if name not in taken}, named)
        return named, instance

    def _flatten(self, extra: dict[str, Any], named: dict[str, Any]) -> None:
        """Put surplus keywords beside the parameters; one whose name is taken stays under the `**` name."""
        own = self._keywords or "kwargs"
        clashing = {name: value for name, value in extra.items() if name in named or name == own}
        named.update((name, value) for name, value in extra.items() if name not in clashing)
        if clashing:
            named[own] = clashing

    def _instance(self, args: tuple[Any, ...], kwargs: dict[str, Any], taken: set[str]) -> object | None:
        if args:
            first: object = args[0]
            return first
        name = self._positional[0].name  # as in A.method(self=a)
        if name in kwargs:
            taken.add(name)
        return kwargs.get(name)

    @property
    def takes_instance(self) -> bool | None:
        """Whether the first argument is the `self` or `cls` of a method; None where only a call can tell."""
        if self._start:
            return True
        return None if self._may_be_method else False

    def _is_method_call(self, wrapper: object, args: tuple[Any, ...]) -> bool:
        if not args or wrapper is None:
            return False
        first = args[0]
        if any(vars(base).get(self._name) is wrapper for base in type(first).__mro__):
            return True
        return isinstance(first, type) and any(
            getattr(vars(base).get(self._name), "__func__", None) is wrapper for base in first.__mro__
        )


class Target:
    """The decorated callable, with everything about it that no observer changes."""

    __slots__ = ("bind", "function", "is_async", "kind", "metadata", "signature", "wrapper")

    def __init__(self, function: Callable[..., Any], metadata: Mapping[str, Any]) -> None:
        self.function = function
        self.signature = FunctionSignature.of(function)
        self.bind = self.signature.bind
        self.kind = self.signature.kind
        self.is_async = self.kind in (FunctionKind.COROUTINE, FunctionKind.ASYNC_GENERATOR)
        self.metadata = metadata
        self.wrapper: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        # A signature travels without its function, which this one needs.
        return Target, (self.function, self.metadata), self.wrapper

    def __setstate__(self, wrapper: Any) -> None:
        self.stand_for(wrapper)

    def stand_for(self, wrapper: Any) -> None:
        """Remember what stands for the callable."""
        self.wrapper = self.signature.wrapper = wrapper
