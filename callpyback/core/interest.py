"""What an observer wants to hear of: by the name of a function or event, by state or class, by predicates.

What can be decided from names and states alone is decided once, at registration; only predicates are asked again and
again.
"""

from __future__ import annotations

import enum
import fnmatch
import functools
import re
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.functions import FunctionKind, full_name, kind_of, signature_of

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature

T = TypeVar("T")

Predicate = Callable[[Any], Any]
Test = bool | Predicate
"""True: always; False: never; else what to ask each time."""

_MAX_GIVEN: Final = 1000  # far more than anybody writes; what is given may be endless
_NAMES_OF_A_NAME: Final = frozenset({"event_type", "event_name", "name", "type_name"})


class Want(msgspec.Struct, frozen=True):
    """One alternative of `@want`: all of it must hold.

    Args:
        patterns: The name must match one of these, if there are any.
        kinds: The state, or the class of the event, must be one of these, if there are any.
        predicates: Each is asked.
    """

    patterns: tuple[str, ...]
    kinds: tuple[Any, ...]
    predicates: tuple[Predicate, ...]

    def is_about(self, names: Sequence[str], kind: Any) -> bool:
        """Return whether names and kind fit; the predicates are not asked."""
        return (not self.patterns or matches(self.patterns, names)) and (
            not self.kinds or any(_is_of_kind(kind, wanted) for wanted in self.kinds)
        )


def want(*criteria: Any) -> Callable[[T], T]:
    """Say what a handler, an observer's class or its `update` wants to hear of, as a decorator.

    Inside one `want` all must hold: the name matches one of the names given, the state or class is one of those given,
    and every predicate is true. Several `want` are alternatives.

    Args:
        criteria: Names, with `*`, `?` and `[...]` as in shell patterns: of events, or of functions (`module.qualname`,
            the qualified name alone, or the bare name). `ExecutionState` members, or subclasses of `Event`. Functions
            that take the context or event and return whether it is wanted.

    Raises:
        ConfigurationError: Nothing is given, or something that is none of these.

    Example:
        >>> from callpyback import CallPyBack, on_completion, want
        >>> @want("pay*", lambda context: context.is_failed)
        ... @want("refund")
        ... def note(context):
        ...     print(context.function_signature.name, context.outcome.name)
        >>> watch = CallPyBack(observers=[on_completion(note)])
        >>> @watch
        ... def pay(amount):
        ...     return amount
        >>> @watch
        ... def refund(amount):
        ...     return -amount
        >>> pay(5), refund(5)
        refund SUCCESS
        (5, -5)
    """
    if not criteria:
        refuse("want()", criteria, 'something to choose by, such as want("shop.orders.*")')
    patterns = tuple(_checked_pattern("want()", given) for given in criteria if isinstance(given, str))
    kinds = tuple(given for given in criteria if _is_kind(given))
    others = [given for given in criteria if not isinstance(given, str) and not _is_kind(given)]
    chosen = Want(patterns, kinds, tuple(_checked_predicate("want()", given) for given in others))

    def choose(target: T) -> T:
        with looking_at("want()", target):
            known = target.__dict__.get("wants", ()) if hasattr(target, "__dict__") else ()
            target.wants = (chosen, *known)  # type: ignore[attr-defined]
            return target

    choose.is_want = True  # type: ignore[attr-defined]
    return choose


def refuse_bare_want(function: Any) -> None:
    """Refuse what `@want` without parentheses makes of a function.

    Raises:
        ConfigurationError: It is that.
    """
    if getattr(function, "is_want", False) is True:
        refuse("handler", function, 'a function; write @want("...") with what is wanted, in parentheses, above it')


