"""The class observers usually inherit from: what every observer has, and a lifecycle that does nothing by default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_switch, looking_at, refuse
from callpyback.core.observer_checks import checked_priority, checked_states
from callpyback.core.safe_repr import safe_repr, type_name
from callpyback.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.state_machine import ExecutionState, Notice

    States = ExecutionState | Iterable[ExecutionState]

_MAX_STATES: Final = 100  # far more than there are


class _ClassName:
    """The name of an observer that was given none. An attribute of the instance or of a subclass hides it."""

    def __get__(self, observer: object, owner: type) -> str:
        return owner.__name__


class BaseObserver:
    """Told about calls: inherit, and define `update(context)`, or `bind(function_signature)` to do without contexts.

    Higher priorities are told earlier, equal ones in the order of registration. An exception out of an observer is
    logged and counted, and changes nothing for the call; `critical` and `guard` observers and those that raise
    `CallVetoed` or `StopProcessing` at PRE_EXECUTION are the exceptions. One observer may be told by many threads at
    once. A subclass may leave out `super().__init__()`: the attributes below then have their defaults, or what the
    subclass says.

    Args:
        priority: A finite number; 0 leaves what the class says.
        name: How it is shown in logs and in `get_metrics`; by default the name of the class.
        states: The state or states it is told; None leaves what the class says, which unless it says something is
            all but INITIALIZED and EXECUTING.
        critical: Whether its exceptions reach the caller, and veto the call at PRE_EXECUTION; False leaves what the
            class says.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> class Printer(BaseObserver):
        ...     def update(self, context):
        ...         print(context.function_signature.name, context.state.name)
        >>> printer = Printer(priority=50)
        >>> printer.name, printer.priority
        ('Printer', 50)
    """

    priority: float = 0
    states: frozenset[ExecutionState] | None = None
    notices: frozenset[Notice] = frozenset()
    when: Callable[[Any], Any] | Iterable[Callable[[Any], Any]] | None = None
    match: str | Iterable[str] | Callable[[Any], Any] | None = None
    requires: str | Iterable[str] = ()
    required_by: str | Iterable[str] = ()
    critical: bool = False
    guard: bool = False
    traces_calls: bool = False
    hears_calls_alone: bool = False
    if TYPE_CHECKING:
        name: str
    else:
        name = _ClassName()

    def __init__(
        self,
        priority: float = 0,
        name: str | None = None,
        *,
        states: States | None = None,
        critical: bool = False,
    ) -> None:
        if name is not None:
            self.name = _checked_name(name, self)
        if _checked_priority(priority, self) != 0:
            self.priority = priority
        if states is not None:
            self.states = _checked_states(states, self)
        if checked_switch("critical", critical):
            self.critical = True

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What was noted about this observer; the library does not read it."""
        return {}

    def set_metadata(self, key: str, value: Any) -> None:
        """Note something about this observer in `metadata`."""
        self.metadata[key] = value

    def update(self, context: ExecutionContext) -> Any:
        """Receive one state of one call. Define it, as a coroutine function if it is to be awaited."""

    update.says_nothing = True  # type: ignore[attr-defined]  # one that is defined lacks it

    def configure(self, **options: Any) -> None:
        """Set public attributes that exist, each by its name.

        What the observer does with its attributes is up to it; priority, states, critical and guard are read at
        registration.

        Raises:
            ConfigurationError: There is no such attribute, and nothing has been set; or it does not take the value.
        """
        checked = [(option, self._checked_option(option, value)) for option, value in options.items()]
        for option, value in checked:
            setattr(self, option, value)

    def validate(self) -> None:
        """Raise to refuse being registered; called then, after `configure`.

        Raises:
            ConfigurationError: Neither `update` nor `bind` nor a guard's `bind_guard` is defined, nor `on_event`, nor
                `update_batch`.
        """
        others = ("bind", "on_event", "update_batch", *(("bind_guard",) if self.guard else ()))
        if not any(hasattr(self, name) for name in others) and getattr(self.update, "says_nothing", False):
            message = f"observer {self!r} does nothing: define update(self, context) or bind(self, function_signature)"
            raise ConfigurationError(message)

    def reset(self) -> None:
        """Forget what was collected, keeping the configuration. The base class collects nothing."""

    def close(self) -> None:
        """Release what is held; called at `shutdown()`. May be called more than once."""

    def _checked_option(self, option: str, value: Any) -> Any:
        known = _options_of(self)
        if option not in known:
            message = (
                f"{type(self).__name__} has no option {safe_repr(option)}{nearest(option, known)}; "
                f"it has {', '.join(known)}"
            )
            raise ConfigurationError(message)
        check = _CHECKS.get(option)
        return value if check is None else check(value, self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} priority={self.priority!r}>"


def _options_of(observer: BaseObserver) -> list[str]:
    """Return the names of the public attributes that can be set and are no methods."""
    cls = type(observer)
    of_class = (name for name in dir(cls) if _is_settable(inspect.getattr_static(cls, name, None)))
    return sorted(name for name in {*vars(observer), *of_class} if not name.startswith("_"))


def _is_settable(attribute: object) -> bool:
    if isinstance(attribute, property):
        return attribute.fset is not None
    return not callable(attribute) and not isinstance(attribute, classmethod | staticmethod | cached_property)


def _checked_name(name: Any, observer: object) -> str:
    with looking_at("name", name):
        if not isinstance(name, str):
            refuse("name", name, f"a text; leave it out for the name of the class, {type_name(observer)!r}")
        return name


def _checked_priority(priority: Any, observer: object) -> float:
    with looking_at("priority", priority):
        return checked_priority(priority, observer)


def _checked_states(states: Any, observer: object) -> frozenset[ExecutionState]:
    """Return the states as a set; none at all is a mistake, because the observer would never be told anything."""
    with looking_at("states", states):
        is_several = isinstance(states, Iterable) and not isinstance(states, str | bytes)
        given = tuple(islice(states, _MAX_STATES)) if is_several else states  # it may be endless
        return checked_states(given, observer) or refuse("states", states, "at least one; leave it out for the usual")


_CHECKS: Final[dict[str, Callable[[Any, object], Any]]] = {
    "priority": _checked_priority,
    "name": _checked_name,
    "states": lambda states, observer: None if states is None else _checked_states(states, observer),
    "critical": lambda critical, _: checked_switch("critical", critical),
}
