"""An observer with what is asked for it where it is registered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from callpyback.core.configuration import checked_switch, looking_at, refuse
from callpyback.core.observer_checks import checked_priority
from callpyback.core.safe_repr import safe_repr

_MAX_GIVEN: Final = 1000  # far more than anybody writes; what is given may be endless


class Subscription:
    """An observer with what is asked for it at one registration, to be given wherever an observer can be.

    What is None or empty leaves what the observer itself says.

    Args:
        observer: The observer.
        states: What it is told, in place of its own `states`.
        when: One or several predicates over the context, or event: all must hold, beside the observer's own.
        match: Patterns of names such as "shop.orders.*", matched against `module.qualname`, the qualified name and the
            bare name of a function; or a predicate over its `FunctionSignature`. In place of the observer's own.
        name: How it is called here; it must not be taken.
        priority: Higher is told earlier, in place of its own.
        requires: Names of observers that are told before it.
        required_by: Names of observers that are told after it.
        weak: Let the observer be collected; it is then told no more.
        options: Handed to the observer's `configure()`.

    Raises:
        ConfigurationError: A parameter is none of these. States, predicates and patterns are looked at when the
            observer is registered.

    Example:
        >>> from callpyback import CallPyBack, MetricsObserver, Subscription
        >>> metrics = MetricsObserver()
        >>> watch = CallPyBack(observers=[Subscription(metrics, match="*pay*", name="money")])
        >>> @watch
        ... def pay():
        ...     return "paid"
        >>> @watch
        ... def look():
        ...     return "seen"
        >>> pay(), look()
        ('paid', 'seen')
        >>> watch.get_metrics()["money_metrics"]["total_calls"]
        1
    """

    __slots__ = (
        "match",
        "name",
        "observer",
        "options",
        "priority",
        "required_by",
        "requires",
        "states",
        "weak",
        "when",
    )

    def __init__(
        self,
        observer: Any,
        *,
        states: Any = None,
        when: Any = None,
        match: Any = None,
        name: str | None = None,
        priority: float | None = None,
        requires: str | Iterable[str] = (),
        required_by: str | Iterable[str] = (),
        weak: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(observer, Subscription):
            refuse("observer", observer, "an observer; this is a Subscription already")
        with looking_at("name", name):
            given: Any = name
            if given is not None and not (isinstance(given, str) and given):
                refuse("name", name, "a text; leave it out for the observer's own name")
        self.observer = observer
        self.states = _kept("states", states)
        self.when = _kept("when", when)
        self.match = _kept("match", match)
        self.name = name
        with looking_at("priority", priority):
            self.priority = None if priority is None else checked_priority(priority, observer)
        self.requires = checked_names("requires", requires)
        self.required_by = checked_names("required_by", required_by)
        self.weak = checked_switch("weak", weak)
        self.options = options

    def __repr__(self) -> str:
        asked = [name for name in self.__slots__ if name != "observer" and _is_given(getattr(self, name))]
        return f"<Subscription of {safe_repr(self.observer)}: {', '.join(asked) or 'nothing special'}>"


def checked_names(parameter: str, names: Any, *, at_least_one: bool = False) -> tuple[str, ...]:
    """Return names of observers as a tuple, or refuse them by the name of the parameter."""
    with looking_at(parameter, names):
        given = (names,) if isinstance(names, str) else names
        expected = f"names of observers, such as {parameter.removesuffix('()')}=('audit',)"
        if not isinstance(given, Iterable) or isinstance(given, bytes):
            refuse(parameter, names, expected)
        listed = tuple(given)
        if not all(isinstance(name, str) and name for name in listed) or (at_least_one and not listed):
            refuse(parameter, names, expected)
        return tuple(dict.fromkeys(listed))


def subscribed(observer: Any, **asked: Any) -> Subscription:
    """Return what a registration is asked for: a `Subscription` as it is, or one made of an observer and options."""
    if isinstance(observer, Subscription):
        given = [name for name, value in asked.items() if _is_given(value)]
        if given:
            refuse("observer", observer, f"an observer beside {', '.join(given)}, or a Subscription alone")
        return observer
    return Subscription(observer, **asked)


def _kept(parameter: str, given: Any) -> Any:
    """Return what several registrations can go through, in place of what can be gone through once."""
    with looking_at(parameter, given):
        return tuple(islice(given, _MAX_GIVEN)) if isinstance(given, Iterator) else given


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and not (isinstance(value, tuple) and not value)