class Interest:
    """What one registration wants to hear of.

    Args:
        when: Predicates, all of which must hold.
        match: Patterns one of which must match, or a predicate over the `FunctionSignature`; None for all.
        wants: Alternatives, one of which must hold, if there are any.
        hook: The observer's own `is_interested`.
        takes_names: Whether the hook takes a name, and so is asked once for each.
    """

    __slots__ = ("_hook", "_match", "_when", "takes_names", "wants")

    def __init__(
        self,
        when: tuple[Predicate, ...] = (),
        match: tuple[str, ...] | Predicate | None = None,
        wants: tuple[Want, ...] = (),
        hook: Predicate | None = None,
        *,
        takes_names: bool = False,
    ) -> None:
        self._when = when
        self._match = match
        self.wants = wants
        self._hook = hook
        self.takes_names = takes_names

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The states, notices or classes outside which nothing is wanted; empty if anything may be."""
        return self.named_kinds if all(chosen.kinds for chosen in self.wants) else ()

    @property
    def named_kinds(self) -> tuple[Any, ...]:
        """The states, notices and classes that are named."""
        return tuple(kind for chosen in self.wants for kind in chosen.kinds)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of names outside which nothing is wanted; empty if anything may be."""
        if isinstance(self._match, tuple):
            return self._match
        if self.wants and all(chosen.patterns for chosen in self.wants):
            return tuple(pattern for chosen in self.wants for pattern in chosen.patterns)
        return ()

    def test(self, names: Sequence[str], kind: Any, signature: FunctionSignature | None = None) -> Test:
        """Return whether something is wanted always, never, or what to ask about each time.

        Args:
            names: What the function or event is called; for a hook that takes a name, the first.
            kind: The state or notice, or the class of the event.
            signature: Of the function, for calls.
        """
        return self.matches(names, signature) and self.test_kind(names, kind, signature)

    def test_kind(self, names: Sequence[str], kind: Any, signature: FunctionSignature | None = None) -> Test:
        """Return the same where `matches` is known to hold."""
        fitting = [chosen for chosen in self.wants if chosen.is_about(names, kind)]
        if self.wants and not fitting:
            return False
        asked = list(self._when)
        if fitting and all(chosen.predicates for chosen in fitting):
            asked.append(_any_of(tuple(chosen.predicates for chosen in fitting)))
        if self._hook is not None:
            if not self.takes_names:
                asked.append(self._hook)
            elif not self._hook(names[0] if signature is None else f"call.{kind.value}"):
                return False
        return _all_of(tuple(asked)) if asked else True

    def matches(self, names: Sequence[str], signature: FunctionSignature | None = None) -> bool:
        """Return whether `match` lets a name, or a function, through."""
        if self._match is None:
            return True
        if isinstance(self._match, tuple):
            return matches(self._match, names)
        return bool(self._match(names[0] if signature is None else signature))


def interest_of(observer: Any, told: Any, when: Any, match: Any, *, weak: bool = False) -> Interest | None:
    """Return what a registration wants to hear of; None if that is everything.

    Args:
        observer: Its `when`, `match`, `wants` and `is_interested` count as well.
        told: What is called; its `wants` count.
        when: Given at registration.
        match: Given at registration; in place of the observer's own.
        weak: Whether the observer's own hook must not keep it alive.
    """
    predicates = (*checked_when(getattr(observer, "when", None)), *checked_when(when))
    patterns = checked_match(getattr(observer, "match", None) if match is None else match)
    wants = _wanted_by(observer) + (() if told is observer else _wanted_by(told))
    hook = getattr(observer, "is_interested", None)
    if not predicates and patterns is None and not wants and hook is None:
        return None
    takes_names = hook is not None and _takes_a_name(hook)
    if hook is not None:
        hook = _checked_predicate("is_interested", hook)
    if weak:
        predicates = tuple(_weakly(predicate, observer) for predicate in predicates)
        patterns = patterns if isinstance(patterns, tuple) or patterns is None else _weakly(patterns, observer)
        hook = None if hook is None else _weakly(hook, observer)
    return Interest(predicates, patterns, wants, hook, takes_names=takes_names)


def _weakly(predicate: Predicate, observer: Any) -> Predicate:
    """Return a predicate that does not keep the observer alive whose method it is."""
    if not (isinstance(predicate, types.MethodType) and predicate.__self__ is observer):
        return predicate
    method = weakref.WeakMethod(predicate)

    def ask(subject: Any) -> Any:
        alive = method()
        return alive is not None and alive(subject)

    return ask


def _wanted_by(target: Any) -> tuple[Want, ...]:
    wants = getattr(target, "wants", ())
    return tuple(want for want in wants if isinstance(want, Want)) if isinstance(wants, tuple) else ()


