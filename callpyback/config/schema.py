"""The options of one type of observers: their names, what they may be, and how they reach the constructor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_type_hints

from callpyback.config.expectations import ANYTHING, Expectation, of_annotation, of_schema
from callpyback.config.readers import Reader, read_states
from callpyback.config.withholding import withheld
from callpyback.core.configuration import looking_at, refuse
from callpyback.core.safe_repr import one_line, safe_repr, safe_text, type_name
from callpyback.errors import NO_VALUE, nearest

if TYPE_CHECKING:
    from callpyback.config.located import Located
    from callpyback.config.problems import Problems

_SHOWN_NAMES: Final = 30
_MAX_OPTIONS: Final = 1000
_CONFIG: Final = "config"


class Option(NamedTuple):
    """One option."""

    expectation: Expectation
    is_required: bool = False
    read: Reader | None = None


class Schema(NamedTuple):
    """The options of one type."""

    options: Mapping[str, Option]
    takes_others: bool = False
    """Whether the constructor has `**options`, and the schema is its own."""
    as_config: bool = False
    """Whether options are handed over as one mapping named `config`."""

    def check(
        self, given: Mapping[str, Located], ready: Mapping[str, Any], owner: str, place: str, problems: Problems
    ) -> dict[str, Any]:
        """Return the values of the options that are in order, and note what is wrong with the others.

        Args:
            given: The options.
            ready: Those of which the value was checked before.
            owner: The type, as it is shown.
            place: Where the type is named.
            problems: Where errors are noted.
        """
        values = {}
        for name, located in given.items():
            option = self.options.get(name)
            if option is None and not self.takes_others:
                problems.add(located.place, self._unknown(name, owner))
                continue
            if name in ready:
                values[name] = ready[name]
                continue
            if located.is_refused:
                continue
            value = _checked(option or Option(ANYTHING), located, f"option {safe_repr(name)} of {owner}", problems)
            if value is not NO_VALUE:
                values[name] = value
        for name, option in self.options.items():
            if option.is_required and name not in given:
                expected = f", {option.expectation.text}" if option.expectation.text else ""
                problems.add(place, f"{owner} lacks its option {name!r}{expected}")
        return values

    def arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments for the constructor."""
        return {_CONFIG: values} if self.as_config else values

    def _unknown(self, name: str, owner: str) -> str:
        known = list(self.options)
        more = ", ..." if len(known) > _SHOWN_NAMES else ""
        listed = f"it has {', '.join(known[:_SHOWN_NAMES])}{more}" if known else "it has none"
        return f"{owner} has no option {safe_repr(name)}{nearest(name, known)}; {listed}"


def _checked(option: Option, located: Located, what: str, problems: Problems) -> Any:
    """Return the value of one option, `NO_VALUE` if it will not do."""
    value = located.plain()
    if located.substituted:
        value = option.expectation.read(value)
    try:
        if option.read is not None:
            return option.read(value)
        if option.expectation.accepts(value):
            return value
        reason = ""
    except Exception as error:  # noqa: BLE001 - the user's own check
        reason = str(error) if option.read is not None and type(error) is ValueError else safe_text(error)
    if option.read is not None:
        problems.add(located.place, f"{what}: {withheld(reason, located.secrets())}")
        return NO_VALUE
    hint = "" if located.hidden else option.expectation.hint(value)
    raised = f"; it raised {withheld(reason, located.secrets())}" if reason else ""
    problems.add(located.place, f"{what}: expected {option.expectation.text}, got {located.shown()}{hint}{raised}")
    return NO_VALUE


def schema_of(cls: Callable[..., Any], wanted: Any = None, readers: Mapping[str, Reader] | None = None) -> Schema:
    """Return the schema of a type.

    Args:
        cls: Its class, or any function that returns an observer.
        wanted: What is said of its options; None to ask the signature.
        readers: By the name of an option, what reads it.

    Raises:
        ConfigurationError: The constructor can't be called with these options.
    """
    parameters = _parameters_of(cls)
    if wanted is None:
        return _derived(cls, parameters, {"states": read_states, **(readers or {})})
    options = _options_of(wanted)
    named = {p.name: p for p in parameters or () if p.kind is not p.VAR_KEYWORD}
    takes_any = parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters)
    as_config = _CONFIG in named and _CONFIG not in options and not named.keys() >= options.keys()
    if not as_config and not takes_any and not named.keys() >= options.keys():
        unknown = next(name for name in options if name not in named)
        message = f"names of parameters of {_shown(cls)}, and {unknown!r} is none{nearest(unknown, named)}"
        refuse("schema", wanted, f"{message}; it has {', '.join(named) or 'none'}")
    required = {name for name, p in named.items() if p.default is p.empty and not (as_config and name == _CONFIG)}
    missing = sorted(required - options.keys())
    if missing:
        refuse("schema", wanted, f"also {missing[0]!r}, which {_shown(cls)} can't do without")
    return Schema(
        {name: option._replace(is_required=name in required) for name, option in options.items()}, as_config=as_config
    )


def _options_of(wanted: Any) -> dict[str, Option]:
    with looking_at("schema", wanted):
        if not isinstance(wanted, Mapping):
            refuse("schema", wanted, "None, or a mapping such as {'window': int, 'label': (str, None)}")
        options = {}
        for name, kind in islice(wanted.items(), _MAX_OPTIONS):
            if not isinstance(name, str):
                refuse("schema", wanted, f"names of options as keys, and {safe_repr(name)} is no text")
            try:
                options[name] = Option(of_schema(kind))
            except TypeError as error:
                refuse("schema", wanted, f"for {name!r} a type, several as a tuple, or a check; {error}")
        return options


def _parameters_of(cls: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return what can be given by keyword, `**` included; None if that can't be known."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        return None
    for p in parameters:
        if p.kind is p.POSITIONAL_ONLY and p.default is p.empty:
            refuse("cls", cls, f"something made by keywords alone; its {p.name!r} can't be given by keyword")
    return [p for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.VAR_KEYWORD}]


def _derived(
    cls: Callable[..., Any], parameters: list[inspect.Parameter] | None, readers: Mapping[str, Reader]
) -> Schema:
    if parameters is None:
        return Schema({}, takes_others=True)
    names = _globals_of(cls)
    options = {
        p.name: Option(
            of_annotation(_evaluated(p.annotation, names), p.default), p.default is p.empty, readers.get(p.name)
        )
        for p in parameters
        if p.kind is not p.VAR_KEYWORD
    }
    return Schema(options, takes_others=len(options) < len(parameters))


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    """Return what an annotation written as text means; as it is if that can't be known."""
    if not isinstance(annotation, str):
        return annotation

    def probe() -> None: ...

    probe.__annotations__ = {"value": annotation}
    try:
        return get_type_hints(probe, globalns=names)["value"]
    except Exception:  # noqa: BLE001 - names that only type checkers see
        return annotation


def _globals_of(cls: Callable[..., Any]) -> dict[str, Any]:
    made_by: Any = cls
    if isinstance(cls, type):
        own: Any = cls
        made_by = own.__new__ if own.__init__ is object.__init__ else own.__init__
    return getattr(inspect.unwrap(made_by), "__globals__", {})


def _shown(cls: Any) -> str:
    return one_line(getattr(cls, "__name__", None) or type_name(cls))
