"""In which order observers are told: what they require of each other first, then priority, then registration."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from callpyback.core.configuration import looking_at
from callpyback.core.registration import Registration, ordered
from callpyback.core.safe_repr import safe_repr
from callpyback.core.subscription import checked_names
from callpyback.errors import ConfigurationError, nearest

T = TypeVar("T")


def requires(*names: str) -> Callable[[T], T]:
    """Say that a handler, or an observer's class, is told after those with these names, as a decorator.

    Example:
        >>> from callpyback import requires
        >>> @requires("audit")
        ... def report(event):
        ...     print("reported")
        >>> report.requires
        ('audit',)
    """
    checked = checked_names("requires()", names, at_least_one=True)

    def require(target: T) -> T:
        return _with_more(target, "requires", checked)

    return require


def required_by(*names: str) -> Callable[[T], T]:
    """Say that a handler, or an observer's class, is told before those with these names, as a decorator.

    Example:
        >>> from callpyback import required_by
        >>> @required_by("report")
        ... def audit(event):
        ...     print("audited")
        >>> audit.required_by
        ('report',)
    """
    checked = checked_names("required_by()", names, at_least_one=True)

    def require(target: T) -> T:
        return _with_more(target, "required_by", checked)

    return require


def _with_more(target: T, parameter: str, names: tuple[str, ...]) -> T:
    """Add names to those that a class or function gives already."""
    with looking_at(f"{parameter}()", target):
        setattr(target, parameter, (*checked_names(parameter, getattr(target, parameter, ())), *names))
        return target


def in_order(registrations: Sequence[Registration]) -> list[Registration]:
    """Return them in the order they are told.

    Of those whose requirements have been met, the one with the highest priority comes next, and of equal priorities the
    one registered first. Names that nobody here has are passed over; `check_requirements` is there to refuse them.

    Raises:
        ConfigurationError: They require each other in a circle, which the message names.
    """
    if not any(known.requires or known.required_by for known in registrations):
        return ordered(registrations)
    import graphlib  # noqa: PLC0415 - few observers require others

    sorter = graphlib.TopologicalSorter(_graph(registrations))
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = " after ".join(repr(known.name) for known in reversed(error.args[1]))
        message = f"requirements form a circle: {circle}; one of these `requires` or `required_by` has to go"
        raise ConfigurationError(message) from None
    told: list[Registration] = []
    ready: list[tuple[tuple[float, int], Registration]] = []
    while sorter.is_active():
        for known in sorter.get_ready():
            heapq.heappush(ready, (known.sort_key, known))
        _, known = heapq.heappop(ready)
        told.append(known)
        sorter.done(known)
    return told


def _graph(registrations: Sequence[Registration]) -> dict[Registration, set[Registration]]:
    # The first of a name: that of the function, where an observer of every function has the same one.
    by_name = {known.name: known for known in reversed(registrations)}
    before: dict[Registration, set[Registration]] = {known: set() for known in registrations}
    for known in registrations:
        before[known].update(by_name[name] for name in known.requires if name in by_name)
        for name in known.required_by:
            if name in by_name:
                before[by_name[name]].add(known)
    return before


def check_requirements(
    registrations: Sequence[Registration],
    where: str,
    *,
    hears: Callable[[Registration], bool],
    new: Collection[Registration] | None = None,
    was_here: Callable[[str], bool] = lambda _: False,
) -> None:
    """Refuse requirements that can't be met among these.

    Args:
        registrations: All that are registered in one place.
        where: That place, for the message.
        hears: Whether one of them is ever told anything there.
        new: Those whose names have to be known; None for all.
        was_here: Whether somebody was called that, such as a weakly held observer that is gone.

    Raises:
        ConfigurationError: A name is unknown, somebody requires an observer that never hears anything here, or they
            require each other in a circle.
    """
    by_name = {known.name: known for known in registrations}
    for known in registrations if new is None else new:
        for parameter, names in (("requires", known.requires), ("required_by", known.required_by)):
            for name in names:
                if name not in by_name and not was_here(name):
                    _refuse_unknown(known, parameter, name, by_name, where)
    for known in registrations:
        if not hears(known):
            continue
        required = [by_name[name] for name in known.requires if name in by_name]
        required += [other for other in registrations if known.name in other.required_by]
        for other in required:
            if not hears(other):
                message = (
                    f"observer {known.name!r} requires {other.name!r}, which never hears anything of {where}; "
                    "their `match`, `states` and @want have to agree"
                )
                raise ConfigurationError(message)
    in_order(registrations)


def refuse_if_required(registration: Registration, others: Sequence[Registration]) -> None:
    """Refuse to remove an observer that others require.

    Raises:
        ConfigurationError: Somebody does; the message says who.
    """
    name = registration.name
    for other in others:
        if other is not registration and (name in other.requires or other.name in registration.required_by):
            message = f"observer {name!r} can't be removed: {other.name!r} requires it; remove that one first"
            raise ConfigurationError(message)


def _refuse_unknown(
    known: Registration, parameter: str, name: str, by_name: dict[str, Registration], where: str
) -> None:
    others = [other for other in by_name if other != known.name]
    message = (
        f"observer {known.name!r} has {parameter}={safe_repr(name)}, and nobody on {where} is called that"
        f"{nearest(name, others)}; registered: {', '.join(others) or 'nobody else'}"
    )
    raise ConfigurationError(message)