def names_of(signature: FunctionSignature) -> tuple[str, str, str]:
    """Return what patterns are matched against: `module.qualname`, the qualified name, the bare name."""
    return full_name(signature), signature.qualname, signature.name


def matches(patterns: Iterable[str], names: Sequence[str]) -> bool:
    """Return whether one of the patterns matches one of the names, upper and lower case told apart."""
    compiled = [_compiled(pattern) for pattern in patterns]
    return any(pattern.match(name) is not None for pattern in compiled for name in names)


@functools.lru_cache(maxsize=1000)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def checked_when(when: Any) -> tuple[Predicate, ...]:
    """Return the predicates as a tuple, or refuse them by name."""
    with looking_at("when", when):
        if when is None:
            return ()
        if callable(when):
            return (_checked_predicate("when", when),)
        if not isinstance(when, Iterable) or isinstance(when, str | bytes):
            refuse("when", when, "a function that takes the context, such as when=lambda context: context.is_failed")
        return tuple(_checked_predicate("when", given) for given in islice(when, _MAX_GIVEN))


def checked_match(match: Any) -> tuple[str, ...] | Predicate | None:
    """Return the patterns as a tuple, or a predicate over signatures, or refuse them by name."""
    with looking_at("match", match):
        if match is None:
            return None
        if isinstance(match, str):
            return (_checked_pattern("match", match),)
        if callable(match):
            return _checked_predicate("match", match)
        if not isinstance(match, Iterable) or isinstance(match, bytes):
            refuse("match", match, 'a pattern of names, such as match="shop.orders.*", or several')
        patterns = tuple(_checked_pattern("match", given) for given in islice(match, _MAX_GIVEN))
        if not patterns:
            refuse("match", match, "at least one pattern; leave it out to match every function")
        return patterns


def _checked_pattern(parameter: str, pattern: Any) -> str:
    if not isinstance(pattern, str) or not pattern:
        refuse(parameter, pattern, 'a pattern of names, such as "shop.orders.*"')
    return str(pattern)


def _checked_predicate(parameter: str, predicate: Any) -> Predicate:
    with looking_at(parameter, predicate):
        if isinstance(predicate, type) or not callable(predicate):
            refuse(parameter, predicate, "a function that takes the context or event and returns whether it is wanted")
        if kind_of(predicate) is not FunctionKind.FUNCTION:
            refuse(parameter, predicate, f"a plain function: what a {kind_of(predicate)} returns is always true")
        if not _takes_one(predicate):
            # A plain function in the body of a class became a method of its instances.
            predicate = getattr(predicate, "__func__", predicate)
            if not _takes_one(predicate):
                refuse(parameter, predicate, "a function that takes one argument, the context or event")
        return predicate  # type: ignore[no-any-return]


def _takes_one(predicate: Any) -> bool:
    signature = signature_of(predicate)
    if signature is None:
        return True  # a builtin that does not tell
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def _is_kind(given: Any) -> bool:
    return (isinstance(given, enum.Enum) and not isinstance(given, str)) or (
        isinstance(given, type) and hasattr(given, "event_type")
    )


def _is_of_kind(kind: Any, wanted: Any) -> bool:
    if isinstance(wanted, type):
        return isinstance(kind, type) and issubclass(kind, wanted)
    return kind is wanted


def _takes_a_name(hook: Predicate) -> bool:
    """Return whether a hook takes the name of an event in place of the event itself."""
    signature = signature_of(hook)
    parameters = [] if signature is None else list(signature.parameters.values())
    if not parameters:
        return False
    first = parameters[0]
    if first.annotation is not first.empty:
        return first.annotation in (str, "str")
    return first.name in _NAMES_OF_A_NAME


def _all_of(predicates: tuple[Predicate, ...]) -> Predicate:
    if len(predicates) == 1:
        return predicates[0]

    def all_hold(subject: Any) -> bool:
        return all(predicate(subject) for predicate in predicates)

    return all_hold


def _any_of(alternatives: tuple[tuple[Predicate, ...], ...]) -> Predicate:
    def one_holds(subject: Any) -> bool:
        return any(all(predicate(subject) for predicate in predicates) for predicates in alternatives)

    return one_holds
