"""How a number is found in what a call was given or gave: what a configuration of business metrics says."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, Final

import msgspec

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import nearest

SOURCES: Final = ("result", "arguments", "variables")
SUCCESS, FAILURE, ALWAYS = "success", "failure", "always"

_OPTIONS: Final = ("source", "path", "default", "when")
_TIMES: Final = (SUCCESS, FAILURE, ALWAYS)
_MAX_STEPS: Final = 50
_MISSING: Final = object()

Step = str | int


class Metric(msgspec.Struct, frozen=True):
    """Where the value of one metric is found.

    Args:
        source: "result", "arguments" or "variables".
        path: From there on: keys of mappings, names of attributes, indexes of sequences.
        default: What counts where there is no number; None for nothing.
        when: "success", "failure" or "always": of which calls it is taken.
    """

    source: str = "result"
    path: tuple[Step, ...] = ()
    default: float | None = 0.0
    when: str = SUCCESS

    def counts(self, *, success: bool) -> bool:
        """Return whether it is taken of a call that ended so."""
        return self.when == ALWAYS or (self.when == SUCCESS) == success

    def value_in(self, source: Any) -> float | None:
        """Return the number that is found, the default if there is none, None if nothing counts.

        nan if what is found is a number that can't be added: not finite.
        """
        try:
            found = source
            for step in self.path:
                found = _taken(found, step)
                if found is _MISSING:
                    return self.default
            number = _number(found)
        except Exception:  # noqa: BLE001 - properties and keys of the user's objects run here
            return self.default
        return self.default if number is None else number


def _taken(source: Any, step: Step) -> Any:
    if isinstance(source, dict | Mapping):
        return source.get(step, _MISSING)
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        if isinstance(step, str) and step.removeprefix("-").isdecimal():
            step = int(step)
        if isinstance(step, int):
            return source[step]
    return getattr(source, str(step), _MISSING)


def _number(value: Any) -> float | None:
    """Return a float; nan if it is none that is finite, None if the value is no number. True counts as 1."""
    if type(value) is not float:
        if not isinstance(value, int | float | Decimal | numbers.Real):
            return None
        try:
            value = float(value)
        except OverflowError:
            return math.nan
    return value if math.isfinite(value) else math.nan


def checked_config(config: Any) -> dict[str, dict[str, Metric]]:
    """Return the configuration of business metrics, by function and by metric.

    Raises:
        ConfigurationError: Something in it is not as it should be; the message says where.
    """
    if config is None:
        return {}
    expected = 'a mapping such as {"process_order": {"revenue": {"source": "result", "path": ["total"]}}}'
    with looking_at("metrics_config", config):
        checked: dict[str, dict[str, Metric]] = {}
        for function, metrics in _items("metrics_config", config, expected):
            where = f"metrics_config[{function!r}]"
            checked[function] = {
                metric: _checked_metric(f"{where}[{metric!r}]", given)
                for metric, given in _items(where, metrics, "a mapping from names of metrics to where they are found")
            }
            if not checked[function]:
                refuse(where, metrics, 'at least one metric, such as {"calls": {"default": 1}}')
        return checked


def _items(where: str, given: Any, expected: str) -> list[tuple[str, Any]]:
    if not isinstance(given, Mapping):
        refuse(where, given, expected)
    for key in given:
        if not isinstance(key, str) or not key:
            refuse(where, given, f"{expected}; {safe_repr(key)} is no name")
    return list(given.items())


def _checked_metric(where: str, given: Any) -> Metric:
    options = dict(_items(where, given, f"a mapping with some of {', '.join(_OPTIONS)}"))
    for option in options:
        if option not in _OPTIONS:
            refuse(where, given, f"some of {', '.join(_OPTIONS)}, not {option!r}{nearest(option, _OPTIONS)}")
    return Metric(
        source=_one_of(f"{where}['source']", options.get("source", "result"), SOURCES),
        path=_checked_path(f"{where}['path']", options.get("path", ())),
        default=_checked_default(f"{where}['default']", options.get("default", 0)),
        when=_one_of(f"{where}['when']", options.get("when", SUCCESS), _TIMES),
    )


def _one_of(where: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        hint = nearest(value, known) if isinstance(value, str) else ""
        refuse(where, value, f"one of {', '.join(known)}{hint}")
    return value


def _checked_path(where: str, path: Any) -> tuple[Step, ...]:
    expected = 'keys, attributes and indexes, such as ["order", "items", 0] or "order.items.0"'
    if isinstance(path, str):
        path = path.split(".") if path else []
    if not isinstance(path, Iterable) or isinstance(path, bytes | Mapping):
        refuse(where, path, expected)
    steps = tuple(islice(path, _MAX_STEPS + 1))
    if len(steps) > _MAX_STEPS:
        refuse(where, path, f"{expected}, at most {_MAX_STEPS}")
    for step in steps:
        if isinstance(step, bool) or not isinstance(step, str | int) or step == "":
            refuse(where, path, f"{expected}; {safe_repr(step)} is none of these")
    return steps


def _checked_default(where: str, default: Any) -> float | None:
    if default is None:
        return None
    number = None if isinstance(default, bool) else _number(default)
    if number is None or math.isnan(number):
        refuse(where, default, "a finite number, or None for a call without a number to count nothing")
    return number
